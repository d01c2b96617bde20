//! How much a sender asks for at a time, and what it is woken for.

/// Bytes gathered for a request while others can follow it. With less in flight, less memory is in
/// use at a time, and more of it stays in the processor's caches; the last request that the broker
/// has not answered may be as large as it gets, so that a distant one gets no less.
const REQUEST_TARGET_BYTES: usize = 128 << 10;

/// Partitions asked at once, at most: a bound on the work between two looks at the mailbox.
const MAX_ASKED: usize = 256;

/// What goes into one request, and how many batches that is. `slots` is how many requests may go
/// before an answer comes.
#[derive(Debug)]
pub(crate) struct RequestSizing {
    max_request_size: usize,
    lingers: bool,
    /// The length of the batches lent lately.
    typical: usize,
}

impl RequestSizing {
    /// With `lingers` batches that are not full may wait.
    pub fn new(max_request_size: usize, batch_size: usize, lingers: bool) -> Self {
        Self {
            max_request_size,
            lingers,
            typical: batch_size,
        }
    }

    /// A batch of so many bytes was lent.
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

    /// Bytes to gather for all requests that may go.
    pub fn requests(&self, slots: usize) -> usize {
        slots * self.request(slots)
    }

    /// Batches to ask for, with so many there. What comes too much waits for the next request.
    pub fn batches(&self, slots: usize, there: usize) -> usize {
        self.fitting(self.requests(slots)).saturating_sub(there)
    }

    /// Open batches to ask for, which go along with what goes now, while so many bytes are under
    /// way, gathered or asked for in so many batches. Beyond a portion it costs more to send small
    /// batches than lingering does.
    pub fn piggyback(&self, bytes: usize, asked: usize) -> usize {
        let portion = self.max_request_size.min(REQUEST_TARGET_BYTES);
        match portion.checked_sub(bytes + asked * self.typical) {
            Some(room) if self.lingers => self.fitting(room),
            _ => 0,
        }
    }

    fn fitting(&self, bytes: usize) -> usize {
        (bytes / self.typical.max(1)).clamp(1, MAX_ASKED)
    }

    /// How many bytes of full batches a sender is to be woken for. One that is at work looks by
    /// itself before it rests.
    pub fn worth_waking(&self, slots: usize, at_work: bool, in_flight: bool) -> usize {
        match (at_work, in_flight && self.lingers) {
            (true, _) => usize::MAX,
            // An answer will wake it; what waits that long goes in one request.
            (false, true) => self.request(slots),
            (false, false) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 16 << 10;

    fn portions(lingers: bool) -> RequestSizing {
        RequestSizing::new(1 << 20, BATCH, lingers)
    }

    #[test]
    fn a_request_is_a_portion_and_the_last_one_as_large_as_it_gets() {
        let portions = portions(true);
        assert_eq!(portions.request(5), REQUEST_TARGET_BYTES);
        assert_eq!(portions.request(1), 1 << 20);
        assert_eq!(portions.requests(5), 5 * REQUEST_TARGET_BYTES);
        assert_eq!(portions.requests(0), 0);
        assert_eq!(RequestSizing::new(1000, 100, true).request(5), 1000);
    }

    #[test]
    fn as_many_batches_are_asked_for_as_are_likely_to_fit() {
        let mut portions = portions(true);
        assert_eq!(portions.batches(5, 0), 5 * REQUEST_TARGET_BYTES / BATCH);
        assert_eq!(portions.batches(5, 30), 10);
        assert_eq!(portions.batches(5, 50), 0);
        assert_eq!(portions.batches(0, 0), 1, "one that goes alone");
        for _ in 0..100 {
            portions.lent(100);
        }
        assert_eq!(
            portions.batches(5, 0),
            MAX_ASKED,
            "batches turned out small"
        );
        for _ in 0..100 {
            portions.lent(4 << 20);
        }
        assert_eq!(portions.batches(5, 0), 1, "and large");
    }

    #[test]
    fn company_fills_up_a_portion() {
        let open = portions(true);
        assert_eq!(open.piggyback(0, 0), REQUEST_TARGET_BYTES / BATCH);
        assert_eq!(open.piggyback(BATCH, 3), REQUEST_TARGET_BYTES / BATCH - 4);
        assert_eq!(open.piggyback(REQUEST_TARGET_BYTES, 0), 1);
        assert_eq!(open.piggyback(REQUEST_TARGET_BYTES, 1), 0);
        assert_eq!(open.piggyback(REQUEST_TARGET_BYTES + 1, 0), 0);
        assert_eq!(portions(false).piggyback(0, 0), 0, "nothing is left open");
    }

    #[test]
    fn a_sender_is_woken_by_the_first_batch_or_for_a_request() {
        for lingers in [false, true] {
            let portions = portions(lingers);
            assert_eq!(portions.worth_waking(5, true, false), usize::MAX);
            assert_eq!(portions.worth_waking(5, true, true), usize::MAX);
            assert_eq!(portions.worth_waking(5, false, false), 1);
        }
        assert_eq!(
            portions(true).worth_waking(5, false, true),
            REQUEST_TARGET_BYTES
        );
        assert_eq!(portions(true).worth_waking(1, false, true), 1 << 20);
        assert_eq!(portions(false).worth_waking(5, false, true), 1);
    }
}
