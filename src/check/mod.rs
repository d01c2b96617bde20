//! What `forebay check` does: goes the way of a producer to each broker, step by step, and tells of
//! each. It writes no record and creates no topic.
//!
//! The steps are those of the connections that producers have: this is told what is seen on them.

mod judge;
mod line;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::actors::{connect_options, now, security};
use crate::config::{Config, Endpoint};
use crate::core::cluster::Nodes;
pub use crate::core::security::Certificate;
use crate::core::security::SecurityError;
use crate::core::wire::describe_configs::{self, TopicConfigs};
use crate::core::wire::metadata::encode_look;
use crate::core::wire::{Api, MetadataResponse, TopicMetadata};
use crate::intake::wall_clock;
use crate::net::Certificates;
use crate::net::{ConnectOptions, ControlClient, NetError, Observer, Seen};
pub use line::{By, Found, Line, Shown, Step, Verdict};

/// How long a broker may take that has just started.
const PATIENCE: Duration = Duration::from_secs(5);

/// The key that names the first brokers.
const BOOTSTRAP: &str = "bootstrap.servers";

/// Checks whether a producer of this configuration could send to these topics, at each broker of
/// `bootstrap.servers` and then at each that they name.
pub async fn check(config: &Config, topics: &[String], mut tell: impl FnMut(Line)) {
    let security = security::prepare(config, security::InCode::default());
    let security = match security {
        Ok(security) => security,
        Err(error) => {
            return tell(Line {
                broker: None,
                named_by: None,
                step: Step::Tls,
                found: Found::failed(error.to_string()),
                ms: None,
            });
        }
    };
    let (seen, events) = unbounded_channel();
    let observer = Observer::new(move |_, it| {
        // Nobody listens once the check is over.
        let _ = seen.send((now(), it));
    });
    // What gets tokens is a task beside those that connect.
    let checking = async {
        let mut options = connect_options(config, security.started(rand::random()));
        options.observer = observer.of_refused();
        let mut check = Check {
            config,
            topics,
            options,
            events,
            tell,
            who: "User:ANONYMOUS".to_owned(),
            first: None,
        };
        check.all().await;
    };
    LocalSet::new().run_until(checking).await;
}

struct Check<'a, T> {
    config: &'a Config,
    topics: &'a [String],
    options: ConnectOptions,
    events: UnboundedReceiver<(Instant, Seen)>,
    tell: T,
    /// Who this client is to brokers, as rules for access call it.
    who: String,
    /// The first broker that answered.
    first: Option<First>,
}

struct First {
    endpoint: Endpoint,
    nodes: Nodes,
}

/// The way to one broker.
struct Walk<'a> {
    endpoint: &'a Endpoint,
    named_by: String,
    /// What comes next, and since when it is waited for.
    step: Step,
    since: Instant,
    told: BTreeSet<Step>,
    certificates: Option<Certificates>,
}

