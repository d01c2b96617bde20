use super::super::chunk::ChunkUse;
use super::super::file_header::FileHeader;
use super::super::sample::{Sample, read_back};
use super::*;
use crate::core::batch::Run;

fn chunk<'a>(bytes: &'a [u8], header: &FileHeader, used: &ChunkUse) -> ReadChunk<'a> {
    let from = used.offset as usize;
    let bytes = &bytes[from..from + used.bytes as usize];
    ReadChunk::new(bytes, header.salt, from as u64, header.length).expect("a chunk")
}

#[test]
fn frames_become_the_batches_that_they_were() {
    let sample = Sample::usual();
    let (batches, _) = read_back(&sample.header, &sample.bytes(), &sample.used());
    let of = |slot: u32| {
        let batches = batches.iter().filter(move |it| it.0 == slot);
        batches.map(|(_, it)| {
            (
                it.position,
                it.index,
                it.count,
                it.base_timestamp,
                it.newest,
            )
        })
    };
    let first: Vec<_> = of(1).collect();
    let expected = [
        (0, 0, 6, 1_000_000, 1_000_003),
        (6, 0, 6, 1_000_003, 1_000_009),
        (12, 0, 6, 1_000_006, 1_000_015),
    ];
    assert_eq!(first, expected);
    let second: Vec<_> = of(2).collect();
    let expected = [
        (0, 0, 4, 2_000_000, 2_000_000),
        (4, 0, 4, 2_000_004, 2_000_000),
        (8, 0, 1, 2_000_008, 2_000_000),
    ];
    assert_eq!(second, expected);
    // One of those batches goes on in another chunk.
    let starts: Vec<_> = sample
        .used()
        .iter()
        .map(|it| (it.slot, it.position))
        .collect();
    assert!(
        starts.iter().any(|it| it.0 == 1 && it.1 % 6 != 0),
        "{starts:?}"
    );
    let sources = &batches
        .iter()
        .find(|it| it.0 == 2)
        .expect("a batch")
        .1
        .sources;
    let source = |position| Source {
        source: 7,
        position,
    };
    assert_eq!(*sources, [(0, source(0)), (2, source(20))]);
}

#[test]
fn reading_begins_and_ends_in_the_middle_of_a_batch_and_of_a_frame() {
    let sample = Sample::usual();
    let bytes = sample.bytes();
    let used: Vec<_> = sample
        .used()
        .into_iter()
        .filter(|it| it.slot == 1)
        .collect();
    let last = used.last().map_or(0, ChunkUse::end);
    for from in 0..=last {
        for to in from..=last {
            let (mut reader, mut batches) = (Reader::new(from), Vec::new());
            for used in &used {
                let chunk = chunk(&bytes, &sample.header, used);
                let positions = used.position..used.end().min(to);
                if positions.end > from && !positions.is_empty() {
                    assert_eq!(reader.read(&chunk, positions, &mut batches), []);
                }
            }
            batches.extend(reader.finish());
            let mut next = from;
            for batch in &batches {
                assert_eq!(batch.position, next);
                next = batch.end();
                for i in 0..batch.count {
                    let kept = &sample.all[&(1, batch.position + u64::from(i))];
                    assert_eq!(
                        (kept.index, kept.base_timestamp),
                        (batch.index + i, batch.base_timestamp)
                    );
                    assert_eq!(Run::part(&batch.records, i, 1), Some(&kept.bytes[..]));
                }
            }
            assert_eq!(next, to, "from {from} to {to}");
        }
    }
}

#[test]
fn what_an_index_counts_and_is_not_there_is_missing() {
    let sample = Sample::usual();
    let mut bytes = sample.bytes();
    let used = sample.used()[0];
    let (begin, end) = sample.frames[&(used.slot, used.end() - 1)];
    bytes[end - 5] ^= 1;
    let (mut reader, mut batches) = (Reader::new(0), Vec::new());
    let read = chunk(&bytes, &sample.header, &used);
    let missing = reader.read(&read, used.position..used.end(), &mut batches);
    assert_eq!(
        missing,
        [used.end() - 2..used.end()],
        "a frame of two records at {begin}"
    );
    assert_eq!(reader.next_position(), used.end());
}
