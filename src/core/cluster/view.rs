//! What we know of the cluster: its brokers, and who leads which partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::core::endpoint::Endpoint;
use crate::core::wire::{LeaderHint, MetadataResponse, Node, TopicMetadata};

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

/// The cluster as the MetadataActor knows it.
///
/// Invariant: within one topic id, a partition's leader epoch never goes back.
#[derive(Debug, Default)]
pub struct ClusterView {
    version: u64,
    nodes: BTreeMap<i32, Endpoint>,
    topics: BTreeMap<Arc<str>, TopicView>,
}

/// What an answer changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Brokers came, went or moved.
    pub nodes: bool,
    /// The topics the answer tells of, as they are now.
    pub topics: Vec<TopicView>,
    /// The topics it could not tell of: (name, error code).
    pub failed: Vec<(Arc<str>, i16)>,
}

impl ClusterView {
    /// Counts the changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn nodes(&self) -> &BTreeMap<i32, Endpoint> {
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
        // An answer without brokers tells nothing of them.
        if !answer.nodes.is_empty() {
            let nodes: BTreeMap<_, _> = answer.nodes.into_iter().map(endpoint).collect();
            changes.nodes = nodes != self.nodes;
            self.nodes = nodes;
        }
        for topic in answer.topics {
            let name: Arc<str> = topic.name.as_str().into();
            match (topic.error_code, topic.partitions.is_empty()) {
                // A topic without partitions is one that is just being made.
                (0, true) => changes.failed.push((name, 5)),
                (0, false) => {
                    let view = self.view(name, topic);
                    self.topics.insert(Arc::clone(&view.name), view.clone());
                    changes.topics.push(view);
                }
                (code, _) => changes.failed.push((name, code)),
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
            let node = Some(partition.leader).filter(|node| self.nodes.contains_key(node));
            *leader = Leader {
                node,
                epoch: partition.leader_epoch,
            };
        }
        for (new, old) in leaders
            .iter_mut()
            .zip(old.into_iter().flat_map(|old| &old.leaders))
        {
            if new.epoch < old.epoch && old.node.is_some_and(|node| self.nodes.contains_key(&node))
            {
                *new = *old;
            }
        }
        TopicView {
            name,
            id: topic.id,
            leaders,
        }
    }

    /// Takes in what a produce answer says of a new leader (KIP-951). Returns the topic if that
    /// was news.
    pub fn hint(
        &mut self,
        name: &str,
        partition: i32,
        hint: LeaderHint,
        nodes: &[Node],
    ) -> Option<TopicView> {
        let view = self.topics.get_mut(name)?;
        let leader = view.leaders.get_mut(usize::try_from(partition).ok()?)?;
        if hint.epoch <= leader.epoch {
            return None;
        }
        for node in nodes {
            self.nodes.extend([endpoint(node.clone())]);
        }
        if !self.nodes.contains_key(&hint.node_id) {
            return None;
        }
        *leader = Leader {
            node: Some(hint.node_id),
            epoch: hint.epoch,
        };
        self.version += 1;
        Some(view.clone())
    }
}

fn endpoint(node: Node) -> (i32, Endpoint) {
    (
        node.id,
        Endpoint {
            host: node.host,
            port: node.port,
        },
    )
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
        assert!(view.hint("t", 0, hint(2, 5), &[]).is_none());
        assert!(
            view.hint("t", 0, hint(3, 6), &[]).is_none(),
            "nobody knows broker 3"
        );
        assert!(
            view.hint("t", 7, hint(2, 6), &[]).is_none(),
            "nobody knows partition 7"
        );
        assert!(view.hint("t", 0, hint(2, 6), &[]).is_some());
        assert_eq!(leaders(&view), [(Some(2), 6)]);
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
}
