//! Decides how fast memory is granted while many full batches wait to be sent.

use std::time::{Duration, Instant};

/// The longest pause between two quanta while callers wait.
const PAUSE: Duration = Duration::from_millis(1);

/// Limits how much memory is granted while full batches wait to be sent.
///
/// While no more than a quantum of bytes waits to be sent, memory is granted without a limit. Above
/// that, callers are faster than the senders. Then memory is granted in steps: once half a quantum
/// has come back, seven eighths of it are granted. This has three effects:
/// - A caller that sends as fast as it can is woken a few times for many batches, not once for
///   each.
/// - The processor is free for the runtime in between.
/// - The waiting batches are few enough to stay in the processor's caches.
///
/// No caller is refused because of the pace. While nothing comes back, a quantum is granted after
/// each pause, so a burst fills the whole budget in at most 128 pauses. A caller whose deadline is
/// reached gets what is available. Batches in flight do not count as waiting: distant brokers may
/// need many of them.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes granted at a time, above the limit.
    quantum: usize,
    /// Bytes that may still be granted now.
    left: usize,
    /// Bytes that have come back since the last decision.
    returned: usize,
    /// When the pause ends.
    next: Option<Instant>,
}

impl Pace {
    /// For a budget of `total` bytes. A quantum is what the shelf holds, but at least a 128th of
    /// the budget: with small batches the shelf holds less.
    pub fn new(total: usize, shelf: usize) -> Self {
        let quantum = shelf.max(total / 128).max(2);
        Self {
            quantum,
            left: usize::MAX,
            returned: 0,
            next: None,
        }
    }

    /// Decides again how much may be granted. `waiting` is the bytes of full batches that wait to
    /// be sent.
    pub fn look(&mut self, waiting: usize, now: Instant) {
        let due = self.next.is_none_or(|next| next <= now);
        self.left = if waiting <= self.quantum {
            usize::MAX
        } else if self.left == usize::MAX {
            0 // the limit begins: first see what comes back
        } else if self.returned >= self.quantum / 2 {
            self.returned - self.returned / 8
        } else if due {
            match self.returned {
                0 => self.quantum,
                some => some,
            }
        } else {
            return;
        };
        self.returned = 0;
        self.next = Some(now + PAUSE);
    }

    pub fn allows(&self) -> bool {
        self.left > 0
    }

    pub fn handed_out(&mut self, size: usize) {
        if self.left < usize::MAX {
            self.left = self.left.saturating_sub(size);
        }
    }

    pub fn came_back(&mut self, size: usize) {
        self.returned += size;
    }

    /// When a waiting caller should be looked at again, even if nothing comes back.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    pub fn quantum(&self) -> usize {
        self.quantum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST_TARGET_BYTES: usize = 100;

    /// A pace that just found too many full batches.
    fn strict(now: Instant) -> Pace {
        let mut pace = Pace::new(16 * REQUEST_TARGET_BYTES, REQUEST_TARGET_BYTES);
        pace.look(REQUEST_TARGET_BYTES + 1, now);
        pace
    }

    #[test]
    fn where_little_is_full_there_is_no_limit() {
        let now = Instant::now();
        let mut pace = Pace::new(16 * REQUEST_TARGET_BYTES, REQUEST_TARGET_BYTES);
        for _ in 0..10 {
            pace.handed_out(REQUEST_TARGET_BYTES);
            pace.look(REQUEST_TARGET_BYTES, now);
            assert!(pace.allows());
        }
        pace.look(REQUEST_TARGET_BYTES + 1, now);
        assert!(!pace.allows());
        pace.look(REQUEST_TARGET_BYTES, now);
        assert!(pace.allows(), "at once, when enough has come back");
    }

    #[test]
    fn what_has_come_back_is_granted_by_quanta_and_a_little_is_kept() {
        let now = Instant::now();
        let mut pace = strict(now);
        pace.came_back(REQUEST_TARGET_BYTES / 2 - 1);
        pace.look(REQUEST_TARGET_BYTES + 1, now);
        assert!(!pace.allows(), "too little for a quantum");
        pace.came_back(REQUEST_TARGET_BYTES / 2 + 1);
        pace.look(REQUEST_TARGET_BYTES + 1, now);
        let mut out = 0;
        while pace.allows() {
            pace.handed_out(1);
            out += 1;
        }
        assert_eq!(out, REQUEST_TARGET_BYTES - REQUEST_TARGET_BYTES / 8);
        pace.look(REQUEST_TARGET_BYTES + 1, now);
        assert!(!pace.allows(), "it counts once");
    }

    #[test]
    fn while_nothing_comes_back_a_quantum_is_granted_after_each_pause() {
        let mut now = Instant::now();
        let mut pace = strict(now);
        for _ in 0..3 {
            pace.look(REQUEST_TARGET_BYTES + 1, now);
            assert!(!pace.allows());
            now = pace.next().expect("a pause");
            pace.look(REQUEST_TARGET_BYTES + 1, now);
            pace.handed_out(REQUEST_TARGET_BYTES - 1);
            assert!(pace.allows());
            pace.handed_out(1);
            assert!(!pace.allows());
        }
    }

    #[test]
    fn the_budget_is_handed_out_in_128_pauses_however_small_the_shelf() {
        for shelf in [0, 1, 8 << 10, 1 << 20] {
            let total = 32 << 20;
            let mut now = Instant::now();
            let mut pace = Pace::new(total, shelf);
            let (mut out, mut pauses) = (0, 0);
            while out < total {
                pace.look(out, now);
                while pace.allows() && out < total {
                    pace.handed_out(1024);
                    out += 1024;
                }
                now += PAUSE;
                pauses += 1;
            }
            assert!(pauses <= 130, "{shelf}: {pauses}");
        }
    }

    #[test]
    fn a_little_that_has_come_back_waits_no_longer_than_a_pause() {
        let now = Instant::now();
        let mut pace = strict(now);
        pace.came_back(1);
        pace.look(REQUEST_TARGET_BYTES + 1, now + PAUSE);
        assert!(pace.allows());
        pace.handed_out(1);
        assert!(!pace.allows());
    }
}
