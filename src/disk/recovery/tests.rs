use std::fs;
use std::path::PathBuf;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::core::batch::RecordRef;
use crate::core::spool::{
    Appending, Batch, Entry, Fate, JournalWriter, Place, Region, Seat, SlotTopic, Space, SpaceEvent,
};
use crate::core::spool::{Chunk, EmptySegment};
use crate::disk::Directory;

const SEGMENT: u64 = 64 << 10;
const SALT: u64 = 0x5a17;

/// What is wrong with an index.
type Change = fn(&mut Index);

/// A directory that has not been read yet.
struct Spool {
    folder: TempDir,
    directory: Directory,
}

impl Spool {
    fn new() -> Self {
        let folder = tempdir().expect("a folder");
        let directory = Directory::open(folder.path()).expect("it is empty");
        Self { folder, directory }
    }

    fn path(&self, kind: Kind, number: u64) -> PathBuf {
        self.folder.path().join(file_name(kind, number))
    }

    fn recover(&self) -> Recovered {
        recover(&self.directory).expect("it can be read")
    }

    fn names(&self) -> Vec<String> {
        let files = self.directory.files().expect("they can be listed");
        files.into_iter().map(|(name, _)| name).collect()
    }

    fn make(&self, kind: Kind, number: u64, len: u64) -> Arc<dyn StoredFile> {
        let made = self.directory.create(&file_name(kind, number), len);
        made.expect("it is made")
    }

    /// A segment with this salt in which slot 7 has `count` records from `position` on.
    fn segment(&self, number: u64, salt: u64, position: u64, count: u32) -> Index {
        let file = self.make(Kind::Segment, number, SEGMENT);
        let header = FileHeader {
            number,
            salt,
            length: SEGMENT,
        };
        assert!(file.write(0, &header.page(Kind::Segment)));
        let space = Space::new();
        space.resume(7, position);
        space.add(EmptySegment {
            number,
            salt,
            region: file as _,
        });
        let mut seat = Seat::new(Arc::clone(&space), 7);
        for index in 0..count {
            let records = record(index);
            assert!(seat.make_room(records.len()));
            assert!(seat.append(&Appending {
                records: &records,
                count: 1,
                newest: 1000,
                begins: (index == 0).then_some(1000),
                source: None,
            }));
        }
        drop(seat);
        let closed = space.events().into_iter().filter_map(|event| match event {
            SpaceEvent::Closed { used, .. } => Some(used),
            _ => None,
        });
        Index {
            number,
            salt,
            chunks: closed.collect(),
            accepted: Vec::new(),
        }
    }

    fn index(&self, index: &Index) {
        let file = self.make(Kind::Index, index.number, PAGE as u64);
        assert!(file.write(0, &index.encode()));
    }

    /// A journal that says all of `state`, and then these entries.
    fn journal(&self, number: u64, state: State, entries: &[Entry]) {
        let file = self.make(Kind::Journal, number, SEGMENT);
        let header = FileHeader {
            number,
            salt: SALT,
            length: SEGMENT,
        };
        let mut journal = JournalWriter::begin(file as _, header, state).expect("it fits");
        entries
            .iter()
            .for_each(|entry| assert!(journal.write(entry)));
    }

    /// Changes a file as no forebay would.
    fn hurt(&self, kind: Kind, number: u64, with: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path(kind, number);
        let mut bytes = fs::read(&path).expect("it is there");
        with(&mut bytes);
        fs::write(path, bytes).expect("it is written");
    }
}

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

fn slot(topic: &str) -> Entry {
    Entry::Slot {
        slot: 7,
        topic_id: [1; 16],
        partition: 3,
        topic: topic.into(),
    }
}

fn settled(position: u64, count: u32) -> Entry {
    Entry::Settled {
        slot: 7,
        position,
        count,
        fate: Fate::NotWritten,
    }
}

/// What is on the disk of the slot.
fn held(recovered: &Recovered) -> Vec<std::ops::Range<u64>> {
    recovered
        .catalog
        .held(7, 0)
        .map(|held| held.positions())
        .collect()
}

#[test]
fn what_was_accepted_and_not_settled_is_found() {
    let spool = Spool::new();
    spool.journal(1, State::default(), &[slot("orders"), settled(0, 10)]);
    spool.segment(2, SALT, 0, 20);
    let recovered = spool.recover();
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(recovered.next_number, 3);
    assert_eq!(recovered.state.slots[&7].settled.up_to(), 10);
    assert_eq!(
        (held(&recovered), recovered.catalog.end(7)),
        (vec![0..20], 20)
    );
    assert_eq!(recovered.journals, [file_name(Kind::Journal, 1)]);
}

