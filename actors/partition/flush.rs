//! A flush, as a partition has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::PartitionActor;
use crate::actors::guard::On;
use crate::actors::now;
use crate::core::batch::Token;

/// Everything accepted so far is to go out. The barrier's last clone goes when it has its outcome.
/// A message that is lost before it was done says so.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FlushPartition(pub Option<Arc<Barrier>>);

impl Drop for FlushPartition {
    fn drop(&mut self) {
        if let Some(barrier) = &self.0 {
            barrier.missed.store(true, Ordering::Relaxed);
        }
    }
}

/// Dropped with its last clone, it tells that all batches it was tied to have their outcome. If
/// somebody missed it, it is silent: who waits has to ask again.
pub(crate) struct Barrier {
    done: Option<oneshot::Sender<()>>,
    missed: AtomicBool,
}

impl Barrier {
    pub fn new(done: oneshot::Sender<()>) -> Arc<Self> {
        let (done, missed) = (Some(done), AtomicBool::new(false));
        Arc::new(Self { done, missed })
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        if let Some(done) = self.done.take().filter(|_| !*self.missed.get_mut()) {
            let _ = done.send(());
        }
    }
}

impl On<FlushPartition> for PartitionActor {
    fn on(&mut self, mut message: FlushPartition, ctx: &mut Context<Self>) {
        self.collect(|_| true);
        if let Some(barrier) = &message.0 {
            let token: Token = Arc::clone(barrier) as Token;
            self.ledger().tie(&token);
        }
        message.0 = None;
        self.look(now(), ctx);
    }
}
