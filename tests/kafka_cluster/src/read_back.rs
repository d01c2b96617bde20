//! What a topic holds, read by Kafka's own consumer (`ReadBack.java`).

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::process::ChildStdout;
use std::time::Duration;

use super::{Cluster, Error, Result};

const LIMIT: Duration = Duration::from_secs(1800);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    /// The value of `isolation.level`.
    fn level(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read_uncommitted",
            Self::ReadCommitted => "read_committed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    /// `CreateTime` or `LogAppendTime`.
    pub timestamp_type: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Whether Kafka's own hash puts the keys where they were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitioning {
    pub matching: u64,
    pub mismatching: u64,
    /// Records without a key: any partition is right.
    pub unkeyed: u64,
}

impl Cluster {
    /// Every record of the topic, whole, up to the end as it is now, ordered by
    /// partition and offset.
    pub fn dump(&self, topic: &str, isolation: Isolation) -> Result<Vec<Consumed>> {
        let out = self.read_back("dump", topic, isolation)?;
        let text = String::from_utf8(out).map_err(Error::at("dump"))?;
        let mut records = text
            .lines()
            .map(|line| {
                Consumed::parse(line).ok_or_else(|| Error::new(format!("dump said {line:?}")))
            })
            .collect::<Result<Vec<Consumed>>>()?;
        records.sort_by_key(|r| (r.partition, r.offset));
        Ok(records)
    }

    /// For big runs: of every record only the decimal number that its value
    /// begins with.
    pub fn read_counters(&self, topic: &str, isolation: Isolation) -> Result<Seen> {
        const RECORD: usize = 20;
        let out = self.read_back("verify", topic, isolation)?;
        if out.len() % RECORD != 0 {
            return Err(Error::new("verify was cut short"));
        }
        let mut seen = Seen::default();
        for record in out.chunks_exact(RECORD) {
            let (partition, rest) = record.split_at(4);
            let (offset, counter) = rest.split_at(8);
            let partition = i32::from_be_bytes(partition.try_into().expect("4 bytes"));
            let offset = i64::from_be_bytes(offset.try_into().expect("8 bytes"));
            let counter = i64::from_be_bytes(counter.try_into().expect("8 bytes"));
            let log = seen.partitions.entry(partition).or_default();
            log.push((offset, counter));
        }
        Ok(seen)
    }

    /// Asks Kafka's murmur2 of every key in the topic. The topic must not have
    /// grown since the records were written.
    pub fn check_partitioning(&self, topic: &str) -> Result<Partitioning> {
        let out = self.read_back("murmur2", topic, Isolation::default())?;
        let text = String::from_utf8_lossy(&out);
        let counts: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
        match counts[..] {
            [matching, mismatching, unkeyed] => Ok(Partitioning {
                matching,
                mismatching,
                unkeyed,
            }),
            _ => Err(Error::new(format!("murmur2 said {text:?}"))),
        }
    }

    /// Hands every record to `take` in the order of its partition, and keeps none: partition,
    /// offset, value.
    pub fn read_values(
        &self,
        topic: &str,
        isolation: Isolation,
        mut take: impl FnMut(i32, i64, &[u8]) + Send,
    ) -> Result<()> {
        let read = move |out: ChildStdout| -> io::Result<()> {
            let mut out = BufReader::with_capacity(1 << 20, out);
            let mut value = Vec::new();
            while !out.fill_buf()?.is_empty() {
                let mut head = [0; 16];
                out.read_exact(&mut head)?;
                let number = |at: usize| i32::from_be_bytes([0, 1, 2, 3].map(|i| head[at + i]));
                let offset = (i64::from(number(4)) << 32) | i64::from(number(8).cast_unsigned());
                value.resize(number(12).max(0) as usize, 0);
                out.read_exact(&mut value)?;
                take(number(0), offset, &value);
            }
            Ok(())
        };
        let args = ["values", &self.bootstrap(), topic, isolation.level()];
        let read = self
            .reader()
            .read_program("ReadBack.java", &args, LIMIT, read)?;
        read.map_err(Error::at(format!("read {topic}")))
    }

