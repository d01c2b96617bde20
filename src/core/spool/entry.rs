//! Entries of the journal.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::LAST_POSITION;
use super::frame::{self, ALIGN, number};
use crate::core::identity::{Identity, SEQUENCES, sequence_after};

/// Bytes before what the length counts.
pub const BEFORE: usize = 8;

/// No entry is longer: names have up to 65,535 bytes.
const LONGEST: usize = (1 << 16) + 64;

/// What the CRC covers before the kind: salt, offset and length.
const PLACE: usize = 20;

/// Something that a later process has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A transactional id whose markers fence producers of this spool.
    Id { name: Arc<str>, producer_id: i64 },
    /// A topic partition gets a number.
    Slot {
        slot: u32,
        topic_id: [u8; 16],
        partition: i32,
        topic: Arc<str>,
    },
    /// Before the first batch of a line goes out.
    Line { slot: u32, line: Line },
    /// What became of records.
    Settled {
        slot: u32,
        position: u64,
        count: u32,
        fate: Fate,
    },
    /// The name of a source gets a number.
    Source { source: u32, name: Arc<str> },
    /// The highest position of a source that was accepted.
    Accepted { source: u32, position: u64 },
    /// Positions up to `to` are settled, from `from` on, and what of the slot is not settled behind them is
    /// not before `floor` in the log.
    Past {
        slot: u32,
        from: u64,
        to: u64,
        floor: i64,
    },
    /// All that was known when this journal was begun stands before.
    Complete,
}

/// A stretch of sequence numbers under one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub identity: Identity,
    /// The sequence of the record at `position`.
    pub sequence: i32,
    pub position: u64,
    /// The lowest offset that its first batch can have.
    pub floor: i64,
    /// No record at this position or behind it was sent under an earlier line.
    pub sent: u64,
}

/// What became of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The offset of the first one.
    Acked(i64),
    NotWritten,
    Unknown,
    /// Kept aside: they can never be sent.
    Rejected,
}

impl Fate {
    fn encode(self) -> (u8, i64) {
        match self {
            Self::Acked(offset) => (1, offset),
            Self::NotWritten => (2, -1),
            Self::Unknown => (3, -1),
            Self::Rejected => (4, -1),
        }
    }

    fn decode(fate: u8, offset: i64) -> Option<Self> {
        Some(match fate {
            1 => Self::Acked(offset),
            2 => Self::NotWritten,
            3 => Self::Unknown,
            4 => Self::Rejected,
            _ => return None,
        })
    }
}

impl Entry {
    /// These positions are settled, and nothing behind them is before this offset of the log.
    pub fn past(slot: u32, positions: Range<u64>, floor: i64) -> Self {
        Self::Past {
            slot,
            from: positions.start,
            to: positions.end,
            floor,
        }
    }

    /// Adds the entry, which begins at `offset` of the journal, a multiple of 4. Its bytes are padded, so
    /// that the next one begins behind them.
    pub fn encode(&self, salt: u64, offset: u64, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; BEFORE]);
        self.put(out);
        let length = (out.len() - begin - BEFORE) as u32;
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        let sum = sum(salt, offset, length, &out[begin + BEFORE..]);
        out[begin + 4..begin + BEFORE].copy_from_slice(&sum.to_le_bytes());
        let padded = (out.len() - begin).next_multiple_of(ALIGN);
        out.resize(begin + padded, 0);
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        match self {
            Self::Id { name, producer_id } => {
                put(&[1]);
                put(&producer_id.to_le_bytes());
                put_name(out, name);
            }
            Self::Slot {
                slot,
                topic_id,
                partition,
                topic,
            } => {
                put(&[2]);
                put(&slot.to_le_bytes());
                put(topic_id);
                put(&partition.to_le_bytes());
                put_name(out, topic);
            }
            Self::Line { slot, line } => {
                put(&[3]);
                put(&slot.to_le_bytes());
                put(&line.identity.producer_id.to_le_bytes());
                put(&line.identity.epoch.to_le_bytes());
                put(&line.sequence.to_le_bytes());
                put(&line.position.to_le_bytes());
                put(&line.floor.to_le_bytes());
                put(&line.sent.to_le_bytes());
            }
            Self::Settled {
                slot,
                position,
                count,
                fate,
            } => {
                let (fate, offset) = fate.encode();
                put(&[4]);
                put(&slot.to_le_bytes());
                put(&position.to_le_bytes());
                put(&count.to_le_bytes());
                put(&[fate]);
                put(&offset.to_le_bytes());
            }
            Self::Source { source, name } => {
                put(&[5]);
                put(&source.to_le_bytes());
                put_name(out, name);
            }
            Self::Accepted { source, position } => {
                put(&[6]);
                put(&source.to_le_bytes());
                put(&position.to_le_bytes());
            }
            Self::Past {
                slot,
                from,
                to,
                floor,
            } => {
                put(&[7]);
                put(&slot.to_le_bytes());
                put(&from.to_le_bytes());
                put(&to.to_le_bytes());
                put(&floor.to_le_bytes());
            }
            Self::Complete => put(&[8]),
        }
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (kind, body) = body.split_first()?;
        let mut body = Body(body);
        let entry = match kind {
            1 => Self::Id {
                producer_id: body.i64()?,
                name: body.name()?,
            },
            2 => Self::Slot {
                slot: body.u32()?,
                topic_id: body.take()?,
                partition: i32::from_le_bytes(body.take()?),
                topic: body.name()?,
            },
            3 => Self::Line {
                slot: body.u32()?,
                line: Line::read(&mut body)?,
            },
            4 => {
                let (slot, position, count) = (body.u32()?, body.position()?, body.u32()?);
                let [fate] = body.take()?;
                Self::Settled {
                    slot,
                    position,
                    count,
                    fate: Fate::decode(fate, body.i64()?)?,
                }
            }
            5 => Self::Source {
                source: body.u32()?,
                name: body.name()?,
            },
            6 => Self::Accepted {
                source: body.u32()?,
                position: u64::from_le_bytes(body.take()?),
            },
            7 => Self::Past {
                slot: body.u32()?,
                from: body.position()?,
                to: body.end()?,
                floor: body.i64()?,
            },
            8 => Self::Complete,
            _ => return None,
        };
        body.0.is_empty().then_some(entry)
    }
}

