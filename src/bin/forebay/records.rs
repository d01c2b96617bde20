//! Makes the records of the demo, and checks whether they were read back as they were sent.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use forebay::Acked;

use crate::text::Grouped;

/// Bytes of a value. It holds the record's number, its number among the records of its key, and
/// filler bytes computed from the record's number.
pub const VALUE_LEN: usize = 100;
pub const KEYS: usize = 1000;

/// Makes the records in order.
pub struct Source {
    keys: Vec<Bytes>,
    next: u64,
    /// How many records each key has so far.
    counts: Vec<u64>,
    values: BytesMut,
}

impl Source {
    pub fn new() -> Self {
        Self {
            keys: (0..KEYS)
                .map(|key| format!("key-{key:03}").into())
                .collect(),
            next: 0,
            counts: vec![0; KEYS],
            values: BytesMut::with_capacity(64 * 1024),
        }
    }

    /// The next record's number, key and value.
    pub fn next(&mut self) -> (u64, Bytes, Bytes) {
        let number = self.next;
        self.next += 1;
        let key = key_of(number);
        let value = value(number, self.counts[key]);
        self.counts[key] += 1;
        // One allocation holds many values.
        self.values.extend_from_slice(&value);
        (number, self.keys[key].clone(), self.values.split().freeze())
    }
}

