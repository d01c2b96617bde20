use std::sync::Arc;

use super::super::entry::{Fate, Line};
use super::*;
use crate::core::identity::Identity;

const HEADER: FileHeader = FileHeader {
    number: 5,
    salt: 0xfeed_f00d,
    length: 1 << 16,
};

fn entries() -> Vec<Entry> {
    let line = |epoch, position, sent| Line {
        identity: Identity {
            producer_id: 4711,
            epoch,
        },
        sequence: i32::MAX - 2,
        position,
        floor: 12,
        sent,
    };
    let settled = |position, count, fate| Entry::Settled {
        slot: 2,
        position,
        count,
        fate,
    };
    vec![
        Entry::Id {
            name: Arc::from("forebay-spool-1"),
            producer_id: 7,
        },
        Entry::Slot {
            slot: 2,
            topic_id: [9; 16],
            partition: 11,
            topic: Arc::from("orders"),
        },
        Entry::Line {
            slot: 2,
            line: line(0, 0, 0),
        },
        settled(0, 10, Fate::Acked(100)),
        settled(10, 5, Fate::NotWritten),
        settled(20, 5, Fate::Acked(110)),
        Entry::Line {
            slot: 2,
            line: line(1, 15, 30),
        },
        settled(40, 1, Fate::Unknown),
        settled(42, 1, Fate::Rejected),
        Entry::Source {
            source: 0,
            name: Arc::from("größe.log"),
        },
        Entry::Accepted {
            source: 0,
            position: u64::MAX,
        },
        Entry::Past {
            slot: 3,
            from: 0,
            to: 1 << 40,
            floor: 77,
        },
    ]
}

/// A journal with these entries, and where each of them ends.
fn written(entries: &[Entry]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = checkpoint(&State::default(), &HEADER);
    let mut ends = vec![bytes.len()];
    for entry in entries {
        let offset = bytes.len() as u64;
        entry.encode(HEADER.salt, offset, &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn state_of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> State {
    let mut state = State::default();
    entries.into_iter().for_each(|entry| state.apply(entry));
    state
}

#[test]
fn a_journal_says_what_was_written() {
    let entries = entries();
    let (mut bytes, ends) = written(&entries);
    let end = bytes.len() as u64;
    bytes.resize(1 << 14, 0);
    let journal = Journal::read(5, &bytes).expect("a journal");
    assert_eq!(journal.state, state_of(&entries));
    assert_eq!((journal.end, journal.complete), (end, true));
    assert_eq!(journal.damage, []);
    let slot = &journal.state.slots[&2];
    assert_eq!((slot.settled.up_to(), slot.settled.floor()), (15, 110));
    assert!(ends.iter().all(|end| end.is_multiple_of(ALIGN)));
}

#[test]
fn a_checkpoint_says_all_that_was_known() {
    let state = state_of(&entries());
    let bytes = checkpoint(&state, &HEADER);
    let journal = Journal::read(5, &bytes).expect("a journal");
    assert_eq!(journal.state, state);
    assert!(journal.complete);
    assert_eq!(journal.end, bytes.len() as u64);
    // The last entry has three bytes of padding.
    for end in PAGE..bytes.len() - 3 {
        let cut = Journal::read(5, &bytes[..end]).expect("a journal");
        assert!(!cut.complete, "{end} of {} bytes", bytes.len());
    }
    // A machine that stops may have written what is behind, and this not.
    for at in PAGE..bytes.len() - 3 {
        let mut hurt = bytes.clone();
        hurt[at] ^= 1;
        let hurt = Journal::read(5, &hurt).expect("a journal");
        // Between entries there is padding.
        assert!(!hurt.complete || hurt.state == state, "byte {at}");
    }
}

#[test]
fn it_may_end_anywhere() {
    let entries = entries();
    let (bytes, ends) = written(&entries);
    for end in PAGE..bytes.len() {
        let before = ends.iter().skip(1).filter(|to| **to <= end).count();
        let mut zeroed = bytes.clone();
        zeroed[end..].fill(0);
        for hurt in [&bytes[..end], &zeroed] {
            let journal = Journal::read(5, hurt).expect("a journal");
            assert_eq!(journal.damage, [], "{end}");
            // Of the next one only padding may be gone, or what was 0 before.
            let some = [before, (before + 1).min(entries.len())];
            let states = some.map(|count| state_of(&entries[..count]));
            assert!(
                states.contains(&journal.state),
                "{end}: {:?}",
                journal.state
            );
        }
    }
}

#[test]
fn any_bit_may_flip() {
    let entries = entries();
    let (bytes, ends) = written(&entries);
    let mut told = 0;
    for bit in ends[0] * 8..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let journal = Journal::read(5, &bytes).expect("a journal");
        let hurt = ends.iter().filter(|end| **end <= bit / 8).count() - 1;
        let others = entries.iter().enumerate().filter(|it| it.0 != hurt);
        let without = state_of(others.map(|it| it.1));
        if journal.state != state_of(&entries) {
            assert_eq!(journal.state, without, "bit {bit}");
            let last = hurt + 1 == entries.len();
            assert_eq!(journal.damage.is_empty(), last, "bit {bit}");
            told += journal.damage.len();
        } else {
            assert_eq!(journal.damage, [], "bit {bit} of the padding");
        }
    }
    assert!(told > 2_000, "{told} told");
}

#[test]
fn what_a_former_use_has_left_is_no_entry() {
    let (former, _) = written(&entries());
    let header = FileHeader {
        number: 6,
        salt: HEADER.salt + 1,
        ..HEADER
    };
    let begin = checkpoint(&State::default(), &header);
    let bytes = [&begin[..], &former[begin.len()..]].concat();
    let journal = Journal::read(6, &bytes).expect("a journal");
    assert_eq!(journal.end, begin.len() as u64);
    assert_eq!((journal.state, journal.damage), (State::default(), vec![]));
}

#[test]
fn entries_that_nobody_writes_are_damage() {
    let line = |sequence| Entry::Line {
        slot: 0,
        line: Line {
            identity: Identity {
                producer_id: 0,
                epoch: 0,
            },
            sequence,
            position: 0,
            floor: 0,
            sent: 0,
        },
    };
    let past = Entry::Past {
        slot: 0,
        from: 0,
        to: u64::MAX,
        floor: 0,
    };
    for entry in [line(-1), past] {
        let (bytes, _) = written(&[entry, line(0)]);
        let journal = Journal::read(5, &bytes).expect("a journal");
        assert_eq!(journal.damage.len(), 1);
        assert_eq!(journal.state, state_of(&[line(0)]));
    }
}
