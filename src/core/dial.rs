//! How a broker is connected to: which of its addresses is tried when, and in which version it is
//! asked first.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::wire::Api;

/// How long an address has for itself before the next one is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What earlier connections to a broker taught.
#[derive(Debug, Clone, Default)]
pub struct Learned {
    /// The address that accepted the last connection.
    address: Option<SocketAddr>,
    asks_version_0: bool,
}

impl Learned {
    /// The version of ApiVersions to ask in first. The newest says no more than the one before, but
    /// for whom the connection is meant for. Unless that is known, the one before does, which fewer
    /// brokers stumble over.
    pub fn first_version(&self, addressed: bool) -> i16 {
        let (oldest, newest) = Api::Versions.ours();
        match addressed {
            _ if self.asks_version_0 => oldest,
            true => newest,
            false => newest - 1,
        }
    }

    /// This address has accepted a connection.
    pub fn accepted(&mut self, address: SocketAddr) {
        self.address = Some(address);
    }

    /// The broker closed a connection before it answered anything. Some do that when the version is
    /// too new for them, in place of saying so: it is asked in version 0 next. If that does not help
    /// either, something else was the reason.
    pub fn closed_unsaid(&mut self) {
        self.asks_version_0 = !self.asks_version_0;
    }
}

/// The addresses of one broker, each tried when those before it have failed or hang (RFC 8305).
#[derive(Debug)]
pub struct Attempts {
    waiting: VecDeque<SocketAddr>,
    next_at: Instant,
}

impl Attempts {
    /// Begins with the address that worked last. The others follow in the resolver's order, but
    /// addresses of the two families by turns, as one of them may lead nowhere.
    pub fn new(mut found: Vec<SocketAddr>, learned: &Learned, now: Instant) -> Self {
        let worked = found.iter().position(|it| Some(*it) == learned.address);
        if let Some(at) = worked {
            found[..=at].rotate_right(1);
        }
        let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
        let (first, second): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|it| it.is_ipv6() == first_is_v6);
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut waiting = VecDeque::new();
        loop {
            let two = [first.next(), second.next()];
            if two == [None, None] {
                break;
            }
            waiting.extend(two.into_iter().flatten());
        }
        Self {
            waiting,
            next_at: now,
        }
    }

    /// The address to try now, beside those that are being tried.
    pub fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_at {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.next_at = now + ATTEMPT_DELAY;
        Some(next)
    }

    /// When the next address is tried; `None` if none is left.
    pub fn next_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }

    /// An address has failed, so the next one is tried at once.
    pub fn failed(&mut self, now: Instant) {
        self.next_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 9092))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0xfd, 0, 0, 0, 0, 0, 0, last], 9092))
    }

    fn order(found: &[SocketAddr], worked: Option<SocketAddr>) -> Vec<SocketAddr> {
        let mut learned = Learned::default();
        if let Some(address) = worked {
            learned.accepted(address);
        }
        let now = Instant::now();
        let attempts = Attempts::new(found.to_vec(), &learned, now);
        attempts.waiting.into()
    }

    #[test]
    fn families_take_turns_and_keep_the_resolvers_order() {
        for (found, expected) in [
            (vec![], vec![]),
            (vec![v4(1), v4(2)], vec![v4(1), v4(2)]),
            (
                vec![v6(1), v6(2), v6(3), v4(1), v4(2)],
                vec![v6(1), v4(1), v6(2), v4(2), v6(3)],
            ),
            (vec![v4(1), v6(1), v6(2)], vec![v4(1), v6(1), v6(2)]),
        ] {
            assert_eq!(order(&found, None), expected);
        }
    }

    #[test]
    fn the_address_that_worked_goes_first() {
        let found = [v6(1), v6(2), v4(1), v4(2)];
        assert_eq!(order(&found, Some(v4(2))), [v4(2), v6(1), v4(1), v6(2)]);
        assert_eq!(order(&found, Some(v6(1))), [v6(1), v4(1), v6(2), v4(2)]);
        // A name may lead elsewhere by now.
        assert_eq!(order(&found, Some(v4(9))), [v6(1), v4(1), v6(2), v4(2)]);
    }

    #[test]
    fn an_address_that_hangs_holds_the_next_one_up_for_a_moment_only() {
        let start = Instant::now();
        let mut attempts = Attempts::new(vec![v4(1), v4(2), v4(3)], &Learned::default(), start);
        assert_eq!(attempts.next(start), Some(v4(1)));
        assert_eq!(attempts.next(start), None);
        let second = start + ATTEMPT_DELAY;
        assert_eq!(attempts.next_at(), Some(second));
        assert_eq!(attempts.next(second), Some(v4(2)));
        assert_eq!(attempts.next(second), None);
        attempts.failed(second);
        assert_eq!(attempts.next(second), Some(v4(3)));
        assert_eq!(attempts.next_at(), None);
        assert_eq!(attempts.next(second + ATTEMPT_DELAY), None);
    }

    #[test]
    fn a_broker_that_closes_unsaid_is_asked_in_version_0_and_in_the_newest_by_turns() {
        let (oldest, newest) = Api::Versions.ours();
        let mut learned = Learned::default();
        for _ in 0..2 {
            assert_eq!(learned.first_version(true), newest);
            assert_eq!(learned.first_version(false), newest - 1);
            learned.closed_unsaid();
            for addressed in [true, false] {
                assert_eq!(learned.first_version(addressed), oldest);
                let later = learned.clone();
                assert_eq!(later.first_version(addressed), oldest, "and stays so");
            }
            learned.closed_unsaid();
        }
    }
}
