//! The ledger against a model of a broker. The broker keeps a log and checks sequence numbers as
//! Kafka does. The network loses, delays and repeats requests, in any order of events.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::core::identity::{Identities, NextIdentity, Wanted};

/// What a partition's leader remembers of a producer (`ProducerStateEntry`).
#[derive(Default)]
struct Remembered {
    epoch: i16,
    /// The last five batches: (first sequence number, last sequence number, base offset).
    batches: VecDeque<(i32, i32, i64)>,
}

/// A partition's log, and its leader's rules (`ProducerAppendInfo`).
#[derive(Default)]
struct Log {
    values: Vec<u32>,
    producers: HashMap<i64, Remembered>,
}

impl Log {
    /// Appends a batch if its sequence numbers allow it. Returns the error code and the base
    /// offset.
    fn produce(&mut self, lent: &Lent, duplicates_as_error: bool) -> (i16, Option<i64>) {
        let (producer_id, epoch, first) = stamp(lent);
        let last = sequence_after(first, lent.count - 1);
        if let Some(known) = self.producers.get(&producer_id) {
            if epoch < known.epoch {
                return (47, None); // INVALID_PRODUCER_EPOCH
            }
            if epoch > known.epoch && first != 0 {
                return (OUT_OF_ORDER, None);
            }
            if epoch == known.epoch {
                let same = |batch: &&(i32, i32, i64)| (batch.0, batch.1) == (first, last);
                if let Some((.., offset)) = known.batches.iter().find(same) {
                    return match duplicates_as_error {
                        true => (DUPLICATE, None),
                        false => (0, Some(*offset)),
                    };
                }
                let back = known.batches.back().map(|batch| batch.1);
                if back.is_some_and(|back| sequence_after(back, 1) != first) {
                    return (OUT_OF_ORDER, None);
                }
            }
        }
        let offset = self.values.len() as i64;
        let values = values(lent);
        assert_eq!(values.len(), lent.count as usize);
        self.values.extend(values.iter().map(|(.., value)| value));
        let known = self.producers.entry(producer_id).or_default();
        if known.epoch != epoch {
            known.batches.clear();
            known.epoch = epoch;
        }
        known.batches.push_back((first, last, offset));
        if known.batches.len() > 5 {
            known.batches.pop_front();
        }
        (0, Some(offset))
    }
}

impl Log {
    /// The leader restarts. Its snapshot has the last batch of each producer.
    fn restart(&mut self) {
        for known in self.producers.values_mut() {
            let last = known.batches.len().saturating_sub(1);
            known.batches.drain(..last);
        }
    }
}

/// A broker that works, for tests that decide themselves what fails. The ledger has sent one batch
/// of one record already: see [`Line::proven`].
pub(super) struct Broker(Log);

impl Default for Broker {
    fn default() -> Self {
        let mut log = Log::default();
        let batches = [(0, 0, 0)].into();
        log.producers
            .insert(FIRST.producer_id, Remembered { epoch: 0, batches });
        Self(log)
    }
}

impl Broker {
    /// Appends the batch without a response.
    pub fn append(&mut self, lent: &Lent) {
        self.0.produce(lent, false);
    }

    /// The leader restarts. Of a producer it remembers the last batch.
    pub fn restart(&mut self) {
        self.0.restart();
    }

    /// Appends the batch if that is allowed, and responds as a broker would.
    pub fn answer(&mut self, line: &mut Line, lent: &Lent) {
        let (code, offset) = self.0.produce(lent, false);
        line.report(lent, Report::Answered(answer(code, offset)));
    }

    /// From now on everything works, under `next` if an identity is wanted.
    pub fn settle_down(&mut self, line: &mut Line, next: Identity) {
        for _ in 0..100 {
            line.adopt(next);
            line.back_off();
            if let Some(lent) = line.try_take() {
                self.answer(line, &lent);
            }
        }
        assert_eq!(line.ledger.len(), 0, "batches are stuck");
    }

    /// Each value is in the log at most once, and in the order in which it was sent.
    pub fn check_order(&self, what: &str) {
        let values = &self.0.values;
        assert!(values.is_sorted_by(|a, b| a < b), "{what}: {values:?}");
    }

    pub fn values(&self) -> &[u32] {
        &self.0.values
    }
}

