//! What is to be synced, and who waits for it.
//!
//! Whoever has written to a file takes a ticket. A sync of a group covers all tickets that were taken
//! before it began, and only those files are synced of which there are any.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::{fmt, mem};

use super::error::DiskError;
use super::store::StoredFile;
use crate::core::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, OnceLock};
use crate::core::user_code;

/// Has a group synced soon, on whatever thread that is done.
pub type Summon = Box<dyn Fn() + Send + Sync>;

/// Where tickets come from.
pub struct SyncQueue {
    /// The last ticket.
    appended: AtomicU64,
    /// The last ticket of the last group.
    synced: AtomicU64,
    /// No group comes any more.
    ended: AtomicBool,
    waiting: Mutex<Waiting>,
    summon: Summon,
}

#[derive(Default)]
struct Waiting {
    files: Vec<Weak<Watched>>,
    /// By ticket, then by order.
    wakers: BTreeMap<(u64, u64), Waker>,
    next: u64,
    /// Whether a group was asked for that has not begun to look who waits.
    summoned: bool,
}

/// A file whose syncs can be waited for.
pub struct Watched {
    name: Arc<str>,
    file: Arc<dyn StoredFile>,
    /// Written since its last sync began.
    dirty: AtomicBool,
    /// Why it is not synced any more, and the last ticket before.
    failure: OnceLock<(u64, DiskError)>,
    queue: Arc<SyncQueue>,
}

/// Stands for all that its taker had written to a file.
#[derive(Debug, Clone)]
pub struct Ticket {
    number: u64,
    file: Arc<Watched>,
}

/// Waits until what a ticket stands for is on the disk. Dropped, it waits no more.
#[derive(Debug)]
#[must_use = "a future waits when it is polled"]
pub struct Synced {
    ticket: Ticket,
    /// Its number among the wakers.
    place: Option<u64>,
}

impl SyncQueue {
    /// `summon` is called when somebody begins to wait while nobody does, on their thread.
    pub fn new(summon: Summon) -> Arc<Self> {
        Arc::new(Self {
            appended: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            waiting: Mutex::new(Waiting::default()),
            summon,
        })
    }

    /// Has tickets for a file. `name` is for whoever hears of a failure. It is let go of when nobody has
    /// it: a ticket that is waited for keeps it.
    pub fn watch(self: &Arc<Self>, name: &str, file: Arc<dyn StoredFile>) -> Arc<Watched> {
        let watched = Arc::new(Watched {
            name: name.into(),
            file,
            dirty: AtomicBool::new(false),
            failure: OnceLock::new(),
            queue: Arc::clone(self),
        });
        self.waiting().files.push(Arc::downgrade(&watched));
        watched
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next group, if anybody waits for one: its last ticket, and the files that are in it.
    fn group(&self) -> Option<(u64, Vec<Arc<Watched>>)> {
        let mut waiting = self.waiting();
        if waiting.wakers.is_empty() {
            waiting.summoned = false;
            return None;
        }
        // Before the files are looked at: who has one of these tickets has marked its file.
        let newest = self.appended.load(Ordering::Acquire);
        waiting.files.retain(|file| file.strong_count() > 0);
        let files = waiting.files.iter().filter_map(Weak::upgrade);
        let dirty = |file: &Arc<Watched>| file.dirty.swap(false, Ordering::AcqRel);
        Some((newest, files.filter(dirty).collect()))
    }

    /// Wakes those with tickets up to `newest`.
    fn publish(&self, newest: u64) {
        // Before the lock: who looks behind it sees this, and who looked before it is woken.
        self.synced.store(newest, Ordering::Release);
        let mut waiting = self.waiting();
        let later = waiting.wakers.split_off(&(newest + 1, 0));
        let now = mem::replace(&mut waiting.wakers, later);
        drop(waiting);
        now.into_values().for_each(user_code::wake);
    }

    /// No group comes any more: those who wait, and who will, are told so.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let wakers = mem::take(&mut self.waiting().wakers);
        wakers.into_values().for_each(user_code::wake);
    }

    /// Syncs all that was written before, if anybody waits; says whether anybody did. A file whose sync
    /// fails is told to `failed` before those who wait hear of it, and is not synced again.
    pub fn sync_group(&self, mut failed: impl FnMut(&Arc<str>, &DiskError)) -> bool {
        let Some((newest, files)) = self.group() else {
            return false;
        };
        // Only one thread syncs, so these are from the last group.
        let before = self.synced.load(Ordering::Acquire);
        for watched in files {
            if watched.failure.get().is_some() {
                continue;
            }
            if let Err(error) = watched.file.sync() {
                failed(&watched.name, &error);
                let _first = watched.failure.set((before, error));
            }
        }
        self.publish(newest);
        true
    }
}

impl Watched {
    /// The file, to be written to.
    pub fn file(&self) -> &Arc<dyn StoredFile> {
        &self.file
    }

    /// Its name, if a sync of it has failed.
    pub fn failed(&self) -> Option<&Arc<str>> {
        self.failure.get().map(|_| &self.name)
    }

    /// A ticket for all that this caller has written to the file.
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        // Always an exchange. A look at the mark could see it as it was before the sync that goes on, and
        // the bytes might come too late for that one.
        self.dirty.swap(true, Ordering::AcqRel);
        let number = self.queue.appended.fetch_add(1, Ordering::AcqRel) + 1;
        let file = Arc::clone(self);
        Ticket { number, file }
    }
}

impl Ticket {
    /// Waits until all of it is on the disk.
    pub fn synced(self) -> Synced {
        let place = None;
        Synced {
            ticket: self,
            place,
        }
    }

    /// What is known by now.
    pub fn outcome(&self) -> Option<Result<(), DiskError>> {
        let queue = &self.file.queue;
        // First: the failure of a file is there before the group that it failed in is published.
        let is_synced = queue.synced.load(Ordering::Acquire) >= self.number;
        match self.file.failure.get() {
            Some((before, error)) if self.number > *before => Some(Err(error.clone())),
            _ if is_synced => Some(Ok(())),
            _ if queue.ended.load(Ordering::Acquire) => Some(Err(DiskError::Ended)),
            _ => None,
        }
    }
}

impl Future for Synced {
    type Output = Result<(), DiskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let queue = Arc::clone(&self.ticket.file.queue);
        let mut waiting = queue.waiting();
        if let Some(outcome) = self.ticket.outcome() {
            let former = self.forget(&mut waiting);
            drop(waiting);
            drop(former);
            return Poll::Ready(outcome);
        }
        let place = *self.place.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        let waker = context.waker().clone();
        let former = waiting.wakers.insert((self.ticket.number, place), waker);
        let summons = !mem::replace(&mut waiting.summoned, true);
        drop(waiting);
        drop(former);
        if summons {
            (queue.summon)();
        }
        Poll::Pending
    }
}

impl Synced {
    /// Takes its waker out. To be dropped when the lock is not held.
    fn forget(&mut self, waiting: &mut Waiting) -> Option<Waker> {
        let place = self.place.take()?;
        waiting.wakers.remove(&(self.ticket.number, place))
    }
}

impl Drop for Synced {
    fn drop(&mut self) {
        if self.place.is_some() {
            let queue = Arc::clone(&self.ticket.file.queue);
            let mut waiting = queue.waiting();
            let waker = self.forget(&mut waiting);
            drop(waiting);
            drop(waker);
        }
    }
}

impl fmt::Debug for SyncQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncQueue")
            .field("appended", &self.appended)
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("name", &self.name)
            .field("dirty", &self.dirty)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, forebay_loom))]
mod loom_tests;
#[cfg(test)]
mod tests;
