//! Flushes a partition: the open batch is sealed, and the flush waits for all batches.

use std::sync::Arc;

use actix::prelude::*;

use super::PartitionActor;
use crate::actors::guard::On;
use crate::actors::messages::{Barrier, FlushPartition};
use crate::actors::now;
use crate::core::batch::Token;

impl On<FlushPartition> for PartitionActor {
    fn on(&mut self, mut message: FlushPartition, ctx: &mut Context<Self>) {
        self.collect(|_| true);
        if let Some(barrier) = &message.0 {
            let token: Token = Arc::clone(barrier) as Token;
            self.ledger().tie(&token, Barrier::is_over);
        }
        message.0 = None;
        self.collect_and_act(now(), ctx);
    }
}
