//! Single scenes in virtual time, with a cluster in which nothing goes wrong by itself, or none.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use forebay::config::ConfigBuilder;
use forebay::internals::faults;
use forebay::{CloseError, Config, Placement, Producer, Receipt, Record, SendError};
use forebay_model_cluster::{Cluster, Kafka, Settings, listen, rng, virtual_time};

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
            let builder = Producer::builder().placement(Placement::CurrentArbiter);
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
    let mut rng = rng(1);
    let cluster = Cluster::new(3, &[1], &mut rng);
    let kafka = Kafka::start(Settings::FAIR, cluster, rng, ());
    let config = settings
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        .set("delivery.timeout.ms", 20_000)
        .set("request.timeout.ms", 5_000)
        .build();
    let builder = Producer::builder().placement(Placement::CurrentArbiter);
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
fn a_topic_nobody_wants_any_more_costs_nothing() {
    virtual_time(async {
        let config = Config::builder()
            .bootstrap_servers("nobody:9092")
            .set("max.block.ms", 50)
            .build()
            .expect("a configuration");
        let builder = Producer::builder().placement(Placement::CurrentArbiter);
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
