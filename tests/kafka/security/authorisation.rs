//! Clients that lack an ACL, and those that get or lose one while they run. Each test has users of its
//! own, at a broker that refuses whatever no ACL allows.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use forebay::{
    BrokerError, Config, Outcome, Producer, Reason, Receipt, Record, SendError, Unconfirmed,
};
use forebay_kafka_cluster::{Cluster, ClusterOptions, Isolation};
use krafka::admin::{
    AclBinding, AclFilter, AclOperation, AclPatternType, AclPermissionType, AclResourceType,
};
use tokio::time::timeout;

use super::{PLAIN, listener, skipped};

/// No refusal takes longer. `max.block.ms` is a minute, `delivery.timeout.ms` two.
const AT_ONCE: Duration = Duration::from_secs(3);
/// What an ACL that has come needs until it works: brokers hear of it by themselves, and a topic that
/// was refused is asked for anew within `retry.backoff.max.ms`.
const SOON: Duration = Duration::from_secs(10);

const USERS: [&str; 5] = ["blind", "mixed", "loser", "nobody", "denied"];

fn guarded() -> &'static Cluster {
    static GUARDED: OnceLock<Cluster> = OnceLock::new();
    GUARDED.get_or_init(|| guarded_for(&USERS))
}

/// A cluster of one broker that refuses whatever no ACL allows to these users.
pub fn guarded_for(users: &[&str]) -> Cluster {
    let users = users.iter().map(|user| format!("user_{user}=\"{user}\""));
    let jaas = format!("{PLAIN} required {};", users.collect::<Vec<_>>().join(" "));
    let login = listener(
        "GUARDED",
        "SASL_PLAINTEXT",
        None,
        &[
            ("sasl.enabled.mechanisms", "PLAIN"),
            ("plain.sasl.jaas.config", &jaas),
        ],
    );
    let class = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let options = ClusterOptions::default()
        .brokers(1)
        .property("authorizer.class.name", class)
        // Those of the listener in plain text: the tests themselves, and the controller.
        .property("super.users", "User:ANONYMOUS")
        .listener(login);
    Cluster::start(options).expect("a cluster")
}

fn start(user: &str, more: &[(&str, &str)]) -> Producer {
    start_at(guarded(), user, more)
}

pub fn start_at(cluster: &Cluster, user: &str, more: &[(&str, &str)]) -> Producer {
    let mut config = Config::builder()
        .bootstrap_servers(cluster.bootstrap_of("GUARDED"))
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", user)
        .set("sasl.password", user);
    for (key, value) in more {
        config = config.set(*key, value);
    }
    Producer::start(config.build().expect("a configuration")).expect("a producer")
}

fn topics<const N: usize>(names: [&str; N]) {
    for name in names {
        guarded().create_topic(name, 2, 1, &[]).expect("a topic");
    }
}

pub fn acl(user: &str, operation: AclOperation, topic: &str) -> AclBinding {
    let user = format!("User:{user}");
    let (topics, allow) = (AclResourceType::Topic, AclPermissionType::Allow);
    AclBinding::new(topics, topic, user, "*", operation, allow)
}

fn cluster_acl(user: &str, permission: AclPermissionType) -> AclBinding {
    let (user, cluster) = (format!("User:{user}"), AclResourceType::Cluster);
    let operation = AclOperation::IdempotentWrite;
    AclBinding::new(cluster, "kafka-cluster", user, "*", operation, permission)
}

fn grant(acls: &[AclBinding]) {
    grant_at(guarded(), acls);
}

pub fn grant_at(cluster: &Cluster, acls: &[AclBinding]) {
    // krafka numbers the patterns one too low: what it calls prefixed, brokers take for literal.
    let literal = |acl: &AclBinding| AclBinding {
        pattern_type: AclPatternType::Prefixed,
        ..acl.clone()
    };
    let acls: Vec<_> = acls.iter().map(literal).collect();
    let granted = cluster.admin("grant ACLs", async |admin| {
        let results = admin.create_acls(acls.clone(), Default::default()).await?;
        results.into_iter().try_for_each(|(_, result)| result)
    });
    granted.expect("ACLs")
}

fn revoke(acl: &AclBinding) {
    let filter = AclFilter::for_resource(acl.resource_type, acl.resource_name.clone())
        .principal(acl.principal.clone())
        .operation(acl.operation);
    let revoked = guarded().admin("revoke an ACL", async |admin| {
        let filters = vec![filter.clone()];
        let results = admin.delete_acls(filters, Default::default()).await?;
        let mut gone = 0;
        for (_, result) in results {
            gone += result?.deleted.len();
        }
        Ok(gone)
    });
    assert_eq!(revoked.expect("an answer"), 1, "{acl:?}");
}

async fn send(producer: &Producer, topic: &str, value: u32) -> Result<Receipt, SendError> {
    let record = Record::to(topic).partition(0).value(value.to_string());
    let sent = timeout(AT_ONCE, producer.send(record)).await;
    sent.expect("it is accepted or refused at once")
}

