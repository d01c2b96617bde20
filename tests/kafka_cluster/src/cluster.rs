//! A cluster: where Kafka has KRaft, every broker is a controller, too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use krafka::admin::{
    AclBinding, AclOperation, AclPatternType, AclPermissionType, AclResourceType, AdminClient,
    ClientQuotaAlteration, ElectionType, NewTopic,
};
use krafka::consumer::TopicPartition;

use super::broker::properties_file;
use super::metadata::PartitionView;
use super::ports::Ports;
use super::relays::{Relays, write_hosts};
use super::watchdog::Watchdog;
use super::zookeeper::Zookeeper;
use super::{Broker, Error, Libs, Release, Result, State, admin, poll, properties};

pub(super) const PLAINTEXT: &str = "PLAINTEXT";
pub(super) const CONTROLLER: &str = "CONTROLLER";
/// Sixteen bytes in Kafka's base64; any will do, as no two clusters meet.
const CLUSTER_ID: &str = "Zm9yZWJheS1jbHVzdGVyMQ";
const TOOL_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct ClusterOptions {
    pub brokers: usize,
    /// Added to every broker's properties, over the defaults of the harness.
    pub properties: Vec<(String, String)>,
    /// Added to the PLAINTEXT listener that every broker has.
    pub listeners: Vec<Listener>,
    /// Arguments for formatting the storage, such as `--add-scram`.
    pub format_args: Vec<String>,
    pub heap: String,
    /// Which Kafka; by default the one that [`Release::default`] says.
    pub release: Release,
    /// Further arguments of each broker's `java`.
    pub java_args: Vec<String>,
    /// Whether a broker can be [cut off](Cluster::cut_off) from the controllers of the others.
    pub relays: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            brokers: 3,
            properties: Vec::new(),
            listeners: Vec::new(),
            format_args: Vec::new(),
            heap: "512m".into(),
            release: Release::default(),
            java_args: Vec::new(),
            relays: false,
        }
    }
}

impl ClusterOptions {
    pub fn brokers(mut self, count: usize) -> Self {
        self.brokers = count;
        self
    }

    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// With [`ZooKeeper`](Release::has_zookeeper) there are no controllers to be cut off from.
    pub fn relays(mut self) -> Self {
        self.relays = true;
        self
    }

    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }
}

#[derive(Clone, Debug)]
pub struct Listener {
    pub name: String,
    /// Whether brokers advertise another port, where a proxy is to listen.
    pub proxied: bool,
    /// `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub security_protocol: String,
    /// Without the prefix `listener.name.….`, which is put before each key.
    pub properties: Vec<(String, String)>,
}

impl Listener {
    pub fn new(name: &str, security_protocol: &str) -> Self {
        Self {
            name: name.to_owned(),
            proxied: false,
            security_protocol: security_protocol.to_owned(),
            properties: Vec::new(),
        }
    }

    /// The last of two equal keys counts.
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A key with its certificate, and those that are trusted, in PEM.
    pub fn keys(self, keystore: &Path, truststore: &Path) -> Self {
        self.property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.location", &keystore.display().to_string())
            .property("ssl.truststore.type", "PEM")
            .property("ssl.truststore.location", &truststore.display().to_string())
    }
}

/// The name under which a broker keeps the port of the proxy before a listener.
pub(super) fn proxy_of(listener: &str) -> String {
    format!("{listener}-PROXY")
}

/// A running cluster. Dropping it kills the brokers and removes their data.
pub struct Cluster {
    dir: PathBuf,
    brokers: Vec<Broker>,
    libs: Libs,
    /// With a consumer that reads what these brokers have.
    reader: Libs,
    relays: Option<Relays>,
    zookeeper: Option<Zookeeper>,
    // Dropped after the brokers: it removes the directory, and ends what an
    // unclean end of this process leaves behind.
    watchdog: Arc<Watchdog>,
    _ports: Ports,
}

impl Cluster {
    /// Starts the brokers and waits until each one knows all of them.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let libs = Libs::get(options.release.clone())?;
        let reader = Libs::get(options.release.reader())?;
        let mut ports = Ports::reserve()?;
        let dir = tempfile::Builder::new()
            .prefix("forebay-kafka-")
            .tempdir()
            .map_err(Error::at("make a directory for the cluster"))?
            .keep();
        let watchdog = Arc::new(Watchdog::start(&dir)?);

