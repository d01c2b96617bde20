//! Decides how many batches a sender asks for at a time, and how many bytes are worth waking it.

/// Bytes to gather for one request while others can follow it. Smaller requests keep less memory in
/// use at a time, and more of it stays in the processor's caches. The last request that may be in
/// flight can be larger, so that a distant broker still gets as much as possible.
const REQUEST_TARGET_BYTES: usize = 128 << 10;

/// Partitions to ask at once, at most. It bounds the work between two looks at the mailbox.
const MAX_ASKED: usize = 256;

/// Decides the size of requests in bytes and in batches. `slots` is always the number of requests
/// that may still be sent before a response arrives.
#[derive(Debug)]
pub(crate) struct RequestSizing {
    max_request_size: usize,
    lingers: bool,
    /// The usual length of a batch in bytes: a moving average of the batches that were lent.
    typical: usize,
}

impl RequestSizing {
    /// `lingers`: a batch that is not full may wait for more records.
    pub fn new(max_request_size: usize, batch_size: usize, lingers: bool) -> Self {
        Self {
            max_request_size,
            lingers,
            typical: batch_size,
        }
    }

    /// Notes that a batch of `bytes` was lent.
    pub fn lent(&mut self, bytes: usize) {
        self.typical = (7 * self.typical + bytes) / 8;
    }

    /// Bytes to gather for the next request.
    pub fn request(&self, slots: usize) -> usize {
        match slots {
            0 | 1 => self.max_request_size,
            _ => self.max_request_size.min(REQUEST_TARGET_BYTES),
        }
    }

    /// Bytes to gather for all requests that may be sent.
    pub fn requests(&self, slots: usize) -> usize {
        slots * self.request(slots)
    }

    /// How many batches to ask for, if `there` batches are already at the sender. Any excess waits
    /// for the next request.
    pub fn batches(&self, slots: usize, there: usize) -> usize {
        self.fitting(self.requests(slots)).saturating_sub(there)
    }

    /// How many open batches to ask for as piggyback: they go along in a request that is sent
    /// anyway.
    ///
    /// `bytes` are in flight or gathered already, and `asked` batches were asked for. Above
    /// [`REQUEST_TARGET_BYTES`] no open batches are asked for: then sending small batches costs
    /// more than letting them linger.
    pub fn piggyback(&self, bytes: usize, asked: usize) -> usize {
        let target = self.max_request_size.min(REQUEST_TARGET_BYTES);
        match target.checked_sub(bytes + asked * self.typical) {
            Some(room) if self.lingers => self.fitting(room),
            _ => 0,
        }
    }

    fn fitting(&self, bytes: usize) -> usize {
        (bytes / self.typical.max(1)).clamp(1, MAX_ASKED)
    }

    /// How many bytes of full batches are worth waking the sender. A sender that is `at_work`
    /// checks for full batches by itself before it rests.
    pub fn worth_waking(&self, slots: usize, at_work: bool, in_flight: bool) -> usize {
        match (at_work, in_flight && self.lingers) {
            (true, _) => usize::MAX,
            // A response will wake the sender. What waits until then goes in one request.
            (false, true) => self.request(slots),
            (false, false) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 16 << 10;

    fn sizing(lingers: bool) -> RequestSizing {
        RequestSizing::new(1 << 20, BATCH, lingers)
    }

    #[test]
    fn a_request_has_the_target_size_and_the_last_one_is_as_large_as_allowed() {
        let sizing = sizing(true);
        assert_eq!(sizing.request(5), REQUEST_TARGET_BYTES);
        assert_eq!(sizing.request(1), 1 << 20);
        assert_eq!(sizing.requests(5), 5 * REQUEST_TARGET_BYTES);
        assert_eq!(sizing.requests(0), 0);
        assert_eq!(RequestSizing::new(1000, 100, true).request(5), 1000);
    }

    #[test]
    fn as_many_batches_are_asked_for_as_are_likely_to_fit() {
        let mut sizing = sizing(true);
        assert_eq!(sizing.batches(5, 0), 5 * REQUEST_TARGET_BYTES / BATCH);
        assert_eq!(sizing.batches(5, 30), 10);
        assert_eq!(sizing.batches(5, 50), 0);
        assert_eq!(sizing.batches(0, 0), 1, "one that is sent alone");
        for _ in 0..100 {
            sizing.lent(100);
        }
        assert_eq!(sizing.batches(5, 0), MAX_ASKED, "batches turned out small");
        for _ in 0..100 {
            sizing.lent(4 << 20);
        }
        assert_eq!(sizing.batches(5, 0), 1, "and large");
    }

    #[test]
    fn piggyback_fills_up_a_request() {
        let open = sizing(true);
        assert_eq!(open.piggyback(0, 0), REQUEST_TARGET_BYTES / BATCH);
        assert_eq!(open.piggyback(BATCH, 3), REQUEST_TARGET_BYTES / BATCH - 4);
        assert_eq!(open.piggyback(REQUEST_TARGET_BYTES, 0), 1);
        assert_eq!(open.piggyback(REQUEST_TARGET_BYTES, 1), 0);
        assert_eq!(open.piggyback(REQUEST_TARGET_BYTES + 1, 0), 0);
        assert_eq!(sizing(false).piggyback(0, 0), 0, "nothing is left open");
    }

    #[test]
    fn a_sender_is_woken_by_the_first_batch_or_for_a_request() {
        for lingers in [false, true] {
            let sizing = sizing(lingers);
            assert_eq!(sizing.worth_waking(5, true, false), usize::MAX);
            assert_eq!(sizing.worth_waking(5, true, true), usize::MAX);
            assert_eq!(sizing.worth_waking(5, false, false), 1);
        }
        assert_eq!(
            sizing(true).worth_waking(5, false, true),
            REQUEST_TARGET_BYTES
        );
        assert_eq!(sizing(true).worth_waking(1, false, true), 1 << 20);
        assert_eq!(sizing(false).worth_waking(5, false, true), 1);
    }
}
