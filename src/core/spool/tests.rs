//! A whole spool, hurt anywhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::sample::{All, Sample, file, read_back, records};
use super::*;
use crate::core::identity::Identity;

/// A spool as a process has left it.
#[derive(Clone)]
struct Files {
    segment: Vec<u8>,
    index: Vec<u8>,
    journal: Vec<u8>,
}

const SETTLED: [(u32, u64, u32); 3] = [(1, 0, 4), (1, 8, 2), (2, 0, 1)];

fn files(sample: &Sample) -> Files {
    let header = sample.header;
    let index = Index {
        number: header.number,
        salt: header.salt,
        chunks: sample.used(),
        accepted: Vec::new(),
    };
    let mut journal = checkpoint(&State::default(), &header);
    let mut add = |entry: Entry| {
        let offset = journal.len() as u64;
        entry.encode(header.salt, offset, &mut journal);
    };
    for slot in [1, 2] {
        add(Entry::Slot {
            slot,
            topic_id: [3; 16],
            partition: slot as i32,
            topic: "orders".into(),
        });
        let identity = Identity {
            producer_id: 4,
            epoch: 0,
        };
        let line = Line {
            identity,
            sequence: 0,
            position: 0,
            floor: 0,
            sent: 0,
        };
        add(Entry::Line { slot, line });
    }
    for (slot, position, count) in SETTLED {
        add(Entry::Settled {
            slot,
            position,
            count,
            fate: Fate::Acked(100),
        });
    }
    Files {
        segment: sample.bytes(),
        index: index.encode(),
        journal,
    }
}

struct Recovered {
    /// What is not settled and can be read.
    records: All,
    /// Something is said to be damaged or lost.
    told: bool,
}

/// What a start does, without files.
fn recover(sample: &Sample, files: &Files) -> Recovered {
    let number = sample.header.number;
    let journal = Journal::read(number, &files.journal).expect("two headers");
    let header = FileHeader::decode_page(Kind::Segment, number, &files.segment);
    let header = header.expect("two headers");
    let mut told = !journal.damage.is_empty();
    let index = Index::decode(number, &files.index).ok();
    let chunks = match index.filter(|index| index.salt == header.salt) {
        Some(index) => index.chunks,
        None => {
            let length = files.segment.len() as u64;
            let scanned = scan(&header, length, &mut file(&files.segment));
            told |= !scanned.damage.is_empty();
            scanned.chunks
        }
    };
    let mut catalog = Catalog::default();
    catalog.segment(number, header.length, true);
    for (slot, state) in &journal.state.slots {
        for (past, floor) in state.settled.iter() {
            catalog.settle(*slot, past, floor);
        }
    }
    for used in chunks {
        catalog.chunk_closed(number, used);
    }
    let mut batches = Vec::new();
    for slot in resume(&journal.state, &catalog, told) {
        told |= slot.topic.is_none() || !slot.missing.is_empty();
        for part in &slot.unsettled {
            let mut reader = Reader::new(part.start);
            let mut read = Vec::new();
            for held in catalog.held(slot.slot, part.start) {
                let positions = held.from..held.to.min(part.end);
                if positions.start >= part.end {
                    break;
                }
                let (from, to) = (held.used.offset, held.used.offset + held.used.bytes);
                let bytes = files.segment.get(from as usize..to as usize);
                let bytes = bytes.unwrap_or_default();
                match ReadChunk::new(bytes, header.salt, from.into(), header.length) {
                    Some(chunk) => told |= !reader.read(&chunk, positions, &mut read).is_empty(),
                    None => told = true,
                }
            }
            read.extend(reader.finish());
            batches.extend(read.into_iter().map(|batch| (slot.slot, batch)));
        }
    }
    Recovered {
        records: records(&batches),
        told,
    }
}

/// What was appended and is not settled.
fn open(sample: &Sample) -> All {
    let is_settled = |(slot, position): &(u32, u64)| {
        let of = |it: &(u32, u64, u32)| {
            it.0 == *slot && (it.1..it.1 + u64::from(it.2)).contains(position)
        };
        SETTLED.iter().any(of)
    };
    let mut open = sample.all.clone();
    open.retain(|place, _| !is_settled(place));
    open
}

/// The records of each slot's last frame. That they were there is not to be seen without an index.
fn tails(sample: &Sample) -> BTreeSet<(u32, u64)> {
    let last = |slot| {
        sample
            .frames
            .iter()
            .filter(move |it| it.0.0 == slot)
            .map(|it| *it.1)
            .max()
    };
    let frames = sample.frames.iter();
    let is_last = frames.filter(|(place, frame)| Some(**frame) == last(place.0));
    is_last.map(|(place, _)| *place).collect()
}

fn check(sample: &Sample, files: &Files, open: &All, tails: &BTreeSet<(u32, u64)>, what: &str) {
    let recovered = recover(sample, files);
    for (place, kept) in &recovered.records {
        assert_eq!(
            sample.all.get(place),
            Some(kept),
            "{what}: {place:?} was appended so"
        );
    }
    if recovered.told {
        return;
    }
    for place in open.keys() {
        let there = recovered.records.contains_key(place) || tails.contains(place);
        assert!(there, "{what}: {place:?} is lost without a word");
    }
    let settled = recovered.records.keys().filter(|it| !open.contains_key(it));
    // The journal's last entry may be gone without a word.
    let last = SETTLED[2];
    let mut others = settled.filter(|it| **it != (last.0, last.1));
    assert_eq!(
        others.next(),
        None,
        "{what}: settled, and back without a word"
    );
}