#[test]
fn a_segment_with_an_index_is_not_read() {
    let spool = Spool::new();
    let index = spool.segment(2, SALT, 0, 20);
    spool.index(&index);
    // Whoever looked would see it.
    spool.hurt(Kind::Segment, 2, |bytes| bytes[PAGE..].fill(0));
    let recovered = spool.recover();
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(held(&recovered), [0..20]);
    assert!(recovered.segments[&2].indexed);
    assert_eq!(recovered.segments[&2].chunks, [], "its index has them");
}

#[test]
fn an_index_that_cannot_be_right_is_removed_and_the_segment_read() {
    let cases: [(&str, Change); 3] = [
        ("of another use of the file", |index| index.salt += 1),
        ("of another segment", |index| index.number += 1),
        ("of a longer one", |index| {
            index.chunks[0].offset = SEGMENT as u32
        }),
    ];
    for (case, change) in cases {
        let spool = Spool::new();
        let mut index = spool.segment(2, SALT, 0, 20);
        let file = spool.make(Kind::Index, 2, PAGE as u64);
        change(&mut index);
        assert!(file.write(0, &index.encode()));
        let recovered = spool.recover();
        assert_eq!(held(&recovered), [0..20], "{case}");
        assert!(!recovered.segments[&2].indexed, "{case}");
        assert_eq!(spool.names(), [file_name(Kind::Segment, 2)], "{case}");
    }
}

#[test]
fn an_index_that_was_made_and_not_written_costs_nothing() {
    let spool = Spool::new();
    spool.segment(2, SALT, 0, 20);
    spool.make(Kind::Index, 2, PAGE as u64);
    let recovered = spool.recover();
    assert_eq!(
        (held(&recovered), recovered.damage),
        (vec![0..20], Vec::new())
    );
}

#[test]
fn a_segment_that_is_shorter_than_it_was_is_read_though_it_has_an_index() {
    let spool = Spool::new();
    let index = spool.segment(2, SALT, 0, 20);
    spool.index(&index);
    spool.hurt(Kind::Segment, 2, |bytes| bytes.truncate(PAGE + 1024));
    let recovered = spool.recover();
    let [there] = &held(&recovered)[..] else {
        panic!("{:?}", held(&recovered));
    };
    assert!(
        there.start == 0 && (1..20).contains(&there.end),
        "{there:?}"
    );
    assert!(!recovered.damage.is_empty());
}

#[test]
fn an_index_without_its_segment_is_removed_and_its_number_not_used_again() {
    let spool = Spool::new();
    spool.index(&Index {
        number: 9,
        salt: SALT,
        chunks: Vec::new(),
        accepted: Vec::new(),
    });
    assert_eq!(spool.recover().next_number, 10);
    assert_eq!(spool.names(), Vec::<String>::new());
}

#[test]
fn a_damaged_segment_is_set_aside_and_the_others_are_read() {
    let spool = Spool::new();
    let index = spool.segment(2, SALT, 0, 20);
    spool.index(&index);
    spool.segment(3, SALT + 1, 20, 5);
    spool.hurt(Kind::Segment, 2, |bytes| bytes[..PAGE].fill(0xee));
    let recovered = spool.recover();
    assert_eq!(held(&recovered), [20..25]);
    let aside = [Kind::Segment, Kind::Index].map(|kind| format!("damaged/{}", file_name(kind, 2)));
    let mut expected = aside.to_vec();
    expected.push(file_name(Kind::Segment, 3));
    expected.sort();
    assert_eq!(spool.names(), expected);
    let told = recovered.damage.join("\n");
    assert!(
        told.contains(&file_name(Kind::Segment, 2)) && told.contains("damaged/"),
        "{told}"
    );
    // And a second time it is not told of.
    assert_eq!(spool.recover().damage, Vec::<String>::new());
}

/// A directory in which one file cannot be opened: there are too many open files, or it is another user's.
#[derive(Debug)]
struct Shut<'a>(&'a Directory, String);

