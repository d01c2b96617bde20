//! What we know of the cluster: its brokers, and who leads which partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::core::endpoint::Endpoint;
use crate::core::wire::{Addressee, LeaderHint, MetadataResponse, Node, TopicMetadata};

/// A partition's leader, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// `None` while an election is on.
    pub node: Option<i32>,
    /// -1 where the broker is too old to say.
    pub epoch: i32,
}

/// A topic as a snapshot: one value, never changed, replaced by a newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    pub name: Arc<str>,
    pub id: Uuid,
    /// By partition number.
    pub leaders: Vec<Leader>,
}

/// The brokers of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    /// `None` where brokers do not tell it.
    pub cluster_id: Option<Arc<str>>,
    pub by_id: BTreeMap<i32, Endpoint>,
}

impl Nodes {
    /// Those that a broker names.
    pub fn of(cluster_id: Option<String>, nodes: Vec<Node>) -> Self {
        Self {
            cluster_id: cluster_id.map(Arc::from),
            by_id: nodes.into_iter().map(endpoint).collect(),
        }
    }

    /// Whom a connection to this address is meant for, if it is that of one broker alone.
    pub fn addressee(&self, endpoint: &Endpoint) -> Option<Addressee> {
        let mut here = self.by_id.iter().filter(|(_, it)| *it == endpoint);
        match (&self.cluster_id, here.next(), here.next()) {
            (Some(cluster_id), Some((node, _)), None) => Some(Addressee {
                cluster_id: Arc::clone(cluster_id),
                node: *node,
            }),
            _ => None,
        }
    }

    /// Whether these are the addresses of two brokers, or of one where there is no second. Behind an
    /// address that is only in the bootstrap list there may be any of them.
    pub fn are_two(&self, asked: &[Endpoint]) -> bool {
        let known: BTreeSet<&Endpoint> = self.by_id.values().collect();
        let told_apart = asked.iter().filter(|it| known.contains(it)).count();
        !asked.is_empty() && told_apart.max(1) >= known.len().clamp(1, 2)
    }
}

/// The cluster as the MetadataActor knows it.
///
/// Invariant: within one topic id, a partition's leader epoch never goes back.
#[derive(Debug, Default)]
pub struct ClusterView {
    version: u64,
    nodes: Nodes,
    topics: BTreeMap<Arc<str>, TopicView>,
}

/// The most partitions that a producer takes, those of all its topics together. An idle partition takes
/// about 2.3 kB, so these take 230 MB.
pub(crate) const MOST_PARTITIONS: usize = 100_000;

/// The most brokers that a cluster has. A producer keeps a sender for each.
const MOST_NODES: usize = 10_000;

/// What an answer changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Brokers came, went or moved.
    pub nodes: bool,
    /// The topics the answer tells of, as they are now.
    pub topics: Vec<TopicView>,
    /// Those of them that are not what they were.
    pub news: Vec<Arc<str>>,
    /// The topics it could not tell of: (name, error code).
    pub failed: Vec<(Arc<str>, i16)>,
    /// The topics that have too many partitions, and how many. They stay as they were.
    pub too_large: Vec<(Arc<str>, usize)>,
}

