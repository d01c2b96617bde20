//! Single scenes in virtual time, with a cluster in which nothing goes wrong by itself, or none.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use forebay::config::ConfigBuilder;
use forebay::internals::faults;
use forebay::{CloseError, Config, Producer, Receipt, Record, SendError};
use forebay_model_cluster::{Cluster, Kafka, Settings, Transactions, listen, rng, virtual_time};

use super::resolve::excuse_of_end;
use super::tally::Excuse;

#[test]
fn clients_that_failed_together_do_not_come_back_together() {
    let refused = Rc::new(RefCell::new(vec![Vec::new(); 2]));
    let attempts = Rc::clone(&refused);
    virtual_time(async move {
        let began = tokio::time::Instant::now();
        let mut producers = Vec::new();
        for client in 0..2 {
            let attempts = Rc::clone(&attempts);
            let listener = move || {
                attempts.borrow_mut()[client].push(began.elapsed());
                Box::pin(async { Err(std::io::ErrorKind::ConnectionRefused.into()) }) as _
            };
            let host = format!("broker-{client}");
            listen(&host, 9092, Box::new(listener));
            let config = Config::new(&format!("{host}:9092")).expect("a configuration");
            let builder = Producer::builder().in_local_set();
            let producer = builder.start(config).expect("a producer");
            let sender = producer.clone();
            tokio::task::spawn_local(async move { sender.send(Record::to("t")).await });
            producers.push(producer);
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
    });
    let refused = refused.borrow();
    assert!(refused[0].len() > 10, "{refused:?}");
    assert_ne!(refused[0], refused[1], "both wait equally long each time");
}

/// A producer on this thread, and a cluster in which nothing goes wrong by itself.
fn fair(settings: ConfigBuilder) -> (Rc<Kafka>, Producer) {
    with_brokers(Settings::FAIR, settings)
}

fn with_brokers(brokers: Settings, settings: ConfigBuilder) -> (Rc<Kafka>, Producer) {
    let mut rng = rng(1);
    let cluster = Cluster::new(3, &[1], &mut rng);
    let kafka = Kafka::start(brokers, cluster, rng, ());
    let config = settings
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        .set("delivery.timeout.ms", 20_000)
        .set("request.timeout.ms", 5_000)
        .build();
    let builder = Producer::builder().in_local_set();
    let producer = builder.start(config.expect("a configuration"));
    (kafka, producer.expect("a producer"))
}

async fn sent(producer: &Producer) -> Receipt {
    let record = Record::to("topic-0").partition(0);
    producer.send(record).await.expect("accepted")
}

#[test]
fn a_move_that_is_lost_in_a_panic_is_told_again() {
    virtual_time(async {
        let (kafka, producer) = fair(Config::builder());
        sent(&producer).await.await.expect("acked");
        let leader = kafka.cluster.borrow().topics[0].partitions[0].now.leader;
        let leader = leader.expect("a leader");
        faults::plan("SenderActor:MoveTo", 1, 1);
        kafka.kill(leader, false);
        kafka.restart(leader, true);
        let outcome = sent(&producer).await.await;
        assert_eq!(faults::stop(), [1], "the sender is told of the move");
        outcome.expect("acked");
    });
}

#[test]
fn a_part_that_fails_while_the_producer_closes_ends_it_at_once() {
    virtual_time(async {
        let (kafka, producer) = fair(Config::builder().set("forebay.restart.max", 0));
        sent(&producer).await.await.expect("acked");
        (0..kafka.brokers()).for_each(|broker| kafka.freeze(broker));
        let receipt = sent(&producer).await;
        // Without the clock nothing would ever run out of time.
        faults::plan("ClockActor:*", 1, 1);
        let closing = producer.close(Duration::from_secs(3_600));
        let delivery_timeout = Duration::from_secs(20);
        let outcome = tokio::time::timeout(delivery_timeout, receipt);
        let (closed, outcome) = tokio::join!(closing, outcome);
        assert_eq!(faults::stop(), [1], "the clock fails");
        assert!(outcome.expect("an outcome in time").is_err());
        assert!(matches!(closed, Err(CloseError::Gone)), "{closed:?}");
    });
}

#[test]
fn a_marker_that_was_seen_is_not_written_again_where_that_is_lost_in_a_panic() {
    virtual_time(async {
        let brokers = Settings {
            transactions: Some(Transactions::FAIR),
            reads: true,
            ..Settings::FAIR
        };
        let resolves = Config::builder().set("forebay.unknown", "resolve");
        let (kafka, producer) = with_brokers(brokers, resolves);
        sent(&producer).await.await.expect("acked");
        kafka.change(|conditions| conditions.answers_lost = 1_000);
        let receipt = sent(&producer).await;
        // Until its time is over.
        tokio::time::sleep(Duration::from_secs(25)).await;
        kafka.change(|conditions| conditions.answers_lost = 0);
        faults::plan("FenceActor:FenceSeen", 1, 1);
        receipt.await.expect("found");
        sent(&producer).await.await.expect("acked");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(faults::stop(), [1], "it is lost");
        let cluster = kafka.cluster.borrow();
        let log = cluster.log((0, 0)).expect("a leader");
        let markers = log.batches().iter().filter(|it| it.header.is_control());
        assert_eq!(markers.count(), 1);
    });
}

#[test]
fn a_flush_waits_for_what_is_looked_for() {
    virtual_time(async {
        let brokers = Settings {
            transactions: Some(Transactions::FAIR),
            reads: true,
            ..Settings::FAIR
        };
        let resolves = Config::builder().set("forebay.unknown", "resolve");
        let (kafka, producer) = with_brokers(brokers, resolves);
        sent(&producer).await.await.expect("acked");
        kafka.change(|conditions| conditions.answers_lost = 1_000);
        let receipt = sent(&producer).await;
        let heals = async {
            // Its time is over by then.
            tokio::time::sleep(Duration::from_secs(40)).await;
            kafka.change(|conditions| conditions.answers_lost = 0);
        };
        let (flushed, ()) = tokio::join!(producer.flush(), heals);
        assert_eq!(flushed.expect("in time").acked, 1);
        receipt.outcome().expect("told").expect("found");
    });
}

#[test]
fn what_ends_with_a_part_that_is_given_up_is_excused_though_nobody_closes() {
    virtual_time(async {
        let (kafka, producer) = fair(Config::builder().set("forebay.restart.max", 0));
        sent(&producer).await.await.expect("acked");
        (0..kafka.brokers()).for_each(|broker| kafka.freeze(broker));
        let receipt = sent(&producer).await;
        faults::plan("ClockActor:*", 1, 1);
        let outcome = receipt.await;
        assert_eq!(faults::stop(), [1], "the clock fails");
        let unknown = outcome.expect_err("no broker answered");
        let why = unknown.reason();
        assert_eq!(excuse_of_end(why, false, true), Some(Excuse::GivenUp));
        assert_eq!(excuse_of_end(why, true, false), Some(Excuse::Closed));
        assert_eq!(excuse_of_end(why, false, false), None);
    });
}

#[test]
fn a_topic_nobody_wants_any_more_costs_nothing() {
    virtual_time(async {
        let config = Config::builder()
            .bootstrap_servers("nobody:9092")
            .set("max.block.ms", 50)
            .build()
            .expect("a configuration");
        let builder = Producer::builder().in_local_set();
        let producer = builder.start(config).expect("a producer");
        let refused = producer.send(Record::to("nothing")).await;
        assert!(matches!(refused, Err(SendError::TopicUnknown { .. })));
        let messages = Rc::new(Cell::new(0));
        let counter = Rc::clone(&messages);
        faults::at_each(move |_, _| {
            counter.set(counter.get() + 1);
            assert!(counter.get() < 10_000, "the runtime spins");
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        faults::at_none();
        assert!(messages.get() < 100, "{} messages", messages.get());
    });
}

#[test]
fn a_partition_without_a_leader_that_nobody_sends_to_costs_little() {
    virtual_time(async {
        let mut rng = rng(1);
        let mut cluster = Cluster::new(3, &[2], &mut rng);
        cluster.topics[0].visible = 2;
        cluster.partition((0, 1)).now.leader = None;
        for broker in &mut cluster.brokers {
            broker.known[0] = 2;
            broker.views[0][1].leader = None;
        }
        let leads = cluster.topics[0].partitions[0].now.leader;
        let kafka = Kafka::start(Settings::FAIR, cluster, rng, ());
        let config = Config::builder()
            .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
            .build();
        let builder = Producer::builder().in_local_set();
        let producer = builder.start(config.expect("a configuration"));
        let producer = producer.expect("a producer");
        sent(&producer).await.await.expect("acked");
        let requests = ended("MetadataActor", Duration::from_secs(600)).await;
        assert!(requests < 20, "{requests} metadata requests in 10 minutes");
        // Once somebody sends to it, its leader is looked for.
        let record = Record::to("topic-0").partition(1);
        let waits = producer.send(record).await.expect("accepted");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let partition = (0, 1);
        kafka.cluster.borrow_mut().partition(partition).now.leader = leads;
        kafka.publish(partition);
        let found = tokio::time::timeout(Duration::from_secs(5), waits).await;
        found.expect("found soon").expect("acked");
    });
}

/// How often an actor's request came to its end while `time` passes.
async fn ended(of: &'static str, time: Duration) -> u32 {
    let ended = Rc::new(Cell::new(0));
    let counter = Rc::clone(&ended);
    faults::at_each(move |actor, message| {
        counter.set(counter.get() + u32::from((actor, message) == (of, "Finished")));
    });
    tokio::time::sleep(time).await;
    faults::at_none();
    ended.get()
}

#[test]
fn a_metadata_request_ends_when_a_panic_has_it_asked_anew() {
    virtual_time(async {
        let (kafka, producer) = fair(Config::builder());
        sent(&producer).await.await.expect("acked");
        (0..kafka.brokers()).for_each(|broker| kafka.freeze(broker));
        let _ = producer.try_send(Record::to("new"));
        // It would run out of time after five.
        tokio::time::sleep(Duration::from_secs(4)).await;
        faults::plan("MetadataActor:WantTopic", 1, 1);
        let _ = producer.try_send(Record::to("newer"));
        let ended = ended("MetadataActor", Duration::from_secs(4)).await;
        assert_eq!(faults::stop(), [1], "the actor restarts");
        assert_eq!(ended, 0, "two requests at once");
    });
}

#[test]
fn a_request_for_a_producer_id_ends_when_a_panic_has_it_asked_anew() {
    virtual_time(async {
        let settings = Config::builder().set("socket.connection.setup.timeout.ms", 5_000);
        let (kafka, producer) = fair(settings);
        let known = producer.partitions_for("topic-0").await;
        assert_eq!(known.expect("known"), [0]);
        (0..kafka.brokers()).for_each(|broker| kafka.freeze(broker));
        let _waits = sent(&producer).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        faults::plan("IdentityActor:Resync", 1, 1);
        faults::plan("MetadataActor:WantTopic", 1, 1);
        let _ = producer.try_send(Record::to("new"));
        let ended = ended("IdentityActor", Duration::from_secs(4)).await;
        assert_eq!(faults::stop(), [1, 1], "the actor restarts");
        assert_eq!(ended, 0, "two requests at once");
    });
}

#[test]
fn brokers_that_are_lost_in_a_panic_are_told_again() {
    virtual_time(async {
        let mut rng = rng(1);
        let cluster = Cluster::new(3, &[1], &mut rng);
        let kafka = Kafka::start(Settings::FAIR, cluster, rng, ());
        let config = Config::builder().bootstrap_servers("broker-0:9092").build();
        let builder = Producer::builder().in_local_set();
        let producer = builder.start(config.expect("a configuration"));
        let producer = producer.expect("a producer");
        faults::plan("IdentityActor:SetNodes", 1, 1);
        producer.partitions_for("topic-0").await.expect("known");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(faults::stop(), [1], "the brokers are told");
        // From now on whoever knows the bootstrap list alone knows nobody.
        kafka.kill(0, false);
        let outcome = sent(&producer).await.await;
        outcome.expect("acked");
    });
}
