//! Users whose password changes while a producer runs, users that go and come back, and a broker that
//! has other users than the rest.

use std::fs;
use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::{
    Config, LoginRefusal, Outcome, Producer, Reason, Receipt, Record, SecurityError, Unconfirmed,
};
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Isolation};
use tokio::time::timeout;

use super::{PLAIN, listener, secured, skipped};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

async fn send(producer: &Producer, topic: &str, partition: i32, value: u32) -> Receipt {
    let record = Record::to(topic)
        .partition(partition)
        .value(value.to_string());
    let sent = timeout(PATIENCE, producer.send(record)).await;
    sent.expect("in time").expect("a known topic")
}

async fn outcome(producer: &Producer, topic: &str, partition: i32, value: u32) -> Outcome {
    let receipt = send(producer, topic, partition, value).await;
    timeout(PATIENCE, receipt).await.expect("in time")
}

async fn close(producer: Producer) {
    let closed = producer.close(Duration::from_secs(5)).await;
    closed.expect("closed in time");
}

/// The reason says who was refused by which mechanism, in the broker's words.
fn was_refused(outcome: Outcome, mechanism: &str, user: &str, words: &str) {
    let Err(unconfirmed) = outcome else {
        panic!("{outcome:?}");
    };
    let Reason::Expired { last, security, .. } = unconfirmed.reason() else {
        panic!("{unconfirmed:?}");
    };
    let (last, security) = (last.as_ref().expect("a cause"), security.as_ref());
    assert!(last.contains(words), "{last}");
    let SecurityError::Login {
        mechanism: by,
        user: who,
        why: LoginRefusal::Credentials { words: said, .. },
        ..
    } = &**security.expect("a refused login")
    else {
        panic!("{security:?}");
    };
    assert_eq!((&**by, &**who), (mechanism, user));
    assert!(said.contains(words), "{said}");
}

/// Has a user of SCRAM another password, or be gone.
fn set_password(cluster: &Cluster, user: &str, password: Option<&str>) {
    let (how, what) = match password {
        Some(password) => (
            "--add-config",
            format!("SCRAM-SHA-512=[iterations=4096,password={password}]"),
        ),
        None => ("--delete-config", "SCRAM-SHA-512".to_owned()),
    };
    let servers = cluster.bootstrap();
    let args = [
        "--bootstrap-server",
        &servers,
        "--alter",
        "--entity-type",
        "users",
        "--entity-name",
        user,
        how,
        &what,
    ];
    let set = cluster.tool("kafka.admin.ConfigCommand", &args);
    set.expect("a user of SCRAM");
}

