//! How long a login is good for, and when to renew it (KIP-368).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::login::{LoggedIn, Proof, prove};
use super::{Endpoint, Login, NetError};
use crate::core::security::Mechanism;

/// Brokers refuse a login that begins within a second of the one before on the same connection.
const LEAST_APART: Duration = Duration::from_millis(1_050);
/// Requests have this long between two logins, however long these take.
const LEAST_OPEN: Duration = Duration::from_millis(100);
/// The shortest and the longest wait before what a login is made of is looked for again.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// A login that ends.
#[derive(Debug)]
pub struct Term {
    user: Arc<str>,
    renew_at: Instant,
    ends_at: Instant,
    /// Whether it was put off before.
    is_put_off: bool,
}

impl Term {
    /// `None` if it does not end. `asked`: a time before the broker was asked.
    pub(super) fn new(asked: Instant, logged_in: &LoggedIn) -> Option<Self> {
        let lifetime = logged_in.lifetime?;
        // At 85 to 95 % of it, so that clients that connected together do not come back together.
        let renew_at = asked + lifetime.mul_f64(rand::random_range(0.85..0.95));
        let renew_at = renew_at.max(logged_in.begun + LEAST_APART);
        Some(Self {
            user: Arc::clone(&logged_in.user),
            renew_at: renew_at.max(Instant::now() + LEAST_OPEN),
            ends_at: asked + lifetime,
            is_put_off: false,
        })
    }

    /// With these times, for a test.
    #[cfg(test)]
    pub fn at(user: &str, renew_at: Instant, ends_at: Instant) -> Self {
        Self {
            user: user.into(),
            renew_at,
            ends_at,
            is_put_off: false,
        }
    }

    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    pub(super) fn ends_at(&self) -> Instant {
        self.ends_at
    }

    /// What the broker is to be shown by the next login. `None`: it cannot be had yet, and is looked for
    /// again later. An error: this connection takes no other login.
    pub(super) async fn prove_again(
        &mut self,
        login: &Login,
        endpoint: &Endpoint,
        limit: Duration,
    ) -> Result<Option<Proof>, NetError> {
        match prove(login, endpoint, limit).await {
            Ok(proof) => {
                self.check_user(endpoint, (login, &proof))?;
                Ok(Some(proof))
            }
            // Nothing was written, and the login that stands is still good.
            Err(error) => self.put_off(endpoint, error).map(|()| None),
        }
    }

    /// What the next login takes cannot be had: it is looked for again while this one is good.
    fn put_off(&mut self, endpoint: &Endpoint, error: NetError) -> Result<(), NetError> {
        let left = self.ends_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error);
        }
        let (shortest, longest) = LOOK_AGAIN;
        let wait = (left / 4).clamp(shortest, longest).min(left);
        self.renew_at = Instant::now() + wait;
        if !std::mem::replace(&mut self.is_put_off, true) {
            tracing::warn!(%endpoint, %error, ?left, "the login cannot be renewed yet");
        }
        Ok(())
    }

    /// Brokers refuse another user on the same connection. Keys of AWS change with each of a role's
    /// sessions, and are no user.
    fn check_user(
        &self,
        endpoint: &Endpoint,
        (login, next): (&Login, &Proof),
    ) -> Result<(), NetError> {
        let to = next.user();
        if to == self.user || login.mechanism == Mechanism::AwsMskIam {
            return Ok(());
        }
        Err(NetError::UserChanged {
            endpoint: endpoint.clone(),
            from: Arc::clone(&self.user),
            to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged_in(lifetime: Duration, begun: Instant) -> LoggedIn {
        LoggedIn {
            user: "alice".into(),
            lifetime: Some(lifetime),
            begun,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn logins_are_renewed_in_time_and_not_too_soon() {
        let asked = Instant::now();
        for _ in 0..100 {
            let hour = logged_in(Duration::from_secs(3_600), asked);
            let term = Term::new(asked, &hour).expect("it ends");
            let part = (term.renew_at() - asked).as_secs_f64() / 3_600.0;
            assert!((0.85..0.95).contains(&part), "{part}");
            assert_eq!(term.ends_at() - asked, Duration::from_secs(3_600));
        }
        let begun = asked + Duration::from_millis(10);
        let short = logged_in(Duration::from_millis(500), begun);
        let term = Term::new(asked, &short).expect("it ends");
        assert_eq!(term.renew_at() - begun, LEAST_APART);
        // A login that takes longer than it is good for.
        tokio::time::advance(Duration::from_secs(5)).await;
        let term = Term::new(asked, &short).expect("it ends");
        assert_eq!(term.renew_at() - Instant::now(), LEAST_OPEN);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_login_takes_is_looked_for_until_the_last_one_ends() {
        let asked = Instant::now();
        let minute = logged_in(Duration::from_secs(60), asked);
        let mut term = Term::new(asked, &minute).expect("it ends");
        let endpoint = Endpoint::new("broker", 9093);
        let mut looked = 0;
        loop {
            tokio::time::sleep_until(term.renew_at()).await;
            looked += 1;
            let error = NetError::NoBrokers;
            if term.put_off(&endpoint, error).is_err() {
                break;
            }
        }
        assert_eq!(Instant::now(), term.ends_at());
        assert!((5..50).contains(&looked), "{looked}");
    }
}
