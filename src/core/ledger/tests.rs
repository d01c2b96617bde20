//! Tests of the ledger with a clock of their own: a broker or a sender reports something, and the
//! ledger reacts.

mod codes;
mod doubts;
mod identities;
mod model;
mod outcomes;
mod recreated;
mod sequences;
mod spilled;
mod splits;
mod spooled;
mod transactions;

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;

use super::*;
use crate::core::ack::Receipt;
use crate::core::batch::{OpenBatch, RecordRef};
use crate::core::compress::decompress;
use crate::core::memory::{Shelf, blank};
use crate::core::outcome::{Acked, Outcome};

const FIRST: Identity = Identity {
    producer_id: 7,
    epoch: 0,
};
const SECOND: Identity = Identity {
    producer_id: 7,
    epoch: 1,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const NOT_ENOUGH_REPLICAS: i16 = 19;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
const MESSAGE_TOO_LARGE: i16 = 10;
const OUT_OF_ORDER: i16 = 45;
const DUPLICATE: i16 = 46;
const UNKNOWN_PRODUCER_ID: i16 = 59;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_SERVER_ERROR: i16 = -1;

fn rules() -> Rules {
    Rules {
        idempotent: true,
        transactional: false,
        max_in_flight: 5,
        retries: u32::MAX,
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        delivery_timeout: Duration::from_secs(120),
        producer_expiration: DAY,
        resends: true,
        codec: Compression::None,
        resolve: None,
    }
}

/// A ledger with the clock, memory and listeners around it.
struct Line {
    ledger: Ledger,
    shelf: Arc<Shelf>,
    compressor: Compressor,
    now: Instant,
    /// The first record of every batch that settled, in the order of settling.
    told: Vec<u64>,
    /// The identities that the ledger left.
    left: Vec<Identity>,
    /// What the journal is to have.
    records: Vec<Record>,
    /// Since when those were in doubt that are so no more.
    resolved: Vec<Instant>,
}

/// A batch as the producer of its records sees it.
struct BorrowedReceipt {
    batch: u64,
    receipts: Vec<Receipt>,
}

impl Line {
    fn with(rules: Rules) -> Self {
        let compressor = Compressor::new(rules.codec);
        Self {
            ledger: Ledger::new(rules),
            shelf: Shelf::new(1 << 20, 1 << 10),
            compressor,
            now: Instant::now(),
            told: Vec::new(),
            left: Vec::new(),
            records: Vec::new(),
            resolved: Vec::new(),
        }
    }

    /// With an identity.
    fn new() -> Self {
        let mut line = Self::with(rules());
        line.adopt(FIRST);
        line
    }

    /// With an identity and one success, so that five batches may be in flight.
    fn proven() -> Self {
        let mut line = Self::new();
        line.push(1);
        let first = line.take();
        line.acked(&first, 0);
        line.told.clear();
        line
    }

    fn push(&mut self, count: u32) -> BorrowedReceipt {
        self.push_values(0..count)
    }

    fn push_values(&mut self, values: impl IntoIterator<Item = u32>) -> BorrowedReceipt {
        self.push_within(None, values)
    }

    fn push_within(
        &mut self,
        scope: Option<Arc<Scope>>,
        values: impl IntoIterator<Item = u32>,
    ) -> BorrowedReceipt {
        let memory = self.shelf.buffer(blank(1 << 10));
        let mut open = OpenBatch::within(scope, memory, 3, self.now, true);
        let receipts: Vec<_> = values
            .into_iter()
            .map(|i| {
                let value = i.to_be_bytes();
                let record = RecordRef {
                    key: None,
                    value: Some(&value),
                    headers: &[],
                    timestamp: 1_000 + i64::from(i),
                };
                let index = open.append(&record).expect("it fits");
                let ack = Arc::clone(open.ack());
                Receipt::new(ack, index, record.timestamp)
            })
            .collect();
        self.ledger.push(open.seal());
        let batch = receipts[0].id().batch;
        BorrowedReceipt { batch, receipts }
    }

    fn push_many(&mut self, batches: usize) -> Vec<BorrowedReceipt> {
        (0..batches).map(|_| self.push(2)).collect()
    }

    fn try_take(&mut self) -> Option<Lent> {
        let ready = self.ledger.readiness(self.now) == Readiness::Now;
        let lent = self.ledger.take(self.now, &mut self.compressor);
        assert_eq!(ready, lent.is_some(), "what is ready is taken");
        lent
    }

    fn take(&mut self) -> Lent {
        self.try_take().expect("a batch to take")
    }

    fn take_many(&mut self, batches: usize) -> Vec<Lent> {
        (0..batches).map(|_| self.take()).collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn report(&mut self, lent: &Lent, report: Report) -> bool {
        let effects = self.ledger.report(lent.id, report, self.now);
        self.note(effects)
    }

    /// Takes note of the effects. Returns whether metadata has to be refreshed.
    fn note(&mut self, effects: Effects) -> bool {
        self.told
            .extend(effects.settled.iter().map(|settled| settled.first.batch));
        let left = self
            .ledger
            .left()
            .filter(|left| self.left.last() != Some(left));
        self.left.extend(left);
        self.records.extend(effects.records);
        self.resolved.extend(effects.resolved);
        effects.refresh_metadata
    }

    fn acked(&mut self, lent: &Lent, base_offset: i64) {
        self.report(lent, Report::Answered(answer(0, Some(base_offset))));
    }

    fn error(&mut self, lent: &Lent, code: i16) -> bool {
        self.report(lent, Report::Answered(answer(code, None)))
    }

    fn lost(&mut self, lent: &Lent) {
        let error = "connection lost".into();
        self.report(
            lent,
            Report::Returned {
                written: true,
                error,
            },
        );
    }

    /// The answer is lost, and the broker does not take the batch again: it may be there.
    fn doubt(&mut self, lent: &Lent) {
        self.lost(lent);
        self.back_off();
        let again = self.take();
        self.error(&again, OUT_OF_ORDER);
    }

    fn unwritten(&mut self, lent: &Lent) {
        let error = "never sent".into();
        self.report(
            lent,
            Report::Returned {
                written: false,
                error,
            },
        );
    }

    fn adopt(&mut self, identity: Identity) {
        self.ledger.adopt(identity);
    }

    fn expire(&mut self) {
        let effects = self.ledger.expire(self.now);
        self.note(effects);
    }

    /// Waits longer than any backoff.
    fn back_off(&mut self) {
        self.pass(Duration::from_secs(2));
    }

    /// Waits longer than `delivery.timeout.ms`.
    fn time_out(&mut self) {
        self.pass(rules().delivery_timeout);
        self.expire();
    }
}

fn answer(code: i16, base_offset: Option<i64>) -> Attempt {
    Attempt {
        error: BrokerError::new(code),
        base_offset,
        log_append_time: None,
        invalid: Vec::new(),
    }
}

/// Producer id, epoch and first sequence number in the header.
fn stamp(lent: &Lent) -> (i64, i16, i32) {
    let header = &lent.header;
    let word = |at: usize| header[at..at + 4].try_into().expect("four bytes");
    (
        i64::from_be_bytes(header[43..51].try_into().expect("eight bytes")),
        i16::from_be_bytes([header[51], header[52]]),
        i32::from_be_bytes(word(53)),
    )
}

fn sequence(lent: &Lent) -> i32 {
    stamp(lent).2
}

/// (offset, timestamp, value) of each record, as the decoder of the `kafka-protocol` crate reads
/// the batch.
fn values(lent: &Lent) -> Vec<(i64, i64, u32)> {
    let bits = i16::from_be_bytes([lent.header[21], lent.header[22]]);
    let mut batch: Bytes = [&lent.header[..], &lent.records[..]].concat().into();
    let plain = |records: &mut Bytes, _| Ok(decompress(bits, records, 1 << 16)?.into());
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut batch, Some(plain));
    let records = set.expect("a valid batch").records;
    let value = |value: &[u8]| u32::from_be_bytes(value.try_into().expect("four bytes"));
    records
        .iter()
        .map(|record| {
            let bytes = record.value.as_deref().expect("a value");
            (record.offset, record.timestamp, value(bytes))
        })
        .collect()
}

impl BorrowedReceipt {
    fn outcome(&self) -> Outcome {
        let outcome = self.receipts[0].outcome().expect("an outcome");
        if outcome.is_err() {
            for receipt in &self.receipts {
                assert_eq!(receipt.outcome().as_ref(), Some(&outcome));
            }
        }
        outcome
    }

    fn is_open(&self) -> bool {
        self.receipts
            .iter()
            .all(|receipt| receipt.outcome().is_none())
    }

    fn offsets(&self) -> Vec<Option<i64>> {
        let acked = |receipt: &Receipt| receipt.outcome().expect("an outcome").expect("acked");
        self.receipts
            .iter()
            .map(|receipt| acked(receipt).offset)
            .collect()
    }

    fn is_acked(&self) -> bool {
        matches!(self.outcome(), Ok(Acked { partition: 3, .. }))
    }

    fn is_unknown(&self) -> bool {
        matches!(self.outcome(), Err(Unconfirmed::Unknown(_)))
    }

    fn is_not_written(&self) -> bool {
        matches!(self.outcome(), Err(Unconfirmed::NotWritten(_)))
    }
}
