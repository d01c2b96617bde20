//! A stream: the numbered records of one sending task to one partition, and the fate of each of
//! them.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The fate of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Holds the offset minus the number, if the broker reported the offset. Between two faults it
    /// is the same for all records of a partition with one stream.
    Acked(Option<i64>),
    NotWritten,
    /// Its transaction was aborted.
    Aborted,
    Unknown,
    /// Never accepted.
    Refused,
}

pub struct Stream {
    pub id: u32,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Most of its records have timestamps from long ago, as when something is filled in later.
    pub backfills: bool,
    /// The stream of the instance before with this transactional id, to the same partition. All that is
    /// committed of it comes before this one's first record.
    pub behind: Option<u32>,
    /// How many numbers were given to records.
    sent: AtomicU64,
    /// The last acked number plus one.
    acked_to: AtomicU64,
    /// Records below this number were acked in a topic that was deleted.
    begin: AtomicU64,
    /// No more records are to be sent.
    over: AtomicBool,
    book: Mutex<Book>,
}

/// The fates of all records, as runs of equal fates: the first number of each run, and the fate. It
/// takes a few bytes for each fault, and none for a record.
#[derive(Default)]
struct Book {
    runs: Vec<(u64, Fate)>,
    settled: u64,
}

impl Stream {
    pub fn new(id: u32, (topic, partition): (&str, i32)) -> Self {
        Self {
            id,
            topic: topic.into(),
            partition,
            backfills: false,
            behind: None,
            sent: AtomicU64::new(0),
            acked_to: AtomicU64::new(0),
            begin: AtomicU64::new(0),
            over: AtomicBool::new(false),
            book: Mutex::default(),
        }
    }

    /// The number of the next record.
    pub fn next(&self) -> u64 {
        self.sent.fetch_add(1, Relaxed)
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub fn acked_to(&self) -> u64 {
        self.acked_to.load(Relaxed)
    }

    /// Ends the stream: no more records are sent.
    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Notes that the topic is new: earlier records were in a deleted one.
    pub fn begin_anew(&self) {
        self.begin.store(self.sent(), Relaxed);
    }

    pub fn begin(&self) -> u64 {
        self.begin.load(Relaxed)
    }

    /// Notes the fate of the next record.
    pub fn settle(&self, told: Settled) {
        let mut book = self.book();
        let number = book.settled;
        let fate = match told {
            Settled::Acked(offset) => {
                self.acked_to.store(number + 1, Relaxed);
                Fate::Acked(offset.map(|offset| offset - number as i64))
            }
            Settled::NotWritten => Fate::NotWritten,
            Settled::Aborted => Fate::Aborted,
            Settled::Unknown => Fate::Unknown,
            Settled::Refused => Fate::Refused,
        };
        book.settled += 1;
        if book.runs.last().is_none_or(|(_, last)| *last != fate) {
            book.runs.push((number, fate));
        }
    }

    /// How many records have a fate.
    pub fn settled(&self) -> u64 {
        self.book().settled
    }

    /// The fate of a record, or `None` if it has none yet.
    pub fn fate(&self, number: u64) -> Option<Fate> {
        let book = self.book();
        let behind = book.runs.partition_point(|(first, _)| *first <= number);
        let (_, fate) = book.runs.get(behind.checked_sub(1)?)?;
        (number < book.settled).then_some(*fate)
    }

    /// Each run of equal fates: its first number, the number after its last, and the fate.
    pub fn runs(&self) -> Vec<(u64, u64, Fate)> {
        let book = self.book();
        let ends = book.runs.iter().skip(1).map(|(first, _)| *first);
        let ends = ends.chain([book.settled]);
        let runs = book.runs.iter().zip(ends);
        runs.map(|((first, fate), end)| (*first, end, *fate))
            .collect()
    }

    /// How long ago a record's timestamp is. Records of one age and of several come into one batch.
    pub fn age(&self, number: u64) -> Duration {
        const MINUTES: [u64; 4] = [3 * 24 * 60, 25 * 60, 5, 0];
        let at = match self.backfills {
            true => number / 16 % MINUTES.len() as u64,
            false => 3,
        };
        Duration::from_secs(60 * MINUTES[at as usize])
    }

    /// Bytes that the fates take.
    pub fn memory(&self) -> usize {
        self.book().runs.capacity() * size_of::<(u64, Fate)>()
    }

    /// The value of a record: its stream, number and destination, and a checksum over all of it.
    pub fn value(&self, number: u64) -> Vec<u8> {
        let filler = filler(self.id, number);
        let mut value = Vec::with_capacity(HEAD + self.topic.len() + filler);
        value.extend([0; SUM]);
        value.extend(self.id.to_be_bytes());
        value.extend(self.partition.to_be_bytes());
        value.extend(number.to_be_bytes());
        value.push(self.topic.len() as u8);
        value.extend(self.topic.as_bytes());
        value.extend((0..filler).map(|at| b'a' + (number as usize + at) as u8 % 26));
        let sum = sum(&value[SUM..]).to_be_bytes();
        value[..SUM].copy_from_slice(&sum);
        value
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|e| e.into_inner())
    }
}

pub enum Settled {
    /// Holds the offset.
    Acked(Option<i64>),
    NotWritten,
    Aborted,
    Unknown,
    Refused,
}

/// The contents of a value.
#[derive(Debug)]
pub struct Named<'a> {
    pub stream: u32,
    pub topic: &'a [u8],
    pub partition: i32,
    pub number: u64,
}

const SUM: usize = 8;
/// Bytes before the topic's name.
const HEAD: usize = SUM + 4 + 4 + 8 + 1;

/// Parses a value. Returns `None` if it is not as it was sent.
pub fn named(value: &[u8]) -> Option<Named<'_>> {
    let (told, rest) = value.split_first_chunk::<SUM>()?;
    if u64::from_be_bytes(*told) != sum(rest) {
        return None;
    }
    let (stream, rest) = rest.split_first_chunk()?;
    let (partition, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first()?;
    Some(Named {
        stream: u32::from_be_bytes(*stream),
        topic: rest.get(..usize::from(*length))?,
        partition: i32::from_be_bytes(*partition),
        number: u64::from_be_bytes(*number),
    })
}

fn sum(bytes: &[u8]) -> u64 {
    // This hasher has fixed keys, so the sum is always the same.
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Bytes of filler: around 60, and now and then many more.
fn filler(stream: u32, number: u64) -> usize {
    let mixed = (number ^ u64::from(stream) << 40).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    match mixed % 200 {
        0 => 1000,
        _ => 20 + mixed as usize / 200 % 80,
    }
}
