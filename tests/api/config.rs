//! The configuration as an application meets it: files, layers, and everything wrong at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::config::{
    Acks, Compression, Config, DnsLookup, Durability, KEYS, MetadataRecovery, OnUnknown,
    PartitionerKind, ProblemKind, Status,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml")
}

/// Two configurations are only told apart by their own client id.
fn named(mut config: Config) -> Config {
    config.client_id = "forebay".to_owned();
    config
}

#[test]
fn defaults_are_those_of_kafka_4_3() {
    let config = Config::new("localhost:9092").unwrap();
    let ms = Duration::from_millis;
    assert_eq!(config.bootstrap_servers.len(), 1);
    assert_eq!(config.dns_lookup, DnsLookup::UseAllDnsIps);
    assert_eq!(config.acks, Acks::All);
    assert!(config.enable_idempotence);
    assert_eq!(config.max_in_flight, 5);
    assert_eq!(config.retries, 2_147_483_647);
    assert_eq!(config.retry_backoff, ms(100));
    assert_eq!(config.retry_backoff_max, ms(1000));
    assert_eq!(config.delivery_timeout, ms(120_000));
    assert_eq!(config.request_timeout, ms(30_000));
    assert_eq!(config.max_block, ms(60_000));
    assert_eq!(config.buffer_memory, 33_554_432);
    assert_eq!(config.batch_size, 16_384);
    assert_eq!(config.linger, ms(5));
    assert_eq!(config.max_request_size, 1_048_576);
    assert_eq!(config.compression, Compression::None);
    assert_eq!(config.partitioner, PartitionerKind::Default);
    assert!(!config.partitioner_ignore_keys);
    assert!(config.partitioner_adaptive);
    assert_eq!(config.partitioner_availability_timeout, None);
    assert_eq!(config.key_serializer, None);
    assert_eq!(config.value_serializer, None);
    assert_eq!(config.send_buffer, Some(131_072));
    assert_eq!(config.receive_buffer, Some(32_768));
    assert_eq!(config.connections_max_idle, Some(ms(540_000)));
    assert_eq!(config.reconnect_backoff, ms(50));
    assert_eq!(config.reconnect_backoff_max, ms(1000));
    assert_eq!(config.connection_setup_timeout, ms(10_000));
    assert_eq!(config.connection_setup_timeout_max, ms(30_000));
    assert_eq!(config.metadata_max_age, ms(300_000));
    assert_eq!(config.metadata_max_idle, ms(300_000));
    assert_eq!(config.metadata_recovery, MetadataRecovery::Rebootstrap);
    assert_eq!(config.rebootstrap_trigger, ms(300_000));
    assert!(config.metadata_cluster_check);
    assert_eq!(config.restart_max, 5);
    assert_eq!(config.producer_expiration, ms(86_400_000));
    assert_eq!(config.unknown, OnUnknown::Tell);
    assert_eq!(config.unknown_resolve_timeout, ms(60_000));
    assert_eq!(config.unknown_resolve_max_bytes, 1 << 30);
    assert_eq!(config.unknown_transactional_id_prefix, "forebay-");
    assert_eq!(config.restart_window, ms(10_000));
    assert_eq!(config.spool_dir, None);
    assert_eq!(config.spool_max_bytes, 10 << 30);
    assert_eq!(config.spool_segment_bytes, 64 << 20);
    assert_eq!(config.spool_durability, Durability::Process);
}

#[test]
fn client_ids_count_up_and_an_empty_one_stays() {
    let (a, b) = (Config::new("a:1").unwrap(), Config::new("a:1").unwrap());
    assert!(a.client_id.starts_with("forebay-producer-"));
    assert_ne!(a.client_id, b.client_id);
    let empty = Config::builder().bootstrap_servers("a:1").client_id("");
    assert_eq!(empty.build().unwrap().client_id, "");
}

#[test]
fn the_shipped_file_is_the_defaults_and_has_every_served_key() {
    let text = fs::read_to_string(shipped()).unwrap();
    let defaults = named(Config::new("localhost:9092").unwrap());
    assert_eq!(Config::from_file(shipped()).unwrap(), defaults);

    // What is commented out is a default too.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '"') => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(Config::from_toml(&uncommented).unwrap(), defaults);

    let named: BTreeSet<&str> = uncommented
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key.trim_matches('"'))
        .collect();
    let served = KEYS.iter().filter(|key| key.status == Status::Served);
    assert_eq!(named, served.map(|key| key.name).collect());
}

#[cfg(feature = "gzip")]
#[test]
fn a_configuration_made_for_java_is_read_as_it_stands() {
    use forebay::config::SerializerKind;

    let config = Config::from_properties(
        "# made for Java\n\
         bootstrap.servers=broker-1:9092,\\\n    broker-2:9092\n\
         key.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         value.serializer=org.apache.kafka.common.serialization.ByteArraySerializer\n\
         partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner\n\
         metric.reporters=org.apache.kafka.common.metrics.JmxReporter\n\
         interceptor.classes=\n\
         compression.type=gzip\n\
         compression.gzip.level=9\n\
         acks=-1\n\
         connections.max.idle.ms=-1\n\
         send.buffer.bytes=-1\n\
         metadata.recovery.strategy=NONE\n",
    )
    .unwrap();
    assert_eq!(config.bootstrap_servers.len(), 2);
    assert_eq!(config.key_serializer, Some(SerializerKind::String));
    assert_eq!(config.value_serializer, Some(SerializerKind::ByteArray));
    assert_eq!(config.partitioner, PartitionerKind::RoundRobin);
    assert_eq!(config.compression, Compression::Gzip { level: 9 });
    assert_eq!(config.acks, Acks::All);
    assert_eq!(config.connections_max_idle, None);
    assert_eq!(config.send_buffer, None);
    assert_eq!(config.metadata_recovery, MetadataRecovery::None);
}

