//! Reads the logs of partitions from their leaders.
//!
//! Each leader has a connection for this alone. Produce requests must not wait behind megabytes of an
//! answer, or behind a broker that waits until there is something to read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::live::Live;
use super::{ConnectOptions, Endpoint, NetError};
use crate::core::broker_error::BrokerError;
use crate::core::cluster::Nodes;
use crate::core::dial::Learned;
use crate::core::lookup::{Follows, Refusal, missing_acl};
use crate::core::record::TopicPartition;
use crate::core::wire::fetch::{self, FetchResponse, Reading};
use crate::core::wire::list_offsets::{self, ListOffsetsResponse, OffsetQuestion, Place};
use crate::core::wire::{Addressee, Api, Isolation, LeaderHint, Node, Versions, WireError};

/// The last version of Fetch that names topics by their names.
const LAST_BY_NAME: i16 = 12;

/// Whom a partition is asked of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderOf {
    pub node: i32,
    pub endpoint: Endpoint,
    /// A broker that leads in another epoch refuses. -1 if it is not to ask: then a former leader that
    /// follows by now reads, too (KIP-392), and its log may end before that of the leader.
    pub epoch: i32,
}

/// A partition's log, as its leader is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOf {
    pub topic: Arc<str>,
    /// Nil if it is not known. Only [`LogClient::read`] names it, and only to brokers from Kafka 3.1 on:
    /// without it, a topic that was deleted and made anew is taken for the former one.
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What a leader has told of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Batches. The first may begin before the offset that was asked for, and the last may be cut off.
    /// Empty where the broker had nothing to tell in the time, which is no proof that nothing is there.
    pub records: Bytes,
    /// What is before it is replicated. Nothing from it on is told.
    pub high_watermark: i64,
    /// The first offset that is there; -1 if the broker, of Kafka 0.11, does not say.
    pub log_start: i64,
}

/// Why a log was not read. Nothing is known of it then.
#[derive(Debug, Clone)]
pub enum ReadError {
    /// The leader is not reached, closed the connection, kept silent, or said what nobody can read.
    Unanswered(NetError),
    /// The leader has no version of the request in common with us.
    NotServed(NetError),
    /// A quota is exceeded. Instead of reading, the broker demands this wait. [`LogClient`] keeps to it.
    Throttled {
        node: i32,
        wait: Duration,
    },
    Refused(Box<Refused>),
}

/// A refusal by a broker.
#[derive(Debug, Clone)]
pub struct Refused {
    /// ListOffsets or Fetch.
    pub api: Api,
    pub log: TopicPartition,
    pub node: i32,
    pub error: BrokerError,
    /// Who leads the partition instead, where the broker says so (KIP-951).
    pub leader: Option<LeaderHint>,
    /// The address of that leader.
    pub nodes: Vec<Node>,
}

impl ReadError {
    /// What may be done about it.
    pub fn follows(&self) -> Follows {
        match self {
            // Perhaps another broker leads since this one is gone.
            Self::Unanswered(_) => Follows::AskMetadata,
            Self::NotServed(_) => Follows::Never,
            Self::Throttled { .. } => Follows::Retry,
            Self::Refused(refused) => refused.refusal().follows(),
        }
    }

    /// What the broker says, if it refuses.
    #[cfg(any(test, feature = "internals"))]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refused) => Some(refused.refusal()),
            _ => None,
        }
    }
}

impl Refused {
    pub fn refusal(&self) -> Refusal {
        Refusal::of(self.error.code)
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(error) | Self::NotServed(error) => error.fmt(f),
            Self::Throttled { node, wait } => {
                write!(
                    f,
                    "broker {node} reads nothing for this client for {wait:?}"
                )?;
                f.write_str(", since it exceeds a quota")
            }
            Self::Refused(refused) => {
                let Refused { api, log, node, .. } = &**refused;
                write!(f, "broker {node} refuses the {api} request for {log}: ")?;
                let acl = missing_acl(*api, refused.error.code);
                refused.error.fmt_with(acl, f)
            }
        }
    }
}

