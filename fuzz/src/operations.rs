//! Bytes read as operations, one after the other, on what holds a partition's records and memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::config::Compression;
use forebay::internals::batch::{
    Append, AppendOptions, Budget, Compressor, Lease, OpenBatch, RecordRef, Shelf, Stage, blank,
};
use forebay::internals::ledger::{
    Attempt, Effects, Identities, Identity, Ledger, Lent, NextIdentity, Readiness, Report, Rules,
    Token, Wanted,
};
use forebay::{BrokerError, Receipt, Unconfirmed, internals};

const BATCH: usize = 256;

fn start() -> Instant {
    internals::now()
}

fn record(value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        key: None,
        value: Some(value),
        headers: &[],
        timestamp: 1_000,
    }
}

/// A ledger, what was lent, and whoever gives identities.
struct Line {
    ledger: Ledger,
    max_in_flight: usize,
    compressor: Compressor,
    now: Instant,
    shelf: Arc<Shelf>,
    lent: VecDeque<Lent>,
    identities: Identities,
    given: i64,
    receipts: Vec<Receipt>,
    settled: usize,
}

impl Line {
    fn new(first: u8) -> Self {
        let max_in_flight = 1 + usize::from(first % 5);
        let codec = Compression::None;
        let rules = Rules {
            transactional: false,
            idempotent: first & 0x20 == 0,
            max_in_flight,
            retries: if first & 0x40 == 0 { u32::MAX } else { 2 },
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            delivery_timeout: Duration::from_secs(10),
            producer_expiration: Duration::from_secs(86_400),
            resends: true,
            codec,
            resolve: None,
        };
        Self {
            ledger: Ledger::new(rules),
            max_in_flight,
            compressor: Compressor::new(codec),
            now: start(),
            shelf: Shelf::new(1 << 20, BATCH),
            lent: VecDeque::new(),
            identities: Identities::default(),
            given: 0,
            receipts: Vec::new(),
            settled: 0,
        }
    }

    fn push(&mut self, records: u8) {
        let memory = self.shelf.buffer(blank(BATCH));
        let mut open = OpenBatch::new(memory, 0, self.now, true);
        for at in 0..=records % 8 {
            if let Some(index) = open.append(&record(&[at])) {
                let receipt = internals::receipt(open.ack(), index, 1_000);
                self.receipts.push(receipt);
            }
        }
        self.ledger.push(open.seal());
    }

    fn take(&mut self) {
        let ready = self.ledger.readiness(self.now) == Readiness::Now;
        let lent = self.ledger.take(self.now, &mut self.compressor);
        assert_eq!(ready, lent.is_some(), "ready is what can be taken");
        self.lent.extend(lent);
    }

    fn note(&mut self, effects: Effects) {
        self.settled += effects
            .settled
            .iter()
            .map(|it| it.count as usize)
            .sum::<usize>();
    }

    fn report(&mut self, at: u8, report: Report) {
        let at = usize::from(at) % self.lent.len().max(1);
        if let Some(lent) = self.lent.remove(at) {
            let effects = self.ledger.report(lent.id, report, self.now);
            self.note(effects);
        }
    }

    fn answer(&mut self, at: u8, code: i16) {
        let base_offset = (code % 3 != 1).then_some(i64::from(at));
        let invalid = match code {
            87 => vec![(u32::from(at % 9), "no".into())],
            _ => Vec::new(),
        };
        self.report(
            at,
            Report::Answered(Attempt {
                error: BrokerError::new(code),
                base_offset,
                log_append_time: None,
                invalid,
            }),
        );
    }

    fn back(&mut self, at: u8, written: bool) {
        let error = "lost".into();
        self.report(at, Report::Returned { written, error });
    }

    fn identify(&mut self) {
        if self.ledger.wants_identity() {
            let left = self.ledger.left();
            let step = self.identities.want(Wanted {
                left,
                ..Wanted::default()
            });
            self.step(step);
        }
    }

    fn step(&mut self, step: NextIdentity) {
        let identity = match step {
            NextIdentity::Use(identity) => identity,
            NextIdentity::Ask | NextIdentity::Wait => {
                self.given += 1;
                let (producer_id, epoch) = (self.given, i16::MAX - 1);
                let identity = Identity { producer_id, epoch };
                self.identities.obtained(identity);
                identity
            }
        };
        self.ledger.adopt(identity);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let effects = self.ledger.expire(self.now);
        self.note(effects);
    }

