//! Which broker gets the next metadata or producer id request, and after what wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::core::backoff::Backoff;
use crate::core::endpoint::Endpoint;

/// Where to connect next: a round through the known nodes, then one through the bootstrap list, and
/// so on (KIP-899).
///
/// Invariant: a round goes to its end before another begins, unless the nodes change.
#[derive(Debug)]
pub(crate) struct BrokerRotation {
    bootstrap: Vec<Endpoint>,
    nodes: Vec<Endpoint>,
    /// Whom to try next in this round.
    round: VecDeque<Endpoint>,
    /// Whether the next round goes to `nodes`, or to `bootstrap` because all nodes failed.
    nodes_next: bool,
    /// Whether to go back to the bootstrap list when all known nodes failed
    /// (`metadata.recovery.strategy`).
    rebootstraps: bool,
    /// How long no broker may have answered until the known nodes are given up
    /// (`metadata.recovery.rebootstrap.trigger.ms`).
    trigger: Duration,
    /// When the first attempt since the last answer was made.
    unanswered_since: Option<Instant>,
    backoff: Backoff,
    random: SmallRng,
}

impl BrokerRotation {
    /// `backoff` runs from the shortest to the longest wait after failed rounds.
    pub fn new(bootstrap: Vec<Endpoint>, backoff: (Duration, Duration), seed: u64) -> Self {
        Self {
            bootstrap,
            nodes: Vec::new(),
            round: VecDeque::new(),
            nodes_next: true,
            rebootstraps: true,
            trigger: Duration::MAX,
            unanswered_since: None,
            backoff: Backoff::new(backoff.0, backoff.1, seed),
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// After which time without an answer the known nodes are given up for the bootstrap list; `None` if
    /// they never are, also when all of them have failed. Default: only when all have failed.
    pub fn set_rebootstrap(&mut self, trigger: Option<Duration>) {
        self.rebootstraps = trigger.is_some();
        self.trigger = trigger.unwrap_or(Duration::MAX);
    }

    /// An attempt to ask a broker begins. If none has answered for too long, the known nodes are given up
    /// (KIP-1102). Otherwise many nodes that hang would be waited for, one after the other.
    pub fn attempt(&mut self, now: Instant) {
        let since = *self.unanswered_since.get_or_insert(now);
        if self.rebootstraps && now.saturating_duration_since(since) > self.trigger {
            self.rebootstrap();
            self.unanswered_since = Some(now);
        }
    }

    /// The brokers of the cluster, from the newest metadata. If they are others than before, a new
    /// round begins with them.
    pub fn set_nodes(&mut self, nodes: impl IntoIterator<Item = Endpoint>) {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for endpoint in nodes {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        if endpoints != self.nodes {
            self.nodes = endpoints;
            self.round.clear();
            self.nodes_next = true;
        }
    }

    /// Whether this broker is one of those that are tried.
    pub fn knows(&self, broker: &Endpoint) -> bool {
        self.nodes.contains(broker) || self.bootstrap.contains(broker)
    }

    /// The broker to connect to now; `None` if there is none at all.
    pub fn next(&mut self) -> Option<Endpoint> {
        if self.round.is_empty() {
            self.begin_round();
        }
        self.round.pop_front()
    }

    /// A broker that is none of these; `None` if no other is known.
    pub fn other_than(&mut self, passed_by: &[Endpoint]) -> Option<Endpoint> {
        // What is left of this round, and at most one whole round to either list.
        for _ in 0..self.round.len() + self.nodes.len() + self.bootstrap.len() {
            let other = self.next()?;
            if !passed_by.contains(&other) {
                return Some(other);
            }
        }
        None
    }

    /// The broker that requests went to has failed. Outside a round, one begins with the others.
    pub fn lost(&mut self, broker: &Endpoint) {
        if self.round.is_empty() {
            self.begin_round();
            self.round.retain(|other| other != broker);
        }
    }

    /// A broker has answered.
    pub fn answered(&mut self) {
        self.unanswered_since = None;
        self.backoff.reset();
    }

    /// The known nodes belong to a cluster that is gone (KIP-1102): back to the bootstrap list, until the
    /// nodes are set again. Does nothing if the configuration does not allow it; returns whether it does.
    pub fn rebootstrap(&mut self) -> bool {
        if self.rebootstraps {
            self.nodes.clear();
            self.round.clear();
        }
        self.rebootstraps
    }

    /// How long to wait before the next attempt: not at all while there are brokers that were not
    /// tried since the last one fell; then longer with each round, from the start again after an
    /// answer. A broker that is still `connected` has answered, though it be a refusal, and is asked
    /// again, but not at once. To be called once per failure.
    pub fn next_delay(&mut self, connected: bool) -> Duration {
        if connected || self.round.is_empty() {
            self.backoff.next()
        } else {
            Duration::ZERO
        }
    }

    /// In random order, so that clients spread over the brokers.
    fn begin_round(&mut self) {
        let to_nodes = (self.nodes_next || !self.rebootstraps) && !self.nodes.is_empty();
        let brokers = if to_nodes {
            &self.nodes
        } else {
            &self.bootstrap
        };
        let mut round = brokers.clone();
        round.shuffle(&mut self.random);
        self.round = round.into();
        self.nodes_next = !to_nodes;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(1);

    fn brokers(hosts: &[&str]) -> Vec<Endpoint> {
        hosts
            .iter()
            .map(|host| Endpoint::new(*host, 9092))
            .collect()
    }

    fn rotation(bootstrap: &[&str], nodes: &[&str], seed: u64) -> BrokerRotation {
        let mut rotation = BrokerRotation::new(brokers(bootstrap), (MIN, MAX), seed);
        rotation.set_nodes(brokers(nodes));
        rotation
    }

    /// The hosts of the next `count` brokers, in order of their names.
    fn next(rotation: &mut BrokerRotation, count: usize) -> Vec<String> {
        let mut hosts: Vec<_> = (0..count)
            .map(|_| rotation.next().expect("a broker").host)
            .collect();
        hosts.sort();
        hosts
    }

    #[test]
    fn rounds_go_to_the_nodes_and_the_bootstrap_list_in_turn() {
        for seed in 0..50 {
            let mut rotation = rotation(&["a", "b"], &["1", "2", "3"], seed);
            for _ in 0..3 {
                assert_eq!(next(&mut rotation, 3), ["1", "2", "3"]);
                assert_eq!(next(&mut rotation, 2), ["a", "b"]);
            }
        }
    }

    #[test]
    fn before_metadata_there_is_only_the_bootstrap_list() {
        let mut rotation = rotation(&["a", "b"], &[], 0);
        for _ in 0..3 {
            assert_eq!(next(&mut rotation, 2), ["a", "b"]);
        }
    }

    #[test]
    fn without_rebootstrap_rounds_stay_with_the_nodes() {
        let mut rotation = rotation(&["a"], &[], 0);
        rotation.set_rebootstrap(None);
        assert_eq!(next(&mut rotation, 1), ["a"], "nothing else is known");
        rotation.set_nodes(brokers(&["1", "2"]));
        for _ in 0..3 {
            assert_eq!(next(&mut rotation, 2), ["1", "2"]);
        }
    }

    #[test]
    fn clients_begin_with_different_brokers() {
        let first = |seed| rotation(&["a", "b", "c"], &[], seed).next();
        let firsts: BTreeSet<_> = (0..50).filter_map(first).map(|it| it.host).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn new_nodes_begin_a_new_round_and_known_ones_do_not() {
        let mut rotation = rotation(&["a"], &["1", "2", "2"], 0);
        let first = next(&mut rotation, 1);
        rotation.set_nodes(brokers(&["1", "2"]));
        assert_ne!(next(&mut rotation, 1), first, "the round goes on");
        rotation.set_nodes(brokers(&["3", "4"]));
        assert_eq!(next(&mut rotation, 2), ["3", "4"]);
    }

    #[test]
    fn brokers_that_were_not_tried_yet_are_not_waited_for() {
        for seed in 0..50 {
            let mut rotation = rotation(&["a", "b", "c"], &[], seed);
            for _ in 0..2 {
                let mut waits = Vec::new();
                for _ in 0..3 {
                    rotation.next();
                    waits.push(rotation.next_delay(false).is_zero());
                }
                assert_eq!(waits, [true, true, false]);
            }
        }
    }

    #[test]
    fn when_the_connected_broker_falls_the_others_are_not_waited_for() {
        for seed in 0..50 {
            let mut rotation = rotation(&["a"], &[], seed);
            let connected = rotation.next().expect("a broker");
            rotation.set_nodes(brokers(&["a", "b", "c"]));
            rotation.lost(&connected);
            assert!(rotation.next_delay(false).is_zero());
            assert_eq!(next(&mut rotation, 2), ["b", "c"]);
            assert!(!rotation.next_delay(false).is_zero());
        }
    }

    #[test]
    fn a_fall_within_a_round_does_not_begin_another() {
        for seed in 0..50 {
            let mut rotation = rotation(&["a", "b", "c"], &[], seed);
            let first = rotation.next().expect("a broker");
            let second = rotation.next().expect("a broker");
            rotation.lost(&second);
            let third = rotation.next().expect("a broker");
            assert!(third != first && third != second, "{third}");
        }
    }

    #[test]
    fn a_broker_that_answers_is_not_asked_again_at_once() {
        let mut rotation = rotation(&["a", "b"], &[], 0);
        rotation.next();
        rotation.answered();
        assert!(!rotation.next_delay(true).is_zero());
    }

    #[test]
    fn delays_grow_until_an_answer() {
        for seed in 0..50 {
            let mut rotation = rotation(&["a"], &[], seed);
            let mut delay = || {
                rotation.next();
                rotation.next_delay(false)
            };
            for doubled in [1, 2, 4, 8] {
                let delay = delay();
                assert!(delay >= MIN.mul_f64(0.79 * f64::from(doubled)), "{delay:?}");
                assert!(delay <= MIN.mul_f64(1.21 * f64::from(doubled)), "{delay:?}");
            }
            rotation.answered();
            assert!(rotation.next_delay(false) <= MIN.mul_f64(1.21));
        }
    }

    #[test]
    fn a_rebootstrap_forgets_the_nodes_and_their_round() {
        let mut rotation = rotation(&["a", "b"], &["1", "2", "3"], 0);
        rotation.next();
        rotation.rebootstrap();
        for _ in 0..2 {
            assert_eq!(next(&mut rotation, 2), ["a", "b"]);
        }
    }

    #[test]
    fn nodes_that_never_answer_are_given_up_after_a_time_for_the_bootstrap_list() {
        let trigger = MAX * 10;
        for (given, gives_up) in [(Some(trigger), true), (None, false)] {
            let mut now = Instant::now();
            let mut rotation = rotation(&["a"], &["1", "2", "3", "4"], 0);
            rotation.set_rebootstrap(given);
            rotation.attempt(now);
            rotation.answered();
            // Whatever time passes without attempts does not count.
            now += trigger * 10;
            rotation.attempt(now);
            assert_ne!(next(&mut rotation, 1), ["a"]);
            rotation.attempt(now + trigger);
            assert_ne!(next(&mut rotation, 1), ["a"]);
            rotation.attempt(now + trigger + MIN);
            assert_eq!(next(&mut rotation, 1) == ["a"], gives_up);
            // The nodes of the next metadata count again, though they are the same.
            rotation.answered();
            rotation.set_nodes(brokers(&["1", "2", "3", "4"]));
            rotation.attempt(now + trigger * 3);
            assert_ne!(next(&mut rotation, 1), ["a"]);
        }
    }

    #[test]
    fn without_rebootstrap_no_broker_sends_us_back() {
        let mut rotation = rotation(&["a"], &["1", "2"], 0);
        rotation.set_rebootstrap(None);
        rotation.rebootstrap();
        assert_eq!(next(&mut rotation, 2), ["1", "2"]);
    }

    #[test]
    fn another_broker_is_never_the_one_that_works() {
        for seed in 0..50 {
            let mut rotation = rotation(&["1", "2"], &["1", "2", "3"], seed);
            let working = brokers(&["2"]);
            let mut others: Vec<_> = (0..3)
                .map(|_| rotation.other_than(&working).expect("another").host)
                .collect();
            others[..2].sort();
            assert_eq!(
                others,
                ["1", "3", "1"],
                "each node, then the bootstrap list"
            );
        }
        let mut three = rotation(&["1"], &["1", "2", "3"], 0);
        let passed_by = brokers(&["1", "2"]);
        for _ in 0..3 {
            let other = three.other_than(&passed_by);
            assert_eq!(other, Some(Endpoint::new("3", 9092)));
        }
        let mut lonely = rotation(&["2"], &["2"], 0);
        assert_eq!(lonely.other_than(&brokers(&["2"])), None);
    }

    #[test]
    fn without_any_broker_there_is_none_to_ask() {
        let mut rotation = rotation(&[], &[], 0);
        assert_eq!(rotation.next(), None);
        assert!(!rotation.next_delay(false).is_zero());
    }
}
