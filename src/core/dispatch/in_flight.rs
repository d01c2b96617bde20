//! The requests of one connection that wait for their answers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A request that was handed to the connection.
#[derive(Debug)]
pub(crate) struct Request<L> {
    pub correlation_id: i32,
    /// The version it was encoded in, and its answer will be.
    pub version: i16,
    pub sent_at: Instant,
    /// The batches it carries, in the order in which they stand in it.
    pub loans: Vec<L>,
    /// Its length on the wire, as good as.
    pub bytes: usize,
    /// With the kernel, as far as we were told.
    pub written: bool,
}

/// Unanswered requests, oldest first.
///
/// Invariant: a broker answers the requests of a connection in their order, so an answer is for
/// the front or the connection is not to be trusted any more.
#[derive(Debug)]
pub(crate) struct InFlight<L> {
    max: usize,
    requests: VecDeque<Request<L>>,
    /// Requests not yet with the kernel.
    unwritten: usize,
    /// Requests that were answered before we were told that they are written.
    early: usize,
    next_correlation_id: i32,
}

/// An answer that is not for the oldest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexpected {
    /// The correlation id of the oldest request, if there is any.
    pub expected: Option<i32>,
}

/// Requests that may wait for the socket, whatever their size: one that is being written and one
/// behind it, or two that go together.
const UNWRITTEN: usize = 2;

/// Bytes up to which more may wait: small requests go to the kernel together, and one system call
/// costs as much as copying tens of kilobytes.
const UNWRITTEN_BYTES: usize = 256 << 10;

impl<L> InFlight<L> {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            requests: VecDeque::new(),
            unwritten: 0,
            early: 0,
            next_correlation_id: 0,
        }
    }

    /// How many more may wait for an answer.
    pub fn slots(&self) -> usize {
        self.max.saturating_sub(self.requests.len())
    }

    /// Whether another request may go.
    pub fn has_room(&self) -> bool {
        self.slots() > 0 && (self.unwritten < UNWRITTEN || self.unwritten_bytes() < UNWRITTEN_BYTES)
    }

    fn unwritten_bytes(&self) -> usize {
        let unwritten = self.requests.iter().rev().take(self.unwritten);
        unwritten.map(|request| request.bytes).sum()
    }

    /// How many bytes wait for an answer.
    pub fn bytes(&self) -> usize {
        self.requests.iter().map(|request| request.bytes).sum()
    }

    /// The correlation id of the request to come.
    pub fn next_correlation_id(&self) -> i32 {
        self.next_correlation_id
    }

    /// Remembers a request under [`next_correlation_id`](Self::next_correlation_id).
    pub fn push(&mut self, version: i16, loans: Vec<L>, bytes: usize, sent_at: Instant) {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1) & i32::MAX;
        self.requests.push_back(Request {
            correlation_id,
            version,
            sent_at,
            loans,
            bytes,
            written: false,
        });
        self.unwritten += 1;
    }

    /// The `count` oldest requests of which this was not said yet are with the kernel now. Some of
    /// them may be answered already.
    pub fn wrote(&mut self, count: usize) {
        let answered = count.min(self.early);
        self.early -= answered;
        let unwritten = self.requests.iter_mut().filter(|request| !request.written);
        for request in unwritten.take(count - answered) {
            request.written = true;
            self.unwritten -= 1;
        }
    }

    /// The request that an answer with this correlation id is for.
    pub fn answered(&mut self, correlation_id: i32) -> Result<Request<L>, Unexpected> {
        let expected = self.requests.front().map(|request| request.correlation_id);
        if expected != Some(correlation_id) {
            return Err(Unexpected { expected });
        }
        let request = self.requests.pop_front().ok_or(Unexpected { expected })?;
        if !request.written {
            self.unwritten -= 1;
            self.early += 1;
        }
        Ok(request)
    }

    /// Takes the front request if nothing will be heard of it (`acks=0`).
    pub fn pop_written(&mut self) -> Option<Request<L>> {
        if !self.requests.front()?.written {
            return None;
        }
        self.requests.pop_front()
    }

    /// When the oldest request has waited for `timeout`.
    pub fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.requests
            .front()
            .map(|request| request.sent_at + timeout)
    }

    /// A throttled broker answers later by as much: that is not the request's fault.
    pub fn postpone(&mut self, by: Duration) {
        for request in &mut self.requests {
            request.sent_at += by;
        }
    }

    /// Everything that will not be answered any more, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Request<L>> + '_ {
        self.unwritten = 0;
        self.early = 0;
        self.requests.drain(..)
    }

    /// How many batches the requests carry.
    pub fn loans(&self) -> usize {
        self.requests
            .iter()
            .map(|request| request.loans.len())
            .sum()
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_or_not_at_all() {
        let mut in_flight = InFlight::new(5);
        let now = Instant::now();
        for loan in 0..2 {
            assert_eq!(in_flight.next_correlation_id(), loan);
            in_flight.push(9, vec![loan], 1, now);
        }
        assert_eq!(
            in_flight.answered(1).unwrap_err(),
            Unexpected { expected: Some(0) }
        );
        assert_eq!(in_flight.answered(0).expect("the oldest").loans, [0]);
        assert_eq!(in_flight.answered(1).expect("the oldest").loans, [1]);
        assert_eq!(
            in_flight.answered(1).unwrap_err(),
            Unexpected { expected: None }
        );
    }

    #[test]
    fn room_is_bounded_by_answers_and_by_the_socket() {
        let mut in_flight = InFlight::new(3);
        let now = Instant::now();
        in_flight.push(9, vec![0], UNWRITTEN_BYTES / 2, now);
        in_flight.push(9, vec![1], UNWRITTEN_BYTES / 2, now);
        assert!(!in_flight.has_room(), "enough waits for the socket");
        in_flight.wrote(1);
        assert!(in_flight.has_room());
        in_flight.push(9, vec![2], 1, now);
        in_flight.wrote(2);
        assert!(!in_flight.has_room(), "three wait for an answer");
        assert_eq!(in_flight.slots(), 0);
        in_flight.answered(0).expect("the oldest");
        assert!(in_flight.has_room());
    }

    #[test]
    fn small_requests_may_wait_for_the_socket_together() {
        let mut in_flight = InFlight::new(5);
        let now = Instant::now();
        for loan in 0..4 {
            assert!(in_flight.has_room());
            in_flight.push(9, vec![loan], 100, now);
        }
        in_flight.push(9, vec![4], UNWRITTEN_BYTES, now);
        in_flight.answered(0).expect("the oldest");
        in_flight.answered(1).expect("the oldest");
        assert!(!in_flight.has_room(), "the last one is large");
        // The answers have overtaken the news that their requests were written.
        in_flight.wrote(3);
        assert!(!in_flight.has_room(), "two are not written yet");
        in_flight.wrote(1);
        assert!(in_flight.has_room());
    }

    #[test]
    fn throttling_moves_the_deadline() {
        let mut in_flight = InFlight::new(1);
        let now = Instant::now();
        assert_eq!(in_flight.deadline(Duration::from_secs(30)), None);
        in_flight.push(9, vec![0], 1, now);
        in_flight.postpone(Duration::from_secs(5));
        assert_eq!(
            in_flight.deadline(Duration::from_secs(30)),
            Some(now + Duration::from_secs(35))
        );
    }
}