    fn check(&self) {
        assert_eq!(self.ledger.is_lent(), !self.lent.is_empty());
        assert!(self.lent.len() <= self.max_in_flight);
        assert_eq!(self.ledger.load().in_flight, self.lent.len());
        let outcomes = self.receipts.iter().filter(|it| it.outcome().is_some());
        assert_eq!(
            outcomes.count(),
            self.settled,
            "told of once, and when it is so"
        );
        // What is out under one identity never has a sequence twice.
        let stamps = self.lent.iter().filter_map(|lent| {
            let first = i32::from_be_bytes(lent.header[53..57].try_into().ok()?);
            (first >= 0).then_some((&lent.header[43..53], first, lent.count))
        });
        let stamps: Vec<_> = stamps.collect();
        for (at, (identity, first, count)) in stamps.iter().enumerate() {
            for (other, begin, length) in &stamps[at + 1..] {
                let apart = first + count <= *begin || begin + length <= *first;
                assert!(identity != other || apart, "sequences overlap");
            }
        }
    }

    /// From here on brokers answer, and everything has its outcome.
    fn settle_down(&mut self) {
        for _ in 0..64 {
            self.identify();
            self.take();
            self.answer(0, 0);
            self.pass(Duration::from_secs(1));
        }
        assert_eq!(self.ledger.len(), 0, "batches are stuck");
        assert!(
            self.receipts
                .iter()
                .all(|receipt| receipt.outcome().is_some())
        );
        self.check();
        let pushed = self.shelf.idle_bytes();
        assert!(pushed.is_multiple_of(BATCH), "memory comes home whole");
    }
}

/// Batches come and are taken, answers of all kinds, lost connections, time, identities, leaders.
pub fn ledger(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let mut line = Line::new(*first);
    let mut tokens = Vec::new();
    for two in data.chunks_exact(2).take(400) {
        let (operation, with) = (two[0], two[1]);
        match operation % 16 {
            0 | 1 => line.push(with),
            2..=4 => line.take(),
            5 => line.answer(with, 0),
            6 => line.answer(0, i16::from(with)),
            7 => line.answer(with, i16::from(operation) - 2),
            8 => line.back(with, true),
            9 => line.back(with, false),
            10 => line.pass(Duration::from_millis(40 * u64::from(with))),
            11 => line.identify(),
            12 => line.ledger.leader_changed(),
            13 => {
                let token: Token = Arc::new(());
                line.ledger.tie(&token, |_| false);
                tokens.push(Arc::downgrade(&token));
            }
            14 => {
                // The message with the loan panicked: nothing is left of it.
                line.lent.pop_front();
                let effects = line.ledger.recover(line.now);
                line.note(effects);
            }
            _ => line.report(with, Report::Unasked),
        }
        line.check();
    }
    if first & 0x80 == 0 {
        line.settle_down();
    } else {
        let effects = line.ledger.abandon(internals::closed);
        line.note(effects);
        let lent = std::mem::take(&mut line.lent);
        line.check();
        for receipt in &line.receipts {
            let outcome = receipt.outcome();
            assert!(outcome.is_some());
            let _ = matches!(outcome, Some(Err(Unconfirmed::Unknown(_))));
        }
        drop(lent);
    }
    let waits = tokens.iter().any(|token| token.strong_count() > 0);
    assert!(!waits, "a flush waits for nothing");
}