/// Connections to leaders, by node. Each is made when it is first needed.
pub struct LogClient {
    options: ConnectOptions,
    cluster_id: Option<Arc<str>>,
    brokers: BTreeMap<i32, Broker>,
}

struct Broker {
    endpoint: Endpoint,
    learned: Learned,
    live: Option<Live>,
    /// Until then it wants no request, whatever becomes of the connection.
    throttled_until: Option<Instant>,
}

/// A request. It changes nothing, and may be sent again.
struct Question<'a, A> {
    api: Api,
    /// The versions that can say it, from lowest to highest.
    versions: (i16, i16),
    /// How long an answer is waited for.
    within: Duration,
    encode: &'a Encode<'a>,
    decode: &'a Decode<'a, A>,
}

type Encode<'a> = dyn Fn(i16, i32, &str) -> Result<Bytes, WireError> + Sync + 'a;

/// Reads the answer and how long the broker throttles.
type Decode<'a, A> = dyn Fn(i16, &Bytes) -> Result<(Duration, A), WireError> + Sync + 'a;

impl LogClient {
    pub fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            cluster_id: None,
            brokers: BTreeMap::new(),
        }
    }

    /// Sets the brokers of the cluster, from the newest metadata. Connections to those that have left or
    /// moved are closed.
    pub fn set_nodes(&mut self, nodes: &Nodes) {
        self.cluster_id.clone_from(&nodes.cluster_id);
        self.brokers
            .retain(|node, broker| nodes.by_id.get(node) == Some(&broker.endpoint));
    }

    /// Makes one attempt to learn the offset behind the last record that is replicated (ListOffsets).
    /// It takes as long as the broker throttles, and then at most the time for a request, and for a
    /// connection if there is none. Dropping it closes the connection.
    pub async fn end(&mut self, of: &LogOf, leader: &LeaderOf) -> Result<i64, ReadError> {
        const API: Api = Api::ListOffsets;
        let within = self.options.request_timeout;
        let latest = OffsetQuestion {
            topic: &of.topic,
            partition: of.partition,
            leader_epoch: leader.epoch,
            place: Place::Latest,
            isolation: Isolation::ReadUncommitted,
            timeout: within,
        };
        let question = Question {
            api: API,
            versions: API.ours(),
            within,
            encode: &|version, correlation_id, client_id| {
                list_offsets::encode(version, correlation_id, client_id, latest)
            },
            decode: &|version, body| {
                let answer = ListOffsetsResponse::decode(version, of.partition, body)?;
                Ok((answer.throttle, known_end(answer)?))
            },
        };
        let answer = self.ask(leader, &question).await?;
        match answer.error_code {
            0 => Ok(answer.offset),
            code => Err(self.refused(API, of, leader.node, code)),
        }
    }

    /// Makes one attempt to read what is there from `offset` on, of transactions that are open or were
    /// aborted, too (Fetch). The broker sends at most `max_bytes` of it, but the first batch whole
    /// (KIP-74). Where nothing is there, it answers after `max_wait`, for which there is time beside
    /// `request_timeout`. Otherwise the attempt takes as long as that of [`end`](Self::end).
    pub async fn read(
        &mut self,
        of: &LogOf,
        leader: &LeaderOf,
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<Read, ReadError> {
        const API: Api = Api::Fetch;
        let (oldest, newest) = API.ours();
        let newest = match of.topic_id.is_nil() {
            true => newest.min(LAST_BY_NAME),
            false => newest,
        };
        let reading = Reading {
            topic: &of.topic,
            topic_id: of.topic_id,
            partition: of.partition,
            leader_epoch: leader.epoch,
            offset,
            max_bytes,
            max_wait,
            isolation: Isolation::ReadUncommitted,
        };
        let question = Question {
            api: API,
            versions: (oldest, newest),
            within: self.options.request_timeout.saturating_add(max_wait),
            encode: &|version, correlation_id, client_id| {
                fetch::encode(version, correlation_id, client_id, reading)
            },
            decode: &|version, body| {
                let answer = FetchResponse::decode(version, of.partition, body)?;
                Ok((answer.throttle, answer))
            },
        };
        let answer = self.ask(leader, &question).await?;
        match answer.error_code {
            // It says nothing of the partition.
            0 if answer.high_watermark < 0 => Err(ReadError::Throttled {
                node: leader.node,
                wait: answer.throttle,
            }),
            0 => Ok(Read {
                records: answer.records,
                high_watermark: answer.high_watermark,
                log_start: answer.log_start_offset,
            }),
            code => {
                let mut error = self.refused(API, of, leader.node, code);
                if let ReadError::Refused(refused) = &mut error {
                    (refused.leader, refused.nodes) = (answer.leader, answer.nodes);
                }
                Err(error)
            }
        }
    }

    fn refused(&self, api: Api, of: &LogOf, node: i32, code: i16) -> ReadError {
        ReadError::Refused(Box::new(Refused {
            api,
            log: TopicPartition::new(Arc::clone(&of.topic), of.partition),
            node,
            error: BrokerError::new(code).of(&self.options.security.principal),
            leader: None,
            nodes: Vec::new(),
        }))
    }

    async fn ask<A>(
        &mut self,
        leader: &LeaderOf,
        question: &Question<'_, A>,
    ) -> Result<A, ReadError> {
        let addressee = self.cluster_id.as_ref().map(|cluster_id| Addressee {
            cluster_id: Arc::clone(cluster_id),
            node: leader.node,
        });
        let new = || Broker::new(leader.endpoint.clone());
        let broker = self.brokers.entry(leader.node).or_insert_with(new);
        if broker.endpoint != leader.endpoint {
            *broker = new();
        }
        let api = question.api;
        let asking = broker.ask(&self.options, addressee.as_ref(), question);
        asking.await.map_err(|error| match error.not_served(api) {
            Some(_) => ReadError::NotServed(error),
            None => ReadError::Unanswered(error),
        })
    }
}