impl<T: FnMut(Line)> Check<'_, T> {
    async fn all(&mut self) {
        let mut checked = BTreeSet::new();
        for endpoint in &self.config.bootstrap_servers {
            if checked.insert(endpoint.clone()) {
                self.broker(endpoint, BOOTSTRAP.to_owned()).await;
            }
        }
        let Some(First { endpoint, nodes }) = &self.first else {
            return;
        };
        let (by, nodes) = (endpoint.to_string(), nodes.by_id.clone());
        for (id, endpoint) in nodes {
            if checked.insert(endpoint.clone()) {
                let named_by = format!("{by}, as broker {id}");
                self.broker(&endpoint, named_by).await;
            }
        }
    }

    /// Checks one broker; with the first that answers, the topics, too.
    async fn broker(&mut self, endpoint: &Endpoint, named_by: String) {
        let backoff = (self.config.retry_backoff, self.config.retry_backoff_max);
        let bootstrap = vec![endpoint.clone()];
        let mut client = ControlClient::new(bootstrap, self.options.clone(), backoff, 0);
        if let Some(First { nodes, .. }) = &self.first
            && named_by != BOOTSTRAP
        {
            let mut only = nodes.clone();
            only.by_id.retain(|_, node| node == endpoint);
            client.set_nodes(&only);
        }
        let mut walk = Walk {
            endpoint,
            named_by,
            step: Step::Resolve,
            since: now(),
            told: BTreeSet::new(),
            certificates: None,
        };
        let mut is_first_attempt = true;
        let metadata = loop {
            match self.look(&mut client, &mut walk, &[]).await {
                Ok(metadata) => break metadata,
                // Producers ask such a broker in version 0 of ApiVersions next.
                Err(NetError::ClosedBeforeFirstResponse { .. }) if is_first_attempt => {
                    is_first_attempt = false;
                }
                Err(error) => return self.failed(&mut walk, &error),
            }
        };
        let first = self.first.as_ref();
        let expected = first.map(|it| (it.nodes.cluster_id.as_deref(), it.endpoint.to_string()));
        let expected = expected.as_ref().map(|(id, who)| (*id, who.as_str()));
        let found = judge::cluster(&metadata, expected);
        let answers = found.verdict != Verdict::Failed;
        self.tell(&mut walk, Step::Cluster, found, now());
        if self.first.is_some() || !answers {
            return;
        }
        self.first = Some(First {
            endpoint: endpoint.clone(),
            nodes: Nodes::of(metadata.cluster_id, metadata.nodes),
        });
        self.topics(&mut client, &mut walk).await;
        self.identity(&mut client, &mut walk).await;
    }

    /// Asks for metadata, without anything being created.
    async fn look(
        &mut self,
        client: &mut ControlClient,
        walk: &mut Walk<'_>,
        topics: &[String],
    ) -> Result<MetadataResponse, NetError> {
        let encode = |version, id, client_id: &str| encode_look(version, id, client_id, topics);
        let asking = client.attempt(Api::Metadata, encode, MetadataResponse::decode);
        self.watched(walk, asking).await
    }

    async fn topics(&mut self, client: &mut ControlClient, walk: &mut Walk<'_>) {
        if self.topics.is_empty() {
            return;
        }
        let metadata = match self.look(client, walk, self.topics).await {
            Ok(metadata) => metadata,
            Err(error) => {
                return self.tell(walk, Step::Topic, Found::failed(error.to_string()), now());
            }
        };
        for topic in &metadata.topics {
            let found = judge::topic(topic, &metadata, &self.who);
            self.tell(walk, Step::Topic, found, now());
            if topic.error_code == 0 {
                let found = judge::write(topic, &self.who);
                self.tell(walk, Step::Write, found, now());
                self.limits(client, walk, topic).await;
            }
        }
    }

    async fn limits(
        &mut self,
        client: &mut ControlClient,
        walk: &mut Walk<'_>,
        topic: &TopicMetadata,
    ) {
        let keys = [judge::LARGEST, judge::LEAST_IN_SYNC];
        let encode = |version, id, client_id: &str| {
            describe_configs::encode(version, id, client_id, (&topic.name, &keys))
        };
        let asking = client.attempt(Api::DescribeConfigs, encode, TopicConfigs::decode);
        let found = match self.watched(walk, asking).await {
            Ok(configs) => judge::limits(topic, &configs, self.config),
            Err(error) => Found::of(Verdict::Unknown, error.to_string()),
        };
        self.tell(walk, Step::Limits, found, now());
    }

    /// Asks for a producer id, as every idempotent producer does. The log knows nothing of it.
    async fn identity(&mut self, client: &mut ControlClient, walk: &mut Walk<'_>) {
        if !self.config.enable_idempotence {
            return;
        }
        let deadline = now() + PATIENCE;
        let answer = loop {
            let answer = self.watched(walk, client.init_producer_id(&[])).await;
            match &answer {
                Ok(loading) if judge::is_loading(loading) && now() < deadline => {
                    sleep(self.config.retry_backoff).await;
                }
                _ => break answer,
            }
        };
        let found = match answer {
            Ok(answer) => judge::producer_id(&answer, &self.who),
            // That was said of the versions.
            Err(error) if error.not_served(Api::InitProducerId).is_some() => return,
            Err(error) => Found::failed(error.to_string()),
        };
        self.tell(walk, Step::ProducerId, found, now());
    }

    /// Tells what is seen while a broker is asked.
    async fn watched<A>(
        &mut self,
        walk: &mut Walk<'_>,
        asking: impl Future<Output = Result<A, NetError>>,
    ) -> Result<A, NetError> {
        let mut asking = pin!(asking);
        walk.since = now();
        loop {
            tokio::select! {
                biased;
                Some((at, seen)) = self.events.recv() => self.saw(walk, seen, at),
                outcome = &mut asking => {
                    while let Ok((at, seen)) = self.events.try_recv() {
                        self.saw(walk, seen, at);
                    }
                    return outcome;
                }
            }
        }
    }

    fn saw(&mut self, walk: &mut Walk<'_>, seen: Seen, at: Instant) {
        let protocol = self.config.security_protocol();
        let (found, next) = match seen {
            Seen::Addresses(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(|it| it.ip().to_string()).collect();
                (Found::ok(addresses.join(", ")), Step::Connect)
            }
            Seen::Connected(address) => {
                let next = if protocol.has_tls() {
                    Step::Tls
                } else {
                    Step::Versions
                };
                (Found::ok(address.to_string()), next)
            }
            Seen::Certificates(certificates) => {
                if let (Some(own), false) = (certificates.own.first(), protocol.has_sasl()) {
                    self.who = format!("User:{}", own.subject);
                }
                walk.certificates = Some(certificates);
                return;
            }
            Seen::Encrypted {
                version,
                cipher_suite,
            } => {
                let mut found = Found::ok(format!("{version}, {cipher_suite}"));
                self.certificates(walk, &mut found);
                (found, Step::Versions)
            }
            Seen::Versions(versions) => {
                let idempotent = self.config.enable_idempotence;
                let found = judge::versions(&versions, idempotent);
                let next = if protocol.has_sasl() {
                    Step::Login
                } else {
                    Step::Cluster
                };
                (found, next)
            }
            Seen::LoggedIn {
                mechanism,
                user,
                lifetime,
            } => {
                self.who = format!("User:{user}");
                let mut text = format!("{mechanism} as {user:?}");
                if let Some(lifetime) = lifetime {
                    text.push_str(&format!(
                        ", for {lifetime:?}: it is renewed before that is over"
                    ));
                }
                (Found::ok(text), Step::Cluster)
            }
        };
        self.tell(walk, walk.step, found, at);
        walk.step = next;
    }

    fn certificates(&self, walk: &mut Walk<'_>, found: &mut Found) {
        if let Some(seen) = walk.certificates.take() {
            let fits = match seen.fits {
                true => Ok(()),
                false => Err(walk.endpoint.host.as_str()),
            };
            let since_1970 = Duration::from_millis(wall_clock::millis().unsigned_abs());
            judge::certificates(found, (&seen.broker, &seen.own), fits, since_1970);
        }
    }

    fn failed(&mut self, walk: &mut Walk<'_>, error: &NetError) {
        let mut found = Found::failed(error.to_string());
        // In TLS 1.3 a broker refuses a client's certificate only after the handshake.
        if let NetError::Security(error) = error
            && matches!(**error, SecurityError::RefusedByBroker { .. })
        {
            walk.step = Step::Tls;
            walk.told.remove(&Step::Tls);
        }
        self.certificates(walk, &mut found);
        if walk.named_by != BOOTSTRAP && walk.step <= Step::Connect {
            found.note(
                Verdict::Failed,
                "producers connect to it, since brokers name it: correct advertised.listeners, or \
                 the way from here to there",
            );
        }
        self.tell(walk, walk.step, found, now());
    }

    /// Tells of a step, unless it was told of.
    fn tell(&mut self, walk: &mut Walk<'_>, step: Step, found: Found, at: Instant) {
        let took = at.saturating_duration_since(walk.since);
        walk.since = at;
        // There may be several topics, and a second attempt repeats the first steps.
        if walk.told.insert(step) || step > Step::Cluster {
            (self.tell)(Line {
                broker: Some(walk.endpoint.to_string()),
                named_by: Some(walk.named_by.clone()),
                step,
                found,
                ms: Some(took.as_secs_f64() * 1e3),
            });
        }
    }
}
