//! Metadata and producer ids, on a connection of their own.
//!
//! They must not wait behind the produce requests of a broker that has frozen, so this connection
//! carries nothing else, and moves to another broker when one fails.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::time::timeout;

use super::connection::{Call, Connection, connect, exchange};
use super::{Backoff, ConnectOptions, Endpoint, NetError};
use crate::wire::{self, Api, InitProducerIdAnswer, MetadataAnswer, WireError};

/// The broker does not know this client's cluster any more (KIP-1102).
const REBOOTSTRAP_REQUIRED: i16 = 129;

pub struct ControlClient {
    bootstrap: Vec<Endpoint>,
    nodes: Vec<Endpoint>,
    options: ConnectOptions,
    backoff: Backoff,
    random: SmallRng,
    /// Whom to try next in this round.
    round: VecDeque<Endpoint>,
    /// Whether the next round goes to `nodes`, or to `bootstrap` because all nodes failed.
    nodes_next: bool,
    live: Option<Live>,
    correlation_id: i32,
    last_error: Option<NetError>,
}

struct Live {
    connection: Connection,
    /// Whether anything but the handshake was ever answered on it.
    proven: bool,
}

impl ControlClient {
    /// `backoff` runs from the shortest to the longest wait after failed attempts.
    pub fn new(
        bootstrap: Vec<Endpoint>,
        options: ConnectOptions,
        backoff: (Duration, Duration),
        seed: u64,
    ) -> Self {
        Self {
            bootstrap,
            nodes: Vec::new(),
            options,
            backoff: Backoff::new(backoff.0, backoff.1, seed),
            random: SmallRng::seed_from_u64(seed),
            round: VecDeque::new(),
            nodes_next: true,
            live: None,
            correlation_id: 0,
            last_error: None,
        }
    }

    /// The brokers of the cluster, from the newest metadata.
    pub fn set_nodes(&mut self, nodes: Vec<(i32, Endpoint)>) {
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(nodes.len());
        for (_, endpoint) in nodes {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        if endpoints != self.nodes {
            self.nodes = endpoints;
            self.round.clear();
            self.nodes_next = true;
        }
    }

    /// Why the last attempt failed, until one succeeds.
    pub fn last_error(&self) -> Option<&NetError> {
        self.last_error.as_ref()
    }

    /// How long to wait before the next attempt: longer with each failure, from the start again
    /// after a success. To be asked once per failure.
    pub fn next_delay(&mut self) -> Duration {
        self.backoff.next()
    }

    /// One attempt, on the live connection or on the next broker.
    pub async fn metadata(&mut self, topics: &[String]) -> Result<MetadataAnswer, NetError> {
        let answer = self
            .attempt(
                Api::Metadata,
                |version, correlation_id, client_id| {
                    wire::encode_metadata(version, correlation_id, client_id, topics)
                },
                MetadataAnswer::decode,
            )
            .await?;
        if answer.error_code == REBOOTSTRAP_REQUIRED {
            return Err(self.rebootstrap());
        }
        Ok(answer)
    }

    /// One attempt, on the live connection or on the next broker.
    pub async fn init_producer_id(&mut self) -> Result<InitProducerIdAnswer, NetError> {
        self.attempt(
            Api::InitProducerId,
            wire::encode_init_producer_id,
            InitProducerIdAnswer::decode,
        )
        .await
    }

    async fn attempt<A>(
        &mut self,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        let outcome = self.try_attempt(api, encode, decode).await;
        match &outcome {
            Ok(_) => {
                self.last_error = None;
                self.backoff.reset();
            }
            Err(error) => self.last_error = Some(error.clone()),
        }
        outcome
    }

    async fn try_attempt<A>(
        &mut self,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        // The connection is put back only after a success: an attempt that fails or is dropped
        // half-way closes it, so that its answer cannot be taken for that of the next request.
        if let Some(live) = self.live.take() {
            let proven = live.proven;
            match self.call(live, api, &encode, &decode).await {
                // Brokers close what was idle for long. That says nothing about this request.
                Err(error) if proven && error.is_closed_unsaid() => {}
                outcome => return outcome,
            }
        }
        let endpoint = self.next_endpoint().ok_or(NetError::NoBrokers)?;
        let connection = connect(&endpoint, &self.options).await?;
        let live = Live {
            connection,
            proven: false,
        };
        self.call(live, api, &encode, &decode).await
    }

    async fn call<A>(
        &mut self,
        mut live: Live,
        api: Api,
        encode: impl Fn(i16, i32, &str) -> Result<Bytes, WireError>,
        decode: impl Fn(i16, &Bytes) -> Result<A, WireError>,
    ) -> Result<A, NetError> {
        let Connection {
            reader,
            writer,
            versions,
        } = &mut live.connection;
        let endpoint = reader.endpoint().clone();
        let wire_error = |error| NetError::wire(&endpoint, error);
        let version = versions.best(api).map_err(wire_error)?;
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let call = Call {
            api,
            version,
            correlation_id: self.correlation_id,
            request: encode(version, self.correlation_id, &self.options.client_id)
                .map_err(wire_error)?,
        };
        let after = self.options.request_timeout;
        let body = match timeout(after, exchange(reader, writer, &call)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if error.is_closed_unsaid() && !live.proven => {
                return Err(NetError::ClosedAfterHandshake { endpoint });
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(NetError::RequestTimeout {
                    endpoint,
                    api,
                    after,
                });
            }
        };
        let answer = decode(version, &body).map_err(wire_error)?;
        live.proven = true;
        self.live = Some(live);
        Ok(answer)
    }

    /// The known nodes in random order, then the bootstrap list, and so on (KIP-899).
    fn next_endpoint(&mut self) -> Option<Endpoint> {
        if self.round.is_empty() {
            let to_nodes = self.nodes_next && !self.nodes.is_empty();
            let brokers = if to_nodes {
                &self.nodes
            } else {
                &self.bootstrap
            };
            let mut round = brokers.clone();
            round.shuffle(&mut self.random);
            self.round = round.into();
            self.nodes_next = !to_nodes;
        }
        self.round.pop_front()
    }

    fn rebootstrap(&mut self) -> NetError {
        let endpoint = self
            .live
            .take()
            .map(|live| live.connection.reader.endpoint().clone());
        self.nodes.clear();
        self.round.clear();
        let error = match endpoint {
            Some(endpoint) => NetError::RebootstrapRequired { endpoint },
            None => NetError::NoBrokers,
        };
        self.last_error = Some(error.clone());
        error
    }
}
