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
    next_correlation_id: i32,
}

/// An answer that is not for the oldest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexpected {
    /// The correlation id of the oldest request, if there is any.
    pub expected: Option<i32>,
}

/// Requests that may wait for the socket. With one being written and one behind it the socket
/// never runs dry; more would only take batches away that could go on filling.
const MAX_UNWRITTEN: usize = 2;

impl<L> InFlight<L> {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            requests: VecDeque::new(),
            unwritten: 0,
            next_correlation_id: 0,
        }
    }

    /// Whether another request may go.
    pub fn has_room(&self) -> bool {
        self.requests.len() < self.max && self.unwritten < MAX_UNWRITTEN
    }

    /// The correlation id of the request to come.
    pub fn next_correlation_id(&self) -> i32 {
        self.next_correlation_id
    }

    /// Remembers a request under [`next_correlation_id`](Self::next_correlation_id).
    pub fn push(&mut self, version: i16, loans: Vec<L>, sent_at: Instant) {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1) & i32::MAX;
        self.requests.push_back(Request {
            correlation_id,
            version,
            sent_at,
            loans,
            written: false,
        });
        self.unwritten += 1;
    }

    /// The oldest unwritten request is with the kernel now.
    pub fn wrote(&mut self) -> Option<&mut Request<L>> {
        let request = self.requests.iter_mut().find(|request| !request.written)?;
        request.written = true;
        self.unwritten -= 1;
        Some(request)
    }

    /// The request that an answer with this correlation id is for.
    pub fn answered(&mut self, correlation_id: i32) -> Result<Request<L>, Unexpected> {
        let expected = self.requests.front().map(|request| request.correlation_id);
        if expected != Some(correlation_id) {
            return Err(Unexpected { expected });
        }
        let request = self.requests.pop_front().ok_or(Unexpected { expected })?;
        self.unwritten -= usize::from(!request.written);
        Ok(request)
    }

    /// Takes the front request if nothing will be heard of it (`acks=0`).
    pub fn pop_written(&mut self) -> Option<Request<L>> {
        self.requests.pop_front_if(|request| request.written)
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
            in_flight.push(9, vec![loan], now);
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
        in_flight.push(9, vec![0], now);
        in_flight.push(9, vec![1], now);
        assert!(!in_flight.has_room(), "two wait for the socket");
        in_flight.wrote();
        assert!(in_flight.has_room());
        in_flight.push(9, vec![2], now);
        in_flight.wrote();
        in_flight.wrote();
        assert!(!in_flight.has_room(), "three wait for an answer");
        in_flight.answered(0).expect("the oldest");
        assert!(in_flight.has_room());
        // An answer may overtake the news that its request was written.
        in_flight.push(9, vec![3], now);
        for id in 1..=3 {
            in_flight.answered(id).expect("the oldest");
        }
        assert!(in_flight.has_room() && in_flight.is_empty());
    }

    #[test]
    fn throttling_moves_the_deadline() {
        let mut in_flight = InFlight::new(1);
        let now = Instant::now();
        assert_eq!(in_flight.deadline(Duration::from_secs(30)), None);
        in_flight.push(9, vec![0], now);
        in_flight.postpone(Duration::from_secs(5));
        assert_eq!(
            in_flight.deadline(Duration::from_secs(30)),
            Some(now + Duration::from_secs(35))
        );
    }
}
