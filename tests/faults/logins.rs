//! Brokers that do not let the producer log in: at first, later, or one of them alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use forebay::{LoginRefusal, Reason, SecurityError, SendError};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::scripted::{Answer, Reply, Scripted, Twist, node};
use crate::*;

const PRODUCE: i16 = 12;
const AUTHENTICATION_FAILED: i16 = 58;
const WORDS: &str = "wrong user or password";
/// What an error of a login says, whoever passes it on.
const SAID: &str = "does not let \"alice\" log in by PLAIN: wrong user or password";

fn start(servers: &str, keys: &[(&str, &str)]) -> Producer {
    let login = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "alice"),
        ("sasl.password", "s3cret"),
    ];
    let keys: Vec<_> = login.iter().chain(keys).copied().collect();
    Producer::start(config(servers, &keys)).expect("a producer")
}

/// Whether a broker refuses logins, and the times of those that came.
#[derive(Clone, Default)]
struct Door {
    shut: Arc<AtomicBool>,
    logins: Arc<Mutex<Vec<Instant>>>,
}

impl Door {
    fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::Relaxed);
    }

    fn refuse(&self, answer: &mut Answer, words: &'static str) {
        let Answer::Login(login) = answer else {
            return;
        };
        self.logins.lock().unwrap().push(Instant::now());
        if self.shut.load(Ordering::Relaxed) {
            login.error_code = AUTHENTICATION_FAILED;
            login.error_message = Some(StrBytes::from_static_str(words));
        }
    }

    fn twist(&self) -> Twist {
        let door = self.clone();
        Twist::answering(move |_, answer| door.refuse(answer, WORDS))
    }

    /// How many logins there were in each second.
    fn per_second(&self, begin: Instant) -> Vec<usize> {
        let logins = self.logins.lock().unwrap();
        let mut counts = Vec::new();
        for login in logins.iter().filter(|at| **at >= begin) {
            let second = (*login - begin).as_secs() as usize;
            counts.resize(counts.len().max(second + 1), 0);
            counts[second] += 1;
        }
        counts
    }
}

