//! What the producer knows of the cluster, and which broker it asks.
//!
//! [`ClusterView`] belongs to the MetadataActor, [`BrokerRotation`] to each connection for metadata
//! and producer ids.

mod broker_rotation;
mod view;

pub(crate) use broker_rotation::BrokerRotation;
pub(crate) use view::{ClusterView, TopicView};