/// What a broker does with the oldest unread request.
#[derive(Debug, Clone, Copy)]
enum Service {
    Append,
    /// As some brokers do: a duplicate is an error.
    AppendNamingDuplicates,
    /// Appends, and then responds with this error.
    AppendThen(i16),
    /// Responds with this error without reading the log.
    Refuse(i16),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A batch of this many records is sealed.
    Push(u32),
    Take,
    Serve(Service),
    /// The oldest response reaches the ledger.
    Answer,
    /// The connection ends. Responses are lost. A broker may still read the requests that are
    /// written. This many of the unread requests were never written.
    Disconnect(usize),
    /// A broker reads a request of an ended connection.
    ReadLate,
    /// Time passes, in milliseconds.
    Pass(u64),
    /// Another broker leads from now on.
    MoveLeader,
    /// Another partition leaves an epoch.
    BumpElsewhere,
    /// The partition asks again though an identity may be on its way.
    AskAgain,
    /// The oldest identity that was sent arrives.
    Identify,
    /// The partition is freed if it holds nothing, and made again.
    Free,
    /// The leader restarts. Of a producer it remembers the last batch.
    Restart,
}

fn service() -> impl Strategy<Value = Service> {
    let after = prop::sample::select(vec![NOT_ENOUGH_REPLICAS_AFTER_APPEND, 7, 56, 6, 3, -1]);
    let refusal = prop::sample::select(vec![
        NOT_ENOUGH_REPLICAS,
        MESSAGE_TOO_LARGE,
        INVALID_RECORD,
        UNKNOWN_PRODUCER_ID,
        2,
        3,
        6,
        7,
        29,
        56,
        9999,
    ]);
    prop_oneof![
        8 => Just(Service::Append),
        2 => Just(Service::AppendNamingDuplicates),
        2 => after.prop_map(Service::AppendThen),
        2 => refusal.prop_map(Service::Refuse),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1u32..5).prop_map(Event::Push),
        10 => Just(Event::Take),
        8 => service().prop_map(Event::Serve),
        8 => Just(Event::Answer),
        2 => (0usize..4).prop_map(Event::Disconnect),
        2 => Just(Event::ReadLate),
        4 => prop::sample::select(vec![1, 150, 1500, 4000]).prop_map(Event::Pass),
        1 => Just(Event::MoveLeader),
        1 => Just(Event::BumpElsewhere),
        1 => Just(Event::AskAgain),
        4 => Just(Event::Identify),
        1 => Just(Event::Free),
        1 => Just(Event::Restart),
    ]
}

struct World {
    line: Line,
    log: Log,
    leader: u32,
    /// The leader that lent batches were lent to.
    lender: u32,
    /// Requests on the present connection, not yet read.
    unread: VecDeque<Lent>,
    answers: VecDeque<(Lent, i16, Option<i64>)>,
    /// Unread requests of ended connections, and the leader that was to read them.
    late: VecDeque<(u32, Lent)>,
    identities: Identities,
    /// The identity of another partition.
    elsewhere: Option<Identity>,
    freed: u64,
    on_their_way: VecDeque<Identity>,
    producer_ids: i64,
    sent: Vec<BorrowedReceipt>,
    values: u32,
}

impl World {
    fn new() -> Self {
        let line = Line::with(Rules {
            delivery_timeout: Duration::from_secs(10),
            ..rules()
        });
        Self {
            line,
            log: Log::default(),
            leader: 0,
            lender: 0,
            unread: VecDeque::new(),
            answers: VecDeque::new(),
            late: VecDeque::new(),
            identities: Identities::default(),
            elsewhere: None,
            freed: 0,
            on_their_way: VecDeque::new(),
            producer_ids: 100,
            sent: Vec::new(),
            values: 0,
        }
    }

    /// What the IdentityActor does. A broker always has another producer id.
    fn want(&mut self, wanted: Wanted) -> Identity {
        loop {
            if let NextIdentity::Use(identity) = self.identities.want(wanted) {
                return identity;
            }
            self.producer_ids += 1;
            self.identities.obtained(Identity {
                producer_id: self.producer_ids,
                epoch: i16::MAX - 4,
            });
        }
    }

    fn ask(&mut self) {
        if self.line.ledger.wants_identity() {
            let (left, freed) = (self.line.ledger.left(), self.freed);
            let identity = self.want(Wanted {
                left,
                freed,
                ..Wanted::default()
            });
            self.on_their_way.push_back(identity);
        }
    }

