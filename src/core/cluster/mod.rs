//! What the producer knows of the cluster, and what it asks brokers for: which topics, when, and of
//! which broker.
//!
//! [`ProducerMetadata`] holds the rules and belongs to the MetadataActor. [`BrokerRotation`] belongs
//! to each connection for metadata and producer ids.

mod broker_rotation;
mod interests;
mod lockout;
mod metadata;
mod next_ask;
mod refresh;
mod view;

pub(crate) use broker_rotation::BrokerRotation;
pub(crate) use interests::{TopicRefusal, Wanted, Wish};
pub(crate) use metadata::{Denial, MetadataRequest, MetadataRules, ProducerMetadata, TopicUse};
#[cfg(any(test, feature = "internals"))]
pub use view::ClusterView;
pub use view::Nodes;
pub(crate) use view::{Leader, TopicView};
