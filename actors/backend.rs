//! Connects the intake to the actors: it implements [`Backend`] by messages.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::messages::{LeaseMemory, WantTopic};
use super::{MetadataActor, PoolActor, RuntimeActor, now};
use crate::core::memory::{Buffer, Refusal};
use crate::intake::backend::{Backend, TopicReply};

/// Turns the calls of the intake into messages to the actors.
pub(crate) struct ActorBackend {
    pool: Addr<PoolActor>,
    metadata: Addr<MetadataActor>,
    runtime: Addr<RuntimeActor>,
}

impl ActorBackend {
    pub fn new(
        pool: &Addr<PoolActor>,
        metadata: &Addr<MetadataActor>,
        runtime: &Addr<RuntimeActor>,
    ) -> Self {
        Self {
            pool: pool.clone(),
            metadata: metadata.clone(),
            runtime: runtime.clone(),
        }
    }
}

impl Backend for ActorBackend {
    fn want_topic(
        &self,
        topic: &Arc<str>,
        partition: Option<i32>,
        (asked, deadline): (Instant, Instant),
        reply: TopicReply,
    ) {
        self.metadata.do_send(WantTopic {
            topic: Arc::clone(topic),
            partition,
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

    fn is_running(&self) -> bool {
        self.runtime.connected() && self.pool.connected() && self.metadata.connected()
    }

    fn now(&self) -> Instant {
        now()
    }
}
