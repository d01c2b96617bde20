//! The thread that syncs files in groups.
//!
//! It sleeps while nobody waits. While it syncs, those who come gather for the next group: so the slower
//! the disk, the larger the groups, and nobody waits for more than two syncs of each file.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use super::error::DiskError;
use super::events::{DiskEvent, DiskEvents};
use super::queue::SyncQueue;

/// What wakes the thread.
enum Order {
    Sync,
    Stop,
}

/// The thread, and the queue that it serves. Dropped, it ends behind the group that it syncs.
#[derive(Debug)]
pub struct Syncer {
    queue: Arc<SyncQueue>,
    orders: Sender<Order>,
    /// None in a simulation.
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the thread. `events` hears of syncs that failed.
    pub fn start(events: Arc<dyn DiskEvents>) -> Result<Self, DiskError> {
        let (orders, received) = channel();
        let summon = orders.clone();
        // It fails when the thread has ended, and then nobody waits.
        let summon = move || drop(summon.send(Order::Sync));
        let queue = SyncQueue::new(Box::new(summon));
        let served = Arc::clone(&queue);
        #[cfg(feature = "internals")]
        if let Some(simulation) = super::simulated::simulation() {
            simulation.serve(Box::new(move || serve_once(&served, &received, &*events)));
            return Ok(Self {
                queue,
                orders,
                thread: None,
            });
        }
        let thread = thread::Builder::new().name("forebay-sync".to_owned());
        let thread = thread.spawn(move || serve(&served, &received, &*events));
        let thread = thread.map_err(|error| DiskError::NoThread {
            cause: Arc::new(error),
        })?;
        Ok(Self {
            queue,
            orders,
            thread: Some(thread),
        })
    }

    /// Where tickets come from.
    pub fn queue(&self) -> &Arc<SyncQueue> {
        &self.queue
    }

    /// Ends the thread, and waits for that.
    pub fn join(mut self) {
        let _ended_already = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic was told by whoever hears of panics, and those who waited know.
            let _panic = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let _ended_already = self.orders.send(Order::Stop);
    }
}

/// Tells those who wait when the thread ends, also by a panic.
struct Ending<'a>(&'a SyncQueue);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn serve(queue: &SyncQueue, orders: &Receiver<Order>, events: &dyn DiskEvents) {
    let _ending = Ending(queue);
    while let Ok(Order::Sync) = orders.recv() {
        while sync_group(queue, events) {
            match orders.try_recv() {
                Ok(Order::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                Ok(Order::Sync) | Err(mpsc::TryRecvError::Empty) => {}
            }
        }
    }
}

/// Syncs one group, if anybody waits. False: nobody will any more.
#[cfg(feature = "internals")]
fn serve_once(queue: &SyncQueue, orders: &Receiver<Order>, events: &dyn DiskEvents) -> bool {
    let ended = matches!(
        orders.try_recv(),
        Ok(Order::Stop) | Err(mpsc::TryRecvError::Disconnected)
    );
    match ended {
        true => queue.end(),
        false => drop(sync_group(queue, events)),
    }
    !ended
}

fn sync_group(queue: &SyncQueue, events: &dyn DiskEvents) -> bool {
    queue.sync_group(|name, error| {
        events.told(DiskEvent::SyncFailed {
            name: Arc::clone(name),
            error: error.clone(),
        });
    })
}

#[cfg(test)]
mod tests;
