//! When a token is fetched: for the first login, ahead of its expiry, and not too often when that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::token::{Token, TokenError};
use crate::core::backoff::Backoff;

/// A token that a broker refuses is not fetched anew more often than this.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// `sasl.login.refresh.*` and `sasl.login.retry.backoff.*`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RefreshRules {
    /// The share of a token's life after which it is fetched anew.
    pub factor: f64,
    /// The largest random share that is added.
    pub jitter: f64,
    pub min_period: Duration,
    pub buffer: Duration,
    pub backoff: (Duration, Duration),
}

impl RefreshRules {
    /// How long after it was fetched a token is fetched anew, as Java has it. `chance` is from 0 to 1.
    fn refresh_after(&self, lifetime: Duration, chance: f64) -> Duration {
        let share = lifetime.mul_f64((self.factor + self.jitter * chance).clamp(0.0, 1.0));
        // Both are ignored where they do not fit into the token's life.
        if self.min_period + self.buffer > lifetime {
            return share;
        }
        share.min(lifetime - self.buffer).max(self.min_period)
    }
}

/// A token with its number, by which a refusal names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub token: Arc<Token>,
    pub number: u64,
}

/// What is to be done for one that asks for a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Token(Granted),
    /// One is being fetched, or is to be fetched now: see [`Tokens::is_due`].
    Wait,
    /// Fetching has just failed so, and it is too early to try again.
    Failed(TokenError),
}

#[derive(Debug)]
struct Held {
    granted: Granted,
    expires_at: Instant,
    refresh_at: Instant,
}

/// The token of a producer.
///
/// Invariant: at most one is being fetched.
#[derive(Debug)]
pub(crate) struct Tokens {
    rules: RefreshRules,
    held: Option<Held>,
    last_number: u64,
    is_fetching: bool,
    /// Somebody waits for one.
    is_wanted: bool,
    failure: Option<TokenError>,
    /// Not before this is anything fetched.
    not_before: Option<Instant>,
    backoff: Backoff,
    random: SmallRng,
}

