//! Collects the figures of the whole producer from its actors.

use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::join_all;

use super::RuntimeActor;
use crate::actors::messages::*;
use crate::core::figures::{CertificateFigures, Figures, LookupFigures, PoolFigures};
use crate::core::security::Whose;

impl Handler<GetFigures> for RuntimeActor {
    type Result = ResponseFuture<Figures>;

    fn handle(&mut self, _: GetFigures, _: &mut Context<Self>) -> Self::Result {
        let addrs = self
            .partitions
            .values()
            .flatten()
            .map(|entry| entry.addr.clone());
        let addrs: Vec<_> = addrs.collect();
        let senders: Vec<_> = self
            .senders
            .values()
            .map(|sender| sender.addr.clone())
            .collect();
        let (pool, shelf) = (self.pool.clone(), Arc::clone(&self.shelf));
        let lookups = self.services.lookups.clone();
        let spool = self.spooling.as_ref().map(|it| it.spool.clone());
        let total_bytes = self.config.buffer_memory;
        let certificates = self.expiries.ends().map(|(whose, end)| CertificateFigures {
            broker: match whose {
                Whose::Client => None,
                Whose::Broker(endpoint) => Some(endpoint.to_string()),
            },
            subject: end.subject.clone(),
            expires_at_ms: i64::try_from(end.not_after.as_millis()).unwrap_or(i64::MAX),
        });
        let certificates = certificates.collect();
        Box::pin(async move {
            let partitions =
                join_all(addrs.iter().map(|addr| addr.send(GetPartitionFigures))).await;
            let brokers =
                join_all(senders.iter().map(|sender| sender.send(GetBrokerFigures))).await;
            let mut pool_figures = PoolFigures {
                total_bytes,
                ..shelf.figures()
            };
            if let Ok(state) = pool.send(GetPoolState).await {
                pool_figures.available_bytes = state.available;
            }
            let mut partitions: Vec<_> = partitions.into_iter().flatten().collect();
            let lookups = match lookups {
                Some(lookups) => lookups.send(GetLookupFigures).await.unwrap_or_default(),
                None => LookupFigures::default(),
            };
            let spool = match spool {
                Some(spool) => spool.send(GetSpoolFigures).await.ok(),
                None => None,
            };
            partitions.sort_by(|a, b| a.topic_partition.cmp(&b.topic_partition));
            Figures {
                pool: pool_figures,
                partitions,
                brokers: brokers.into_iter().flatten().collect(),
                certificates,
                lookups,
                spool,
            }
        })
    }
}
