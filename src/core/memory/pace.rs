//! How fast memory is handed out when much of it is in use.

use std::time::{Duration, Instant};

/// Between two portions, at most.
const PAUSE: Duration = Duration::from_millis(1);

/// Up to a portion of full batches that wait to be sent, memory goes to whoever asks. Above it
/// callers are ahead of the senders, and get a portion at a time, a little less than what has come
/// back. So whoever sends as fast as he can wakes a few times for many batches and not for each,
/// leaves the processor to the runtime in between, and the batches that wait are few enough to stay
/// in its caches. Nobody is refused for it: while nothing comes back there is a portion after each
/// pause, so that a burst fills all of the budget in 128 pauses at most; and whoever has no time left
/// gets what there is. What is in flight does not count: brokers far away may have much of it.
#[derive(Debug)]
pub(super) struct Pace {
    portion: usize,
    /// What may be handed out.
    left: usize,
    /// Bytes that have come back since then.
    returned: usize,
    next: Option<Instant>,
}

impl Pace {
    /// For a budget of `total` bytes. A portion is a shelf's worth, but where batches are small no less
    /// than a 128th of the budget.
    pub fn new(total: usize, shelf: usize) -> Self {
        let portion = shelf.max(total / 128).max(2);
        Self {
            portion,
            left: usize::MAX,
            returned: 0,
            next: None,
        }
    }

    /// So much is full and waits to be sent.
    pub fn look(&mut self, waiting: usize, now: Instant) {
        let due = self.next.is_none_or(|next| next <= now);
        self.left = if waiting <= self.portion {
            usize::MAX
        } else if self.left == usize::MAX {
            0 // for a start
        } else if self.returned >= self.portion / 2 {
            self.returned - self.returned / 8
        } else if due {
            match self.returned {
                0 => self.portion,
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

    /// When there is more at the latest.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    pub fn portion(&self) -> usize {
        self.portion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST_TARGET_BYTES: usize = 100;

    /// A pace that has just found that too much is full.
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
    fn what_has_come_back_is_handed_out_by_portions_and_a_little_is_kept() {
        let now = Instant::now();
        let mut pace = strict(now);
        pace.came_back(REQUEST_TARGET_BYTES / 2 - 1);
        pace.look(REQUEST_TARGET_BYTES + 1, now);
        assert!(!pace.allows(), "too little for a portion");
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
    fn where_nothing_comes_back_there_is_a_portion_after_each_pause() {
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