impl Store for Shut<'_> {
    fn files(&self) -> Result<Vec<(String, u64)>, DiskError> {
        self.0.files()
    }

    fn create(&self, name: &str, len: u64) -> Result<Arc<dyn StoredFile>, DiskError> {
        self.0.create(name, len)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn StoredFile>, DiskError> {
        match name == self.1 {
            true => Err(DiskError::Ended),
            false => self.0.open(name),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.0.remove(name)
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.append(name, bytes)
    }

    fn free(&self) -> Result<u64, DiskError> {
        self.0.free()
    }
}

#[test]
fn what_cannot_be_opened_is_not_taken_for_damaged() {
    for (kind, number) in [(Kind::Segment, 2), (Kind::Journal, 1)] {
        let spool = Spool::new();
        spool.journal(1, State::default(), &[slot("orders")]);
        spool.segment(2, SALT, 0, 20);
        spool.segment(3, SALT + 1, 20, 5);
        let before = spool.names();
        let shut = Shut(&spool.directory, file_name(kind, number));
        assert!(recover(&shut).is_err());
        assert_eq!(spool.names(), before);
    }
}

#[test]
fn a_segment_of_which_nothing_can_be_read_is_set_aside() {
    let spool = Spool::new();
    spool.segment(2, SALT, 0, 20);
    spool.segment(3, SALT + 1, 20, 5);
    spool.hurt(Kind::Segment, 2, Vec::clear);
    let recovered = spool.recover();
    assert_eq!(held(&recovered), [20..25]);
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    assert!(
        spool
            .names()
            .contains(&format!("damaged/{}", file_name(Kind::Segment, 2)))
    );
}

#[test]
fn a_spare_that_was_to_become_a_segment_is_not_damaged() {
    let spool = Spool::new();
    spool.segment(2, SALT, 0, 20);
    spool.segment(3, SALT + 1, 20, 5);
    let rename = |from, to| {
        let names = [from, to].map(|number| file_name(Kind::Segment, number));
        spool
            .directory
            .rename(&names[0], &names[1])
            .expect("it is renamed");
    };
    // It was freed, and its name changed before its first page was written.
    rename(2, 9);
    let recovered = spool.recover();
    assert_eq!(
        (held(&recovered), recovered.damage),
        (vec![20..25], Vec::new())
    );
    assert_eq!(spool.names(), [file_name(Kind::Segment, 3)]);
    // Another one than the last was not being made.
    spool.segment(10, SALT, 0, 20);
    rename(3, 4);
    assert_eq!(spool.recover().damage.len(), 1);
    assert!(
        spool
            .names()
            .contains(&format!("damaged/{}", file_name(Kind::Segment, 4)))
    );
}

#[test]
fn a_torn_journal_says_all_that_stands_before() {
    let spool = Spool::new();
    spool.journal(
        1,
        State::default(),
        &[slot("orders"), settled(0, 10), settled(10, 5)],
    );
    spool.segment(2, SALT, 0, 20);
    // The last entry has 4 bytes of padding at most, and 36 of its own.
    spool.hurt(Kind::Journal, 1, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).expect("entries");
        bytes[last - 3..].fill(0);
    });
    let recovered = spool.recover();
    assert_eq!(recovered.damage, Vec::<String>::new());
    assert_eq!(recovered.state.slots[&7].settled.up_to(), 10);
}

#[test]
fn damage_in_the_middle_of_a_journal_is_told_and_what_follows_is_used() {
    let spool = Spool::new();
    spool.journal(
        1,
        State::default(),
        &[slot("orders"), settled(0, 10), settled(10, 5)],
    );
    // In the first entry behind the page, after `complete`.
    spool.hurt(Kind::Journal, 1, |bytes| bytes[PAGE + 40] ^= 1);
    let recovered = spool.recover();
    assert_eq!(recovered.damage.len(), 1, "{:?}", recovered.damage);
    let settled = &recovered.state.slots[&7].settled;
    assert!(settled.contains(12), "{settled:?}");
}

/// A journal, and the next one, which was begun with what it says.
fn begun_anew() -> Spool {
    let spool = Spool::new();
    spool.journal(1, State::default(), &[slot("orders"), settled(0, 10)]);
    let state = spool.recover().state;
    spool.journal(5, state, &[]);
    spool
}

