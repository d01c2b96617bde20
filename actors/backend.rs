//! Connects the intake to the actors: it implements [`Backend`] by messages.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::messages::{LeaseMemory, OpenSource, ProgressOf, WaitForSpace, WantTopic};
use super::spool::SpoolActor;
use super::{MetadataActor, PoolActor, RuntimeActor, now};
use crate::core::memory::{Buffer, Refusal};
use crate::core::spool::Progress;
use crate::disk::Written;
use crate::intake::backend::{Asking, Backend, Synced, TopicReply};
use crate::intake::lease::Lease;

/// Turns the calls of the intake into messages to the actors.
pub(crate) struct ActorBackend {
    pool: Addr<PoolActor>,
    metadata: Addr<MetadataActor>,
    runtime: Addr<RuntimeActor>,
    spool: Option<SpoolDoor>,
}

/// What callers need of the spool.
pub(crate) struct SpoolDoor {
    pub spool: Addr<SpoolActor>,
    /// Set where a record is accepted when it is on the disk.
    pub written: Option<Arc<Written>>,
    /// It has what is accepted, and so the positions of sources.
    pub keeps_positions: bool,
}

impl ActorBackend {
    pub fn new(
        pool: &Addr<PoolActor>,
        metadata: &Addr<MetadataActor>,
        runtime: &Addr<RuntimeActor>,
        spool: Option<SpoolDoor>,
    ) -> Self {
        Self {
            pool: pool.clone(),
            metadata: metadata.clone(),
            runtime: runtime.clone(),
            spool,
        }
    }

    fn spool_of_sources(&self) -> Option<&Addr<SpoolActor>> {
        let door = self.spool.as_ref()?;
        door.keeps_positions.then_some(&door.spool)
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

    fn wait_for_space(&self, deadline: Instant) -> oneshot::Receiver<Result<(), Arc<str>>> {
        let (reply, answer) = oneshot::channel();
        if let Some(door) = &self.spool {
            door.spool.do_send(WaitForSpace { deadline, reply });
        }
        answer
    }

    fn open_source(&self, name: &Arc<str>) -> Option<Asking<Option<Lease>>> {
        let spool = self.spool_of_sources()?;
        let (reply, answer) = oneshot::channel();
        let name = Arc::clone(name);
        spool.do_send(OpenSource { name, reply });
        Some(answer)
    }

    fn progress_of(&self, source: &Arc<str>) -> Option<Asking<Progress>> {
        let spool = self.spool_of_sources()?;
        let (reply, answer) = oneshot::channel();
        let name = Arc::clone(source);
        spool.do_send(ProgressOf { name, reply });
        Some(answer)
    }

    fn failed_files(&self) -> u64 {
        let door = self.spool.as_ref();
        let written = door.and_then(|door| door.written.as_ref());
        written.map_or(0, |written| written.failed())
    }

    fn synced_since(&self, failed: u64) -> Option<Synced> {
        let written = self.spool.as_ref()?.written.as_ref()?;
        let synced = written.synced_since(failed);
        Some(Box::pin(async move {
            synced.await.map_err(|error| error.to_string().into())
        }))
    }

    fn is_running(&self) -> bool {
        self.runtime.connected() && self.pool.connected() && self.metadata.connected()
    }

    fn now(&self) -> Instant {
        now()
    }
}
