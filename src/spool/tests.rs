use std::fs;
use std::path::Path;

use tempfile::{TempDir, tempdir};

use super::*;
use crate::core::batch::RecordRef;
use crate::core::identity::Identity;
use crate::core::spool::{
    Appending, EmptySegment, Entry, Fate, Index, JournalWriter, Line, PAGE, Seat, Space,
    SpaceEvent, State,
};

const SEGMENT: u64 = 64 << 10;
const SALT: u64 = 7;

/// What a producer has left: ten records of a partition, of which the first three were acked, and the next
/// two may have been sent.
fn left() -> TempDir {
    let folder = tempdir().expect("a folder");
    let directory = Directory::open(folder.path()).expect("it is empty");
    let header = |number| FileHeader {
        number,
        salt: SALT,
        length: SEGMENT,
    };
    let make = |kind, number| {
        let made = directory.create(&file_name(kind, number), SEGMENT);
        made.expect("it is made")
    };
    let journal = JournalWriter::begin(make(Kind::Journal, 1), header(1), State::default());
    let mut journal = journal.expect("it fits");
    let line = Line {
        identity: Identity {
            producer_id: 5,
            epoch: 0,
        },
        sequence: 0,
        position: 0,
        floor: 0,
        sent: 0,
    };
    for entry in [
        Entry::Slot {
            slot: 1,
            topic_id: [3; 16],
            partition: 4,
            topic: "orders".into(),
        },
        Entry::Source {
            source: 1,
            name: "rows".into(),
        },
        Entry::Accepted {
            source: 1,
            position: 99,
        },
        Entry::Line { slot: 1, line },
        Entry::Settled {
            slot: 1,
            position: 0,
            count: 3,
            fate: Fate::Acked(0),
        },
        Entry::Line {
            slot: 1,
            line: Line::bound(5, 5),
        },
    ] {
        assert!(journal.write(&entry));
    }
    let file = make(Kind::Segment, 2);
    assert!(file.write(0, &header(2).page(Kind::Segment)));
    let space = Space::new();
    space.register(1);
    space.add(EmptySegment {
        number: 2,
        salt: SALT,
        region: file as _,
    });
    let mut seat = Seat::new(Arc::clone(&space), 1);
    for index in 0..10 {
        let mut memory = [0; 200];
        let value = format!("value {index}");
        let record = RecordRef {
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
            timestamp: 0,
        };
        let length = record.encode(&mut memory, 0, 200, index, 0).expect("room");
        assert!(seat.make_room(length));
        assert!(seat.append(&Appending {
            records: &memory[..length],
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
    let index = Index {
        number: 2,
        salt: SALT,
        chunks: closed.collect(),
        accepted: Vec::new(),
    };
    let file = directory.create(&file_name(Kind::Index, 2), PAGE as u64);
    let file = file.expect("it is made");
    assert!(file.write(0, &index.encode()));
    folder
}

fn lines_of(contents: &Contents, topics: &[String]) -> (String, u64, u64) {
    let mut text = Vec::new();
    let give = |lines: &[u8]| {
        text.extend_from_slice(lines);
        Ok::<_, Infallible>(())
    };
    let Ok((written, lost)) = contents.export(topics, give);
    (String::from_utf8(text).expect("text"), written, lost)
}

/// All files, with what is in them.
fn bytes_in(path: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(path).expect("it can be listed");
    let files = files.map(|it| it.expect("an entry").path());
    let mut files: Vec<_> = files
        .map(|it| (it.display().to_string(), fs::read(&it).expect("a file")))
        .collect();
    files.sort();
    files
}

#[test]
fn what_waits_is_shown_and_nothing_is_changed() {
    let folder = left();
    let before = bytes_in(folder.path());
    let contents = Contents::read(folder.path()).expect("a spool");
    let [waiting] = &contents.waiting()[..] else {
        panic!("{:?}", contents.waiting());
    };
    assert_eq!(waiting.topic.as_deref(), Some("orders"));
    let counts = (waiting.records, waiting.sent, waiting.lost);
    assert_eq!((waiting.partition, counts), (Some(4), (7, 2, 0)));
    assert!(waiting.bytes > 0 && waiting.since.is_some());
    assert_eq!(contents.sources(), [("rows".into(), Some(99))]);
    let files = contents.files().expect("they can be listed");
    assert_eq!((files.segments, files.bytes), (1, SEGMENT));
    let (text, written, lost) = lines_of(&contents, &[]);
    assert_eq!((written, lost, text.lines().count()), (7, 0, 7));
    let first = text.lines().next().expect("a line");
    let expected = concat!(
        r#"{"topic":"orders","partition":4,"position":3,"timestamp":1000,"key":null,"#,
        r#""value":"value 3","headers":[],"sent":true}"#
    );
    assert_eq!(first, expected);
    assert!(
        text.lines()
            .nth(2)
            .is_some_and(|it| it.contains(r#""sent":false"#))
    );
    assert_eq!(lines_of(&contents, &["others".into()]).1, 0);
    assert!(contents.verify().is_empty());
    drop(contents);
    assert_eq!(bytes_in(folder.path()), before);
}

/// Also where a start would not look, and at the end of a chunk, where nothing is to be seen of it.
#[test]
fn damage_anywhere_is_found() {
    for record in [1, 4, 9] {
        let folder = left();
        let path = folder.path().join(file_name(Kind::Segment, 2));
        let mut bytes = fs::read(&path).expect("a segment");
        let value = format!("value {record}");
        let at = bytes
            .windows(value.len())
            .position(|it| it == value.as_bytes());
        bytes[at.expect("it is there")] ^= 1;
        fs::write(&path, bytes).expect("it is written");
        let contents = Contents::read(folder.path()).expect("a spool");
        assert!(contents.damage().is_empty(), "its index is whole");
        let damage = contents.verify();
        assert_eq!(damage.len(), 1, "{damage:?}");
        let (_, written, lost) = lines_of(&contents, &[]);
        let is_settled = u64::from(record < 3);
        assert_eq!((written, lost), (6 + is_settled, 1 - is_settled));
    }
}

#[test]
fn a_directory_that_is_no_spool_stays_as_it_is() {
    let folder = tempdir().expect("a folder");
    let there = folder.path().join("there");
    for path in [folder.path(), &there] {
        let refused = Contents::read(path).expect_err("it is none").to_string();
        assert!(
            refused.contains("is no spool, or is not there"),
            "{refused}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_producer_that_has_the_spool_is_named() {
    let folder = left();
    let _has_it = Directory::open(folder.path()).expect("nobody has it");
    let refused = Contents::read(folder.path()).expect_err("it is in use");
    assert!(refused.to_string().contains("is in use by"), "{refused}");
}
