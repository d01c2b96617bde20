//! When callers hear at once that no broker can be talked to, rather than when their time is over.

use std::time::{Duration, Instant};

use crate::core::security::SecurityError;

/// How long all brokers have to give the same sort of doubt before it counts as certain. A broker that
/// is starting may close connections, too.
const DOUBT: Duration = Duration::from_secs(3);

/// Whether certificates, credentials and protocols are such that no broker lets this client in.
///
/// What is wrong with this client's own credentials is wrong at every broker. What is wrong with a
/// broker's certificate or listener is certain only if the others fail so, too; else it is a doubt.
///
/// Invariant: once a broker has responded, nothing is certain any more. What worked may work again,
/// and one broker may be wrong where others are right.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    let_in: bool,
    /// What was certain in this round, of all brokers.
    certain: Option<SecurityError>,
    /// What was certain in this round, of those brokers that were asked.
    certain_there: Option<SecurityError>,
    /// Whether a broker of this round failed in a way that says nothing of security.
    others: bool,
    /// What was doubtful in this round.
    doubtful: Option<SecurityError>,
    /// When the first of the rounds ended that all ended in doubt.
    since: Option<Instant>,
}

impl Lockout {
    /// A broker responded.
    pub fn let_in(&mut self) {
        *self = Self {
            let_in: true,
            ..Self::default()
        };
    }

    /// A broker could not be asked: for a reason of security that is certain or not, or for another.
    /// `round_over`: none is left to be tried at once. Returns what callers are to hear.
    pub fn failed(
        &mut self,
        error: Option<(SecurityError, bool)>,
        round_over: bool,
        now: Instant,
    ) -> Option<SecurityError> {
        if self.let_in {
            return None;
        }
        match error {
            Some((error, true)) if error.is_of_credentials() => self.certain = Some(error),
            Some((error, true)) => self.certain_there = Some(error),
            Some((error, false)) => self.doubtful = Some(error),
            None => self.others = true,
        }
        if !round_over {
            return None;
        }
        let (mut certain, mut doubtful) = (self.certain.take(), self.doubtful.take());
        let others = std::mem::take(&mut self.others) || doubtful.is_some();
        match self.certain_there.take() {
            Some(error) if others => doubtful = Some(error),
            error => certain = certain.or(error),
        }
        self.since = match &doubtful {
            Some(_) => Some(self.since.unwrap_or(now)),
            None => None,
        };
        let long = self.since.is_some_and(|since| now - since >= DOUBT);
        certain.or(doubtful.filter(|_| long))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::endpoint::Endpoint;

    fn error(host: &str) -> SecurityError {
        SecurityError::Protocol {
            broker: Endpoint::new(host, 9092),
            why: "closes".into(),
        }
    }

    fn wrong_password(host: &str) -> SecurityError {
        SecurityError::NoCredentials {
            broker: Endpoint::new(host, 9092),
            why: "there is no file".into(),
        }
    }

    #[test]
    fn what_is_certain_is_told_when_every_broker_was_tried() {
        let (mut lockout, now) = (Lockout::default(), Instant::now());
        let wrong = || Some((wrong_password("a"), true));
        assert_eq!(lockout.failed(wrong(), false, now), None);
        assert_eq!(lockout.failed(None, true, now), Some(wrong_password("a")));
        assert_eq!(
            lockout.failed(None, true, now),
            None,
            "that was another round"
        );
    }

    #[test]
    fn one_brokers_certificate_is_a_doubt_while_others_are_away() {
        let (mut lockout, now) = (Lockout::default(), Instant::now());
        let certain = || Some((error("a"), true));
        for other in [None, Some((error("b"), false))] {
            assert_eq!(lockout.failed(certain(), false, now), None);
            assert_eq!(lockout.failed(other, true, now), None);
        }
        assert_eq!(lockout.failed(None, false, now + DOUBT), None);
        let told = lockout.failed(certain(), true, now + DOUBT);
        assert_eq!(told, Some(error("a")), "it stays so");

        let mut lockout = Lockout::default();
        assert_eq!(lockout.failed(certain(), false, now), None);
        assert_eq!(lockout.failed(certain(), true, now), Some(error("a")));
        let told = lockout.failed(certain(), true, now);
        assert_eq!(told, Some(error("a")), "the others were of another round");
    }

    #[test]
    fn what_is_doubtful_is_told_when_it_stays_so() {
        let (mut lockout, now) = (Lockout::default(), Instant::now());
        let doubt = || Some((error("a"), false));
        assert_eq!(lockout.failed(doubt(), true, now), None);
        assert_eq!(lockout.failed(doubt(), true, now + DOUBT / 2), None);
        let away = lockout.failed(None, true, now + DOUBT);
        assert_eq!(away, None, "a broker that was not there");
        assert_eq!(lockout.failed(doubt(), true, now + DOUBT), None);
        for _ in 0..2 {
            assert_eq!(
                lockout.failed(doubt(), true, now + 2 * DOUBT),
                Some(error("a"))
            );
        }
    }

    #[test]
    fn what_worked_once_may_work_again() {
        let (mut lockout, now) = (Lockout::default(), Instant::now());
        assert_eq!(lockout.failed(Some((error("a"), true)), false, now), None);
        lockout.let_in();
        assert_eq!(lockout.failed(Some((error("a"), true)), true, now), None);
    }
}
