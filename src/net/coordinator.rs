//! Talks to the coordinator of one transactional id or one group.
//!
//! Which broker that is any broker says. The coordinator has a connection of its own: it may be busy with
//! transactions, and metadata must not wait behind them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::live::Live;
use super::{ConnectOptions, ControlClient, Endpoint, NetError};
use crate::core::broker_error::BrokerError;
use crate::core::cluster::Nodes;
use crate::core::dial::Learned;
use crate::core::wire::find_coordinator::{self, CoordinatorKey, FindCoordinatorResponse};
use crate::core::wire::{Addressee, Api, TransactionProtocol, Versions, WireError};

/// Error code: no broker is the coordinator now.
const COORDINATOR_NOT_AVAILABLE: i16 = 15;

pub struct CoordinatorClient {
    key: CoordinatorKey,
    finder: ControlClient,
    options: ConnectOptions,
    cluster_id: Option<Arc<str>>,
    /// The coordinator, until it is forgotten.
    found: Option<Found>,
    live: Option<Live>,
}

struct Found {
    node: i32,
    endpoint: Endpoint,
    learned: Learned,
}

/// Why there is no answer of the coordinator.
#[derive(Debug, Clone)]
pub enum CoordinatorError {
    /// The request was not sent: the coordinator is not found, or not connected, or has no version of the
    /// request in common with us, or the request does not fit that version.
    NotSent(NetError),
    /// The request may have been sent, and may have been carried out.
    Unanswered(NetError),
    /// A broker that was asked who the coordinator is refuses, or there is none for now. The request was
    /// not sent.
    Refused {
        key: CoordinatorKey,
        error: BrokerError,
    },
}

impl CoordinatorError {
    /// Whether the request may have reached the coordinator.
    pub fn is_doubt(&self) -> bool {
        matches!(self, Self::Unanswered(_))
    }
}

impl std::error::Error for CoordinatorError {}

impl fmt::Display for CoordinatorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(error) | Self::Unanswered(error) => error.fmt(f),
            Self::Refused { key, error } => {
                write!(f, "the coordinator of {key} is not told: {error}")?;
                let acl = match key {
                    CoordinatorKey::Group(_) if error.code == 30 => Some("READ on the group"),
                    _ => error.missing_acl(),
                };
                acl.map_or(Ok(()), |acl| write!(f, "; it takes {acl}"))
            }
        }
    }
}

impl CoordinatorClient {
    /// `backoff` is the shortest and the longest wait after failed attempts.
    pub fn new(
        key: CoordinatorKey,
        bootstrap: Vec<Endpoint>,
        options: ConnectOptions,
        backoff: (Duration, Duration),
        seed: u64,
    ) -> Self {
        Self {
            key,
            finder: ControlClient::new(bootstrap, options.clone(), backoff, seed),
            options,
            cluster_id: None,
            found: None,
            live: None,
        }
    }

    /// As [`ControlClient::rebootstraps_after`], for those who are asked who the coordinator is.
    pub fn rebootstraps_after(mut self, trigger: Option<Duration>) -> Self {
        self.finder = self.finder.rebootstraps_after(trigger);
        self
    }

    /// Sets the brokers of the cluster, from the newest metadata. A coordinator that has moved to another
    /// address is looked for again.
    pub fn set_nodes(&mut self, nodes: &Nodes) {
        self.finder.set_nodes(nodes);
        self.cluster_id.clone_from(&nodes.cluster_id);
        let moved = self.found.as_ref().is_some_and(|found| {
            let known = nodes.by_id.get(&found.node);
            known.is_some_and(|endpoint| *endpoint != found.endpoint)
        });
        if moved {
            self.forget();
        }
    }

    /// Has the coordinator looked for again, since it said that it is none (NOT_COORDINATOR,
    /// COORDINATOR_NOT_AVAILABLE), or its connection was lost. Without this a lost connection is made again
    /// to the same broker.
    pub fn forget(&mut self) {
        self.found = None;
        self.live = None;
    }

    /// The coordinator, as far as it is known.
    #[cfg(test)]
    pub fn broker(&self) -> Option<&Endpoint> {
        self.found.as_ref().map(|found| &found.endpoint)
    }

    /// What the coordinator said of itself when it was connected to; `None` without a connection.
    pub fn versions(&self) -> Option<&Versions> {
        self.live.as_ref().map(Live::versions)
    }

    /// The protocol of transactions that is spoken, as the coordinator said when it was connected to; `None`
    /// without a connection.
    pub fn protocol(&self) -> Option<TransactionProtocol> {
        self.versions().map(Versions::transaction_protocol)
    }

    /// Finds and connects the coordinator, if there is no connection, and says what it speaks. Makes one
    /// attempt.
    #[cfg(test)]
    pub async fn connect(&mut self) -> Result<&Versions, CoordinatorError> {
        let live = self.connected().await?;
        Ok(self.live.insert(live).versions())
    }

    /// Makes one attempt to have a request answered, in a version that belongs to this protocol. A
    /// transaction is to be ended in the protocol that it was begun in. No request is sent twice.
    pub async fn ask<A>(
        &mut self,
        protocol: TransactionProtocol,
        api: Api,
        encode: impl FnOnce(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl FnOnce(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, CoordinatorError> {
        let mut live = self.connected().await?;
        let choose = |versions: &Versions| versions.best_in(protocol, api);
        let call = live.prepare(&self.options, api, choose, encode).await;
        let call = call.map_err(CoordinatorError::NotSent)?;
        let exchange = live.exchange(&self.options, &call, decode).await;
        let (live, answer) = exchange.map_err(CoordinatorError::Unanswered)?;
        self.live = Some(live);
        Ok(answer)
    }

    /// The connection, to be put back with an answer.
    async fn connected(&mut self) -> Result<Live, CoordinatorError> {
        if let Some(mut live) = self.live.take()
            && live.is_open()
        {
            return Ok(live);
        }
        let mut found = match self.found.take() {
            Some(found) => found,
            None => self.find().await?,
        };
        let addressee = self.cluster_id.as_ref().map(|cluster_id| Addressee {
            cluster_id: Arc::clone(cluster_id),
            node: found.node,
        });
        let endpoint = found.endpoint.clone();
        let opening = Live::open(
            &endpoint,
            addressee.as_ref(),
            &self.options,
            &mut found.learned,
        );
        let opened = opening.await.map_err(CoordinatorError::NotSent);
        self.found = Some(found);
        opened
    }

    async fn find(&mut self) -> Result<Found, CoordinatorError> {
        let Self { key, finder, .. } = self;
        let encode = |version, correlation_id, client_id: &str| {
            find_coordinator::encode(version, correlation_id, client_id, key)
        };
        let decode = FindCoordinatorResponse::decode;
        let asking = finder.attempt(Api::FindCoordinator, encode, decode);
        let answer = asking.await.map_err(CoordinatorError::NotSent)?;
        // It is not asked again before long, and the next time perhaps another one is.
        finder.let_go();
        let code = match (answer.error_code, answer.node) {
            (0, Some(node)) => {
                return Ok(Found {
                    node: node.id,
                    endpoint: Endpoint::new(node.host, node.port),
                    learned: Learned::default(),
                });
            }
            (0, None) => COORDINATOR_NOT_AVAILABLE,
            (code, _) => code,
        };
        let error = BrokerError {
            message: answer.error_message.map(Arc::from),
            ..BrokerError::new(code)
        };
        Err(CoordinatorError::Refused {
            key: self.key.clone(),
            error,
        })
    }
}

#[cfg(test)]
mod tests;
