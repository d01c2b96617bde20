//! The life of topics in virtual time: they idle, go, return, and their records get where they belong.

use std::rc::Rc;
use std::time::Duration;

use forebay::config::ConfigBuilder;
use forebay::{Config, Producer, Receipt, Record, SendError, WaitsFor};
use forebay_model_cluster::{Cluster, Kafka, Settings, rng, virtual_time};

const MINUTE: Duration = Duration::from_secs(60);

/// A producer on this thread, and a cluster of three brokers with these topics in which nothing goes
/// wrong by itself.
fn fair(topics: &[usize], settings: ConfigBuilder) -> (Rc<Kafka>, Producer) {
    let mut rng = rng(1);
    let mut cluster = Cluster::new(3, topics, &mut rng);
    for topic in &mut cluster.topics {
        topic.visible = topic.partitions.len();
    }
    let kafka = Kafka::start(Settings::FAIR, cluster, rng, ());
    let config = settings.bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092");
    let builder = Producer::builder().in_local_set();
    let producer = builder.start(config.build().expect("a configuration"));
    (kafka, producer.expect("a producer"))
}

async fn sent(producer: &Producer, topic: &str) -> Receipt {
    let record = Record::to(topic).partition(0);
    producer.send(record).await.expect("accepted")
}

/// Its leader is gone when the others are back, so somebody has to ask who leads now.
#[test]
fn a_topic_is_in_use_while_its_records_wait() {
    // In the ledger, and on the stage.
    for linger in ["0", "1800000"] {
        virtual_time(async move {
            let config = Config::builder()
                .set("linger.ms", linger)
                .set("delivery.timeout.ms", 3_600_000);
            let (kafka, producer) = fair(&[1], config);
            producer.partitions_for("topic-0").await.expect("a topic");
            let leader = kafka.cluster.borrow().topics[0].partitions[0].now.leader;
            let leader = leader.expect("a leader");
            kafka.kill(leader, false);
            // Another one leads from now on, and the producer has no reason to ask.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let others = (0..3).filter(|broker| *broker != leader);
            others.clone().for_each(|broker| kafka.freeze(broker));
            let receipt = sent(&producer, "topic-0").await;
            tokio::time::sleep(12 * MINUTE).await;
            others.for_each(|broker| kafka.thaw(broker));
            let due = MINUTE + Duration::from_millis(linger.parse().expect("a number"));
            let acked = tokio::time::timeout(due, receipt).await;
            acked.expect("an outcome").expect("acked");
        });
    }
}

/// The address of a partition's actor is good for as long as the producer runs.
#[test]
fn a_partition_whose_address_was_given_away_works_after_it_was_idle() {
    virtual_time(async {
        let (_kafka, producer) = fair(&[1, 1], Config::builder());
        let actor = producer.partition_actor("topic-0", 0).await;
        let actor = actor.expect("an address");
        for (offset, idle) in (0..).zip([0, 7, 20, 60]) {
            for _ in 0..idle {
                let other = sent(&producer, "topic-1").await;
                other.await.expect("acked");
                tokio::time::sleep(MINUTE).await;
            }
            let record = forebay::SendRecord::new(Record::to("topic-0"));
            let receipt = actor.send(record).await.expect("it runs");
            let acked = receipt.expect("accepted").await.expect("acked");
            assert_eq!(acked.offset, Some(offset));
        }
    });
}

/// A handle and a lane that have the route of a topic from before it was let go of find the new one.
#[test]
fn handles_find_a_topic_again_that_was_let_go_of() {
    virtual_time(async {
        let (_kafka, producer) = fair(&[1], Config::builder());
        let mut lane = producer.lane();
        let record = || forebay::BorrowedRecord::to("topic-0").partition(0);
        for round in 0..3 {
            let receipt = sent(&producer, "topic-0").await;
            assert_eq!(receipt.await.expect("acked").offset, Some(2 * round));
            let receipt = lane.send(record()).await.expect("accepted").receipt();
            assert_eq!(receipt.await.expect("acked").offset, Some(2 * round + 1));
            tokio::time::sleep(20 * MINUTE).await;
        }
    });
}

/// Until then `send` waits as for a new topic, and another topic does not suffer.
#[test]
fn a_topic_that_is_deleted_takes_no_more_records_and_goes_on_when_it_returns() {
    virtual_time(async {
        let config = Config::builder()
            .set("buffer.memory", 1 << 20)
            .set("max.block.ms", 5_000)
            .set("linger.ms", 0);
        let (kafka, producer) = fair(&[1, 1], config);
        for topic in ["topic-0", "topic-1"] {
            sent(&producer, topic).await.await.expect("acked");
        }
        kafka.delete_topic(0);
        let record = || Record::to("topic-0").partition(0).value(vec![0; 1000]);
        let mut waiting = Vec::new();
        let refused = loop {
            match producer.send(record()).await {
                Ok(receipt) => waiting.push(receipt),
                Err(refused) => break refused,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let SendError::TopicUnknown { error, .. } = &refused else {
            panic!("after {} records: {refused}", waiting.len());
        };
        assert_eq!(error.as_ref().map(|error| error.code), Some(3));
        let refused = producer.try_send(record()).expect_err("refused");
        assert!(matches!(
            refused.error(),
            SendError::WouldBlock(WaitsFor::Topic)
        ));
        let healthy = async { sent(&producer, "topic-1").await.await };
        let healthy = tokio::time::timeout(Duration::from_secs(1), healthy).await;
        healthy.expect("at once").expect("acked");
        kafka.create_topic(0, 1);
        waiting.push(sent(&producer, "topic-0").await);
        for receipt in waiting {
            let outcome = tokio::time::timeout(Duration::from_secs(10), receipt).await;
            outcome.expect("soon").expect("acked");
        }
    });
}

/// A new topic every minute: those that nobody sends to any more take no memory.
#[test]
fn topics_that_are_not_used_any_more_are_freed_and_may_return() {
    virtual_time(async {
        let topics = [1; 20];
        let (kafka, producer) = fair(&topics, Config::builder());
        let mut most = 0;
        for round in 0..2 {
            for topic in 0..topics.len() {
                let receipt = sent(&producer, &format!("topic-{topic}")).await;
                let acked = receipt.await.expect("acked");
                // Under a first sequence and an epoch that the broker knows, it would have taken the
                // record for one that it has.
                assert_eq!(acked.offset, Some(round), "topic-{topic}");
                tokio::time::sleep(MINUTE).await;
                let figures = producer.figures().await.expect("figures");
                most = most.max(figures.partitions.len());
            }
        }
        assert!(most <= 12, "{most} partitions at once");
        let cluster = kafka.cluster.borrow();
        for topic in 0..topics.len() {
            assert_eq!(cluster.log((topic, 0)).expect("a leader").end(), 2);
        }
    });
}