/// Memory is asked for, given back, waited for in vain.
pub fn budget(data: &[u8]) {
    const TOTAL: usize = 8 * BATCH;
    let mut budget = Budget::new(TOTAL, BATCH, BATCH);
    let start = start();
    let mut now = start;
    let mut held: Vec<(Box<[u8]>, usize)> = Vec::new();
    let mut line: VecDeque<(u32, usize, Instant)> = VecDeque::new();
    for (ticket, three) in (0..).zip(data.chunks_exact(3)) {
        let [operation, low, high] = [three[0], three[1], three[2]];
        let size = match operation & 0x80 {
            0 => BATCH,
            _ => usize::from(u16::from_be_bytes([high, low])) % (TOTAL + 100),
        };
        let full = |held: &[(Box<[u8]>, usize)]| held.iter().map(|(_, size)| size).sum();
        budget.look(full(&held), now);
        match operation % 5 {
            0 | 1 => {
                let deadline = now + Duration::from_millis(u64::from(low) * 10);
                match budget.lease(size, deadline, ticket) {
                    Lease::Granted(bytes, _) => {
                        assert!(line.is_empty(), "somebody was overtaken");
                        assert!(bytes.len() == size);
                        held.push((bytes, size));
                    }
                    Lease::Parked => line.push_back((ticket, size, deadline)),
                    Lease::TooLarge(_) => assert!(size > TOTAL),
                    Lease::Closed(_) => panic!("it is open"),
                }
            }
            2 | 3 if !held.is_empty() => {
                let (bytes, size) = held.swap_remove(usize::from(low) % held.len());
                budget.reclaim(bytes, size);
            }
            _ => {
                now += Duration::from_millis(u64::from(high));
                budget.look(full(&held), now);
                let late = budget.expire(now);
                let due = line.iter().filter(|(.., deadline)| *deadline <= now);
                let mut due: Vec<_> = due.collect();
                due.sort_by_key(|(.., deadline)| *deadline);
                assert!(due.into_iter().map(|(ticket, ..)| *ticket).eq(late));
                line.retain(|(.., deadline)| *deadline > now);
            }
        }
        while let Some((ticket, bytes)) = budget.next_grant(now, |_| false) {
            let (first, size, _) = line.pop_front().expect("a waiter");
            assert_eq!(first, ticket, "first come, first served");
            held.push((bytes, size));
        }
        let out: usize = held.iter().map(|(_, size)| size).sum();
        assert_eq!(budget.available(), TOTAL - out);
        assert_eq!(budget.waiting(), line.len());
        if let Some((_, size, _)) = line.front() {
            let later = budget.next_quantum().is_some_and(|at| at > now);
            assert!(*size > TOTAL - out || later, "who waits could be served");
        }
    }
}

/// Records of all sizes are appended and collected.
pub fn stage(data: &[u8]) {
    // Large enough to begin with a small buffer and to outgrow it.
    let size = 32 * BATCH;
    let shelf = Shelf::new(1 << 20, size);
    let stage = Stage::new(0, size, true);
    let now = start();
    let (mut memory, mut accepted, mut collected) = (None, Vec::new(), Vec::new());
    let mut closed = false;
    let take = |open: bool, collected: &mut Vec<u64>| {
        let mut full = VecDeque::new();
        let (open, _) = stage.collect(|_| open, &mut full);
        for batch in full.into_iter().chain(open) {
            assert!(batch.count() > 0, "no batch is empty");
            collected.extend(std::iter::repeat_n(
                batch.count() as u64,
                batch.count() as usize,
            ));
        }
    };
    for two in data.chunks_exact(2) {
        let (operation, with) = (two[0], usize::from(two[1]));
        match operation % 8 {
            0..=4 => {
                let value = vec![operation; with * usize::from(1 + operation / 64)];
                let mut extras = AppendOptions {
                    sticky: operation & 0x10 != 0,
                    ..AppendOptions::default()
                };
                // Once more, if it is short of memory.
                for again in [true, false] {
                    match stage.append(&record(&value), &mut memory, &mut extras, || now) {
                        Append::Done(appended) => {
                            assert!(!closed);
                            let ack = &appended.ack;
                            accepted.push(internals::receipt(ack, appended.index, 1_000));
                            break;
                        }
                        Append::NeedsMemory { size, .. } => {
                            assert!(again, "it asked for too little");
                            memory = Some(shelf.buffer(blank(size)));
                        }
                        Append::Ended => panic!("it is part of no transaction"),
                        Append::NeedsSpace | Append::NotSpooled => panic!("it is in no spool"),
                        Append::Closed => {
                            assert!(closed);
                            break;
                        }
                    }
                }
            }
            5 => take(with % 2 == 0, &mut collected),
            6 => {
                closed = with % 2 == 0;
                if closed {
                    stage.close()
                } else {
                    stage.reopen()
                }
            }
            _ => {
                let (records, bytes) = stage.load();
                assert!(records > 0 || stage.open_since().is_none());
                assert_eq!(records > 0, bytes > 0);
                assert_eq!(records + collected.len(), accepted.len());
            }
        }
    }
    take(true, &mut collected);
    assert_eq!(
        collected.len(),
        accepted.len(),
        "all that was accepted, once"
    );
    // One ack for each batch: runs of receipts are as long as the batches were.
    let runs = accepted.chunk_by(|a, b| internals::batch_of(a.id()) == internals::batch_of(b.id()));
    let runs: Vec<u64> = runs
        .flat_map(|run| vec![run.len() as u64; run.len()])
        .collect();
    assert_eq!(runs, collected, "in the order in which they were accepted");
}
