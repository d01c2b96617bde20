//! What a sender would send at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes a sender would send at once: while that is more than nothing, partitions lend
/// unasked. The sender sets it, and whoever lends takes away from it, so that little is lent which
/// waits. Both are on one arbiter; where that cannot be so, a lost update would do no harm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand(Arc<AtomicUsize>);

impl Demand {
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    pub fn is_some(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// So much is lent. What exceeds the appetite waits with the sender.
    pub fn consume(&self, bytes: usize) {
        let left = self.0.load(Ordering::Relaxed);
        self.set(left.saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_counts_for_all_who_look() {
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
