//! Records of the spool as lines of JSON, and the files for those that can never be sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::reader::Spooled;
use super::state::SlotTopic;
use crate::core::batch::ReadRecord;
use crate::core::calendar;

/// Where the files are.
const FOLDER: &str = "rejected";

/// No more of a topic's name is in that of a file.
const TOPIC: usize = 60;

const MILLIS_A_DAY: i64 = 86_400_000;

#[derive(Serialize)]
struct Line<'a> {
    topic: Option<&'a str>,
    partition: Option<i32>,
    position: u64,
    /// Milliseconds since 1970.
    timestamp: i64,
    key: Option<Text<'a>>,
    value: Option<Text<'a>>,
    headers: Vec<Header<'a>>,
    #[serde(flatten)]
    note: Note<'a>,
}

/// What a line says of its record beside what is in it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Note<'a> {
    /// Why it can never be sent.
    Rejected { reason: &'a str },
    /// It waits. `sent`: it may be in the log already.
    Waiting { sent: bool },
}

#[derive(Serialize)]
struct Header<'a> {
    key: Text<'a>,
    value: Option<Text<'a>>,
}

/// Text as it is, and other bytes in base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Text(&'a str),
    Base64 { base64: String },
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Base64 {
                base64: BASE64.encode(bytes),
            },
        }
    }
}

/// Adds a line for each record of the batch, with what `note` says of its position.
pub fn lines<'a>(
    topic: Option<&SlotTopic>,
    batch: &Spooled,
    note: impl Fn(u64) -> Note<'a>,
    lines: &mut Vec<u8>,
) {
    let mut records = &batch.records[..];
    for position in batch.position..batch.end() {
        let Some(record) = ReadRecord::take(&mut records) else {
            return;
        };
        let headers = record.headers.iter().map(|(key, value)| Header {
            key: Text::of(key),
            value: value.map(Text::of),
        });
        let line = Line {
            topic: topic.map(|it| &*it.topic),
            partition: topic.map(|it| it.partition),
            position,
            timestamp: batch.base_timestamp.saturating_add(record.timestamp_delta),
            key: record.key.map(Text::of),
            value: record.value.map(Text::of),
            headers: headers.collect(),
            note: note(position),
        };
        // Nothing of it can fail to be JSON.
        if let Ok(line) = serde_json::to_vec(&line) {
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        }
    }
}

/// The file for records of this topic partition that are rejected at this time, in milliseconds since 1970:
/// one for each day.
pub fn rejected_file(topic: Option<&SlotTopic>, now: i64) -> String {
    let (year, month, day) = calendar::date(now.max(0).div_euclid(MILLIS_A_DAY).unsigned_abs());
    let (name, partition) = topic.map_or(("", -1), |it| (&*it.topic, it.partition));
    // Files have small letters, and each line has the whole name.
    let small = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '.' | '-') => c,
        _ => '-',
    };
    let name: String = name.chars().map(small).take(TOPIC).collect();
    format!("{FOLDER}/{year:04}-{month:02}-{day:02}-{name}-{partition}.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::RecordRef;

    fn topic(name: &str) -> SlotTopic {
        SlotTopic {
            topic: name.into(),
            topic_id: [0; 16],
            partition: 12,
        }
    }

    fn batch(values: &[&[u8]]) -> Spooled {
        let mut memory = vec![0; 4096];
        let mut end = 0;
        for (index, value) in (0..).zip(values) {
            let record = RecordRef {
                key: (index > 0).then_some(&b"a \"key\"\n"[..]),
                value: Some(value),
                headers: &[],
                timestamp: 0,
            };
            end = record
                .encode(&mut memory, end, 4096, index, index.into())
                .expect("room");
        }
        memory.truncate(end);
        Spooled {
            position: 40,
            index: 0,
            base_timestamp: 1000,
            newest: 1001,
            count: values.len() as u32,
            records: memory,
            sources: Vec::new(),
        }
    }

    #[test]
    fn each_record_is_a_line_that_has_all_of_it() {
        let mut lines = Vec::new();
        let batch = batch(&[b"gr\xc3\xbc\xc3\x9fe", b"\xff\x00"]);
        let note = |position| match position {
            40 => Note::Rejected {
                reason: "too large",
            },
            _ => Note::Waiting { sent: true },
        };
        super::lines(Some(&topic("Orders")), &batch, note, &mut lines);
        let lines = String::from_utf8(lines).expect("text");
        let expected = concat!(
            r#"{"topic":"Orders","partition":12,"position":40,"timestamp":1000,"key":null,"#,
            r#""value":"grüße","headers":[],"reason":"too large"}"#,
            "\n",
            r#"{"topic":"Orders","partition":12,"position":41,"timestamp":1001,"#,
            r#""key":"a \"key\"\n","value":{"base64":"/wA="},"headers":[],"sent":true}"#,
            "\n",
        );
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_file_is_named_for_day_and_topic_partition() {
        let day = 20_786 * MILLIS_A_DAY;
        let name = |topic: Option<&SlotTopic>| rejected_file(topic, day + 5);
        assert_eq!(
            name(Some(&topic("My_Orders.v2"))),
            "rejected/2026-11-29-my-orders.v2-12.jsonl"
        );
        assert_eq!(name(None), "rejected/2026-11-29---1.jsonl");
        assert!(name(Some(&topic(&"x".repeat(249)))).len() < 100);
    }
}
