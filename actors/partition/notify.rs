//! Tells the leader's sender of the batches that callers fill and open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::actors::messages::*;
use crate::core::memory::Shelf;
use crate::core::stage::BatchObserver;

/// Rings for a partition.
pub(super) struct SenderNotifier {
    pub ready_queue: Arc<ReadyQueue>,
    pub sender: SenderAddr,
    pub handle: Arc<ReadyHandle>,
    pub shelf: Arc<Shelf>,
    /// The partition is to look at each batch that is opened: nothing lingers, or it has no identity yet,
    /// which takes a while to get.
    pub looks: AtomicBool,
}

impl SenderNotifier {
    /// Has the sender see to it that a batch opened then goes when it has lingered.
    pub fn list(&self, opened: Instant) {
        if self.ready_queue.batch_opened(opened, &self.handle) {
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
        if self.looks.load(Ordering::Relaxed) || self.shelf.pressure() {
            self.handle.partition.do_send(WakePartition);
        } else {
            self.list(at);
        }
    }
}
