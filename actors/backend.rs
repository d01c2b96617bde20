//! The actors, as the intake sees them.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::messages::{LeaseMemory, RefreshMetadata, WantTopic};
use super::{MetadataActor, PoolActor, RuntimeActor, now};
use crate::core::memory::{Buffer, Refusal};
use crate::intake::backend::Backend;
use crate::intake::error::SendError;
use crate::intake::topics::Topic;

/// Turns the intake's questions into messages.
pub(crate) struct ActorBackend {
    pub pool: Addr<PoolActor>,
    pub metadata: Addr<MetadataActor>,
    pub runtime: Addr<RuntimeActor>,
}

impl Backend for ActorBackend {
    fn want_topic(
        &self,
        topic: &Arc<str>,
        asked: Instant,
        deadline: Instant,
    ) -> oneshot::Receiver<Result<Arc<Topic>, SendError>> {
        let (reply, answer) = oneshot::channel();
        self.metadata.do_send(WantTopic {
            topic: Arc::clone(topic),
            asked,
            deadline,
            reply,
        });
        answer
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
