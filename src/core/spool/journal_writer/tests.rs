use super::super::entry::Fate;
use super::super::file_header::PAGE;
use super::super::journal::Journal;
use super::super::region::Memory;
use super::*;

fn header(number: u64, length: usize) -> FileHeader {
    FileHeader {
        number,
        salt: 0x5a17 + number,
        length: length as u64,
    }
}

fn slot(slot: u32) -> Entry {
    Entry::Slot {
        slot,
        topic_id: [3; 16],
        partition: slot as i32,
        topic: "orders".into(),
    }
}

fn settled(position: u64) -> Entry {
    Entry::Settled {
        slot: 1,
        position,
        count: 1,
        fate: Fate::Acked(position as i64),
    }
}

#[test]
fn what_was_written_is_read() {
    let memory = Arc::new(Memory::new(1 << 16));
    let region = Arc::clone(&memory) as Arc<dyn Region>;
    let header = header(3, 1 << 16);
    let mut journal = JournalWriter::begin(region, header, State::default()).expect("it fits");
    assert!(journal.write(&slot(1)));
    for position in 0..100 {
        assert!(journal.write(&settled(position)));
        let read = Journal::read(3, &memory.bytes()).expect("a journal");
        assert_eq!(
            (&read.state, read.complete, read.damage),
            (journal.state(), true, Vec::new())
        );
    }
}

#[test]
fn the_next_journal_says_all_of_the_former_one() {
    let (first, second) = (
        Arc::new(Memory::new(1 << 16)),
        Arc::new(Memory::new(1 << 16)),
    );
    let begun = JournalWriter::begin(
        Arc::clone(&first) as Arc<dyn Region>,
        header(3, 1 << 16),
        State::default(),
    );
    let mut journal = begun.expect("it fits");
    assert!(journal.write(&slot(1)) && journal.write(&settled(0)));
    let before = first.bytes();
    assert!(journal.go_on(Arc::clone(&second) as Arc<dyn Region>, header(8, 1 << 16)));
    assert_eq!(journal.number(), 8);
    assert!(journal.write(&settled(1)));
    assert_eq!(first.bytes(), before, "nothing more goes to the former one");
    let read = Journal::read(8, &second.bytes()).expect("a journal");
    assert!(read.complete);
    assert_eq!(read.state.slots[&1].settled.up_to(), 2);
}

#[test]
fn what_has_no_room_is_in_the_next_one() {
    let length = PAGE + 256;
    let memory = Arc::new(Memory::new(length));
    let region = Arc::clone(&memory) as Arc<dyn Region>;
    let mut journal =
        JournalWriter::begin(region, header(3, length), State::default()).expect("it fits");
    let full = (0..)
        .find(|position| !journal.write(&settled(*position)))
        .expect("it ends");
    assert!(full > 2 && journal.is_half_full());
    let next = Arc::new(Memory::new(1 << 16));
    assert!(journal.go_on(Arc::clone(&next) as Arc<dyn Region>, header(4, 1 << 16)));
    let read = Journal::read(4, &next.bytes()).expect("a journal");
    assert_eq!(read.state.slots[&1].settled.up_to(), full + 1);
}

#[test]
fn a_journal_that_is_too_short_is_not_begun() {
    let mut state = State::default();
    (0..1000).for_each(|number| state.apply(&slot(number)));
    let region = || Arc::new(Memory::new(PAGE + 64)) as Arc<dyn Region>;
    let begun = JournalWriter::begin(region(), header(3, PAGE + 64), state.clone());
    assert!(begun.is_none());
    let length = JournalWriter::len_for(&state, 0) as usize;
    let region = Arc::new(Memory::new(length)) as Arc<dyn Region>;
    let journal = JournalWriter::begin(region, header(3, length), state).expect("it fits");
    assert!(!journal.is_half_full(), "there is room for more");
}