/// Keeps a hundred callers sending, each again as soon as it is refused, for some seconds. Returns how
/// often they were refused.
async fn besiege(producer: &Producer, topic: &'static str, time: Duration) -> usize {
    let (until, refused) = (Instant::now() + time, Arc::new(AtomicUsize::new(0)));
    let callers = (0..100).map(|_| {
        let (producer, refused) = (producer.clone(), Arc::clone(&refused));
        tokio::spawn(async move {
            while Instant::now() < until {
                let record = Record::to(topic).partition(0).value("x");
                if producer.send(record).await.is_err() {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        within(caller).await.expect("no panic");
    }
    refused.load(Ordering::Relaxed)
}

#[tokio::test]
async fn credentials_that_never_worked_are_told_at_once_and_may_work_later() {
    let door = Door::default();
    door.shut(true);
    let brokers = [
        Scripted::start(PRODUCE, door.twist()).await,
        Scripted::start(PRODUCE, door.twist()).await,
        Scripted::start(PRODUCE, door.twist()).await,
    ];
    let servers: Vec<_> = brokers.iter().map(Scripted::servers).collect();
    let producer = start(&servers.join(","), &[]);
    let begin = Instant::now();
    let refused = within(producer.send(to("x"))).await.expect_err("refused");
    // `max.block.ms` is a minute.
    assert!(begin.elapsed() < Duration::from_secs(5));
    let SendError::Security(error) = refused else {
        panic!("{refused:?}");
    };
    let SecurityError::Login {
        broker,
        mechanism,
        user,
        why: LoginRefusal::Credentials { words, .. },
        ..
    } = &*error
    else {
        panic!("{error:?}");
    };
    assert!(servers.contains(&broker.to_string()), "{broker}");
    assert_eq!((&**mechanism, &**user, &**words), ("PLAIN", "alice", WORDS));
    let asked = brokers
        .iter()
        .map(|it| it.requests(ApiKey::SaslAuthenticate));
    assert_eq!(asked.collect::<Vec<_>>(), [1, 1, 1], "each was tried once");

    door.shut(false);
    acked(loop {
        match within(producer.send(to("y"))).await {
            Ok(receipt) => break receipt,
            Err(SendError::Security(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    })
    .await;
    close(producer).await;
}

/// One attempt at a time, backed off as `retry.backoff.ms` has it, however many callers wait.
#[tokio::test]
async fn callers_that_are_refused_again_and_again_bring_no_storm_of_logins() {
    let door = Door::default();
    door.shut(true);
    let broker = Scripted::start(PRODUCE, door.twist()).await;
    let backoff = [
        ("retry.backoff.ms", "50"),
        ("retry.backoff.max.ms", "1000"),
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
    ];
    let producer = start(&broker.servers(), &backoff);
    let begin = Instant::now();
    let refused = besiege(&producer, "t", seconds(3)).await;
    let counts = door.per_second(begin);
    println!("{refused} refusals, logins in each second: {counts:?}");
    // After 50, 100, 200, 400, 800 ms and then each second, give or take a fifth.
    assert!(refused >= 100, "each caller heard of it");
    assert!(counts[0] <= 7, "{counts:?}");
    assert!(counts[1..].iter().all(|count| *count <= 3), "{counts:?}");
    close(producer).await;
}

/// The same where the credentials worked before: the connections end, and no new one is let in. Both the
/// sender and whoever asks for metadata try, each backed off.
#[tokio::test]
async fn a_broker_that_refuses_what_it_took_before_is_not_stormed_either() {
    let door = Door::default();
    let cut = Arc::new(AtomicBool::new(false));
    let twist = Twist {
        frame: Some(Box::new({
            let cut = Arc::clone(&cut);
            move |key, _, bytes| match key {
                ApiKey::Produce | ApiKey::Metadata if cut.load(Ordering::Relaxed) => {
                    Reply::Last(Vec::new())
                }
                _ => Reply::Bytes(bytes),
            }
        })),
        ..door.twist()
    };
    let broker = Scripted::start(PRODUCE, twist).await;
    let keys = [
        ("retry.backoff.ms", "50"),
        ("retry.backoff.max.ms", "1000"),
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("max.block.ms", "500"),
        ("buffer.memory", "65536"),
    ];
    let producer = start(&broker.servers(), &keys);
    acked(send(&producer, "first").await).await;
    door.shut(true);
    cut.store(true, Ordering::Relaxed);
    let doubtful = send(&producer, "doubtful").await;
    let begin = Instant::now();
    let refused = besiege(&producer, "t", seconds(3)).await;
    let counts = door.per_second(begin);
    println!("{refused} refusals, logins in each second: {counts:?}");
    assert!(counts[0] <= 14, "{counts:?}");
    assert!(counts[1..].iter().all(|count| *count <= 6), "{counts:?}");
    // A caller whose topic is not known hears what is wrong, but waits: it may pass.
    let unknown = within(producer.send(Record::to("t-new").value("x"))).await;
    match unknown.expect_err("nobody can be asked") {
        SendError::TopicUnknown { why, .. } => assert!(why.contains(SAID), "{why}"),
        other => panic!("{other:?}"),
    }
    cut.store(false, Ordering::Relaxed);
    door.shut(false);
    let outcome = outcome(doubtful).await;
    outcome.expect("it was resent when the broker let it in again");
    close(producer).await;
}

/// As long as it takes; `FOREBAY_SECONDS` has it take longer.
fn seconds(default: u64) -> Duration {
    let set = std::env::var("FOREBAY_SECONDS").ok();
    Duration::from_secs(set.and_then(|it| it.parse().ok()).unwrap_or(default))
}

/// The second of two brokers has another table of users, and leads partition 1.
#[tokio::test]
async fn a_broker_that_refuses_logins_concerns_its_partitions_alone() {
    let (door, cut) = (Door::default(), Arc::new(AtomicBool::new(false)));
    door.shut(true);
    let twist = Twist {
        frame: Some(Box::new({
            let (door, cut) = (door.clone(), Arc::clone(&cut));
            move |key, _, bytes| match key {
                ApiKey::Produce if cut.load(Ordering::Relaxed) => {
                    // Not before: a connection that is lost for another reason is made again.
                    door.shut(true);
                    Reply::Last(Vec::new())
                }
                _ => Reply::Bytes(bytes),
            }
        })),
        ..door.twist()
    };
    let other = Scripted::start(PRODUCE, twist).await;
    let port = other.port;
    let ports = Arc::new(AtomicUsize::new(0));
    let first = Scripted::start(
        PRODUCE,
        Twist::answering({
            let ports = Arc::clone(&ports);
            move |_, answer| {
                if let Answer::Metadata(metadata) = answer {
                    let own = ports.load(Ordering::Relaxed) as u16;
                    metadata.brokers = vec![node(0, own), node(1, port)];
                    for topic in &mut metadata.topics {
                        topic.partitions[1].leader_id = 1.into();
                    }
                }
            }
        }),
    )
    .await;
    ports.store(first.port.into(), Ordering::Relaxed);
    let keys = [
        ("request.timeout.ms", "500"),
        ("delivery.timeout.ms", "1500"),
    ];
    let producer = start(&first.servers(), &keys);
    let there = |value: &str| {
        let record = Record::to("t").partition(1).value(value.to_owned());
        within(producer.send(record))
    };
    let begin = Instant::now();
    let never = there("never").await.expect("accepted");
    let never = tokio::spawn(never);
    let mut here = 0;
    while !never.is_finished() {
        acked(send(&producer, here).await).await;
        here += 1;
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(here > 10, "the other partition goes on: {here} records");
    match never.await.expect("no panic") {
        Err(Unconfirmed::NotWritten(Reason::Expired { last, security, .. })) => {
            let last = last.expect("the login's words");
            assert!(last.contains(SAID), "{last}");
            assert!(last.contains(&other.servers()), "{last}");
            let security = security.expect("what the words say");
            assert!(
                matches!(*security, SecurityError::Login { .. }),
                "{security}"
            );
        }
        outcome => panic!("{outcome:?}"),
    }

    // Now it lets the producer in, takes a batch, says nothing, and refuses it from then on.
    door.shut(false);
    acked(there("taken").await.expect("accepted")).await;
    cut.store(true, Ordering::Relaxed);
    match outcome(there("doubtful").await.expect("accepted")).await {
        Err(Unconfirmed::Unknown(Reason::Expired { last, .. })) => {
            let last = last.expect("the login's words");
            assert!(last.contains(SAID), "{last}");
        }
        outcome => panic!("{outcome:?}"),
    }
    cut.store(false, Ordering::Relaxed);
    door.shut(false);
    acked(there("last").await.expect("accepted")).await;
    assert_eq!(other.values(1), ["taken", "doubtful", "last"]);
    close(producer).await;
}

/// MSK says so of a broker that gets more logins than it can take.
#[tokio::test]
async fn too_many_logins_pass_and_nobody_is_refused() {
    let door = Door::default();
    let twist = Twist::answering({
        let door = door.clone();
        move |before, answer| {
            door.shut(before < 3);
            door.refuse(answer, "[e4230c29-4c1e]: Too many connects");
        }
    });
    let broker = Scripted::start(PRODUCE, twist).await;
    let producer = start(&broker.servers(), &[]);
    acked(send(&producer, "x").await).await;
    assert!(broker.requests(ApiKey::SaslAuthenticate) > 3);
    close(producer).await;
}

#[tokio::test]
async fn a_mechanism_that_a_broker_has_not_is_told_with_those_it_has() {
    let twist = Twist::answering(|_, answer| {
        if let Answer::Mechanisms(answer) = answer {
            answer.error_code = 33;
            answer.mechanisms = ["GSSAPI", "OAUTHBEARER"]
                .map(StrBytes::from_static_str)
                .to_vec();
        }
    });
    let broker = Scripted::start(PRODUCE, twist).await;
    let producer = start(&broker.servers(), &[]);
    match within(producer.send(to("x"))).await.expect_err("refused") {
        SendError::Security(error) => match &*error {
            SecurityError::Login {
                why: LoginRefusal::Mechanism { enabled, .. },
                ..
            } => assert_eq!(enabled[..], ["GSSAPI", "OAUTHBEARER"]),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    close(producer).await;
}
