//! Tells the leader's sender of the batches that callers fill and open, on the callers' threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::actors::messages::*;
use crate::core::memory::Shelf;
use crate::core::stage::BatchObserver;

/// Puts one partition into the ready queue of its leader's sender, and wakes the sender.
pub(super) struct SenderNotifier {
    pub ready_queue: Arc<ReadyQueue>,
    pub sender: SenderAddr,
    pub handle: Arc<ReadyHandle>,
    pub shelf: Arc<Shelf>,
    /// The partition is woken for each batch that is opened, instead of the sender. It is set if
    /// there is no linger, or if the partition has no identity yet. To get one takes some time, so
    /// the partition asks for it early.
    pub wakes_partition: AtomicBool,
}

impl SenderNotifier {
    /// Lists the batch that was opened at this time. The sender will ask for it when its linger is
    /// over.
    pub fn list(&self, opened: Instant) {
        if self.ready_queue.batch_opened(opened, &self.handle) {
            self.sender.do_send(WakeSender);
        }
    }

    /// Lists it as waited for: the sender will ask for it when nothing is in flight.
    pub fn list_awaited(&self, opened: Instant) {
        if self.ready_queue.batch_awaited(opened, &self.handle) {
            self.sender.do_send(WakeSender);
        }
    }
}

impl BatchObserver for SenderNotifier {
    fn full(&self, bytes: usize, ask: bool) {
        let handle = ask.then(|| Arc::clone(&self.handle));
        if self.ready_queue.batch_full(bytes, handle) {
            self.sender.do_send(WakeSender);
        }
    }

    fn opened(&self, at: Instant) {
        if self.wakes_partition.load(Ordering::Relaxed) || self.shelf.pressure() {
            self.handle.partition.do_send(WakePartition);
        } else {
            self.list(at);
            // Memory may be used up by now, and whoever looked for open batches may have looked
            // before this one was listed.
            if self.shelf.pressure() {
                self.sender.do_send(WakeSender);
            }
        }
    }

    fn awaited(&self, at: Instant) {
        // Otherwise the partition was woken when the batch was opened. It lists the batch when it can.
        if !self.wakes_partition.load(Ordering::Relaxed) {
            self.list_awaited(at);
        }
    }
}
