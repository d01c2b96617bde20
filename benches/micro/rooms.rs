//! One step of each part of the library, as a closure.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::BrokerError;
use forebay::config::Compression;
use forebay::internals::batch::{
    Compressor, HEADER_LEN, OpenBatch, RecordRef, SealedBatch, Shelf, Stamp, blank,
};
use forebay::internals::dispatch::{OutgoingBatch, Sticky, gather};
use forebay::internals::ledger::{Attempt, Identity, Ledger, Report, Rules};
use forebay::internals::spool::{Appending, Chunk, Memory, Place, Region};
use forebay::partitioner::TopicPartitions;
use uuid::Uuid;

const BATCH: usize = 16 * 1024;
const SMALL: usize = 1024;
const VALUE: [u8; 100] = [b'v'; 100];

const RECORD: RecordRef<'static> = RecordRef {
    key: None,
    value: Some(&VALUE),
    headers: &[],
    timestamp: 1_700_000_000_000,
};

fn stocked(buffers: usize, size: usize) -> Arc<Shelf> {
    let shelf = Shelf::new(64 << 20, size);
    (0..buffers).for_each(|_| shelf.stock_up(blank(size)));
    shelf
}

/// A full batch.
fn sealed(shelf: &Arc<Shelf>, size: usize, now: Instant) -> Option<SealedBatch> {
    let mut open = OpenBatch::new(shelf.take(size)?, 0, now, true);
    while open.append(&RECORD).is_some() {}
    Some(open.seal())
}

/// Appends one record of 100 bytes. Opens a new batch if the open one is full.
pub fn append(now: Instant) -> impl FnMut() {
    let shelf = stocked(2, BATCH);
    let mut open: Option<OpenBatch> = None;
    move || {
        let accepted = open
            .as_mut()
            .and_then(|open| open.append(black_box(&RECORD)));
        if accepted.is_none() {
            open = shelf
                .take(BATCH)
                .map(|memory| OpenBatch::new(memory, 0, now, true));
        }
        black_box(accepted);
    }
}

/// Stamps a full batch of 16 KiB again, which computes its CRC.
pub fn stamp(now: Instant) -> Option<impl FnMut()> {
    let mut batch = sealed(&stocked(1, BATCH), BATCH, now)?;
    let mut stamp = Stamp::NONE;
    Some(move || {
        stamp.sequence = stamp.sequence.wrapping_add(1);
        black_box(batch.stamped(stamp));
    })
}

/// Asks the sticky partitioner for a partition, and counts a record for it.
pub fn stick() -> impl FnMut() {
    let available: Vec<i32> = (0..12).collect();
    let sticky = Sticky::new(true, BATCH, 0);
    move || {
        let partition = sticky.next(black_box(&TopicPartitions::new(12, &available)));
        black_box(sticky.appended(partition, 107, false));
    }
}

/// Takes a buffer from the shelf and drops it, which puts it back.
pub fn lease() -> impl FnMut() {
    let shelf = stocked(16, BATCH);
    move || drop(black_box(shelf.take(BATCH)))
}

/// Fills a batch of 1 KiB and pushes it after `waiting` others. Takes the first one and settles it.
pub fn ledger(now: Instant, waiting: usize) -> impl FnMut() {
    let shelf = stocked(waiting + 2, SMALL);
    let mut ledger = Ledger::new(Rules {
        transactional: false,
        idempotent: true,
        max_in_flight: 5,
        retries: u32::MAX,
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        delivery_timeout: Duration::from_secs(120),
        producer_expiration: Duration::from_secs(86_400),
        resends: true,
        codec: Compression::None,
        resolve: None,
    });
    ledger.adopt(Identity {
        producer_id: 7,
        epoch: 0,
    });
    let mut compressor = Compressor::new(Compression::None);
    let push = move |ledger: &mut Ledger| {
        if let Some(batch) = sealed(&shelf, SMALL, now) {
            ledger.push(batch);
        }
    };
    (0..waiting).for_each(|_| push(&mut ledger));
    move || {
        push(&mut ledger);
        let Some(lent) = ledger.take(now, &mut compressor) else {
            return;
        };
        let answer = Attempt {
            error: BrokerError::new(0),
            base_offset: Some(0),
            log_append_time: None,
            invalid: Vec::new(),
        };
        black_box(
            ledger
                .report(lent.id, Report::Answered(answer), now)
                .settled,
        );
    }
}

/// A batch of one partition of a topic.
struct Loan(Arc<str>, i32);

impl OutgoingBatch for Loan {
    fn topic(&self) -> &str {
        &self.0
    }

    fn topic_id(&self) -> Uuid {
        Uuid::nil()
    }

    fn partition(&self) -> i32 {
        self.1
    }

    fn header(&self) -> &[u8; HEADER_LEN] {
        &[0; HEADER_LEN]
    }

    fn records_len(&self) -> usize {
        100
    }
}

/// Gathers one batch of each partition into a request.
pub fn gather_all(partitions: i32) -> impl FnMut() {
    let topic: Arc<str> = "a-topic".into();
    let mut waiting: VecDeque<_> = (0..partitions)
        .map(|partition| Loan(Arc::clone(&topic), partition))
        .collect();
    move || {
        let gathered = gather(&mut waiting, usize::MAX);
        waiting.extend(gathered);
    }
}

const SEGMENT: usize = 1 << 20;

/// An encoded record of 100 bytes.
const ENCODED: [u8; 107] = [7; 107];

/// Appends one record of 100 bytes to a chunk. Begins it anew where it is full.
pub fn spool_append() -> Option<impl FnMut()> {
    let region: Arc<dyn Region> = Arc::new(Memory::new(SEGMENT));
    let begin = move || {
        let place = Place {
            region: Arc::clone(&region),
            salt: 7,
            at: 0,
            length: SEGMENT as u32,
            begun: 0,
        };
        Chunk::begin(place, 0, 0, None)
    };
    let mut chunk = begin()?;
    let (mut appending, mut goes_on) = (
        Appending {
            records: &ENCODED,
            count: 1,
            newest: 0,
            begins: Some(0),
            source: None,
        },
        false,
    );
    Some(move || {
        appending.begins = (!goes_on).then_some(0);
        goes_on = chunk.append(black_box(&appending));
        if !goes_on && let Some(next) = begin() {
            chunk = next;
        }
    })
}

/// The two writes of that append.
pub fn spool_region() -> impl FnMut() {
    let region: Arc<dyn Region> = Arc::new(Memory::new(SEGMENT));
    let mut at = 0;
    move || {
        let written = region.write(at + 16, black_box(&ENCODED))
            && region.write(at, black_box(&ENCODED[..16]));
        at = if written { at + 124 } else { 0 };
    }
}