/// The broker ends each login after two seconds, so that it asks often. Meanwhile records flow.
#[tokio::test]
async fn a_password_that_changes_is_read_anew_and_nothing_is_lost() {
    if skipped("a_password_that_changes_is_read_anew_and_nothing_is_lost") {
        return;
    }
    const TOPIC: &str = "passwords";
    const USER: &str = "carol";
    let secured = secured();
    let cluster = &secured.cluster;
    cluster.create_topic(TOPIC, 1, 1, &[]).unwrap();
    set_password(cluster, USER, Some("first"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "first").unwrap();
    let config = |config: ConfigBuilder| {
        config
            .set("sasl.mechanism", "SCRAM-SHA-512")
            .set("sasl.username", USER)
            .set(
                "sasl.password",
                format!("${{dir:{}:password}}", dir.path().display()),
            )
            .set("config.providers", "dir")
            .set(
                "config.providers.dir.class",
                "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
            )
    };
    let patient = config(secured.config("RENEW", "SASL_SSL")).build().unwrap();
    let patient = Producer::start(patient).unwrap();
    let mut sent = 0;
    let flows_for = async |time: Duration, sent: &mut u32| {
        let begin = Instant::now();
        while begin.elapsed() < time {
            outcome(&patient, TOPIC, 0, *sent).await.expect("acked");
            *sent += 1;
        }
    };
    flows_for(Duration::from_secs(3), &mut sent).await;

    set_password(cluster, USER, Some("second"));
    // Within two seconds the login has to be renewed, and the old password does not serve.
    let begin = Instant::now();
    let held_up = loop {
        let mut receipt = send(&patient, TOPIC, 0, sent).await;
        sent += 1;
        match timeout(Duration::from_secs(3), &mut receipt).await {
            Ok(outcome) => drop(outcome.expect("acked")),
            Err(_) => break receipt,
        }
        assert!(begin.elapsed() < PATIENCE, "the old password still serves");
    };
    fs::write(&file, "second").unwrap();
    let begin = Instant::now();
    let waited = timeout(PATIENCE, held_up).await.expect("in time");
    waited.expect("the new password serves, and it is written once");
    println!("written {:?} after the file changed", begin.elapsed());
    flows_for(Duration::from_secs(3), &mut sent).await;

    // One that has little time, of a user that is gone.
    let hasty = config(secured.config("RENEW", "SASL_SSL"))
        .set("request.timeout.ms", 1_500)
        .set("delivery.timeout.ms", 4_000);
    let hasty = Producer::start(hasty.build().unwrap()).unwrap();
    outcome(&hasty, TOPIC, 0, 1_000_000).await.expect("acked");
    set_password(cluster, USER, None);
    let begin = Instant::now();
    let mut more = 1_000_001;
    let mut acked = vec![1_000_000];
    let failed = loop {
        let outcome = outcome(&hasty, TOPIC, 0, more).await;
        match outcome {
            Ok(_) => acked.push(more),
            failed => break failed,
        }
        more += 1;
        assert!(begin.elapsed() < PATIENCE, "the user still serves");
    };
    was_refused(failed, "SCRAM-SHA-512", USER, "invalid credentials");
    more += 1;
    set_password(cluster, USER, Some("second"));
    outcome(&hasty, TOPIC, 0, more)
        .await
        .expect("the user is back");
    acked.push(more);
    flows_for(Duration::from_secs(1), &mut sent).await;
    close(patient).await;
    close(hasty).await;
    let records = cluster.dump(TOPIC, Isolation::default()).unwrap();
    let values = records.into_iter().map(|it| it.value.expect("a value"));
    let values = values.map(|it| String::from_utf8(it).unwrap().parse::<u32>().unwrap());
    let (of_hasty, of_patient): (Vec<_>, Vec<_>) = values.partition(|it| *it >= 1_000_000);
    assert_eq!(of_patient, (0..sent).collect::<Vec<_>>());
    // What failed may have been in doubt.
    let in_log = of_hasty.iter().filter(|it| **it != more - 1);
    assert_eq!(in_log.copied().collect::<Vec<_>>(), acked);
}

fn users(password: &str) -> String {
    format!("{PLAIN} required user_alice=\"{password}\";")
}

/// Partition 2 is led by broker 3, which restarts with another table of users.
#[test]
fn a_broker_with_other_users_concerns_its_partitions_alone() {
    if skipped("a_broker_with_other_users_concerns_its_partitions_alone") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(other_users());
}

async fn other_users() {
    const TOPIC: &str = "others";
    let more = [
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("plain.sasl.jaas.config", &users("right")),
    ];
    let login = listener("LOGIN", "SASL_PLAINTEXT", None, &more);
    let cluster = Cluster::start(ClusterOptions::default().listener(login)).expect("a cluster");
    cluster
        .create_topic(TOPIC, 3, 1, &[("min.insync.replicas", "1")])
        .unwrap();
    let led = [0, 1, 2].map(|at| cluster.leader_of(TOPIC, at).unwrap());
    let theirs = led.iter().position(|it| *it == 3).expect("each leads one") as i32;
    let ours = [0, 1, 2].into_iter().filter(|at| *at != theirs);
    let ours: Vec<i32> = ours.collect();
    let config = Config::builder()
        .bootstrap_servers(cluster.bootstrap_of("LOGIN"))
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "alice")
        .set("sasl.password", "right")
        .set("request.timeout.ms", 2_000)
        .set("delivery.timeout.ms", 6_000)
        .build()
        .unwrap();
    let producer = Producer::start(config).unwrap();
    for partition in 0..3 {
        let first = outcome(&producer, TOPIC, partition, 0).await;
        first.expect("each lets it in");
    }
    let restart_with = |from: &str, to: &str| {
        let file = cluster.dir().join("broker-3/server.properties");
        let text = fs::read_to_string(&file).unwrap();
        let changed = text.replace(&users(from), &users(to));
        assert_ne!(changed, text);
        fs::write(&file, changed).unwrap();
        cluster.broker(3).restart().unwrap();
        cluster.broker(3).wait_ready().unwrap();
    };
    restart_with("right", "other");
    let begin = Instant::now();
    let failing = tokio::spawn(send(&producer, TOPIC, theirs, 1).await);
    let mut sent = 0;
    while !failing.is_finished() {
        sent += 1;
        for partition in &ours {
            let acked = outcome(&producer, TOPIC, *partition, sent).await;
            acked.expect("the others go on");
        }
    }
    println!(
        "{sent} records each while one broker refused, {:?}",
        begin.elapsed()
    );
    assert!(begin.elapsed() < Duration::from_secs(12), "a bounded time");
    let failed = failing.await.expect("no panic");
    assert!(
        matches!(failed, Err(Unconfirmed::NotWritten(_))),
        "{failed:?}"
    );
    was_refused(failed, "PLAIN", "alice", "Invalid username or password");

    restart_with("other", "right");
    let last = outcome(&producer, TOPIC, theirs, 2).await;
    last.expect("it lets the producer in again");
    close(producer).await;
    let records = cluster.dump(TOPIC, Isolation::default()).unwrap();
    assert_eq!(records.len(), 4 + 2 * sent as usize);
}
