//! The harness itself: a cluster that starts, can be hurt, and reads back.

use std::time::{Duration, Instant};

use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Isolation, Seen, State};

fn produce(cluster: &Cluster, topic: &str, count: u32) {
    let props = format!("bootstrap.servers={}", cluster.bootstrap());
    let payload = count.to_string();
    // Every payload is drawn from a file of three: a number that begins the
    // value is all that `read_counters` looks at.
    let file = cluster.dir().join("payloads");
    std::fs::write(&file, "7 first\n8 second\n9 third\n").unwrap();
    let file = file.display().to_string();
    let args = [
        "--topic",
        topic,
        "--num-records",
        &payload,
        "--throughput",
        "-1",
        "--payload-file",
        &file,
        "--producer-props",
        &props,
        "acks=all",
    ];
    let class = "org.apache.kafka.tools.ProducerPerformance";
    cluster.tool(class, &args).unwrap();
}

#[test]
fn a_cluster_survives_what_tests_do_to_it() {
    if !kafka::require_or_skip("a_cluster_survives_what_tests_do_to_it") {
        return;
    }
    let begin = Instant::now();
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    println!("start: {:?}", begin.elapsed());

    let topic = "harness";
    cluster
        .create_topic(topic, 2, 3, &[("compression.type", "gzip")])
        .unwrap();
    cluster.add_partitions(topic, 3).unwrap();
    assert!(
        cluster.create_topic(topic, 3, 3, &[]).is_err(),
        "it is there"
    );
    produce(&cluster, topic, 1000);

    let records = cluster.dump(topic, Isolation::ReadCommitted).unwrap();
    assert_eq!(records.len(), 1000);
    assert!(
        records
            .iter()
            .all(|r| r.key.is_none() && r.timestamp_type == "CreateTime")
    );
    let first = records[0].value.as_deref().unwrap();
    assert!([&b"7 first"[..], b"8 second", b"9 third"].contains(&first));

    // A crash: another broker leads, and the killed one comes back.
    let leader = cluster.leader_of(topic, 0).unwrap();
    let broker = cluster.broker(leader);
    let killed = Instant::now();
    broker.kill().unwrap();
    assert_eq!(broker.state(), State::Down);
    broker.restart().unwrap();
    broker.wait_ready().unwrap();
    println!("kill to ready: {:?}", killed.elapsed());
    cluster.wait_in_sync(topic).unwrap();
    println!("kill to in sync: {:?}", killed.elapsed());
    assert_ne!(cluster.leader_of(topic, 0).unwrap(), leader);
    cluster.elect_leaders(topic).unwrap();
    assert_eq!(cluster.leader_of(topic, 0).unwrap(), leader);

    // A broker that hangs takes part in nothing, until it is thawed.
    broker.freeze().unwrap();
    assert_eq!(broker.state(), State::Frozen);
    let frozen = Instant::now();
    while cluster.leader_of(topic, 0).unwrap() == leader {
        assert!(
            frozen.elapsed() < Duration::from_secs(30),
            "nobody took over"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("freeze to new leader: {:?}", frozen.elapsed());
    broker.thaw().unwrap();
    cluster.wait_in_sync(topic).unwrap();
    cluster
        .alter_topic(topic, &[("compression.type", "producer")])
        .unwrap();
    produce(&cluster, topic, 500);

    let seen = cluster
        .read_counters(topic, Isolation::ReadUncommitted)
        .unwrap();
    assert_eq!(seen.records(), 1500);
    assert_eq!(seen.duplicated(), [7, 8, 9]);
    assert_eq!(seen.lost([7, 10]), [10]);
    let keys = cluster.check_partitioning(topic).unwrap();
    assert_eq!((keys.mismatching, keys.unkeyed), (0, 1500));

    let rolled = Instant::now();
    broker.restart().unwrap();
    broker.wait_ready().unwrap();
    println!("clean restart: {:?}", rolled.elapsed());
    cluster.wait_in_sync(topic).unwrap();

    let log = cluster.dump_log_segments(leader, topic).unwrap();
    assert_eq!((log.records, log.invalid), (1500, 0));
    assert_eq!(log.codecs.keys().collect::<Vec<_>>(), ["gzip", "none"]);

    cluster.delete_topic(topic).unwrap();
    let dir = cluster.dir().to_path_buf();
    drop(cluster);
    assert!(!dir.exists(), "the data is removed");
}

#[test]
fn the_table_of_error_codes_is_kafkas() {
    if !kafka::require_or_skip("the_table_of_error_codes_is_kafkas") {
        return;
    }
    let libs = kafka::Libs::get(kafka::Release::default()).unwrap();
    let limit = Duration::from_secs(60);
    let theirs = libs.program("ErrorCodes.java", &[], limit).unwrap();
    let theirs = String::from_utf8(theirs).unwrap();
    let rows = include_str!("../kafka_errors.txt").lines();
    let ours = rows.filter(|row| !row.starts_with('#')).map(|row| {
        let mut words = row.splitn(3, ' ');
        format!("{} {}", words.next().unwrap(), words.next().unwrap())
    });
    assert_eq!(ours.collect::<Vec<_>>(), theirs.lines().collect::<Vec<_>>());
}

#[test]
fn what_was_read_back_is_judged() {
    let mut seen = Seen::default();
    seen.partitions
        .insert(0, vec![(0, 1), (1, 2), (2, 2), (3, 5)]);
    seen.partitions
        .insert(1, vec![(0, 4), (2, 3), (3, 14), (4, 13)]);
    assert_eq!(seen.records(), 8);
    assert_eq!(seen.lost(1..=6), [6]);
    assert_eq!(seen.phantom([5, 6]), [5]);
    assert_eq!(seen.duplicated(), [2]);
    assert_eq!(seen.reordered(|_| 0), [(1, 2, 3), (1, 4, 13)]);
    // Sent by two: 3 and 13 by one, 4 and 14 by the other.
    assert_eq!(seen.reordered(|counter| counter % 10), []);
    assert_eq!(
        seen.misrouted(|counter| i32::from(counter > 4)),
        [(0, 3, 5), (1, 0, 4), (1, 2, 3)]
    );
    assert_eq!(
        (seen.counter_at(1, 2), seen.counter_at(1, 1)),
        (Some(3), None)
    );
}
