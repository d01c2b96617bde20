//! Records in a row, as they stand in a batch: how many, from which index on, and how new.

use super::varint;

/// What records in a row say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The offset delta of the first one: its index in the batch.
    pub index: u32,
    pub count: u32,
    /// The highest timestamp delta.
    pub newest_delta: i64,
}

impl Run {
    /// `None` if the bytes are not whole records with indices that rise by one.
    pub fn read(mut records: &[u8]) -> Option<Self> {
        let mut run: Option<Self> = None;
        while !records.is_empty() {
            let (timestamp_delta, index) = take(&mut records)?;
            let next = run.map_or(Some(index), |run| run.index.checked_add(run.count));
            if next != Some(index) {
                return None;
            }
            let (first, count, newest_delta) = run.map_or((index, 0, timestamp_delta), |run| {
                (run.index, run.count, run.newest_delta.max(timestamp_delta))
            });
            run = Some(Self {
                index: first,
                count: count + 1,
                newest_delta,
            });
        }
        run
    }

    /// The records but for the first `skip` ones, and no more than `most` of them.
    pub fn part(records: &[u8], skip: u32, most: u32) -> Option<&[u8]> {
        let mut from = records;
        for _ in 0..skip {
            take(&mut from)?;
        }
        let mut to = from;
        for _ in 0..most {
            if to.is_empty() {
                break;
            }
            take(&mut to)?;
        }
        from.get(..from.len() - to.len())
    }
}

/// Takes one record away. Returns its timestamp delta and its offset delta.
fn take(records: &mut &[u8]) -> Option<(i64, u32)> {
    let length = usize::try_from(varint::take(records)?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    *records = rest;
    let (_attributes, mut record) = record.split_first()?;
    let timestamp_delta = varint::take(&mut record)?;
    let index = u32::try_from(varint::take(&mut record)?).ok()?;
    Some((timestamp_delta, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::RecordRef;

    fn records(indices: &[i32], deltas: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, delta) in indices.iter().zip(deltas) {
            let record = RecordRef {
                key: None,
                value: Some(b"value"),
                headers: &[],
                timestamp: 0,
            };
            let mut memory = [0; 64];
            let length = record.encode(&mut memory, 0, 64, *index, *delta);
            bytes.extend_from_slice(&memory[..length.expect("room")]);
        }
        bytes
    }

    #[test]
    fn records_in_a_row_are_read() {
        let bytes = records(&[100, 101, 102], &[-5, 1 << 40, 3]);
        let run = Run {
            index: 100,
            count: 3,
            newest_delta: 1 << 40,
        };
        assert_eq!(Run::read(&bytes), Some(run));
        let old = records(&[0, 1], &[-7, -9]);
        assert_eq!(Run::read(&old).map(|run| run.newest_delta), Some(-7));
    }

    #[test]
    fn what_is_no_row_of_records_is_none() {
        assert_eq!(Run::read(&[]), None);
        assert_eq!(Run::read(&records(&[0, 2], &[0, 0])), None);
        assert_eq!(Run::read(&records(&[-1], &[0])), None);
        let bytes = records(&[0, 1], &[0, 0]);
        let whole = bytes.len();
        for end in (1..whole).filter(|end| end * 2 != whole) {
            assert_eq!(Run::read(&bytes[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn a_part_is_of_whole_records() {
        let bytes = records(&[0, 1, 2, 3], &[0; 4]);
        let part = Run::part(&bytes, 1, 2).and_then(Run::read);
        assert_eq!(part.map(|run| (run.index, run.count)), Some((1, 2)));
        assert_eq!(Run::part(&bytes, 0, 9), Some(&bytes[..]));
        assert_eq!(Run::part(&bytes, 4, 1), Some(&[][..]));
        assert_eq!(Run::part(&bytes, 5, 1), None);
    }
}