    fn read_back(&self, mode: &str, topic: &str, isolation: Isolation) -> Result<Vec<u8>> {
        let args = [mode, &self.bootstrap(), topic, isolation.level()];
        self.reader().program("ReadBack.java", &args, LIMIT)
    }
}

impl Consumed {
    /// A line is `partition offset timestamp type key value name:value,…`, by tabs;
    /// bytes are hex, and `-` is null.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        Some(Self {
            partition: fields.next()?.parse().ok()?,
            offset: fields.next()?.parse().ok()?,
            timestamp: fields.next()?.parse().ok()?,
            timestamp_type: fields.next()?.into(),
            key: bytes(fields.next()?)?,
            value: bytes(fields.next()?)?,
            headers: fields
                .next()?
                .split_terminator(',')
                .map(|header| {
                    let (name, value) = header.split_once(':')?;
                    Some((String::from_utf8(hex(name)?).ok()?, bytes(value)?))
                })
                .collect::<Option<_>>()?,
        })
    }
}

fn bytes(text: &str) -> Option<Option<Vec<u8>>> {
    match text {
        "-" => Some(None),
        text => hex(text).map(Some),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// The counters found in a topic, in log order. A counter names a record; a
/// test gives each one out once, and can put who sent it in its upper digits.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// By partition: offset and counter; -1 where a value began with no digit.
    pub partitions: BTreeMap<i32, Vec<(i64, i64)>>,
}

impl Seen {
    pub fn records(&self) -> usize {
        self.partitions.values().map(Vec::len).sum()
    }

    fn all(&self) -> impl Iterator<Item = (i32, i64, i64)> {
        self.partitions
            .iter()
            .flat_map(|(partition, log)| log.iter().map(|(o, c)| (*partition, *o, *c)))
    }

    /// All counters in ascending order.
    fn sorted(&self) -> Vec<i64> {
        let mut counters: Vec<i64> = self.all().map(|(_, _, counter)| counter).collect();
        counters.sort_unstable();
        counters
    }

    /// Records that were acknowledged and are not there.
    pub fn lost(&self, acked: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let found = self.sorted();
        let absent = |counter: &i64| found.binary_search(counter).is_err();
        acked.into_iter().filter(absent).collect()
    }

    /// Records that were reported as certainly not written and are there.
    pub fn phantom(&self, not_written: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let found = self.sorted();
        let present = |counter: &i64| found.binary_search(counter).is_ok();
        not_written.into_iter().filter(present).collect()
    }

    /// Counters that are there more than once, each named once.
    pub fn duplicated(&self) -> Vec<i64> {
        let mut twice: Vec<i64> = self
            .sorted()
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        twice.dedup();
        twice
    }

    /// Where, within a partition, a counter is smaller than one before it of
    /// the same stream: partition, offset, counter. `stream` says which counters
    /// were sent in ascending order; `|_| 0` if all were.
    pub fn reordered<S: Ord>(&self, stream: impl Fn(i64) -> S) -> Vec<(i32, i64, i64)> {
        let mut wrong = Vec::new();
        for (partition, log) in &self.partitions {
            let mut last: BTreeMap<S, i64> = BTreeMap::new();
            for (offset, counter) in log {
                let last = last.entry(stream(*counter)).or_insert(*counter);
                if counter < last {
                    wrong.push((*partition, *offset, *counter));
                }
                *last = (*last).max(*counter);
            }
        }
        wrong
    }

    /// Records that lie in another partition than the one they were meant for.
    pub fn misrouted(&self, meant: impl Fn(i64) -> i32) -> Vec<(i32, i64, i64)> {
        self.all()
            .filter(|(partition, _, counter)| meant(*counter) != *partition)
            .collect()
    }

    /// What lies at an offset that an acknowledgement named.
    pub fn counter_at(&self, partition: i32, offset: i64) -> Option<i64> {
        let log = self.partitions.get(&partition)?;
        let at = log.binary_search_by_key(&offset, |(o, _)| *o).ok()?;
        Some(log[at].1)
    }
}