impl Tokens {
    pub fn new(rules: RefreshRules, seed: u64) -> Self {
        let (min, max) = rules.backoff;
        Self {
            rules,
            held: None,
            last_number: 0,
            is_fetching: false,
            is_wanted: false,
            failure: None,
            not_before: None,
            backoff: Backoff::new(min, max, seed),
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Somebody needs a token.
    pub fn ask(&mut self, now: Instant) -> Answer {
        if let Some(granted) = self.valid(now) {
            return Answer::Token(granted);
        }
        match &self.failure {
            Some(failure) if !self.is_fetching && self.is_too_early(now) => {
                Answer::Failed(failure.clone())
            }
            _ => {
                self.is_wanted = true;
                Answer::Wait
            }
        }
    }

    /// Whether a token is to be fetched now. If so, the caller fetches it.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let refresh = self.held.as_ref().is_some_and(|it| it.refresh_at <= now);
        let due = (self.is_wanted || refresh) && !self.is_fetching && !self.is_too_early(now);
        self.is_fetching |= due;
        due
    }

    /// When to ask [`is_due`](Self::is_due) next.
    pub fn next_at(&self) -> Option<Instant> {
        if self.is_fetching {
            return None;
        }
        let refresh = self.held.as_ref().map(|it| it.refresh_at);
        let at = if self.is_wanted {
            self.not_before
        } else {
            refresh
        };
        at.max(at.and(self.not_before))
    }

    /// A token was fetched. `lifetime` is how long it is good for; one of an unknown time serves those
    /// who wait, and nobody else.
    pub fn fetched(&mut self, token: Token, now: Instant) -> Granted {
        self.is_fetching = false;
        self.is_wanted = false;
        self.failure = None;
        self.not_before = None;
        self.backoff.reset();
        self.last_number += 1;
        let lifetime = token.lifetime().filter(|it| !it.is_zero());
        let granted = Granted {
            token: Arc::new(token),
            number: self.last_number,
        };
        let chance = self.random.random_range(0.0..1.0);
        self.held = lifetime.and_then(|lifetime| {
            Some(Held {
                granted: granted.clone(),
                expires_at: now.checked_add(lifetime)?,
                refresh_at: now + self.rules.refresh_after(lifetime, chance),
            })
        });
        granted
    }

    /// None could be fetched. Those who wait get what is returned: the last token while it is good.
    pub fn failed(&mut self, error: TokenError, now: Instant) -> Result<Granted, TokenError> {
        self.is_fetching = false;
        self.is_wanted = false;
        self.not_before = Some(now + self.backoff.next());
        self.failure = Some(error.clone());
        self.valid(now).ok_or(error)
    }

    /// A broker has refused this token: the next one who asks gets another.
    pub fn refused(&mut self, number: u64, now: Instant) {
        match &mut self.held {
            Some(held) if held.granted.number == number => {
                let soon = now + AFTER_REFUSAL;
                held.expires_at = held.expires_at.min(soon);
                held.refresh_at = held.refresh_at.min(soon);
            }
            _ => {}
        }
    }

    fn valid(&self, now: Instant) -> Option<Granted> {
        let held = self.held.as_ref().filter(|it| now < it.expires_at)?;
        Some(held.granted.clone())
    }

    fn is_too_early(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|at| now < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> RefreshRules {
        RefreshRules {
            factor: 0.8,
            jitter: 0.05,
            min_period: 60 * SECOND,
            buffer: 300 * SECOND,
            backoff: (SECOND / 10, 10 * SECOND),
        }
    }

    fn tokens() -> (Tokens, Instant) {
        (Tokens::new(rules(), 7), Instant::now())
    }

    fn token(seconds: u64) -> Token {
        Token::new("t").expires_in(Duration::from_secs(seconds))
    }

    fn trouble() -> TokenError {
        TokenError::Settings("gone".into())
    }

    #[test]
    fn a_token_is_fetched_anew_when_java_would() {
        for (lifetime, chance, expected) in [
            (3600, 0.0, 2880),
            (3600, 1.0, 3060),
            // The buffer is kept,
            (400, 0.0, 100),
            // and the period, although that is behind it.
            (360, 0.0, 60),
            // Where they do not fit they do not count.
            (100, 0.0, 80),
        ] {
            let after = rules().refresh_after(lifetime * SECOND, chance);
            assert_eq!(after.as_secs(), expected, "{lifetime}");
        }
    }

    #[test]
    fn many_who_ask_share_one_fetch() {
        let (mut tokens, now) = tokens();
        assert!(!tokens.is_due(now), "nobody has asked");
        assert_eq!(tokens.ask(now), Answer::Wait);
        assert!(tokens.is_due(now));
        assert_eq!(tokens.ask(now), Answer::Wait);
        assert!(!tokens.is_due(now), "one at a time");
        assert_eq!(tokens.next_at(), None);
        let granted = tokens.fetched(token(3600), now);
        assert_eq!(tokens.ask(now), Answer::Token(granted));
        assert!(!tokens.is_due(now));
    }

    #[test]
    fn a_token_serves_until_it_expires_when_a_refresh_fails() {
        let (mut tokens, now) = tokens();
        tokens.ask(now);
        assert!(tokens.is_due(now));
        let first = tokens.fetched(token(1000), now);
        let refresh = tokens.next_at().expect("ahead of its expiry");
        assert!((700 * SECOND..=700 * SECOND).contains(&(refresh - now)));
        assert!(tokens.is_due(refresh));
        let asked = tokens.ask(refresh);
        assert_eq!(asked, Answer::Token(first.clone()), "nobody waits for it");
        assert_eq!(tokens.failed(trouble(), refresh), Ok(first.clone()));
        let again = tokens.next_at().expect("again");
        assert!(again > refresh && again <= refresh + SECOND);
        assert!(!tokens.is_due(refresh));
        assert!(tokens.is_due(again));
        let expired = now + 1000 * SECOND;
        assert_eq!(tokens.failed(trouble(), expired), Err(trouble()));
        assert_eq!(tokens.ask(expired), Answer::Failed(trouble()));
        let later = tokens.next_at().expect("again");
        assert_eq!(tokens.ask(later), Answer::Wait);
        assert!(tokens.is_due(later));
        let second = tokens.fetched(token(1000), later);
        assert_ne!(second.number, first.number);
    }

    #[test]
    fn failures_are_backed_off() {
        let (mut tokens, mut now) = tokens();
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(tokens.ask(now), Answer::Wait);
            assert!(tokens.is_due(now));
            assert_eq!(tokens.failed(trouble(), now), Err(trouble()));
            assert_eq!(tokens.ask(now), Answer::Failed(trouble()));
            assert!(!tokens.is_due(now));
            assert_eq!(tokens.next_at(), None, "nobody waits");
            let until = tokens.not_before.expect("a wait");
            waits.push(until - now);
            now = until;
        }
        assert!(waits[0] < SECOND / 5 && waits[11] > 7 * SECOND);
        assert!(waits.iter().all(|wait| *wait <= 10 * SECOND));
    }

    #[test]
    fn a_token_of_unknown_life_serves_those_who_wait_alone() {
        for token in [Token::new("opaque"), token(0)] {
            let (mut tokens, now) = tokens();
            tokens.ask(now);
            assert!(tokens.is_due(now));
            tokens.fetched(token, now);
            assert_eq!(tokens.next_at(), None);
            assert_eq!(tokens.ask(now), Answer::Wait);
        }
    }

    #[test]
    fn a_token_that_a_broker_refuses_is_replaced_soon() {
        let (mut tokens, now) = tokens();
        tokens.ask(now);
        assert!(tokens.is_due(now));
        let first = tokens.fetched(token(3600), now);
        tokens.refused(first.number, now);
        assert_eq!(tokens.ask(now), Answer::Token(first.clone()), "not at once");
        assert!(!tokens.is_due(now));
        let soon = tokens.next_at().expect("soon");
        assert_eq!(soon, now + SECOND);
        assert!(tokens.is_due(soon));
        let second = tokens.fetched(token(3600), soon);
        tokens.refused(first.number, soon);
        let later = soon + 2 * SECOND;
        assert_eq!(
            tokens.ask(later),
            Answer::Token(second),
            "that was the first"
        );
    }
}