impl ClusterView {
    /// Counts the changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub fn topic(&self, name: &str) -> Option<&TopicView> {
        self.topics.get(name)
    }

    /// All topics, as they are now.
    pub fn topics(&self) -> impl Iterator<Item = &TopicView> {
        self.topics.values()
    }

    /// Lets go of a topic nobody produces to any more.
    pub fn forget(&mut self, name: &str) {
        self.topics.remove(name);
    }

    /// Takes in a broker's answer.
    pub fn apply(&mut self, answer: MetadataResponse) -> Changes {
        let mut changes = Changes::default();
        // An answer without brokers tells nothing of them, and one with more than there can be is nonsense.
        if (1..=MOST_NODES).contains(&answer.nodes.len()) {
            let nodes = Nodes::of(answer.cluster_id, answer.nodes);
            changes.nodes = nodes != self.nodes;
            self.nodes = nodes;
        }
        let mut partitions: usize = self.topics.values().map(|view| view.leaders.len()).sum();
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            let count = topic.partitions.len();
            let old = self.topics.get(&name).map_or(0, |old| old.leaders.len());
            match topic.error_code {
                // A topic without partitions is one that is just being made.
                0 if count == 0 => changes.failed.push((name, 5)),
                0 if count > old && partitions - old + count > MOST_PARTITIONS => {
                    changes.too_large.push((name, count));
                }
                0 => {
                    let view = self.view(name, topic);
                    partitions = partitions - old + view.leaders.len();
                    let former = self.topics.insert(Arc::clone(&view.name), view.clone());
                    if former.as_ref() != Some(&view) {
                        changes.news.push(Arc::clone(&view.name));
                    }
                    changes.topics.push(view);
                }
                code => changes.failed.push((name, code)),
            }
        }
        self.version += 1;
        changes
    }

    fn view(&self, name: Arc<str>, topic: TopicMetadata) -> TopicView {
        let old = self.topics.get(&name).filter(|old| old.id == topic.id);
        // Fewer partitions under the same id is an answer from the past. Partitions are numbered
        // without gaps; a number beyond their count is nonsense, and must not cost memory.
        let count = topic
            .partitions
            .len()
            .max(old.map_or(0, |old| old.leaders.len()));
        let unknown = Leader {
            node: None,
            epoch: -1,
        };
        let mut leaders = vec![unknown; count];
        for partition in &topic.partitions {
            let at = usize::try_from(partition.partition).ok();
            let Some(leader) = at.and_then(|at| leaders.get_mut(at)) else {
                continue;
            };
            let node = Some(partition.leader).filter(|node| self.nodes.by_id.contains_key(node));
            *leader = Leader {
                node,
                epoch: partition.leader_epoch,
            };
        }
        for (new, old) in leaders
            .iter_mut()
            .zip(old.into_iter().flat_map(|old| &old.leaders))
        {
            let still_there = |node: i32| self.nodes.by_id.contains_key(&node);
            if new.epoch < old.epoch && old.node.is_some_and(still_there) {
                *new = *old;
            }
        }
        TopicView {
            name,
            id: topic.id,
            leaders,
        }
    }

    /// Takes in what a produce answer says of a new leader (KIP-951). If that was news, returns the
    /// topic, and whether brokers came or moved. `id` is what the request named. An answer for a former
    /// topic of this name comes late, and its epochs, which may be higher, say nothing of the present
    /// one.
    pub fn hint(
        &mut self,
        (name, id): (&str, Uuid),
        partition: i32,
        hint: LeaderHint,
        nodes: &[Node],
    ) -> Option<(TopicView, bool)> {
        let view = self.topics.get_mut(name).filter(|view| view.id == id)?;
        let leader = view.leaders.get_mut(usize::try_from(partition).ok()?)?;
        if hint.epoch <= leader.epoch {
            return None;
        }
        // The others come with hints of their own, or with the next metadata.
        let named = nodes.iter().find(|node| node.id == hint.node_id);
        let by_id = &mut self.nodes.by_id;
        let known = by_id.get(&hint.node_id);
        let moved = match named.cloned().map(endpoint) {
            Some((_, endpoint)) if known == Some(&endpoint) => false,
            Some(_) if known.is_none() && by_id.len() >= MOST_NODES => return None,
            Some((node, endpoint)) => {
                by_id.insert(node, endpoint);
                true
            }
            None if known.is_some() => false,
            None => return None,
        };
        *leader = Leader {
            node: Some(hint.node_id),
            epoch: hint.epoch,
        };
        self.version += 1;
        Some((view.clone(), moved))
    }
}

