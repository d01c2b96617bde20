//! When certificates that are in use expire, and which of that is warned of.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Certificate;
use crate::core::endpoint::Endpoint;

/// Days ahead of a certificate's end at which it is warned of, once at each; and once when it has come.
const WARNED_AT: [i64; 3] = [30, 7, 1];

/// Whose certificates they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    Client,
    Broker(Endpoint),
}

/// The certificate of a chain that ends first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    /// Since 1970.
    pub not_after: Duration,
    pub subject: String,
    pub until: String,
}

/// A certificate that is to be warned of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiring {
    pub whose: Whose,
    pub end: End,
    /// Whole days; negative once it has expired.
    pub days_left: i64,
}

/// The ends of all certificates in use.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    ends: BTreeMap<Whose, End>,
    /// What was said of each last: the days ahead, or -1 that it has expired. Brokers may share one.
    told: BTreeMap<End, i64>,
}

impl Expiries {
    /// These were shown, in the handshake with a broker or by it.
    pub fn seen(&mut self, whose: Whose, chain: &[Certificate]) {
        let first = chain.iter().min_by_key(|it| it.not_after);
        match first {
            Some(first) => {
                let end = End {
                    not_after: first.not_after,
                    subject: first.subject.clone(),
                    until: first.until.clone(),
                };
                self.ends.insert(whose, end);
            }
            None => drop(self.ends.remove(&whose)),
        }
    }

    /// Forgets brokers that are not among these, and returns them.
    pub fn keep(&mut self, is_known: impl Fn(&Endpoint) -> bool) -> Vec<Endpoint> {
        let mut gone = Vec::new();
        self.ends.retain(|whose, _| match whose {
            Whose::Broker(endpoint) if !is_known(endpoint) => {
                gone.push(endpoint.clone());
                false
            }
            _ => true,
        });
        gone
    }

    pub fn ends(&self) -> impl Iterator<Item = (&Whose, &End)> {
        self.ends.iter()
    }

    /// What is to be warned of now, a time since 1970.
    pub fn due(&mut self, now: Duration) -> Vec<Expiring> {
        let ends = &self.ends;
        self.told.retain(|end, _| ends.values().any(|it| it == end));
        let mut due = Vec::new();
        for (whose, end) in ends {
            let days_left = end.days_left(now);
            let reached = WARNED_AT.iter().rev().find(|days| days_left < **days);
            let Some(level) = (days_left < 0).then_some(-1).or(reached.copied()) else {
                continue;
            };
            if self.told.get(end).is_some_and(|told| *told <= level) {
                continue;
            }
            self.told.insert(end.clone(), level);
            due.push(Expiring {
                whose: whose.clone(),
                end: end.clone(),
                days_left,
            });
        }
        due
    }
}

impl End {
    fn days_left(&self, now: Duration) -> i64 {
        super::certificate::days_left(self.not_after, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(subject: &str, days: u32) -> Certificate {
        Certificate {
            subject: subject.to_owned(),
            issuer: "CN=signer".to_owned(),
            hosts: Vec::new(),
            until: format!("day {days}"),
            not_after: days * DAY,
        }
    }

    fn broker(name: &str) -> Whose {
        Whose::Broker(Endpoint::new(name, 9093))
    }

    fn told(expiries: &mut Expiries, now: Duration) -> Vec<(String, i64)> {
        let due = expiries.due(now).into_iter();
        due.map(|it| (it.end.subject, it.days_left)).collect()
    }

    #[test]
    fn each_end_is_told_of_once_at_30_7_and_1_days_and_when_it_has_come() {
        let mut expiries = Expiries::default();
        let mut said = Vec::new();
        for hours in 0..110 * 24 {
            // As often as there are connections.
            expiries.seen(broker("a"), &[certificate("CN=a", 100)]);
            let now = hours * DAY / 24;
            said.extend(told(&mut expiries, now).into_iter().map(|it| (hours, it.1)));
        }
        // Whole days are left: the thirtieth is there no more.
        let hours = |days: u32| days * 24 + 1;
        assert_eq!(
            said,
            [
                (hours(70), 29),
                (hours(93), 6),
                (hours(99), 0),
                (hours(100), -1)
            ]
        );
    }

    #[test]
    fn what_was_passed_at_the_start_is_told_of_once() {
        let mut expiries = Expiries::default();
        expiries.seen(Whose::Client, &[certificate("CN=me", 5)]);
        assert_eq!(told(&mut expiries, DAY), [("CN=me".to_owned(), 4)]);
        assert_eq!(told(&mut expiries, DAY), []);
        // Where connections fail, no later end is missed.
        assert_eq!(told(&mut expiries, 50 * DAY), [("CN=me".to_owned(), -45)]);
    }

    #[test]
    fn the_first_end_of_a_chain_counts() {
        let mut expiries = Expiries::default();
        let chain = [certificate("CN=a", 90), certificate("CN=between", 20)];
        expiries.seen(broker("a"), &chain);
        assert_eq!(told(&mut expiries, DAY), [("CN=between".to_owned(), 19)]);
    }

    #[test]
    fn brokers_with_one_certificate_are_told_of_once() {
        let mut expiries = Expiries::default();
        for name in ["a", "b", "c"] {
            expiries.seen(broker(name), &[certificate("CN=*.example", 5)]);
        }
        assert_eq!(told(&mut expiries, DAY).len(), 1);
        assert_eq!(expiries.ends().count(), 3);
        assert_eq!(told(&mut expiries, DAY), []);
    }

    #[test]
    fn a_new_certificate_is_told_of_anew() {
        let mut expiries = Expiries::default();
        expiries.seen(broker("a"), &[certificate("CN=a", 5)]);
        assert_eq!(told(&mut expiries, DAY).len(), 1);
        expiries.seen(broker("a"), &[certificate("CN=a", 500)]);
        assert_eq!(told(&mut expiries, DAY), []);
        assert_eq!(told(&mut expiries, 480 * DAY).len(), 1);
    }

    #[test]
    fn who_is_gone_is_told_of_no_more() {
        let mut expiries = Expiries::default();
        expiries.seen(Whose::Client, &[certificate("CN=me", 50)]);
        expiries.seen(broker("a"), &[certificate("CN=a", 50)]);
        expiries.seen(broker("b"), &[certificate("CN=b", 50)]);
        let gone = expiries.keep(|endpoint| endpoint.host == "b");
        assert_eq!(gone, [Endpoint::new("a", 9093)]);
        expiries.seen(Whose::Client, &[]);
        assert_eq!(told(&mut expiries, 49 * DAY), [("CN=b".to_owned(), 1)]);
    }
}