/// An end is somewhere, unless there is an error.
fn known_end(answer: ListOffsetsResponse) -> Result<ListOffsetsResponse, WireError> {
    match answer {
        ListOffsetsResponse {
            error_code: 0,
            offset: offset @ ..0,
            ..
        } => Err(WireError::Offset {
            message: "ListOffsets answer",
            offset,
        }),
        answer => Ok(answer),
    }
}

impl Broker {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            learned: Learned::default(),
            live: None,
            throttled_until: None,
        }
    }

    /// Asks on the connection that is there. If the broker has closed it, as it does when it was idle for
    /// long, it is made anew, and asked again.
    async fn ask<A>(
        &mut self,
        options: &ConnectOptions,
        addressee: Option<&Addressee>,
        question: &Question<'_, A>,
    ) -> Result<A, NetError> {
        if let Some(until) = self.throttled_until {
            sleep_until(until).await;
            self.throttled_until = None;
        }
        if let Some(live) = self.live.take() {
            let proven = live.is_proven();
            match self.call(live, options, question).await {
                Err(error) if proven && error.is_closed_unsaid() => {}
                outcome => return outcome,
            }
        }
        let live = Live::open(&self.endpoint, addressee, options, &mut self.learned).await?;
        self.call(live, options, question).await
    }

    async fn call<A>(
        &mut self,
        mut live: Live,
        options: &ConnectOptions,
        question: &Question<'_, A>,
    ) -> Result<A, NetError> {
        let (api, (oldest, newest)) = (question.api, question.versions);
        let choose = |versions: &Versions| versions.choose(api, oldest, newest);
        let call = live.prepare(options, api, choose, question.encode).await?;
        let exchange = live.exchange_within(question.within, options, &call, question.decode);
        let (live, (throttle, answer)) = exchange.await?;
        self.live = Some(live);
        if !throttle.is_zero() {
            self.throttled_until = Some(Instant::now() + throttle);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