#[test]
fn a_journal_that_is_not_complete_counts_only_if_there_is_no_other() {
    let spool = begun_anew();
    // The process ended before all of it was there.
    spool.hurt(Kind::Journal, 5, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).expect("entries");
        bytes[last] ^= 1;
    });
    let recovered = spool.recover();
    assert_eq!(recovered.journals.len(), 2);
    assert_eq!(recovered.next_number, 6);
    let topic = |topic: &str| SlotTopic {
        topic: topic.into(),
        topic_id: [1; 16],
        partition: 3,
    };
    let known = &recovered.state.slots[&7];
    assert_eq!(known.topic, Some(topic("orders")));
    assert_eq!(known.settled.up_to(), 10);
    // Without the former one it is all there is.
    fs::remove_file(spool.path(Kind::Journal, 1)).expect("it is there");
    assert_eq!(spool.recover().state.slots[&7].topic, Some(topic("orders")));
}

#[test]
fn a_journal_whose_beginning_is_lost_counts_only_if_there_is_no_other() {
    let spool = begun_anew();
    // The machine stopped, and of what was written the disk has what is behind, and not the slot's name.
    spool.hurt(Kind::Journal, 5, |bytes| bytes[PAGE..PAGE + 8].fill(0));
    let recovered = spool.recover();
    assert_eq!(recovered.damage, Vec::<String>::new());
    let topic = |recovered: &Recovered| recovered.state.slots[&7].topic.is_some();
    assert!(topic(&recovered));
    fs::remove_file(spool.path(Kind::Journal, 1)).expect("it is there");
    let recovered = spool.recover();
    assert_eq!((topic(&recovered), recovered.damage.len()), (false, 1));
}

#[test]
fn of_two_journals_that_are_complete_the_newer_one_counts() {
    let spool = Spool::new();
    spool.journal(1, State::default(), &[slot("orders")]);
    spool.journal(5, State::default(), &[slot("invoices")]);
    let recovered = spool.recover();
    let topic = recovered.state.slots[&7].topic.as_ref();
    assert_eq!(topic.map(|it| &*it.topic), Some("invoices"));
}

#[test]
fn a_journal_with_a_damaged_header_is_set_aside() {
    let spool = Spool::new();
    spool.journal(1, State::default(), &[slot("orders")]);
    spool.hurt(Kind::Journal, 1, |bytes| bytes[..PAGE].fill(0xee));
    let recovered = spool.recover();
    assert_eq!((recovered.damage.len(), recovered.journals.len()), (1, 0));
    assert_eq!(
        spool.names(),
        [format!("damaged/{}", file_name(Kind::Journal, 1))]
    );
}

#[test]
fn a_newer_version_is_refused_with_words() {
    for kind in [Kind::Segment, Kind::Journal] {
        let spool = Spool::new();
        spool.journal(1, State::default(), &[slot("orders")]);
        spool.segment(2, SALT, 0, 20);
        let number = if kind == Kind::Journal { 1 } else { 2 };
        spool.hurt(kind, number, |bytes| {
            bytes[8] = 99;
            let sum = crc_fast::crc32_iscsi(&bytes[..44]);
            bytes[44..48].copy_from_slice(&sum.to_le_bytes());
        });
        let before = spool.names();
        let error = recover(&spool.directory)
            .expect_err("it is newer")
            .to_string();
        assert!(error.contains(&file_name(kind, number)), "{error}");
        assert!(error.contains("version 99"), "{error}");
        assert_eq!(spool.names(), before, "nothing is touched");
    }
}

#[test]
fn the_same_records_in_two_segments_are_there_once() {
    let spool = Spool::new();
    let file = spool.make(Kind::Segment, 3, SEGMENT);
    spool.segment(2, SALT, 0, 20);
    let header = FileHeader {
        number: 3,
        salt: SALT,
        length: SEGMENT,
    };
    assert!(file.write(0, &header.page(Kind::Segment)));
    // A process that moved records ended before the former segment was given back.
    let place = Place {
        region: Arc::clone(&file) as Arc<dyn Region>,
        salt: SALT,
        at: PAGE as u32,
        length: 4096,
        begun: 0,
    };
    let batch = Batch {
        index: 15,
        base_timestamp: 1000,
    };
    let mut chunk = Chunk::begin(place, 7, 15, Some(batch)).expect("room");
    for index in 15..25 {
        let records = record(index);
        assert!(chunk.append(&Appending {
            records: &records,
            count: 1,
            newest: 1000,
            begins: None,
            source: None,
        }));
    }
    assert_eq!(held(&spool.recover()), [0..20, 20..25]);
}