impl Line {
    /// What ends all lines before: nothing behind `sent` is known that was sent under them. A start writes
    /// it, before it accepts anything, from `position` on.
    pub fn bound(position: u64, sent: u64) -> Self {
        Self {
            identity: Identity {
                producer_id: -1,
                epoch: -1,
            },
            sequence: 0,
            position,
            floor: i64::MAX,
            sent,
        }
    }

    /// Whether nothing was sent under it.
    pub fn is_bound(&self) -> bool {
        self.identity.producer_id < 0
    }

    /// The sequence number of the record at this position.
    pub fn sequence_at(&self, position: u64) -> Option<i32> {
        let behind = position.checked_sub(self.position)? % SEQUENCES;
        Some(sequence_after(self.sequence, i32::try_from(behind).ok()?))
    }

    /// The first position with this sequence number. Others follow, each 2^31 behind the one before.
    pub fn position_of(&self, sequence: i32) -> Option<u64> {
        let sequence = u64::try_from(sequence).ok()?;
        let behind = (sequence + SEQUENCES - u64::from(self.sequence.unsigned_abs())) % SEQUENCES;
        self.position.checked_add(behind)
    }

    fn read(body: &mut Body<'_>) -> Option<Self> {
        let producer_id = body.i64()?;
        let epoch = i16::from_le_bytes(body.take()?);
        let line = Self {
            identity: Identity { producer_id, epoch },
            sequence: i32::from_le_bytes(body.take()?),
            position: body.position()?,
            floor: body.i64()?,
            sent: body.end()?,
        };
        (line.sequence >= 0).then_some(line)
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    // Topics have up to 249 characters, transactional ids up to 32,767.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&name.as_bytes()[..length.into()]);
}

struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    /// Sums of positions and counts do not overflow.
    fn position(&mut self) -> Option<u64> {
        let position = self.take().map(u64::from_le_bytes)?;
        (position <= LAST_POSITION).then_some(position)
    }

    /// The position behind a last record.
    fn end(&mut self) -> Option<u64> {
        let end = self.take().map(u64::from_le_bytes)?;
        (end <= 2 * LAST_POSITION).then_some(end)
    }

    fn name(&mut self) -> Option<Arc<str>> {
        let length = self.take().map(u16::from_le_bytes)?;
        let (name, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        std::str::from_utf8(name).ok().map(Arc::from)
    }
}

fn sum(salt: u64, offset: u64, length: u32, body: &[u8]) -> u32 {
    let mut place = [0; PLACE];
    place[..8].copy_from_slice(&salt.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16..].copy_from_slice(&length.to_le_bytes());
    frame::sum(&place, body)
}

/// Bytes of an entry that may begin here, without the padding.
pub(super) fn claimed(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(number(bytes, 0)?) as usize;
    let whole = BEFORE + length;
    ((1..=LONGEST).contains(&length) && whole <= bytes.len()).then_some(whole)
}

/// The entry that is whole at the beginning of `bytes`; `Err` if its CRC is right, and it says nothing that
/// is known.
pub(super) fn check(bytes: &[u8], salt: u64, offset: u64) -> Option<Result<Entry, ()>> {
    let body = bytes.get(BEFORE..claimed(bytes)?)?;
    let stored = u32::from_le_bytes(number(bytes, 4)?);
    (sum(salt, offset, body.len() as u32, body) == stored).then(|| Entry::read(body).ok_or(()))
}
