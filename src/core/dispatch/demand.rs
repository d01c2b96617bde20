//! How many bytes a sender could send at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes a sender could send at once. While it is more than 0, partitions lend batches to
/// the sender without being asked.
///
/// The sender sets the number. A partition that lends a batch subtracts the batch's length, so that
/// few batches are lent that have to wait at the sender. Both run on one arbiter. If they ever do
/// not, a lost update does no harm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand(Arc<AtomicUsize>);

impl Demand {
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    pub fn is_some(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Subtracts the bytes of a lent batch. What exceeds the demand waits at the sender.
    pub fn consume(&self, bytes: usize) {
        let left = self.0.load(Ordering::Relaxed);
        self.set(left.saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_subtracted_for_all_partitions() {
        let sender = Demand::default();
        let partition = sender.clone();
        assert!(!partition.is_some());
        sender.set(100);
        partition.consume(60);
        assert!(sender.is_some());
        partition.consume(60);
        assert!(!sender.is_some());
    }
}
