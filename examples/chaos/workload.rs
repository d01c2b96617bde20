//! What is sent while the faults happen, as those who cause them see it.

use rand::rngs::SmallRng;

use crate::kafka::{self, Cluster};
use crate::kinds::Kind;

/// It has parts, each of which must deliver again after each fault: a stream of records, or a
/// transactional id.
pub trait Workload {
    /// Creates its topics, but for the one that is there always, and sends.
    fn begin(&mut self, cluster: &Cluster, wanted: &[Kind]) -> kafka::Result<()>;

    /// The topics to be read at the end.
    fn topics(&self) -> Vec<&'static str>;

    /// Topics of Kafka's own that have to be whole for it.
    fn internal_topics(&self) -> &'static [&'static str] {
        &[]
    }

    /// How much each part has sent by now.
    fn sent(&self) -> Vec<u64>;

    /// Up to where a part has delivered, counted as what is sent.
    fn delivered_to(&self, part: usize) -> u64;

    fn name(&self, part: usize) -> String;

    /// Causes a fault of its own topics, and says what it was. Returns `None` for a kind it has not.
    fn once(
        &mut self,
        kind: Kind,
        cluster: &Cluster,
        random: &mut SmallRng,
    ) -> kafka::Result<Option<String>>;
}
