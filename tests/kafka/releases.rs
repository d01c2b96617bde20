//! Brokers of every age, from Kafka 0.11 on: a cluster of each, a broker killed in the middle of a
//! stream, every codec, and what is read back.
//!
//! Two of them are run with all other tests; the rest by hand, since each is a download of up to 60 MB:
//!
//! ```text
//! cargo test --release --features cli,zstd --test kafka -- releases:: --include-ignored --nocapture
//! ```

use std::process::Command;
use std::time::{Duration, Instant};

use forebay::config::Compression;
use forebay::{Config, Producer, Record, SendError, Unconfirmed};
use forebay_kafka_cluster::{
    self as kafka, Cluster, ClusterOptions, Listener, Load, Release, scaled,
};

use crate::kills::a_broker_is_down_for_a_while;
use crate::produce::{configured, odd_records_arrive};
use crate::security::Signer;

const PARTITIONS: i32 = 12;
/// With this one zstd came (KIP-110).
const ZSTD: (u16, u16) = (2, 1);

fn works_with(version: &str) {
    if !kafka::require_or_skip(version) {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let began = Instant::now();
    let options = ClusterOptions::default().release(Release::of(version));
    let cluster = Cluster::start(options).unwrap();
    println!("Kafka {version} runs after {:.1?}", began.elapsed());
    a_broker_is_killed_in_the_middle_of_a_stream(&cluster);
    a_stream_without_idempotence_arrives(&cluster);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs.map(|name| Compression::from_name(name).unwrap()) {
        if !codec.is_built_in() {
            continue;
        }
        let name = codec.name();
        if name == "zstd" && !cluster.release().is_from(ZSTD) {
            runtime.block_on(zstd_is_refused(&cluster));
        } else {
            runtime.block_on(odd_records_arrive(&cluster, name));
        }
        println!("{name} done after {:.1?}", began.elapsed());
    }
}

fn a_broker_is_killed_in_the_middle_of_a_stream(cluster: &Cluster) {
    let topic = "stream";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let records = scaled(100_000);
    let load = Load::new(topic, records).per_second(records / 10);
    let running = load.start(configured(cluster, &[]));
    running.wait_for(records / 5);
    a_broker_is_down_for_a_while(cluster, topic, || ());
    running.wait_for(records / 10);
    running.finish().all_acked_in(&cluster.seen(topic));
    cluster.check_log(topic);
}

fn a_stream_without_idempotence_arrives(cluster: &Cluster) {
    let topic = "plain-stream";
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    // Else a retry could pass by what was sent after it.
    let settings = [
        ("enable.idempotence", "false"),
        ("max.in.flight.requests.per.connection", "1"),
    ];
    let load = Load::new(topic, scaled(50_000)).run(configured(cluster, &settings));
    load.all_acked_in(&cluster.seen(topic));
}

async fn zstd_is_refused(cluster: &Cluster) {
    let topic = "too-new-a-codec";
    cluster.create_topic(topic, 1, 3, &[]).unwrap();
    let config = configured(cluster, &[("compression.type", "zstd")]);
    let producer = Producer::start(config).unwrap();
    let began = Instant::now();
    let receipt = producer.send(Record::to(topic).value("1")).await.unwrap();
    let Err(Unconfirmed::NotWritten(reason)) = receipt.await else {
        panic!("no broker of this age knows zstd");
    };
    let (said, after) = (reason.to_string(), began.elapsed());
    println!("zstd, after {after:.1?}: {said}");
    assert!(said.contains("too old for compression.type=zstd"), "{said}");
    assert!(after < Duration::from_secs(5), "{after:?}");
    producer.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(cluster.seen(topic).records(), 0);
}

/// Before Kafka 1.0 the messages of a login have no header, and a refusal no words (KIP-152).
#[test]
fn kafka_0_11_lets_users_in() {
    if !kafka::require_or_skip("kafka_0_11_lets_users_in") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::new(dir.path(), "signer");
    let identity = signer.signs("broker", &["127.0.0.1"]);
    let store = dir.path().join("broker.p12");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkcs12", "-export", "-passout", "pass:secret", "-in"]);
    let made = openssl.arg(identity).arg("-out").arg(&store).output();
    assert!(made.unwrap().status.success());
    let jaas = dir.path().join("jaas.conf");
    let text = "KafkaServer {
        org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"secret\";
        org.apache.kafka.common.security.scram.ScramLoginModule required;
    };";
    std::fs::write(&jaas, text).unwrap();

    let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    let mut options = ClusterOptions::default()
        .brokers(1)
        .release(Release::of("0.11.0.3"))
        .property("sasl.enabled.mechanisms", mechanisms.join(","))
        .property("ssl.keystore.type", "PKCS12")
        .property("ssl.keystore.location", store.display().to_string())
        .property("ssl.keystore.password", "secret")
        .property("ssl.key.password", "secret");
    let jaas = format!("-Djava.security.auth.login.config={}", jaas.display());
    options.java_args.push(jaas);
    for (name, protocol) in [("LOGIN", "SASL_PLAINTEXT"), ("LOGINTLS", "SASL_SSL")] {
        options = options.listener(Listener {
            name: name.into(),
            proxied: false,
            security_protocol: protocol.into(),
            properties: Vec::new(),
        });
    }
    let cluster = Cluster::start(options).unwrap();
    let scram = "SCRAM-SHA-256=[password=secret],SCRAM-SHA-512=[password=secret]";
    let zookeeper = cluster.zookeeper_address().unwrap();
    let user = [
        "--zookeeper",
        &zookeeper,
        "--entity-type",
        "users",
        "--entity-name",
        "alice",
    ];
    let args = [&user[..], &["--alter", "--add-config", scram]].concat();
    cluster.tool("kafka.admin.ConfigCommand", &args).unwrap();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let trusted = signer.certificate.display().to_string();
    for (listener, protocol) in [("LOGIN", "SASL_PLAINTEXT"), ("LOGINTLS", "SASL_SSL")] {
        for mechanism in mechanisms {
            let topic = format!("{listener}-{mechanism}");
            cluster.create_topic(&topic, 3, 1, &[]).unwrap();
            let config = |password| {
                let config = Config::builder()
                    .bootstrap_servers(cluster.bootstrap_of(listener))
                    .set("security.protocol", protocol)
                    .set("sasl.mechanism", mechanism)
                    .set("sasl.username", "alice")
                    .set("sasl.password", password);
                let config = match protocol {
                    "SASL_SSL" => config
                        .set("ssl.truststore.type", "PEM")
                        .set("ssl.truststore.location", &trusted),
                    _ => config,
                };
                config.build().unwrap()
            };
            let outcomes = Load::new(&topic, 5_000).run(config("secret"));
            outcomes.all_acked_in(&cluster.seen(&topic));

            let began = Instant::now();
            let producer = Producer::start(config("wrong")).unwrap();
            let refused = runtime.block_on(producer.send(Record::to(topic.as_str()).value("1")));
            let Err(SendError::Security(why)) = refused else {
                panic!("{topic}: {refused:?}");
            };
            println!("{topic}, after {:.1?}: {why}", began.elapsed());
            assert!(why.to_string().contains("before Kafka 1.0"), "{why}");
            assert!(began.elapsed() < Duration::from_secs(8));
            runtime
                .block_on(producer.close(Duration::from_secs(5)))
                .unwrap();
        }
    }
}

/// The oldest and the newest.
macro_rules! always {
    ($($name:ident $version:literal)*) => {$(
        #[test]
        fn $name() {
            works_with($version);
        }
    )*};
}

macro_rules! by_hand {
    ($($name:ident $version:literal)*) => {$(
        #[test]
        #[ignore = "a download of up to 60 MB, and a minute: by hand"]
        fn $name() {
            works_with($version);
        }
    )*};
}

always! {
    kafka_0_11 "0.11.0.3"
    kafka_4_4 "4.4.0"
}

by_hand! {
    kafka_1_1 "1.1.1"
    kafka_2_1 "2.1.1"
    kafka_2_8 "2.8.2"
    kafka_3_3 "3.3.2"
    kafka_3_9 "3.9.2"
    kafka_4_0 "4.0.2"
    kafka_4_1 "4.1.2"
    kafka_4_2 "4.2.2"
}
