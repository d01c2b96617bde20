//! What a broker's `server.properties` has.

use std::fmt::Write;
use std::path::Path;

use super::broker::data_dir;
use super::cluster::{CONTROLLER, PLAINTEXT, port, proxy_of};
use super::relays::controller_host;
use super::zookeeper::Zookeeper;
use super::{Broker, Cluster, ClusterOptions};

pub(super) fn of(
    cluster: &Cluster,
    broker: &Broker,
    dir: &Path,
    options: &ClusterOptions,
) -> String {
    let mut text = match cluster.zookeeper() {
        Some(zookeeper) => of_zookeeper(zookeeper, broker, options),
        None => of_kraft(cluster, broker, options),
    };
    let copies = cluster.brokers().len().min(3);
    let in_sync = cluster.brokers().len().min(2);
    let _ = write!(
        text,
        "\
inter.broker.listener.name={PLAINTEXT}
log.dirs={data}

default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=3
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=3
auto.create.topics.enable=false
# Leaders move when a test moves them.
auto.leader.rebalance.enable=false
group.initial.rebalance.delay.ms=0

# A follower that hangs leaves the in-sync replicas before a producer's delivery
# timeout.
replica.lag.time.max.ms=10000

# What was written stays.
log.retention.ms=-1
log.retention.bytes=-1
log.segment.bytes=1073741824

# Three brokers share a small machine.
num.network.threads=2
num.io.threads=3
num.replica.fetchers=1
background.threads=2
group.coordinator.threads=1
log.cleaner.dedupe.buffer.size=4194304
",
        data = data_dir(dir).display(),
    );
    for listener in &options.listeners {
        let name = listener.name.to_lowercase();
        for (key, value) in &listener.properties {
            let _ = writeln!(text, "listener.name.{name}.{key}={value}");
        }
    }
    // The last of two equal keys counts.
    for (key, value) in &options.properties {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn at(broker: &Broker, name: &str) -> String {
    format!("{name}://127.0.0.1:{}", port(broker, name))
}

/// The listeners for clients, what is advertised of them, and their protocols.
fn listeners(broker: &Broker, options: &ClusterOptions) -> [Vec<String>; 3] {
    let mut ours = vec![at(broker, PLAINTEXT)];
    let mut advertised = ours.clone();
    let mut protocols = vec!["PLAINTEXT:PLAINTEXT".into()];
    for listener in &options.listeners {
        ours.push(at(broker, &listener.name));
        advertised.push(match listener.proxied {
            true => {
                let port = port(broker, &proxy_of(&listener.name));
                format!("{}://127.0.0.1:{port}", listener.name)
            }
            false => at(broker, &listener.name),
        });
        protocols.push(format!("{}:{}", listener.name, listener.security_protocol));
    }
    [ours, advertised, protocols]
}

fn of_kraft(cluster: &Cluster, broker: &Broker, options: &ClusterOptions) -> String {
    let controller = |b: &Broker| match options.relays {
        true => controller_host(b.id()),
        false => "127.0.0.1".into(),
    };
    let voters: Vec<String> = cluster
        .brokers()
        .iter()
        .map(|b| format!("{}@{}:{}", b.id(), controller(b), port(b, CONTROLLER)))
        .collect();
    let [mut listeners, mut advertised, mut protocols] = listeners(broker, options);
    listeners.push(at(broker, CONTROLLER));
    protocols.push(format!("{CONTROLLER}:PLAINTEXT"));
    if options.relays {
        let (host, port) = (controller(broker), port(broker, CONTROLLER));
        advertised.push(format!("{CONTROLLER}://{host}:{port}"));
    }
    format!(
        "\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names={CONTROLLER}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
# A dead broker is noticed soon.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
",
        id = broker.id(),
        voters = voters.join(","),
        listeners = listeners.join(","),
        advertised = advertised.join(","),
        protocols = protocols.join(","),
    )
}

fn of_zookeeper(zookeeper: &Zookeeper, broker: &Broker, options: &ClusterOptions) -> String {
    let [listeners, advertised, protocols] = listeners(broker, options);
    format!(
        "\
broker.id={id}
zookeeper.connect={zookeeper}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
# A dead broker is noticed soon.
zookeeper.session.timeout.ms=6000
",
        id = broker.id(),
        zookeeper = zookeeper.address(),
        listeners = listeners.join(","),
        advertised = advertised.join(","),
        protocols = protocols.join(","),
    )
}
