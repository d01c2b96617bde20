//! The requests of one connection that wait for their responses.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A request that was handed to the connection.
#[derive(Debug)]
pub(crate) struct Request<L> {
    pub correlation_id: i32,
    /// The version of the request, and of its response.
    pub version: i16,
    pub sent_at: Instant,
    /// The batches it carries, in the order in which the request names them.
    pub loans: Vec<L>,
    /// Bytes of its batches, which is nearly its length on the wire.
    pub bytes: usize,
    /// The connection's task reported that it is written to the kernel.
    pub written: bool,
}

/// The requests in flight, oldest first.
///
/// Invariant: a broker responds to the requests of a connection in their order. So a response is
/// for the oldest request, or the connection cannot be trusted any more.
#[derive(Debug)]
pub(crate) struct InFlight<L> {
    max: usize,
    requests: VecDeque<Request<L>>,
    /// Requests in `requests` that are not reported as written.
    unwritten: usize,
    /// Requests whose response arrived before the report that they were written.
    early: usize,
    next_correlation_id: i32,
    /// Of this connection's first request, or the one behind the last that was answered unasked.
    next_unasked: i32,
}

/// A response that is not for the oldest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexpected {
    /// The correlation id of the oldest request, if there is one.
    pub expected: Option<i32>,
}

/// Requests that may wait for the socket, whatever their size. One is being written while the next
/// one waits, or two are written together.
const UNWRITTEN: usize = 2;

/// Below this many unwritten bytes, more requests may wait for the socket. Small requests are
/// written together, since one system call costs as much as copying tens of kilobytes.
const UNWRITTEN_BYTES: usize = 256 << 10;

impl<L> InFlight<L> {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            requests: VecDeque::new(),
            unwritten: 0,
            early: 0,
            next_correlation_id: 0,
            next_unasked: 0,
        }
    }

    /// How many more requests may be in flight.
    pub fn slots(&self) -> usize {
        self.max.saturating_sub(self.requests.len())
    }

    /// Whether another request may be sent now.
    pub fn has_room(&self) -> bool {
        self.slots() > 0 && (self.unwritten < UNWRITTEN || self.unwritten_bytes() < UNWRITTEN_BYTES)
    }

    fn unwritten_bytes(&self) -> usize {
        let unwritten = self.requests.iter().rev().take(self.unwritten);
        unwritten.map(|request| request.bytes).sum()
    }

    /// Bytes of all requests in flight.
    pub fn bytes(&self) -> usize {
        self.requests.iter().map(|request| request.bytes).sum()
    }

    /// Bytes of the largest request in flight; 0 if there is none.
    pub fn largest(&self) -> usize {
        let bytes = self.requests.iter().map(|request| request.bytes);
        bytes.max().unwrap_or(0)
    }

    /// The correlation id of the next request.
    pub fn next_correlation_id(&self) -> i32 {
        self.next_correlation_id
    }

    /// Adds a request with the id [`next_correlation_id`](Self::next_correlation_id).
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

    /// Notes that `count` more requests are written, oldest first. The responses to some of them
    /// may have arrived already.
    pub fn wrote(&mut self, count: usize) {
        let answered = count.min(self.early);
        self.early -= answered;
        let unwritten = self.requests.iter_mut().filter(|request| !request.written);
        for request in unwritten.take(count - answered) {
            request.written = true;
            self.unwritten -= 1;
        }
    }

    /// Takes the request that a response with this correlation id is for.
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

    /// Lets a response go that nobody asked for, because of `acks=0`. Each request of this connection
    /// may get one, in their order.
    pub fn answered_unasked(&mut self, correlation_id: i32) -> Result<(), Unexpected> {
        let ahead = |id: i32| id.wrapping_sub(self.next_unasked) & i32::MAX;
        if correlation_id < 0 || ahead(correlation_id) >= ahead(self.next_correlation_id) {
            let expected = Some(self.next_unasked);
            return Err(Unexpected { expected });
        }
        self.next_unasked = correlation_id.wrapping_add(1) & i32::MAX;
        Ok(())
    }

    /// Takes the oldest request if it is written. For `acks=0`, where no response comes.
    pub fn pop_written(&mut self) -> Option<Request<L>> {
        if !self.requests.front()?.written {
            return None;
        }
        self.requests.pop_front()
    }

    /// When the oldest request will have waited for `timeout`.
    pub fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.requests
            .front()
            .map(|request| request.sent_at + timeout)
    }

    /// Moves all deadlines by `by`. A throttling broker responds that much later, which must not
    /// count as a time-out.
    pub fn postpone(&mut self, by: Duration) {
        for request in &mut self.requests {
            request.sent_at += by;
        }
    }

    /// Takes all requests, oldest first, because no response will come.
    pub fn drain(&mut self) -> impl Iterator<Item = Request<L>> + '_ {
        self.unwritten = 0;
        self.early = 0;
        self.next_unasked = self.next_correlation_id;
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
    fn an_answer_nobody_asked_for_belongs_to_a_request_of_its_connection() {
        let mut in_flight = InFlight::new(5);
        let now = Instant::now();
        in_flight.next_correlation_id = i32::MAX - 2;
        assert_eq!(in_flight.drain().count(), 0);
        for loan in 0..4 {
            in_flight.push(9, vec![loan], 1, now);
            in_flight.wrote(1);
            in_flight.pop_written().expect("written");
        }
        // All but the second one are answered, the last ones behind the end of the numbers.
        for (id, known) in [
            (i32::MAX - 3, false),
            (i32::MAX - 2, true),
            (i32::MAX - 2, false),
            (i32::MAX, true),
            (-1, false),
            (i32::MIN, false),
            (1, false),
            (0, true),
            (0, false),
        ] {
            assert_eq!(in_flight.answered_unasked(id).is_ok(), known, "{id}");
        }
        in_flight.push(9, vec![4], 1, now);
        assert_eq!(in_flight.drain().count(), 1);
        let stale = in_flight.answered_unasked(1);
        assert!(stale.is_err(), "a request of the last connection");
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
        assert!(!in_flight.has_room(), "three wait for a response");
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
        // The responses arrived before the reports that their requests were written.
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