fn mixed(number: u64) -> u64 {
    // The last steps of SplitMix64.
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn key_of(number: u64) -> usize {
    (mixed(number) % KEYS as u64) as usize
}

fn value(number: u64, of_key: u64) -> [u8; VALUE_LEN] {
    let mut value = [0; VALUE_LEN];
    let mut rest = &mut value[..];
    rest.put_u64(number);
    rest.put_u64(of_key);
    let mut filling = mixed(number);
    while rest.has_remaining_mut() {
        filling = filling.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = filling.to_be_bytes();
        let len = rest.remaining_mut().min(word.len());
        rest.put_slice(&word[..len]);
    }
    value
}

/// The place of each acked record, according to its receipt.
pub struct Places(Vec<u64>);

const NOWHERE: u64 = u64::MAX;
const OFFSET_BITS: u32 = 40;

impl Places {
    pub fn new(records: u64) -> Self {
        Self(vec![NOWHERE; usize::try_from(records).unwrap_or(0)])
    }

    pub fn set(&mut self, number: u64, acked: &Acked) {
        if let Some(offset) = acked.offset {
            self.0[number as usize] = place(acked.partition, offset);
        }
    }
}

fn place(partition: i32, offset: i64) -> u64 {
    ((partition as u64) << OFFSET_BITS) | offset as u64
}

/// Checks the records that were read back. It is given every record of a partition, in order.
pub struct Check {
    places: Places,
    sent: u64,
    pub seen: u64,
    /// For each key: the number of its next record, and the partition of all of them.
    keys: Vec<(u64, Option<i32>)>,
    /// The partition being read, its next offset, and the number of its last record.
    reading: (i32, i64, Option<u64>),
    pub partitions: usize,
    pub partitions_in_order: usize,
    in_order: bool,
    pub wrong: Wrong,
}

/// How many records are wrong, by what is wrong.
#[derive(Debug, Default)]
pub struct Wrong {
    pub bytes: u64,
    pub order: u64,
    pub key_order: u64,
    pub key_partition: u64,
    pub place: u64,
}

impl Check {
    pub fn new(places: Places) -> Self {
        Self {
            sent: places.0.len() as u64,
            places,
            seen: 0,
            keys: vec![(0, None); KEYS],
            reading: (0, 0, None),
            partitions: 0,
            partitions_in_order: 0,
            in_order: true,
            wrong: Wrong::default(),
        }
    }

    pub fn begin(&mut self, partition: i32) {
        self.reading = (partition, 0, None);
        self.in_order = true;
    }

    pub fn end(&mut self) {
        self.partitions += 1;
        self.partitions_in_order += usize::from(self.in_order);
    }

    /// Checks the next record of the partition.
    pub fn record(&mut self, offset: i64, key: Option<&[u8]>, bytes: Option<&[u8]>) {
        self.seen += 1;
        let (partition, next, last) = &mut self.reading;
        let in_sequence = offset == *next;
        *next = offset + 1;
        let Some((number, of_key)) = bytes.and_then(numbers).filter(|it| it.0 < self.sent) else {
            self.wrong.bytes += 1;
            return;
        };
        let name = key_of(number);
        if bytes != Some(&value(number, of_key)) || key != Some(format!("key-{name:03}").as_bytes())
        {
            self.wrong.bytes += 1;
            return;
        }
        // All records were sent in order, so a later record of a partition has a higher number.
        if !in_sequence || last.is_some_and(|last| number <= last) {
            self.wrong.order += 1;
            self.in_order = false;
        }
        *last = Some(number);
        if self.places.0[number as usize] != place(*partition, offset) {
            self.wrong.place += 1;
        }
        let (next_of_key, partition_of_key) = &mut self.keys[name];
        if of_key != *next_of_key {
            self.wrong.key_order += 1;
        }
        *next_of_key = of_key + 1;
        if *partition_of_key.get_or_insert(*partition) != *partition {
            self.wrong.key_partition += 1;
        }
    }

    /// Whether every record was read once, unchanged, at the place its receipt named, and in order.
    pub fn is_right(&self) -> bool {
        let Wrong {
            bytes,
            order,
            key_order,
            key_partition,
            place,
        } = self.wrong;
        self.seen == self.sent
            && bytes + order + key_order + key_partition + place == 0
            && self.partitions == self.partitions_in_order
    }
}

fn numbers(value: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = value.split_first_chunk()?;
    let (of_key, _) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(*of_key)))
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = [
            (self.bytes, "with other bytes than were sent"),
            (self.order, "out of their partition's order"),
            (
                self.key_order,
                "out of their key's order, or missing before one",
            ),
            (self.key_partition, "in another partition than their key's"),
            (self.place, "not where their receipt said"),
        ];
        let found = found.iter().filter(|(count, _)| *count > 0);
        let lines: Vec<_> = found
            .map(|(count, what)| format!("{} {what}", Grouped(*count)))
            .collect();
        f.write_str(&lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some records, all in partition 0.
    fn records(count: u64) -> (Vec<(Bytes, Bytes)>, Places) {
        let mut source = Source::new();
        let mut places = Places::new(count);
        let records = (0..count)
            .map(|i| {
                let (number, key, value) = source.next();
                places.set(number, &Acked::new(0, Some(i as i64), 0));
                (key, value)
            })
            .collect();
        (records, places)
    }

    fn checked(records: &[(Bytes, Bytes)], places: Places) -> Check {
        let mut check = Check::new(places);
        check.begin(0);
        for (offset, (key, value)) in records.iter().enumerate() {
            check.record(offset as i64, Some(key), Some(value));
        }
        check.end();
        check
    }

    #[test]
    fn what_was_sent_is_right() {
        let (records, places) = records(5000);
        let check = checked(&records, places);
        assert!(check.is_right(), "{}", check.wrong);
    }

    #[test]
    fn a_missing_record_is_noticed() {
        let (mut records, places) = records(5000);
        records.pop();
        assert!(!checked(&records, places).is_right());
    }

    #[test]
    fn a_doubled_record_is_noticed() {
        let (mut records, places) = records(5000);
        records.insert(10, records[10].clone());
        let check = checked(&records, places);
        assert!(!check.is_right());
        assert!(check.wrong.order > 0 && check.wrong.place > 0);
    }

    #[test]
    fn exchanged_records_are_noticed() {
        let (mut records, places) = records(5000);
        records.swap(100, 101);
        let check = checked(&records, places);
        assert_eq!(check.wrong.order, 1);
        assert_eq!(check.wrong.place, 2);
        assert_eq!(check.partitions_in_order, 0);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let (mut records, places) = records(5000);
        let mut value = records[7].1.to_vec();
        value[99] ^= 1;
        records[7].1 = value.into();
        assert_eq!(checked(&records, places).wrong.bytes, 1);
    }

    #[test]
    fn a_key_in_two_partitions_is_noticed() {
        let (records, places) = records(5000);
        let mut check = checked(&records[..4999], places);
        check.begin(1);
        check.record(0, Some(&records[4999].0), Some(&records[4999].1));
        assert_eq!(check.wrong.key_partition, 1);
    }
}
