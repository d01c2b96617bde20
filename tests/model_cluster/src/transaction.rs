//! A transactional id, as its coordinator has it: a plain struct that takes the time and says what to
//! answer.
//!
//! `TransactionMetadata.java` and `TransactionCoordinator.scala` of Kafka 4.3.1. A coordinator's own
//! appends take no time here, so that the one transition that is ever pending is the one from PREPARE to
//! COMPLETE, which waits for markers.

use std::collections::BTreeSet;

use crate::cluster::At;
use crate::log::code;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

/// What a transaction's end is written to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Participant {
    Partition(At),
    /// A consumer group's offsets.
    Group(String),
}

/// How a client speaks: [`V1`] ends a transaction under its own epoch, [`V2`] under the next.
pub type Version = i16;
/// EndTxn up to 4, AddPartitionsToTxn.
pub const V1: Version = 0;
/// EndTxn 5, Produce from 12, TxnOffsetCommit 5 (KIP-890).
pub const V2: Version = 2;

/// The transaction of a transactional id, and who may write it.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub producer_id: i64,
    /// The producer id before the last transition.
    previous_id: i64,
    /// The one that takes over when this transaction is complete, or -1.
    next_id: i64,
    pub epoch: i16,
    last_epoch: i16,
    /// `transaction.timeout.ms`
    pub timeout: i32,
    pub state: State,
    /// What the transaction has written, or will.
    pub participants: BTreeSet<Participant>,
    /// When it began, by the wall clock.
    pub started: i64,
    /// When anything was written about this id.
    pub updated: i64,
    /// How the client spoke that wrote it.
    pub version: Version,
    /// As whom it last spoke in a way that belongs to one version, and to which.
    pub spoken: Option<(Identity, Version)>,
    /// How many ends were decided: tells one from the next, which has the same epoch in version 1.
    pub ends: u32,
}

/// Producer id and epoch.
pub type Identity = (i64, i16);

/// No epoch is given out that could not be fenced by a higher one.
pub const LAST_EPOCH: i16 = i16::MAX - 1;

impl Transaction {
    /// Nobody has asked for it before. Its first epoch is `epoch`, or one behind that.
    pub fn new(producer_id: i64, epoch: i16, timeout: i32, now: i64) -> Self {
        Self {
            producer_id,
            previous_id: -1,
            next_id: -1,
            epoch: epoch - 1,
            last_epoch: -1,
            timeout,
            state: State::Empty,
            participants: BTreeSet::new(),
            started: -1,
            updated: now,
            version: V1,
            spoken: None,
            ends: 0,
        }
    }