fn endpoint(node: Node) -> (i32, Endpoint) {
    (node.id, Endpoint::new(node.host, node.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::metadata::PartitionInfo;
    use std::time::Duration;

    fn answer(id: u128, leaders: &[(i32, i32)]) -> MetadataResponse {
        let node = |id| Node {
            id,
            host: format!("broker-{id}"),
            port: 9092,
            rack: None,
        };
        let partition = |(at, &(leader, leader_epoch)): (usize, &(i32, i32))| PartitionInfo {
            error_code: 0,
            partition: at as i32,
            leader,
            leader_epoch,
            replicas: 3,
            in_sync: 3,
        };
        MetadataResponse {
            throttle: Duration::ZERO,
            nodes: vec![node(1), node(2)],
            cluster_id: None,
            controller_id: 1,
            topics: vec![TopicMetadata {
                error_code: 0,
                name: "t".into(),
                id: Uuid::from_u128(id),
                partitions: leaders.iter().enumerate().map(partition).collect(),
                operations: None,
            }],
            error_code: 0,
        }
    }

    fn leaders(view: &ClusterView) -> Vec<(Option<i32>, i32)> {
        let topic = view.topic("t").expect("known");
        topic
            .leaders
            .iter()
            .map(|leader| (leader.node, leader.epoch))
            .collect()
    }

    #[test]
    fn an_older_leader_epoch_never_replaces_a_newer_one() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 5), (2, 5)]));
        view.apply(answer(1, &[(2, 4), (1, 6)]));
        assert_eq!(leaders(&view), [(Some(1), 5), (Some(1), 6)]);
    }

    #[test]
    fn a_topic_made_anew_starts_anew() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 5), (1, 5)]));
        view.apply(answer(2, &[(2, 0)]));
        assert_eq!(leaders(&view), [(Some(2), 0)]);
    }

    #[test]
    fn partitions_do_not_become_fewer_and_unknown_leaders_are_none() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 1), (2, 1)]));
        view.apply(answer(1, &[(-1, 2)]));
        assert_eq!(leaders(&view), [(None, 2), (Some(2), 1)]);
        view.apply(answer(1, &[(9, 3), (9, 3)]));
        assert_eq!(
            leaders(&view),
            [(None, 3), (None, 3)],
            "a leader that is not in the list"
        );
    }

    #[test]
    fn a_hint_counts_only_if_it_is_newer() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 5)]));
        let hint = |node_id, epoch| LeaderHint { node_id, epoch };
        let id = Uuid::from_u128(1);
        assert!(view.hint(("t", id), 0, hint(2, 5), &[]).is_none());
        assert!(
            view.hint(("t", id), 0, hint(3, 6), &[]).is_none(),
            "nobody knows broker 3"
        );
        assert!(
            view.hint(("t", id), 7, hint(2, 6), &[]).is_none(),
            "nobody knows partition 7"
        );
        assert!(view.hint(("t", id), 0, hint(2, 6), &[]).is_some());
        assert_eq!(leaders(&view), [(Some(2), 6)]);
    }

    #[test]
    fn a_hint_brings_no_other_broker_than_the_leader_it_names() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 5)]));
        let node = |id| Node {
            id,
            host: "other".into(),
            port: 9092,
            rack: None,
        };
        let many: Vec<_> = (0..20_000).map(node).collect();
        let hint = |node_id, epoch| LeaderHint { node_id, epoch };
        let named = ("t", Uuid::from_u128(1));
        let (_, moved) = view.hint(named, 0, hint(7, 6), &many).expect("news");
        assert!(moved);
        let known: Vec<_> = view.nodes().by_id.keys().copied().collect();
        assert_eq!(known, [1, 2, 7]);
        assert!(view.hint(named, 0, hint(30_000, 7), &many).is_none());
        assert_eq!(view.nodes().by_id.len(), 3);
        // One for each of many partitions.
        let mut full = answer(1, &[(1, 5)]);
        full.nodes = (0..MOST_NODES as i32).map(node).collect();
        view.apply(full);
        assert!(view.hint(named, 0, hint(19_999, 8), &many).is_none());
        assert_eq!(view.nodes().by_id.len(), MOST_NODES);
    }

    #[test]
    fn an_address_of_the_bootstrap_list_may_be_that_of_any_broker() {
        let at = |host: &str| Endpoint::new(host, 9092);
        let cluster = |hosts: &[&str]| Nodes {
            by_id: (0..).zip(hosts.iter().map(|host| at(host))).collect(),
            ..Nodes::default()
        };
        for (brokers, asked, two) in [
            (&[][..], &[][..], false),
            (&[], &["alias"], true),
            (&["a"], &["a"], true),
            (&["a"], &["alias"], true),
            (&["a", "a"], &["a"], true), // behind one address
            (&["a", "b"], &["a"], false),
            (&["a", "b"], &["a", "alias"], false),
            (&["a", "b"], &["alias", "other alias"], false),
            (&["a", "b"], &["alias", "a", "b"], true),
            (&["a", "b", "c"], &["a", "c"], true),
            (&["a", "b", "c"], &["a", "gone"], false),
        ] {
            let asked: Vec<_> = asked.iter().map(|host| at(host)).collect();
            assert_eq!(cluster(brokers).are_two(&asked), two, "{asked:?}");
        }
    }

    #[test]
    fn a_late_hint_for_a_former_topic_is_passed_over() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 40)]));
        view.apply(answer(2, &[(1, 0)]));
        let late = LeaderHint {
            node_id: 2,
            epoch: 41,
        };
        let former = ("t", Uuid::from_u128(1));
        assert_eq!(view.hint(former, 0, late, &[]), None);
        assert_eq!(leaders(&view), [(Some(1), 0)]);
    }

    #[test]
    fn nonsense_partition_numbers_cost_nothing() {
        let mut view = ClusterView::default();
        let mut bad = answer(1, &[(1, 5), (1, 5), (1, 5)]);
        bad.topics[0].partitions[0].partition = i32::MAX;
        bad.topics[0].partitions[1].partition = -7;
        view.apply(bad);
        assert_eq!(leaders(&view), [(None, -1), (None, -1), (Some(1), 5)]);
    }

    #[test]
    fn no_brokers_and_no_partitions_change_nothing() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 5)]));
        let mut empty = answer(1, &[]);
        empty.nodes.clear();
        let changes = view.apply(empty);
        assert!(!changes.nodes);
        assert_eq!(changes.failed, [("t".into(), 5)]);
        assert_eq!(leaders(&view), [(Some(1), 5)]);
    }

    #[test]
    fn more_brokers_than_a_cluster_has_are_nonsense() {
        let mut view = ClusterView::default();
        view.apply(answer(1, &[(1, 5)]));
        let mut many = answer(1, &[(1, 5)]);
        let node = many.nodes[0].clone();
        many.nodes = (0..10_001).map(|id| Node { id, ..node.clone() }).collect();
        assert!(!view.apply(many).nodes);
        assert_eq!(view.nodes().by_id.len(), 2);
    }

    #[test]
    fn only_what_changed_is_news() {
        let mut view = ClusterView::default();
        for (leaders, news) in [
            (&[(1, 5), (2, 5)][..], true),
            (&[(1, 5), (2, 5)], false),
            (&[(2, 4), (1, 4)], false), // from the past
            (&[(1, 5), (2, 6)], true),
            (&[(1, 5), (-1, 7)], true),
        ] {
            let changes = view.apply(answer(1, leaders));
            assert_eq!(changes.news.len(), usize::from(news), "{leaders:?}");
            assert_eq!(changes.topics.len(), 1);
        }
    }
}
