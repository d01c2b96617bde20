use super::super::file_header::PAGE;
use super::super::region::{Memory, Region};
use super::super::space::{EmptySegment, SpaceEvent};
use super::super::{ReadChunk, Reader};
use super::*;
use crate::core::batch::RecordRef;

const SALT: u64 = 9;

fn spool(bytes: usize) -> (Arc<Space>, Arc<Memory>) {
    let (space, memory) = (Space::new(), Arc::new(Memory::new(PAGE + bytes)));
    space.add(EmptySegment {
        number: 4,
        salt: SALT,
        region: Arc::clone(&memory) as Arc<dyn Region>,
    });
    space.resume(1, 70);
    (space, memory)
}

/// A record of a hundred bytes.
fn record(index: u32) -> Vec<u8> {
    let value = [index as u8; 100];
    let record = RecordRef {
        key: None,
        value: Some(&value),
        headers: &[],
        timestamp: 0,
    };
    let mut memory = [0; 200];
    let length = record.encode(&mut memory, 0, 200, index as i32, 0);
    memory[..length.expect("room")].to_vec()
}

fn append(seat: &mut Seat, index: u32) -> bool {
    let records = record(index);
    seat.make_room(records.len())
        && seat.append(&Appending {
            records: &records,
            count: 1,
            newest: 1000,
            begins: (index == 0).then_some(1000),
            source: None,
        })
}