        let mut brokers = Vec::new();
        for id in 1..=options.brokers as i32 {
            let mut own = BTreeMap::new();
            let mut names = vec![PLAINTEXT.to_string(), CONTROLLER.to_string()];
            for listener in &options.listeners {
                names.push(listener.name.clone());
                names.extend(listener.proxied.then(|| proxy_of(&listener.name)));
            }
            for name in names {
                own.insert(name, ports.take()?);
            }
            let dir = dir.join(format!("broker-{id}"));
            fs::create_dir(&dir).map_err(Error::at(dir.display()))?;
            let mut java_args = vec![format!("-Xmx{}", options.heap)];
            java_args.extend_from_slice(&options.java_args);
            brokers.push(Broker::new(
                id,
                dir,
                own,
                java_args,
                libs.clone(),
                watchdog.clone(),
            ));
        }
        let controllers: Vec<_> = brokers
            .iter()
            .map(|b| (b.id(), port(b, CONTROLLER)))
            .collect();
        let relays = match options.relays {
            true => Some(Relays::start(&controllers)?),
            false => None,
        };
        let zookeeper = match options.release.has_zookeeper() {
            true => Some(Zookeeper::start(
                &libs,
                &dir,
                ports.take()?,
                watchdog.clone(),
            )?),
            false => None,
        };
        let cluster = Self {
            dir,
            brokers,
            libs,
            reader,
            relays,
            zookeeper,
            watchdog,
            _ports: ports,
        };
        cluster.format(&options)?;
        for broker in &cluster.brokers {
            broker.start()?;
        }
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Writes each broker's properties and, without ZooKeeper, formats its storage, side by side.
    fn format(&self, options: &ClusterOptions) -> Result<()> {
        std::thread::scope(|scope| {
            let formats: Vec<_> = self
                .brokers
                .iter()
                .map(|broker| scope.spawn(|| self.format_one(broker, options)))
                .collect();
            formats
                .into_iter()
                .try_for_each(|format| format.join().expect("formatting does not panic"))
        })
    }

    fn format_one(&self, broker: &Broker, options: &ClusterOptions) -> Result<()> {
        let dir = self.dir.join(format!("broker-{}", broker.id()));
        if options.relays {
            let all: Vec<_> = self.brokers.iter().map(Broker::id).collect();
            write_hosts(&dir, broker.id(), &all)?;
        }
        let file = properties_file(&dir);
        let text = properties::of(self, broker, &dir, options);
        fs::write(&file, text).map_err(Error::at(file.display()))?;
        if self.zookeeper.is_some() {
            return Ok(());
        }
        let file = file.display().to_string();
        let mut args = vec!["format", "-t", CLUSTER_ID, "-c", &file];
        args.extend(options.format_args.iter().map(String::as_str));
        self.tool("kafka.tools.StorageTool", &args)?;
        Ok(())
    }

    /// Cuts a broker off from the other brokers' controllers, or ends that: it hears no news of the
    /// cluster, nobody hears from it, and it goes on answering clients and other brokers. Nothing
    /// happens without [`relays`](ClusterOptions::relays).
    pub fn cut_off(&self, broker: i32, is_cut_off: bool) {
        if let Some(relays) = &self.relays {
            relays.set(broker, is_cut_off);
        }
    }

    /// Waits until every broker answers and knows all the others.
    pub fn wait_ready(&self) -> Result<()> {
        for broker in &self.brokers {
            broker.wait_ready()?;
        }
        for broker in &self.brokers {
            poll("the brokers to see each other", SETTLE_LIMIT, || {
                let view = broker.view(&[])?;
                Ok(match view.brokers.len() == self.brokers.len() {
                    true => Ok(()),
                    false => Err(format!("broker {} sees {:?}", broker.id(), view.brokers)),
                })
            })
            .map_err(|e| broker.with_log(e))?;
        }
        Ok(())
    }

    pub fn release(&self) -> &Release {
        self.libs.release()
    }