    /// Its end is decided, and its markers are not all written.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::PrepareCommit | State::PrepareAbort)
    }

    /// This end of it is decided, and its markers are not all written.
    pub fn is_at(&self, (identity, number): (Identity, u32)) -> bool {
        self.is_ending() && (self.identity(), self.ends) == (identity, number)
    }

    pub fn identity(&self) -> Identity {
        (self.producer_id, self.epoch)
    }

    fn is_exhausted(&self) -> bool {
        self.epoch >= LAST_EPOCH
    }

    fn becomes(&mut self, state: State, now: i64) {
        self.state = state;
        self.updated = now;
        self.ends += u32::from(self.is_ending());
    }

    /// InitProducerId. An open transaction is aborted, and the client has to ask again.
    pub fn init(
        &mut self,
        expected: Option<Identity>,
        timeout: i32,
        version: Version,
        now: i64,
        new_id: impl FnOnce() -> i64,
    ) -> Result<Identity, i16> {
        if self.is_ending() {
            return Err(code::CONCURRENT_TRANSACTIONS);
        }
        let known = |(id, epoch): Identity| {
            let before = id == self.previous_id && epoch >= LAST_EPOCH;
            self.epoch == -1 || id == self.producer_id || before
        };
        if !expected.is_none_or(known) {
            return Err(code::PRODUCER_FENCED);
        }
        if self.state == State::Ongoing {
            self.fence(version, now, new_id);
            return Err(code::CONCURRENT_TRANSACTIONS);
        }
        let expected = expected.map(|it| it.1);
        let (id, before) = (self.producer_id, self.epoch);
        match expected {
            _ if self.is_exhausted() && expected.is_none_or(|it| it == before) => {
                self.producer_id = new_id();
                self.epoch = 0;
                self.last_epoch = expected.map_or(-1, |_| before);
            }
            _ if self.is_exhausted() => return Err(code::UNKNOWN_SERVER_ERROR),
            None => (self.epoch, self.last_epoch) = (before + 1, -1),
            Some(it) if it == before || before == -1 => {
                (self.epoch, self.last_epoch) = (before + 1, before);
            }
            // The same again: it did not hear the answer.
            Some(it) if it == self.last_epoch => {}
            Some(_) => return Err(code::PRODUCER_FENCED),
        }
        self.previous_id = id;
        self.timeout = timeout;
        self.participants.clear();
        self.started = -1;
        self.becomes(State::Empty, now);
        Ok(self.identity())
    }

    /// AddPartitionsToTxn, AddOffsetsToTxn, and what brokers add for a producer that speaks version 2.
    pub fn add(
        &mut self,
        (id, epoch): Identity,
        participants: impl IntoIterator<Item = Participant>,
        version: Version,
        now: i64,
    ) -> Result<(), i16> {
        if self.is_ending() {
            return Err(code::CONCURRENT_TRANSACTIONS);
        }
        self.is_of(id, epoch)?;
        if self.state != State::Ongoing {
            self.started = now;
        }
        self.participants.extend(participants);
        self.version = version;
        self.previous_id = id;
        self.becomes(State::Ongoing, now);
        Ok(())
    }

    /// A broker asks whether a partition has been added.
    pub fn verify(&self, (id, epoch): Identity, participant: &Participant) -> Result<(), i16> {
        self.is_of(id, epoch)?;
        if self.is_ending() {
            return Err(code::CONCURRENT_TRANSACTIONS);
        }
        match self.participants.contains(participant) {
            true => Ok(()),
            false => Err(code::TRANSACTION_ABORTABLE),
        }
    }

    fn is_of(&self, id: i64, epoch: i16) -> Result<(), i16> {
        match self.producer_id == id {
            false => Err(code::INVALID_PRODUCER_ID_MAPPING),
            true if self.epoch != epoch => Err(code::PRODUCER_FENCED),
            true => Ok(()),
        }
    }

    /// EndTxn up to version 4 (`endTransactionWithTV1`).
    pub fn end_v1(&mut self, (id, epoch): Identity, commit: bool, now: i64) -> Result<(), i16> {
        self.is_of(id, epoch)?;
        match (self.state, commit) {
            (State::PrepareCommit | State::PrepareAbort, _) => Err(code::CONCURRENT_TRANSACTIONS),
            (State::Ongoing, _) => {
                self.version = V1;
                self.previous_id = id;
                self.becomes(prepare(commit), now);
                Ok(())
            }
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(()),
            _ => Err(code::INVALID_TXN_STATE),
        }
    }

    /// EndTxn 5: what the client is from now on. The same request again has the epoch before.
    pub fn end_v2(
        &mut self,
        (id, epoch): Identity,
        commit: bool,
        now: i64,
        new_id: impl FnOnce() -> i64,
    ) -> Result<Identity, i16> {
        if self.is_ending() {
            return Err(code::CONCURRENT_TRANSACTIONS);
        }
        let overflown = self.previous_id == id && epoch == LAST_EPOCH && self.epoch == 0;
        if self.producer_id != id && !overflown {
            return Err(code::INVALID_PRODUCER_ID_MAPPING);
        }
        let again = self.epoch == epoch.wrapping_add(1) || overflown;
        let complete = matches!(self.state, State::CompleteCommit | State::CompleteAbort);
        if self.epoch != epoch && !(complete && again) {
            return Err(code::PRODUCER_FENCED);
        }
        match (self.state, commit, again) {
            (State::Ongoing, ..) => {}
            (State::CompleteCommit, true, true) | (State::CompleteAbort, false, true) => {
                return Ok(self.identity());
            }
            // An abort of nothing, so that the epoch is a new one.
            (State::CompleteCommit | State::CompleteAbort, false, false) => self.started = now,
            (State::Empty, false, _) => self.started = now,
            _ => return Err(code::INVALID_TXN_STATE),
        }
        self.prepare_v2(prepare(commit), now, new_id);
        Ok(match self.next_id {
            -1 => self.identity(),
            next => (next, 0),
        })
    }

    /// The coordinator aborts what is open, by itself: it took too long, or somebody else has come.
    pub fn fence(&mut self, version: Version, now: i64, new_id: impl FnOnce() -> i64) {
        if version >= V2 {
            return self.prepare_v2(State::PrepareAbort, now, new_id);
        }
        self.epoch = self.epoch.saturating_add(1);
        self.last_epoch = -1;
        self.version = V1;
        self.previous_id = self.producer_id;
        self.becomes(State::PrepareAbort, now);
    }

    fn prepare_v2(&mut self, state: State, now: i64, new_id: impl FnOnce() -> i64) {
        self.next_id = match self.is_exhausted() {
            true => new_id(),
            false => -1,
        };
        self.last_epoch = self.epoch;
        self.epoch = self.epoch.saturating_add(1);
        self.version = V2;
        self.previous_id = self.producer_id;
        self.becomes(state, now);
    }

    /// All markers are written.
    pub fn complete(&mut self, now: i64) {
        self.previous_id = self.producer_id;
        if self.version >= V2 && self.next_id >= 0 {
            self.producer_id = self.next_id;
            self.epoch = 0;
        }
        self.next_id = -1;
        self.participants.clear();
        let state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        self.becomes(state, now);
    }

    /// It has been open for longer than its producer wanted.
    pub fn is_overdue(&self, now: i64) -> bool {
        self.state == State::Ongoing && self.started + i64::from(self.timeout) < now
    }

    /// Nobody has used it for longer than `transactional.id.expiration.ms`.
    pub fn is_forgotten(&self, now: i64, expiration: i64) -> bool {
        let idle = self.state != State::Ongoing && !self.is_ending();
        idle && now - self.updated >= expiration
    }
}