#[test]
fn code_overrides_environment_overrides_files_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("producer.properties");
    fs::write(&path, "linger.ms=1\nbatch.size=1\nmax.request.size=1\n").unwrap();
    let config = Config::builder()
        .set("linger.ms", 4)
        .env_vars([("KAFKA_LINGER_MS", "3"), ("KAFKA_BATCH_SIZE", "3")])
        .file(&path)
        .toml("linger.ms = 2\nbatch.size = 2\nretries = 2")
        .bootstrap_servers("localhost:9092")
        .build()
        .unwrap();
    assert_eq!(config.linger, Duration::from_millis(4));
    assert_eq!(config.batch_size, 3);
    assert_eq!(config.retries, 2);
    assert_eq!(config.max_request_size, 1);
}

#[test]
fn everything_wrong_is_told_at_once_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("producer.toml");
    let text = "linger.sm = 5\n\nacks = 2\nenable.idempotence = flase\nretries = 0\n";
    fs::write(&path, text).unwrap();
    let error = Config::builder()
        .file(&path)
        .env_vars([("KAFKA_CLIENT_RACK", "a")])
        .set("buffer.memory", 100)
        .set("bootstrap.servers", "localhost")
        .build()
        .unwrap_err();
    let mut found: Vec<_> = error
        .problems()
        .iter()
        .map(|it| (it.key.as_deref().unwrap_or(""), it.kind))
        .collect();
    found.sort_by_key(|(key, _)| *key);
    // No conflict of retries: whether idempotence is meant is not known.
    assert_eq!(
        found,
        [
            ("acks", ProblemKind::WrongValue),
            ("batch.size", ProblemKind::Conflict),
            ("bootstrap.servers", ProblemKind::WrongValue),
            ("client.rack", ProblemKind::NotServedYet),
            ("enable.idempotence", ProblemKind::Syntax),
            ("linger.sm", ProblemKind::UnknownKey),
        ]
    );
    let text = error.to_string();
    assert_eq!(text.lines().count(), 6);
    for place in [
        "producer.toml:3)",
        "(environment variable KAFKA_CLIENT_RACK)",
        "(builder)",
        "(100, builder)",
        "the nearest one is linger.ms",
    ] {
        assert!(text.contains(place), "{place} in\n{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_the_only_problem() {
    for (path, why) in [
        ("/nowhere/producer.toml", "check path"),
        ("producer.yaml", "neither .toml nor .properties"),
    ] {
        let error = Config::from_file(path).unwrap_err();
        assert_eq!(error.problems().len(), 1);
        assert_eq!(error.problems()[0].kind, ProblemKind::Unreadable);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[cfg(feature = "lz4")]
#[test]
fn the_builders_own_setters_round_up_and_set_levels() {
    let config = Config::builder()
        .bootstrap_servers("a:1,b:2")
        .acks(Acks::Leader)
        .idempotence(false)
        .linger(Duration::from_micros(1))
        .delivery_timeout(Duration::from_secs(40))
        .compression(Compression::Lz4 { level: 3 })
        .build()
        .unwrap();
    assert_eq!(config.acks, Acks::Leader);
    assert_eq!(config.linger, Duration::from_millis(1));
    assert_eq!(config.delivery_timeout, Duration::from_secs(40));
    assert_eq!(config.compression, Compression::Lz4 { level: 3 });
}

fn keys() -> impl Strategy<Value = String> {
    let known: Vec<_> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    prop_oneof![8 => select(known), 1 => any::<String>()]
}

fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        any::<i64>().prop_map(|it| it.to_string()),
        (-2i64..40).prop_map(|it| it.to_string()),
        select(vec![
            "true", "false", "all", "zstd", "a:1,b:2", "[::1]:1", ","
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn no_settings_panic_and_an_error_is_never_empty(settings in vec((keys(), values()), 0..12)) {
        let mut builder = Config::builder().set("bootstrap.servers", "localhost:9092");
        for (key, value) in &settings {
            builder = builder.set(key, value);
        }
        if let Err(error) = builder.build() {
            prop_assert!(!error.problems().is_empty());
            prop_assert_eq!(error.to_string().lines().count(), error.problems().len());
        }
    }
}

#[test]
fn minus_one_leaves_socket_buffers_to_the_system() {
    let config = Config::builder()
        .bootstrap_servers("localhost:9092")
        .set("send.buffer.bytes", -1)
        .set("receive.buffer.bytes", -1)
        .build()
        .unwrap();
    assert_eq!((config.send_buffer, config.receive_buffer), (None, None));
}