/// The outcome, which has to come at once.
async fn outcome(producer: &Producer, topic: &str, value: u32) -> Outcome {
    let receipt = send(producer, topic, value).await.expect("a known topic");
    timeout(AT_ONCE, receipt).await.expect("at once")
}

/// Waits until the topic is known. Each broker hears of an ACL in its own time.
async fn known_soon(producer: &Producer, topic: &str) {
    let begin = Instant::now();
    while let Err(refused) = producer.partitions_for(topic).await {
        assert!(begin.elapsed() < SOON, "{refused}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends until it is written.
async fn written_soon(producer: &Producer, topic: &str, value: u32) {
    let begin = Instant::now();
    loop {
        let refused = match send(producer, topic, value).await {
            Ok(receipt) => match timeout(AT_ONCE, receipt).await.expect("at once") {
                Ok(_) => break,
                Err(unconfirmed) => unconfirmed.to_string(),
            },
            Err(refused) => refused.to_string(),
        };
        assert!(begin.elapsed() < SOON, "{refused}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{topic}: written {:?} after the ACL came", begin.elapsed());
}

fn lacks(error: &BrokerError, code: i16, user: &str, acl: &str) {
    let principal = format!("User:{user}");
    assert_eq!(error.code, code);
    assert_eq!(error.principal.as_deref(), Some(&*principal));
    assert!(error.missing_acl().is_some_and(|it| it.contains(acl)));
    assert!(error.to_string().contains(&principal), "{error}");
}

/// What a produce request is refused with.
fn not_written(outcome: Outcome) -> BrokerError {
    match outcome {
        Err(Unconfirmed::NotWritten(Reason::Broker(error))) => error,
        other => panic!("{other:?}"),
    }
}

fn values(topic: &str) -> Vec<u32> {
    let records = guarded()
        .dump(topic, Isolation::default())
        .expect("a topic");
    let value = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.expect("a value"));
    let values = records.into_iter().map(|it| value(it.value).expect("text"));
    values.map(|it| it.parse().expect("a number")).collect()
}

async fn close(producer: Producer) {
    let closed = producer.close(Duration::from_secs(5)).await;
    closed.expect("closed in time");
}

/// All five are in one metadata request.
#[tokio::test]
async fn a_topic_that_may_not_be_seen_is_refused_at_once_and_the_others_are_not() {
    if skipped("a_topic_that_may_not_be_seen_is_refused_at_once_and_the_others_are_not") {
        return;
    }
    let seen = ["seen-0", "seen-1", "seen-2", "seen-3"];
    topics(seen);
    topics(["unseen"]);
    grant(&seen.map(|topic| acl("blind", AclOperation::Write, topic)));
    let producer = start("blind", &[]);
    let refused = send(&producer, "unseen", 0);
    let others = futures_util::future::join_all(seen.map(|topic| outcome(&producer, topic, 0)));
    let (refused, others) = tokio::join!(refused, others);
    match refused {
        Err(SendError::TopicRefused { topic, error, .. }) => {
            assert_eq!(&*topic, "unseen");
            lacks(&error, 29, "blind", "WRITE on the topic");
        }
        other => panic!("{other:?}"),
    }
    for other in others {
        other.expect("a topic that may be written");
    }
    // It is none of these that brokers lack, so whoever does not wait hears of it, too.
    let refused = producer.try_send(Record::to("unseen").value("1"));
    let refused = refused.expect_err("a refusal");
    assert!(
        matches!(refused.error(), SendError::TopicRefused { .. }),
        "{refused}"
    );

    grant(&[acl("blind", AclOperation::Write, "unseen")]);
    written_soon(&producer, "unseen", 7).await;
    close(producer).await;
    assert_eq!(values("unseen"), [7]);
}

/// Records of both go in the same requests.
#[tokio::test]
async fn of_two_topics_in_a_request_only_the_one_that_may_not_be_written_is_refused() {
    if skipped("of_two_topics_in_a_request_only_the_one_that_may_not_be_written_is_refused") {
        return;
    }
    const RECORDS: u32 = 2_000;
    topics(["shut", "open"]);
    // A broker tells of a topic before its leaders are there, and has the first records sent again.
    assert!(values("open").is_empty());
    grant(&[
        acl("mixed", AclOperation::Describe, "shut"),
        acl("mixed", AclOperation::Write, "open"),
    ]);
    let producer = start("mixed", &[]);
    let begin = Instant::now();
    let mut receipts = Vec::new();
    for value in 0..RECORDS {
        let open = send(&producer, "open", value).await.expect("accepted");
        let shut = send(&producer, "shut", value).await.expect("accepted");
        receipts.push((open, shut));
    }
    for (open, shut) in receipts {
        timeout(AT_ONCE, open)
            .await
            .expect("at once")
            .expect("it is written");
        let shut = timeout(AT_ONCE, shut).await.expect("at once");
        lacks(&not_written(shut), 29, "mixed", "WRITE on the topic");
    }
    println!("{RECORDS} records each: {:?}", begin.elapsed());
    let figures = producer.figures().await.expect("figures");
    let retries: u64 = figures.partitions.iter().map(|it| it.retries).sum();
    assert_eq!(retries, 0, "nobody is disturbed");

    grant(&[acl("mixed", AclOperation::Write, "shut")]);
    written_soon(&producer, "shut", RECORDS).await;
    close(producer).await;
    assert_eq!(values("open"), (0..RECORDS).collect::<Vec<_>>());
    assert_eq!(values("shut"), [RECORDS]);
}

#[tokio::test]
async fn an_acl_that_is_taken_away_in_a_run_concerns_its_topic_alone() {
    if skipped("an_acl_that_is_taken_away_in_a_run_concerns_its_topic_alone") {
        return;
    }
    topics(["lost", "kept"]);
    let lost = acl("loser", AclOperation::Write, "lost");
    let kept = acl("loser", AclOperation::Write, "kept");
    grant(&[lost.clone(), kept]);
    let producer = Arc::new(start("loser", &[("metadata.max.age.ms", "500")]));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let keeps = tokio::spawn({
        let producer = Arc::clone(&producer);
        async move {
            let (mut value, mut stopped) = (0, stopped);
            while stopped.try_recv().is_err() {
                let kept = outcome(&producer, "kept", value).await;
                kept.expect("nobody disturbs it");
                value += 1;
            }
            value
        }
    });
    let mut acked = Vec::new();
    let mut next = 0;
    for round in 0..2 {
        for _ in 0..20 {
            outcome(&producer, "lost", next)
                .await
                .expect("it may be written");
            acked.push(next);
            next += 1;
        }
        revoke(&lost);
        // For a moment the broker may not have heard of it.
        let begin = Instant::now();
        let refused = loop {
            match outcome(&producer, "lost", next).await {
                Ok(_) => acked.push(next),
                refused => break refused,
            }
            next += 1;
            assert!(begin.elapsed() < SOON, "it is still written");
        };
        lacks(&not_written(refused), 29, "loser", "WRITE on the topic");
        next += 1;
        // Metadata that refuse the topic come meanwhile, and those that know it are kept.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        lacks(
            &not_written(outcome(&producer, "lost", next).await),
            29,
            "loser",
            "WRITE on the topic",
        );
        next += 1;
        grant(std::slice::from_ref(&lost));
        written_soon(&producer, "lost", next).await;
        acked.push(next);
        next += 1;
        println!("round {round}: {} acked of {next}", acked.len());
    }
    stop.send(()).expect("it listens");
    let sent = keeps.await.expect("no panic");
    println!("kept: {sent} records, all acked");
    assert!(sent > 50, "it went on meanwhile");
    let producer = Arc::into_inner(producer).expect("the last one");
    close(producer).await;
    assert_eq!(values("lost"), acked);
    assert_eq!(values("kept"), (0..sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_leave_to_be_idempotent_each_step_of_the_way_is_told() {
    if skipped("without_leave_to_be_idempotent_each_step_of_the_way_is_told") {
        return;
    }
    topics(["steps"]);
    grant(&[acl("nobody", AclOperation::Describe, "steps")]);
    let producer = start("nobody", &[]);
    known_soon(&producer, "steps").await;
    match outcome(&producer, "steps", 0).await {
        Err(Unconfirmed::NotWritten(Reason::NoProducerId { why, .. })) => {
            for part in [
                "CLUSTER_AUTHORIZATION_FAILED",
                "User:nobody needs the ACL IDEMPOTENT_WRITE on the cluster, or WRITE on a topic",
                "enable.idempotence=false",
            ] {
                assert!(why.contains(part), "{why}");
            }
        }
        other => panic!("{other:?}"),
    }
    // A producer that is not idempotent is told of the next ACL.
    let plain = start(
        "nobody",
        &[("enable.idempotence", "false"), ("acks", "all")],
    );
    known_soon(&plain, "steps").await;
    let refused = not_written(outcome(&plain, "steps", 1).await);
    lacks(&refused, 29, "nobody", "WRITE on the topic");
    close(plain).await;

    grant(&[cluster_acl("nobody", AclPermissionType::Allow)]);
    let begin = Instant::now();
    let refused = loop {
        match outcome(&producer, "steps", 2).await {
            Err(Unconfirmed::NotWritten(Reason::NoProducerId { .. })) => {}
            other => break not_written(other),
        }
        assert!(begin.elapsed() < SOON, "there is no producer id yet");
    };
    lacks(&refused, 29, "nobody", "WRITE on the topic");
    grant(&[acl("nobody", AclOperation::Write, "steps")]);
    written_soon(&producer, "steps", 3).await;
    close(producer).await;
    assert_eq!(values("steps"), [3]);
}

/// An ACL that denies goes before those that allow.
#[tokio::test]
async fn who_is_denied_the_cluster_may_write_by_an_acl_on_the_topic() {
    if skipped("who_is_denied_the_cluster_may_write_by_an_acl_on_the_topic") {
        return;
    }
    topics(["still"]);
    grant(&[
        cluster_acl("denied", AclPermissionType::Deny),
        acl("denied", AclOperation::Write, "still"),
    ]);
    let producer = start("denied", &[]);
    written_soon(&producer, "still", 0).await;
    close(producer).await;
    assert_eq!(values("still"), [0]);
}
