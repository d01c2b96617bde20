//! What the application did, and what it was told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use forebay::transaction::{Appended, Receipt, Receipts};
use forebay::{Outcome, Unconfirmed};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::tally::Tally;

/// Names a record: its transaction, and its number there.
pub(super) type Name = (u32, u32);

/// Whether a record was appended.
pub(super) type Fate = Result<Appended, Unconfirmed>;

#[derive(Default)]
pub(super) struct Journal {
    /// In the order in which they began.
    pub transactions: Vec<Transaction>,
    pub sent: BTreeMap<Name, Sent>,
    /// Counts accepted records.
    pub order: usize,
    /// What is wrong already.
    pub wrong: Vec<String>,
    /// Instances that call themselves fenced.
    pub fenced: Vec<usize>,
    /// Instances that were closed, or whose handles were dropped.
    pub closed: bool,
    pub tally: Tally,
}

/// One that has begun.
pub(super) struct Transaction {
    pub instance: usize,
    pub told: Told,
    /// The groups whose offsets it commits, with whether that was told as done.
    pub offsets: BTreeMap<&'static str, bool>,
    /// Something of it was told as failed: it must not be committed.
    pub failed: bool,
}

/// How it ended, as far as its application knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// Not yet.
    Nothing,
    Committed,
    Aborted(String),
    Unknown(String),
    /// It was aborted by the application, or dropped: it was never to be committed.
    NotWanted,
    /// Nobody waited for the end of the commit.
    Left,
}

/// A record that was accepted.
pub(super) struct Sent {
    pub topic: usize,
    pub partition: i32,
    /// Which task sent it: one sends one record after the other.
    pub task: u32,
    /// In which `send` calls returned.
    pub order: usize,
    pub by: By,
    /// What its callback was told, if it has one.
    pub called: Option<Arc<Mutex<Vec<Outcome>>>>,
    /// What somebody was told who waited for the end, if somebody did.
    pub waited: Option<Rc<RefCell<Option<Outcome>>>>,
    /// When it has to be appended, or not.
    pub due: Instant,
    /// It was neither by then.
    pub late: bool,
}

/// By what a record's fate is told.
pub(super) enum By {
    Receipt(Receipt),
    /// At this place of many.
    Receipts(Rc<RefCell<Many>>, usize),
}

/// Records whose receipts are kept together, as far as it is known what became of them.
pub(super) struct Many {
    pub receipts: Receipts,
    pub fates: Vec<Fate>,
}

impl By {
    /// Whether it was appended, if that is known.
    pub fn fate(&self) -> Option<Fate> {
        match self {
            Self::Receipt(receipt) => receipt.clone().now_or_never(),
            Self::Receipts(many, at) => {
                let Many { receipts, fates } = &mut *many.borrow_mut();
                fates.extend(std::iter::from_fn(|| receipts.try_next()));
                fates.get(*at).cloned()
            }
        }
    }

    /// Its outcome, if its receipt tells one, and if its transaction has ended.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Receipt(receipt) => receipt.outcome(),
            Self::Receipts(..) => None,
        }
    }
}

impl Journal {
    pub fn began(&mut self, instance: usize) -> u32 {
        let number = self.transactions.len() as u32;
        self.transactions.push(Transaction {
            instance,
            told: Told::Nothing,
            offsets: BTreeMap::new(),
            failed: false,
        });
        number
    }

    pub fn transaction(&mut self, number: u32) -> &mut Transaction {
        &mut self.transactions[number as usize]
    }
}
