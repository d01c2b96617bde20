//! Headers of the batches in the answer to a Fetch request. The records of batches are passed over, but
//! for the key of a marker.

#[cfg(any(test, feature = "internals"))]
use super::header::TRANSACTIONAL;
use super::header::{CONTROL, HEADER_LEN};
use super::varint;

/// Bytes before what a batch's length counts: the base offset and the length itself.
const BEFORE_LENGTH: usize = 12;

/// The bit of the attributes that says so.
const LOG_APPEND_TIME: i16 = 1 << 3;

/// Where the magic byte is, in every format.
const MAGIC_AT: usize = 16;

/// The one format with producer ids. Older ones may be left in logs from before Kafka 0.11.
const MAGIC: i8 = 2;

/// Why the bytes are not batches of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("the batch at offset {base_offset} has the message format {magic}, and not 2")]
    Format { base_offset: i64, magic: i8 },

    #[error("the batch at offset {base_offset} claims a length of {length} bytes")]
    Length { base_offset: i64, length: i32 },

    #[error("the batch at offset {base_offset} follows one that ends at offset {last_offset}")]
    Order { base_offset: i64, last_offset: i64 },

    #[error("the batch at offset {base_offset} claims {count} records up to {last_offset_delta}")]
    Count {
        base_offset: i64,
        count: i32,
        last_offset_delta: i32,
    },

    #[error("the marker at offset {base_offset} is broken")]
    Marker { base_offset: i64 },
}

/// What the header of a batch in a log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedBatch {
    pub base_offset: i64,
    /// Bytes of the whole batch.
    pub length: usize,
    pub leader_epoch: i32,
    pub attributes: i16,
    /// The last record's offset, from the base offset on. It stays where compaction removes records.
    pub last_offset_delta: i32,
    /// In milliseconds since 1970.
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    /// -1 unless the batch is idempotent.
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    /// Records that are left.
    pub count: i32,
    /// What the batch is instead of an application's, if it is a control batch.
    pub control: Option<Control>,
}

/// What a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The producer's transaction was aborted.
    Abort,
    /// It was committed.
    Commit,
    /// Of another type, as controllers write them.
    Other(i16),
    /// Compaction has removed what it said.
    Emptied,
}

impl LoggedBatch {
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The time that the broker gave the records, where the topic has `LogAppendTime`.
    pub fn log_append_time(&self) -> Option<i64> {
        (self.attributes & LOG_APPEND_TIME != 0).then_some(self.max_timestamp)
    }

    /// Whether it is part of a transaction. Markers are, too.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }
}

/// The batches in the order of the log. The last may be cut off, as brokers send no more bytes than they
/// were asked for; it is passed over. CRCs are not checked. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct LoggedBatches<'a> {
    left: &'a [u8],
    last_offset: i64,
}

impl<'a> LoggedBatches<'a> {
    pub fn new(records: &'a [u8]) -> Self {
        Self {
            left: records,
            last_offset: -1,
        }
    }

    /// Bytes that were not read yet: at the end, those of a batch that was cut off.
    #[cfg(any(test, feature = "internals"))]
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// The next batch; `None` if no whole one is left.
    fn read(&mut self) -> Result<Option<LoggedBatch>, LogError> {
        let bytes = self.left;
        let (Some(base_offset), Some(length), Some(magic)) = (
            number(bytes, 0).map(i64::from_be_bytes),
            number(bytes, 8).map(i32::from_be_bytes),
            number(bytes, MAGIC_AT).map(i8::from_be_bytes),
        ) else {
            return Ok(None);
        };
        if magic != MAGIC {
            return Err(LogError::Format { base_offset, magic });
        }
        let whole = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(BEFORE_LENGTH))
            .filter(|whole| *whole >= HEADER_LEN)
            .ok_or(LogError::Length {
                base_offset,
                length,
            })?;
        let Some((batch, rest)) = bytes.split_at_checked(whole) else {
            return Ok(None);
        };
        let Some(batch) = read_header(batch)? else {
            return Ok(None);
        };
        if base_offset <= self.last_offset {
            return Err(LogError::Order {
                base_offset,
                last_offset: self.last_offset,
            });
        }
        self.last_offset = batch.last_offset();
        self.left = rest;
        Ok(Some(batch))
    }
}

impl Iterator for LoggedBatches<'_> {
    type Item = Result<LoggedBatch, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose();
        if let Some(Err(_)) = read {
            self.left = &[];
        }
        read
    }
}

/// The bytes of a number, if there are so many.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// What a whole batch says; `None` if it is shorter than a header.
fn read_header(batch: &[u8]) -> Result<Option<LoggedBatch>, LogError> {
    let Some((header, records)) = batch.split_first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let mut rest = &header[..];
    let base_offset = i64::from_be_bytes(next(&mut rest));
    let _length: [u8; 4] = next(&mut rest);
    let leader_epoch = i32::from_be_bytes(next(&mut rest));
    let _magic: [u8; 1] = next(&mut rest);
    let _crc: [u8; 4] = next(&mut rest);
    let mut read = LoggedBatch {
        base_offset,
        length: batch.len(),
        leader_epoch,
        attributes: i16::from_be_bytes(next(&mut rest)),
        last_offset_delta: i32::from_be_bytes(next(&mut rest)),
        base_timestamp: i64::from_be_bytes(next(&mut rest)),
        max_timestamp: i64::from_be_bytes(next(&mut rest)),
        producer_id: i64::from_be_bytes(next(&mut rest)),
        epoch: i16::from_be_bytes(next(&mut rest)),
        base_sequence: i32::from_be_bytes(next(&mut rest)),
        count: i32::from_be_bytes(next(&mut rest)),
        control: None,
    };
    let (count, last_offset_delta) = (read.count, read.last_offset_delta);
    let possible =
        last_offset_delta >= 0 && (0..=i64::from(last_offset_delta) + 1).contains(&count.into());
    if base_offset < 0 || base_offset.checked_add(last_offset_delta.into()).is_none() || !possible {
        return Err(LogError::Count {
            base_offset,
            count,
            last_offset_delta,
        });
    }
    if read.attributes & CONTROL != 0 {
        let broken = LogError::Marker { base_offset };
        read.control = Some(match count {
            0 => Control::Emptied,
            _ => read_control(records).ok_or(broken)?,
        });
    }
    Ok(Some(read))
}

/// The next bytes of a header, which is long enough for all of them.
fn next<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk() {
        Some((taken, left)) => {
            *rest = left;
            *taken
        }
        None => [0; N],
    }
}

/// The key of the one record of a control batch: a version and a type. Control batches are not
/// compressed.
fn read_control(records: &[u8]) -> Option<Control> {
    let mut rest = records;
    let length = usize::try_from(varint::take(&mut rest)?).ok()?;
    let mut rest = rest.get(..length)?;
    let (_attributes, after) = rest.split_first()?;
    rest = after;
    let _timestamp_delta = varint::take(&mut rest)?;
    let _offset_delta = varint::take(&mut rest)?;
    let length = usize::try_from(varint::take(&mut rest)?).ok()?;
    let key = rest.get(..length)?;
    let version = number(key, 0).map(i16::from_be_bytes)?;
    if version < 0 {
        return None;
    }
    Some(match number(key, 2).map(i16::from_be_bytes)? {
        0 => Control::Abort,
        1 => Control::Commit,
        other => Control::Other(other),
    })
}

#[cfg(test)]
pub mod encoded;
#[cfg(test)]
mod tests;