    fn serve(&mut self, service: Service) {
        let Some(lent) = self.unread.pop_front() else {
            return;
        };
        let (code, offset) = match service {
            _ if self.lender != self.leader => (6, None),
            Service::Append => self.log.produce(&lent, false),
            Service::AppendNamingDuplicates => self.log.produce(&lent, true),
            Service::Refuse(code) => (code, None),
            Service::AppendThen(code) => match self.log.produce(&lent, false) {
                (0, _) => (code, None),
                refused => refused,
            },
        };
        self.answers.push_back((lent, code, offset));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Push(count) => {
                let values = self.values..self.values + count;
                self.values += count;
                let sent = self.line.push_values(values);
                self.sent.push(sent);
            }
            Event::Take => {
                // The partition lends a new leader nothing while batches are lent to the old one.
                if self.line.ledger.is_lent() && self.lender != self.leader {
                    return;
                }
                if let Some(lent) = self.line.try_take() {
                    self.lender = self.leader;
                    self.unread.push_back(lent);
                }
            }
            Event::Serve(service) => self.serve(service),
            Event::Answer => {
                if let Some((lent, code, offset)) = self.answers.pop_front() {
                    self.line
                        .report(&lent, Report::Answered(answer(code, offset)));
                }
            }
            Event::Disconnect(unwritten) => {
                for (lent, ..) in std::mem::take(&mut self.answers) {
                    self.line.lost(&lent);
                }
                let written = self.unread.len().saturating_sub(unwritten);
                let never = self.unread.split_off(written);
                for lent in std::mem::take(&mut self.unread) {
                    self.line.lost(&lent);
                    self.late.push_back((self.lender, lent));
                }
                for lent in never {
                    self.line.unwritten(&lent);
                }
            }
            Event::ReadLate => {
                if let Some((leader, lent)) = self.late.pop_front()
                    && leader == self.leader
                {
                    self.log.produce(&lent, false);
                }
            }
            Event::Pass(millis) => {
                self.line.pass(Duration::from_millis(millis));
                self.line.expire();
            }
            Event::MoveLeader => {
                self.leader += 1;
                self.line.ledger.leader_changed();
            }
            Event::BumpElsewhere => {
                let (left, freed) = (self.elsewhere, 0);
                self.elsewhere = Some(self.want(Wanted {
                    left,
                    freed,
                    ..Wanted::default()
                }));
            }
            Event::AskAgain => self.ask(),
            Event::Identify => {
                if let Some(identity) = self.on_their_way.pop_front() {
                    self.line.adopt(identity);
                }
            }
            Event::Free => {
                if self.line.ledger.len() == 0 {
                    self.freed += 1;
                    self.line.ledger = Ledger::new(Rc::clone(&self.line.ledger.rules));
                    // What was sent to the former one does not arrive.
                    self.on_their_way.clear();
                }
            }
            Event::Restart => self.log.restart(),
        }
        if self.on_their_way.is_empty() {
            self.ask();
        }
    }

    /// From now on everything works, until no batch is left.
    fn settle_down(&mut self) {
        // A round is a millisecond, and the longest backoff is 1.2 seconds.
        for _ in 0..2000 {
            if self.line.ledger.len() == 0 {
                break;
            }
            while !self.on_their_way.is_empty() {
                self.happen(Event::Identify);
            }
            self.happen(Event::Take);
            self.happen(Event::Serve(Service::Append));
            self.happen(Event::Answer);
            self.line.pass(Duration::from_millis(1));
        }
        assert_eq!(self.line.ledger.len(), 0, "batches are stuck");
        assert!(!self.line.ledger.is_lent());
        while !self.late.is_empty() {
            self.happen(Event::ReadLate);
        }
    }

    fn check(&self) {
        let mut at: HashMap<u32, Vec<usize>> = HashMap::new();
        for (offset, value) in self.log.values.iter().enumerate() {
            at.entry(*value).or_default().push(offset);
        }
        let mut value = 0;
        let mut last_acked = None;
        for sent in &self.sent {
            for receipt in &sent.receipts {
                let offsets = at.get(&value).map_or(&[][..], Vec::as_slice);
                assert!(offsets.len() <= 1, "record {value} is in the log twice");
                match receipt.outcome().expect("every record has an outcome") {
                    Ok(acked) => {
                        let [offset] = offsets else {
                            panic!("record {value} was acked and is not in the log");
                        };
                        if let Some(told) = acked.offset {
                            assert_eq!(told, *offset as i64, "record {value}");
                        }
                        assert!(last_acked < Some(*offset), "record {value} was overtaken");
                        last_acked = Some(*offset);
                    }
                    Err(Unconfirmed::Kept(reason)) => {
                        panic!("record {value} is in no spool: {reason}");
                    }
                    Err(Unconfirmed::Aborted(reason)) => {
                        panic!("record {value} is in no transaction: {reason}");
                    }
                    Err(Unconfirmed::NotWritten(reason)) => {
                        assert!(offsets.is_empty(), "record {value} is in the log: {reason}");
                    }
                    Err(Unconfirmed::Unknown(_)) => {}
                }
                value += 1;
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_outcomes_are_true(events in prop::collection::vec(event(), 1..150)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.settle_down();
        world.check();
    }
}