fn prepare(commit: bool) -> State {
    match commit {
        true => State::PrepareCommit,
        false => State::PrepareAbort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCED: Result<Identity, i16> = Err(code::PRODUCER_FENCED);
    const INVALID: Result<Identity, i16> = Err(code::INVALID_TXN_STATE);
    const BUSY: Result<Identity, i16> = Err(code::CONCURRENT_TRANSACTIONS);

    fn nobody() -> i64 {
        panic!("no new id is needed")
    }

    fn partition(number: usize) -> [Participant; 1] {
        [Participant::Partition((0, number))]
    }

    /// Producer 7 at epoch 0.
    fn fresh() -> Transaction {
        let mut it = Transaction::new(7, 0, 60_000, 0);
        assert_eq!(it.init(None, 60_000, V2, 0, nobody), Ok((7, 0)));
        it
    }

    fn ended(commit: bool) -> Transaction {
        let mut it = fresh();
        it.add((7, 0), partition(0), V2, 1).expect("added");
        assert_eq!(it.end_v2((7, 0), commit, 2, nobody), Ok((7, 1)));
        it.complete(3);
        it
    }

    /// Answers to an abort and a commit, each at the epoch before and at the current one.
    fn row(it: &Transaction) -> [Result<Identity, i16>; 4] {
        let ask = |commit, epoch| it.clone().end_v2((7, epoch), commit, 9, nobody);
        let now = it.epoch;
        [
            ask(false, now - 1),
            ask(false, now),
            ask(true, now - 1),
            ask(true, now),
        ]
    }

    #[test]
    fn a_version_2_end_is_answered_by_kafkas_table() {
        assert_eq!(row(&fresh()), [FENCED, Ok((7, 1)), FENCED, INVALID]);
        let bumped = Ok((7, 2));
        assert_eq!(row(&ended(false)), [Ok((7, 1)), bumped, INVALID, INVALID]);
        assert_eq!(row(&ended(true)), [INVALID, bumped, Ok((7, 1)), INVALID]);
        let mut ending = fresh();
        ending.add((7, 0), partition(0), V2, 1).expect("added");
        ending.end_v2((7, 0), true, 2, nobody).expect("it ends");
        assert_eq!(row(&ending), [BUSY; 4]);
    }

    #[test]
    fn a_version_1_end_keeps_the_epoch_and_may_be_asked_again() {
        let mut it = fresh();
        let invalid = Err(code::INVALID_TXN_STATE);
        assert_eq!(it.end_v1((7, 0), false, 1), invalid);
        it.add((7, 0), partition(0), V1, 1).expect("added");
        assert_eq!(it.end_v1((7, 0), true, 2), Ok(()));
        assert_eq!(
            it.end_v1((7, 0), true, 2),
            Err(code::CONCURRENT_TRANSACTIONS)
        );
        it.complete(3);
        assert_eq!(it.identity(), (7, 0));
        assert_eq!(it.end_v1((7, 0), true, 4), Ok(()));
        assert_eq!(it.end_v1((7, 0), false, 4), invalid);
        assert_eq!(it.end_v1((7, 1), true, 4), Err(code::PRODUCER_FENCED));
        assert_eq!(
            it.end_v1((8, 0), true, 4),
            Err(code::INVALID_PRODUCER_ID_MAPPING)
        );
    }

    #[test]
    fn whoever_asks_for_the_id_again_fences_the_one_before() {
        let mut it = fresh();
        assert_eq!(it.init(None, 1, V2, 1, nobody), Ok((7, 1)));
        let added = it.add((7, 0), partition(0), V2, 1);
        assert_eq!(added, Err(code::PRODUCER_FENCED));
        it.add((7, 1), partition(0), V2, 1).expect("added");
        assert_eq!(it.init(None, 1, V2, 2, nobody), BUSY);
        assert_eq!((it.state, it.epoch), (State::PrepareAbort, 2));
        assert_eq!(it.init(None, 1, V2, 2, nobody), BUSY);
        it.complete(3);
        assert_eq!(it.init(None, 1, V2, 4, nobody), Ok((7, 3)));
        // Under version 1 the fence is an epoch of its own, too, and a repeated end is none.
        it.add((7, 3), partition(0), V1, 5).expect("added");
        it.fence(V1, 6, nobody);
        it.complete(7);
        assert_eq!(it.epoch, 4);
        assert_eq!(it.end_v1((7, 3), true, 8), Err(code::PRODUCER_FENCED));
    }

    #[test]
    fn a_producer_bumps_its_own_epoch_once_however_often_it_asks() {
        let mut it = fresh();
        assert_eq!(it.init(Some((7, 0)), 1, V1, 1, nobody), Ok((7, 1)));
        assert_eq!(it.init(Some((7, 0)), 1, V1, 1, nobody), Ok((7, 1)));
        assert_eq!(it.init(Some((7, 1)), 1, V1, 1, nobody), Ok((7, 2)));
        assert_eq!(it.init(Some((7, 0)), 1, V1, 1, nobody), FENCED);
        assert_eq!(it.init(Some((8, 2)), 1, V1, 1, nobody), FENCED);
        // Somebody else has come.
        assert_eq!(it.init(None, 1, V1, 1, nobody), Ok((7, 3)));
        assert_eq!(it.init(Some((7, 2)), 1, V1, 1, nobody), FENCED);
    }

    #[test]
    fn a_new_producer_id_follows_the_last_epoch() {
        let mut it = Transaction::new(7, LAST_EPOCH, 1, 0);
        assert_eq!(it.init(None, 1, V1, 0, nobody), Ok((7, LAST_EPOCH)));
        assert_eq!(it.init(Some((7, LAST_EPOCH)), 1, V1, 0, || 8), Ok((8, 0)));
        let mut it = Transaction::new(7, LAST_EPOCH, 1, 0);
        it.init(None, 1, V2, 0, nobody).expect("the last epoch");
        it.add((7, LAST_EPOCH), partition(0), V2, 1).expect("added");
        let ended = it.end_v2((7, LAST_EPOCH), true, 2, || 8);
        assert_eq!((ended, it.identity()), (Ok((8, 0)), (7, i16::MAX)));
        it.complete(3);
        assert_eq!(it.identity(), (8, 0));
        assert_eq!(it.end_v2((7, LAST_EPOCH), true, 4, nobody), Ok((8, 0)));
        assert_eq!(it.end_v2((7, LAST_EPOCH), false, 4, nobody), INVALID);
        assert_eq!(
            it.end_v2((7, 3), true, 4, nobody),
            Err(code::INVALID_PRODUCER_ID_MAPPING)
        );
    }

    #[test]
    fn what_takes_too_long_is_aborted_under_another_epoch() {
        let mut it = fresh();
        it.add((7, 0), partition(0), V2, 1_000).expect("added");
        it.add((7, 0), partition(1), V2, 50_000).expect("added");
        assert_eq!(
            [61_000, 61_001].map(|now| it.is_overdue(now)),
            [false, true]
        );
        it.fence(V2, 61_001, nobody);
        it.complete(61_002);
        assert_eq!(it.end_v2((7, 0), true, 61_003, nobody), INVALID);
        assert_eq!(it.end_v2((7, 0), false, 61_003, nobody), Ok((7, 1)));
        assert!(it.is_forgotten(61_002 + 10, 10) && !it.is_forgotten(61_002 + 9, 10));
    }

    #[test]
    fn a_partition_is_verified_only_while_it_is_in_the_transaction() {
        let mut it = fresh();
        let [there, other] = [0, 1].map(|number| Participant::Partition((0, number)));
        it.add((7, 0), [there.clone()], V1, 1).expect("added");
        assert_eq!(it.verify((7, 0), &there), Ok(()));
        assert_eq!(it.verify((7, 0), &other), Err(code::TRANSACTION_ABORTABLE));
        assert_eq!(it.verify((7, 1), &there), Err(code::PRODUCER_FENCED));
        it.end_v1((7, 0), true, 2).expect("it ends");
        assert_eq!(
            it.verify((7, 0), &there),
            Err(code::CONCURRENT_TRANSACTIONS)
        );
        it.complete(3);
        assert_eq!(it.verify((7, 0), &there), Err(code::TRANSACTION_ABORTABLE));
    }
}
