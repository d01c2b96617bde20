//! The components of a runtime, and how often each may be restarted.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::core::record::TopicPartition;

/// A component of the runtime, as lifecycle events name it. Each is an actor.
///
/// ```
/// use forebay::{Component, TopicPartition};
///
/// let partition = Component::Partition(TopicPartition::new("orders", 3));
/// assert_eq!(partition.to_string(), "the partition orders-3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Component {
    /// The actor that keeps all deadlines.
    Clock,
    /// What tells the application of outcomes, by callbacks and messages.
    Delivery,
    /// What has markers written that keep late batches out of partitions.
    Fences,
    /// What asks the brokers for a producer id.
    Identity,
    /// What reads logs for batches in doubt.
    Lookups,
    /// What asks the brokers for topics, partitions and leaders.
    Metadata,
    /// One partition, with its batches.
    Partition(TopicPartition),
    /// What hands out memory, `buffer.memory` in all.
    Pool,
    /// What creates and retires all others.
    Runtime,
    /// The sender to one broker, by the broker's id.
    Sender(i32),
    /// What keeps the spool's journal.
    Spool,
    /// What begins and ends transactions.
    Transactions,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clock => f.write_str("the clock"),
            Self::Delivery => f.write_str("the delivery"),
            Self::Fences => f.write_str("the fences"),
            Self::Identity => f.write_str("the identity"),
            Self::Lookups => f.write_str("the lookups"),
            Self::Metadata => f.write_str("the metadata"),
            Self::Partition(topic_partition) => write!(f, "the partition {topic_partition}"),
            Self::Pool => f.write_str("the pool"),
            Self::Runtime => f.write_str("the runtime"),
            Self::Spool => f.write_str("the spool"),
            Self::Transactions => f.write_str("the transactions"),
            Self::Sender(node) => write!(f, "the sender to broker {node}"),
        }
    }
}

/// The restarts of one component: at most `forebay.restart.max` in `forebay.restart.window.ms`.
#[derive(Debug, Clone)]
pub(crate) struct Restarts {
    max: usize,
    window: Duration,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub fn new(max: u32, window: Duration) -> Self {
        let recent = VecDeque::new();
        Self {
            max: max as usize,
            window,
            recent,
        }
    }

    /// Counts a failure. Whether the component may be restarted.
    pub fn allow(&mut self, now: Instant) -> bool {
        let window = self.window;
        self.recent
            .retain(|at| now.saturating_duration_since(*at) < window);
        self.recent.push_back(now);
        self.recent.len() <= self.max
    }

    /// Restarted by hand: forgets the earlier restarts.
    pub fn forgive(&mut self) {
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_a_count_in_a_window() {
        let mut restarts = Restarts::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(restarts.allow(at(0)) && restarts.allow(at(1)));
        assert!(!restarts.allow(at(2)), "the third in ten seconds");
        assert!(restarts.allow(at(13)), "all of them are long ago");
        assert!(restarts.allow(at(14)) && !restarts.allow(at(15)));
        restarts.forgive();
        assert!(restarts.allow(at(16)), "the earlier ones are forgiven");
        assert!(!Restarts::new(0, Duration::from_secs(10)).allow(start));
    }
}