    /// Waits until every running broker knows that this one is down. One that needs ZooKeeper does not
    /// start again before its session there is over.
    pub fn wait_gone(&self, id: i32) -> Result<()> {
        poll(format!("broker {id} to be missed"), SETTLE_LIMIT, || {
            for broker in self.running() {
                if broker.view(&[])?.brokers.contains(&id) {
                    return Ok(Err(format!("broker {} still sees it", broker.id())));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Leaves the directory behind, with what the brokers logged and stored.
    pub fn keep_files(&self) {
        self.watchdog.keep_files();
    }

    /// The cluster's own directory, for a test's certificates and the like.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// Ids count from 1.
    pub fn broker(&self, id: i32) -> &Broker {
        let broker = self.brokers.iter().find(|b| b.id() == id);
        broker.unwrap_or_else(|| panic!("the cluster has no broker {id}"))
    }

    /// The value for `bootstrap.servers`: all brokers, also those that are down.
    pub fn bootstrap(&self) -> String {
        self.bootstrap_of(PLAINTEXT)
    }

    pub fn bootstrap_of(&self, listener: &str) -> String {
        addresses(self.brokers.iter(), listener)
    }

    /// The same through the proxies before that listener.
    pub fn bootstrap_through(&self, listener: &str) -> String {
        addresses(self.brokers.iter(), &proxy_of(listener))
    }

    /// The harness's own calls go around brokers that it has killed or frozen.
    fn bootstrap_running(&self) -> Result<String> {
        let mut running = self.running().peekable();
        match running.peek() {
            Some(_) => Ok(addresses(running, PLAINTEXT)),
            None => Err(Error::new("no broker is running")),
        }
    }

    fn running(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().filter(|b| b.state() == State::Running)
    }

    /// Runs one of Kafka's own tools. The brokers' addresses are not added.
    pub fn tool(&self, class: &str, args: &[&str]) -> Result<String> {
        self.libs.tool(class, args, TOOL_LIMIT)
    }

    pub(super) fn reader(&self) -> &Libs {
        &self.reader
    }

    /// Where its ZooKeeper is, if it has one.
    pub fn zookeeper_address(&self) -> Option<String> {
        self.zookeeper().map(Zookeeper::address)
    }

    pub(super) fn zookeeper(&self) -> Option<&Zookeeper> {
        self.zookeeper.as_ref()
    }

    /// Any other call of krafka's admin client: quotas, reassignments, users.
    /// It may be made more than once.
    pub fn admin<T: Send>(
        &self,
        what: &str,
        ask: impl AsyncFn(&AdminClient) -> krafka::Result<T> + Sync,
    ) -> Result<T> {
        admin::call(what, &self.bootstrap_running()?, ask)
    }

    /// Lets a user, such as `User:bob`, do this with a topic. It needs an authorizer.
    pub fn allow(&self, user: &str, operation: AclOperation, topic: &str) -> Result<()> {
        let (topics, allow) = (AclResourceType::Topic, AclPermissionType::Allow);
        let acl = AclBinding {
            // krafka numbers the patterns one too low: brokers take this for a literal one.
            pattern_type: AclPatternType::Prefixed,
            ..AclBinding::new(topics, topic, user, "*", operation, allow)
        };
        self.admin("allow", async |admin| {
            let acls = vec![acl.clone()];
            let results = admin.create_acls(acls, Default::default()).await?;
            results.into_iter().try_for_each(|(_, result)| result)
        })
    }

    /// Creates a topic and waits until every running broker knows it and is in
    /// sync.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<()> {
        let topic = NewTopic::new(name, partitions, replication_factor)
            .map_err(Error::at(format!("topic {name}")))?;
        let topic = configs
            .iter()
            .fold(topic, |t, (k, v)| t.with_config(*k, *v));
        admin::create_topic(&self.bootstrap_running()?, topic)?;
        self.wait_for(name, |topic| {
            topic.len() == partitions as usize && self.is_whole(topic)
        })
    }

    /// Deletes a topic and waits until no running broker knows it.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        admin::delete_topic(&self.bootstrap_running()?, name)?;
        poll(format!("topic {name} to go"), SETTLE_LIMIT, || {
            for broker in self.running() {
                if broker.view(&[name])?.topics[0].is_some() {
                    return Ok(Err(format!("broker {} knows it", broker.id())));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Grows a topic to `total` partitions.
    pub fn add_partitions(&self, topic: &str, total: i32) -> Result<()> {
        admin::set_partitions(&self.bootstrap_running()?, topic, total)?;
        self.wait_for(topic, |topic| {
            topic.len() == total as usize && self.is_whole(topic)
        })
    }

    /// Sets configurations of a topic.
    pub fn alter_topic(&self, topic: &str, configs: &[(&str, &str)]) -> Result<()> {
        admin::alter_topic(&self.bootstrap_running()?, topic, configs)
    }

    /// Gives every partition of the topic back to its preferred leader.
    pub fn elect_leaders(&self, topic: &str) -> Result<()> {
        let partitions = self.partitions(topic)?;
        let all: Vec<_> = partitions
            .iter()
            .map(|p| TopicPartition::new(topic, p.partition))
            .collect();
        self.admin(&format!("elect leaders of {topic}"), async |admin| {
            let asked = Some(all.clone());
            let results = admin
                .elect_leaders(ElectionType::Preferred, asked, Default::default())
                .await?;
            results.into_values().collect::<krafka::Result<()>>()
        })?;
        self.wait_for(topic, |topic| {
            topic
                .iter()
                .all(|p| p.leader == p.replicas.first().copied())
        })
    }

    /// The topic as the first running broker that answers sees it.
    pub fn partitions(&self, topic: &str) -> Result<Vec<PartitionView>> {
        poll(format!("topic {topic}"), SETTLE_LIMIT, || {
            let mut obstacle = "no broker is running".into();
            for broker in self.running() {
                match broker.view(&[topic]) {
                    Ok(mut view) => match view.topics.remove(0) {
                        Some(partitions) => return Ok(Ok(partitions)),
                        None => obstacle = format!("broker {} has no such topic", broker.id()),
                    },
                    Err(e) => obstacle = e.to_string(),
                }
            }
            Ok(Err(obstacle))
        })
    }

    /// Has these replicas, the first of them the preferred leader, hold each partition named.
    pub fn reassign(&self, topic: &str, to: &[(i32, Vec<i32>)]) -> Result<()> {
        self.admin(&format!("reassign {topic}"), async |admin| {
            let each = to.iter().cloned();
            let each = each.map(|(p, replicas)| (TopicPartition::new(topic, p), Some(replicas)));
            let results = admin
                .alter_partition_reassignments(each, Default::default())
                .await?;
            results.into_values().collect::<krafka::Result<()>>()
        })
    }

    /// How many bytes a second each broker takes from producers with this `client.id`.
    pub fn limit_client(&self, client: &str, bytes_per_second: Option<f64>) -> Result<()> {
        self.admin("alter quotas", async |admin| {
            let entity = [("client-id", Some(client))].into_iter().collect();
            let rate = ("producer_byte_rate".to_string(), bytes_per_second);
            let change = vec![ClientQuotaAlteration::new(entity, vec![rate])];
            let results = admin
                .alter_client_quotas(change, Default::default())
                .await?;
            results.into_values().collect::<krafka::Result<()>>()
        })
    }

    /// The id of the active controller.
    pub fn controller(&self) -> Result<i32> {
        self.admin("describe the quorum", async |admin| {
            let quorum = admin.describe_metadata_quorum(Default::default()).await?;
            Ok(quorum.leader_id)
        })
    }

    /// The id of the broker that leads the partition; waits while none does.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Result<i32> {
        poll(
            format!("leader of {topic}-{partition}"),
            SETTLE_LIMIT,
            || {
                let partitions = self.partitions(topic)?;
                let found = partitions.iter().find(|p| p.partition == partition);
                let found = found.ok_or_else(|| Error::new(format!("no {topic}-{partition}")))?;
                Ok(found.leader.ok_or_else(|| "none".into()))
            },
        )
    }

    /// Waits until every replica on a running broker is in sync again: before
    /// that another fault would take away more than one copy.
    pub fn wait_in_sync(&self, topic: &str) -> Result<()> {
        self.wait_for(topic, |topic| self.is_whole(topic))
    }

    fn is_whole(&self, topic: &[PartitionView]) -> bool {
        let down = |id: &i32| self.broker(*id).state() != State::Running;
        let in_sync = |p: &PartitionView, id: &i32| p.in_sync.contains(id) || down(id);
        topic
            .iter()
            .all(|p| p.leader.is_some() && p.replicas.iter().all(|id| in_sync(p, id)))
    }

    /// Waits until every running broker sees the topic so.
    fn wait_for(&self, topic: &str, so: impl Fn(&[PartitionView]) -> bool) -> Result<()> {
        poll(format!("topic {topic} to settle"), SETTLE_LIMIT, || {
            for broker in self.running() {
                let seen = match broker.view(&[topic]) {
                    Ok(mut view) => view.topics.remove(0).unwrap_or_default(),
                    Err(e) => return Ok(Err(e.to_string())),
                };
                if !so(&seen) {
                    return Ok(Err(format!("broker {} sees {seen:?}", broker.id())));
                }
            }
            Ok(Ok(()))
        })
    }
}

pub(super) fn port(broker: &Broker, listener: &str) -> u16 {
    broker
        .port(listener)
        .unwrap_or_else(|| panic!("no listener {listener}"))
}

fn addresses<'a>(brokers: impl Iterator<Item = &'a Broker>, listener: &str) -> String {
    let all: Vec<String> = brokers
        .map(|b| format!("127.0.0.1:{}", port(b, listener)))
        .collect();
    all.join(",")
}