/// The closed chunks: where they begin in the segment, and how many records are in them.
fn closed(space: &Space) -> Vec<super::super::ChunkUse> {
    let events = space.events().into_iter();
    let closed = events.filter_map(|event| match event {
        SpaceEvent::Closed { used, .. } => Some(used),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_batch_goes_on_in_the_next_chunk_and_is_read_as_one() {
    let (space, memory) = spool(64 << 10);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    assert_eq!(seat.next_position(), 70);
    assert!((0..200).all(|index| append(&mut seat, index)));
    assert_eq!(seat.next_position(), 270);
    drop(seat);
    let chunks = closed(&space);
    assert!(chunks.len() > 2, "{chunks:?}");
    let bytes = memory.bytes();
    let (mut reader, mut batches) = (Reader::new(70), Vec::new());
    for used in &chunks {
        let chunk = &bytes[used.offset as usize..];
        let chunk = ReadChunk::new(chunk, SALT, used.offset.into(), bytes.len() as u64);
        let missing = reader.read(
            &chunk.expect("a chunk"),
            used.position..used.end(),
            &mut batches,
        );
        assert_eq!(missing, []);
    }
    batches.extend(reader.finish());
    let [batch] = &batches[..] else {
        panic!("{} batches", batches.len());
    };
    assert_eq!((batch.position, batch.index, batch.count), (70, 0, 200));
    assert_eq!(batch.records, (0..200).flat_map(record).collect::<Vec<_>>());
}

#[test]
fn each_chunk_is_twice_as_long_as_the_one_before() {
    let (space, _memory) = spool(64 << 10);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    assert!((0..200).all(|index| append(&mut seat, index)));
    seat.leave();
    let counts: Vec<_> = closed(&space).iter().map(|used| used.count).collect();
    assert!(
        counts[1] > counts[0] * 3 / 2 && counts[1] < counts[0] * 5 / 2,
        "{counts:?}"
    );
}

/// A partition that gets little is asked to leave its chunks, again and again.
#[test]
fn a_chunk_that_was_left_before_it_was_full_makes_the_next_one_no_longer() {
    let (space, _memory) = spool(64 << 10);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    for _ in 0..5 {
        assert!(append(&mut seat, 0));
        seat.leave();
    }
    let events = space.events().into_iter();
    let lengths: Vec<_> = events
        .filter_map(|event| match event {
            SpaceEvent::Opened { length, .. } => Some(length as usize),
            _ => None,
        })
        .collect();
    assert_eq!(lengths, [FIRST; 5]);
}

#[test]
fn without_space_nothing_is_lost_and_it_goes_on_when_there_is_some() {
    let (space, _memory) = spool(FIRST);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    let fitted = (0..200)
        .take_while(|index| append(&mut seat, *index))
        .count() as u32;
    assert!(fitted > 10, "{fitted}");
    assert_eq!(seat.next_position(), 70 + u64::from(fitted));
    // What is in the chunk stays there: it was not left for nothing.
    assert_eq!(closed(&space), []);
    space.add(EmptySegment {
        number: 5,
        salt: SALT,
        region: Arc::new(Memory::new(PAGE + FIRST)),
    });
    assert!(append(&mut seat, fitted));
    let chunks = closed(&space);
    assert_eq!((chunks.len(), chunks[0].count), (1, fitted));
}

#[test]
fn a_chunk_of_a_segment_that_was_given_up_takes_no_more() {
    let (space, _memory) = spool(64 << 10);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    assert!(append(&mut seat, 0));
    assert!(seat.has_room(100));
    space.give_up(4);
    assert_eq!(seat.room(), 0);
    assert!(!append(&mut seat, 1), "no other is ready");
    assert!(!append(&mut seat, 1), "and it stays so");
    assert_eq!(seat.next_position(), 71);
    space.add(EmptySegment {
        number: 5,
        salt: SALT,
        region: Arc::new(Memory::new(PAGE + FIRST)),
    });
    assert!(append(&mut seat, 1));
}

#[test]
fn whole_batches_are_copied_with_gaps_between_them() {
    let (space, memory) = spool(64 << 10);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    let batch = |count| (0..count).flat_map(record).collect::<Vec<_>>();
    assert!(seat.append_all(70, (&batch(3), 3), (1_000, 1_002)));
    assert!(seat.append_all(73, (&batch(2), 2), (1_003, 1_004)));
    // Those between were in memory alone.
    assert!(seat.append_all(90, (&batch(4), 4), (2_000, 2_003)));
    drop(seat);
    let chunks = closed(&space);
    let places = chunks.iter().map(|used| used.position..used.end());
    assert_eq!(places.collect::<Vec<_>>(), [70..75, 90..94]);
    let bytes = memory.bytes();
    let mut read = Vec::new();
    for used in &chunks {
        let mut reader = Reader::new(used.position);
        let chunk = &bytes[used.offset as usize..];
        let chunk = ReadChunk::new(chunk, SALT, used.offset.into(), bytes.len() as u64);
        let chunk = chunk.expect("a chunk");
        assert_eq!(
            reader.read(&chunk, used.position..used.end(), &mut read),
            []
        );
        read.extend(reader.finish());
    }
    let read = read
        .iter()
        .map(|it| (it.position, it.count, it.base_timestamp));
    assert_eq!(
        read.collect::<Vec<_>>(),
        [(70, 3, 1_000), (73, 2, 1_003), (90, 4, 2_000)]
    );
}

#[test]
fn a_batch_that_finds_no_space_is_not_there_at_all() {
    let (space, _) = spool(4 << 10);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    let batch = |count| (0..count).flat_map(record).collect::<Vec<_>>();
    assert!(seat.append_all(70, (&batch(9), 9), (0, 0)));
    assert!(!seat.append_all(79, (&batch(60), 60), (0, 0)));
    assert!(seat.append_all(79, (&batch(1), 1), (0, 0)));
    drop(seat);
    let chunks = closed(&space);
    assert_eq!(chunks.iter().map(|used| used.count).sum::<u32>(), 10);
}

#[test]
fn a_batch_of_more_records_than_a_frame_counts_takes_several() {
    let (space, memory) = spool(2 << 20);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    let small = |index: u32| {
        let record = RecordRef {
            key: None,
            value: None,
            headers: &[],
            timestamp: 0,
        };
        let mut memory = [0; 32];
        let length = record.encode(&mut memory, 0, 32, index as i32, 0);
        memory[..length.expect("room")].to_vec()
    };
    const COUNT: u32 = 140_000;
    let batch: Vec<u8> = (0..COUNT).flat_map(small).collect();
    assert!(seat.append_all(70, (&batch, COUNT), (1_000, 1_000)));
    drop(seat);
    let [used] = closed(&space)[..] else {
        panic!("one chunk");
    };
    let bytes = memory.bytes();
    let chunk = &bytes[used.offset as usize..];
    let chunk = ReadChunk::new(chunk, SALT, used.offset.into(), bytes.len() as u64);
    let (mut reader, mut read) = (Reader::new(70), Vec::new());
    let missing = reader.read(&chunk.expect("a chunk"), 70..used.end(), &mut read);
    assert_eq!(missing, []);
    read.extend(reader.finish());
    let [read] = &read[..] else {
        panic!("one batch");
    };
    assert_eq!((read.count, &read.records), (COUNT, &batch));
}