#[test]
fn a_whole_spool_is_what_was_accepted_and_is_not_settled() {
    let sample = Sample::usual();
    let mut files = files(&sample);
    for _with_index_and_without in 0..2 {
        let recovered = recover(&sample, &files);
        assert_eq!(recovered.records, open(&sample));
        assert!(!recovered.told);
        files.index.clear();
    }
}

#[test]
fn whatever_is_hurt_in_a_spool_is_told() {
    let sample = Sample::usual();
    let whole = files(&sample);
    let (open, tails, none) = (open(&sample), tails(&sample), BTreeSet::new());
    assert_eq!(tails.len(), 3);
    for with_index in [true, false] {
        let mut base = whole.clone();
        if !with_index {
            base.index.clear();
        }
        let tails = if with_index { &none } else { &tails };
        for at in PAGE..base.segment.len() {
            let mut files = base.clone();
            files.segment[at] ^= 1 << (at % 8);
            check(&sample, &files, &open, tails, &format!("segment at {at}"));
        }
        for at in PAGE..base.journal.len() {
            let mut files = base.clone();
            files.journal[at] ^= 1 << (at % 8);
            check(&sample, &files, &open, tails, &format!("journal at {at}"));
        }
    }
    for at in 0..whole.index.len() {
        let mut files = whole.clone();
        files.index[at] ^= 1 << (at % 8);
        check(&sample, &files, &open, &none, &format!("index at {at}"));
        files.index.truncate(at);
        check(&sample, &files, &open, &none, &format!("index up to {at}"));
    }
}

#[test]
fn a_spool_that_ends_anywhere_has_what_is_before() {
    let sample = Sample::usual();
    let mut whole = files(&sample);
    whole.index.clear();
    let open = open(&sample);
    for end in (PAGE..whole.segment.len()).step_by(4) {
        let mut files = whole.clone();
        files.segment[end..].fill(0);
        let found = recover(&sample, &files).records;
        for (place, frame) in &sample.frames {
            let expected = open.contains_key(place) && frame.1 <= end;
            assert!(
                found.contains_key(place) || !expected,
                "{place:?} ends before {end}"
            );
        }
    }
}

#[test]
fn what_is_moved_to_another_segment_reads_the_same() {
    let sample = Sample::usual();
    let (header, bytes) = (sample.header, sample.bytes());
    let mut catalog = Catalog::default();
    catalog.segment(header.number, 4 * header.length, true);
    for used in sample.used() {
        catalog.chunk_closed(header.number, used);
    }
    for (slot, position, count) in SETTLED {
        catalog.settle(slot, position..position + u64::from(count), 0);
    }
    let memory = Arc::new(Memory::new(header.length as usize));
    let mut at = PAGE as u32;
    let mut copies = Vec::new();
    let moves: Vec<_> = catalog.moves(0).collect();
    assert_eq!(moves.len(), 1);
    for (slot, held) in &moves[0].records {
        let from = held.used.offset as usize;
        let to = from + held.used.bytes as usize;
        let chunk = ReadChunk::new(&bytes[from..to], header.salt, from as u64, header.length);
        let chunk = chunk.expect("a chunk");
        let parts = chunk.pieces().filter_map(|piece| match piece {
            Piece::Records(records) => records.within(held.positions()),
            Piece::Gap { .. } => None,
        });
        let mut copy = None;
        for records in parts {
            let copy = copy.get_or_insert_with(|| {
                let place = Place {
                    region: Arc::clone(&memory) as Arc<dyn Region>,
                    salt: header.salt,
                    at,
                    length: 256,
                    begun: 0,
                };
                at += 256;
                Chunk::begin(place, *slot, held.from, Some(records.batch)).expect("a place")
            });
            let begins = (records.batch.index == 0).then_some(records.batch.base_timestamp);
            assert!(copy.append(&Appending {
                records: records.bytes,
                count: records.count as u16,
                newest: records.newest,
                begins,
                source: records.source,
            }));
        }
        copies.extend(copy.map(|copy| copy.used()));
    }
    catalog.segment(9, header.length, false);
    let free = copies.iter().flat_map(|copy| catalog.moved(9, *copy));
    assert_eq!(free.collect::<Vec<_>>(), [header.number]);
    let (batches, missing) = read_back(&header, &memory.bytes(), &copies);
    assert_eq!((records(&batches), missing), (open(&sample), 0));
}

/// A space with so many empty segments, numbered from 1 on.
fn space(segments: u64) -> Arc<Space> {
    let space = Space::new();
    space.register(1);
    for number in 1..=segments {
        space.add(EmptySegment {
            number,
            salt: number,
            region: Arc::new(Memory::new(1 << 15)),
        });
    }
    space
}

#[test]
fn nothing_more_is_copied_to_a_segment_that_was_given_up() {
    let space = space(1);
    let mut seat = Seat::new(Arc::clone(&space), 1);
    assert!(seat.make_room(100));
    space.give_up(1);
    assert!(!seat.make_room(100), "there is no other");
    assert!(!seat.has_room(1), "nor is it used though there is none");
    space.add(EmptySegment {
        number: 2,
        salt: 2,
        region: Arc::new(Memory::new(1 << 15)),
    });
    assert!(seat.make_room(100) && seat.has_room(100));
}

#[test]
fn a_segment_that_was_given_up_before_it_was_begun_is_left() {
    let space = space(2);
    space.give_up(2);
    assert_eq!(space.ready(), 1);
    assert_eq!(space.events(), [SpaceEvent::Left(2)]);
}
