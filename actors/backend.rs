//! Connects the intake to the actors: it implements [`Backend`] by messages.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::messages::{LeaseMemory, RefreshMetadata, WantTopic};
use super::{MetadataActor, PoolActor, RuntimeActor, now};
use crate::core::memory::{Buffer, Refusal};
use crate::intake::backend::{Backend, TopicReply};

/// Turns the calls of the intake into messages to the actors.
pub(crate) struct ActorBackend {
    pub pool: Addr<PoolActor>,
    pub metadata: Addr<MetadataActor>,
    pub runtime: Addr<RuntimeActor>,
}

impl Backend for ActorBackend {
    fn want_topic(&self, topic: &Arc<str>, asked: Instant, deadline: Instant, reply: TopicReply) {
        self.metadata.do_send(WantTopic {
            topic: Arc::clone(topic),
            asked,
            deadline,
            reply,
        });
    }

    fn lease_memory(
        &self,
        size: usize,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Buffer, Refusal>> {
        let (reply, granted) = oneshot::channel();
        self.pool.do_send(LeaseMemory {
            size,
            deadline,
            reply,
        });
        granted
    }

    fn refresh_metadata(&self) {
        self.metadata.do_send(RefreshMetadata);
    }

    fn is_running(&self) -> bool {
        self.runtime.connected() && self.pool.connected() && self.metadata.connected()
    }

    fn now(&self) -> Instant {
        now()
    }
}
