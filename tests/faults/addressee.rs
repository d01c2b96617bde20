//! Addresses that belong to another broker by now, as those of pods do that are replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::scripted::{Answer, Scripted, Twist, node};
use crate::*;

/// Who leads partition 0, and where the two brokers are.
#[derive(Default)]
struct Cluster {
    /// The ports of brokers 1 and 2, as metadata tell them.
    told: [AtomicU16; 2],
    leader: AtomicU16,
}

impl Cluster {
    fn tell(&self, ports: [u16; 2], leader: u16) {
        for (told, port) in self.told.iter().zip(ports) {
            told.store(port, Ordering::Relaxed);
        }
        self.leader.store(leader, Ordering::Relaxed);
    }

    fn metadata(&self, answer: &mut Answer) {
        let Answer::Metadata(answer) = answer else {
            return;
        };
        let port = |at: usize| self.told[at].load(Ordering::Relaxed);
        answer.brokers = vec![node(1, port(0)), node(2, port(1))];
        let leader = i32::from(self.leader.load(Ordering::Relaxed));
        for partition in answer.topics.iter_mut().flat_map(|it| &mut it.partitions) {
            partition.leader_id = leader.into();
            partition.leader_epoch = leader;
        }
    }
}

/// A broker of `cluster` that appends only while it leads.
async fn broker(cluster: &Arc<Cluster>, number: u16, names: bool) -> Scripted {
    let (telling, leading) = (Arc::clone(cluster), Arc::clone(cluster));
    let twist = Twist {
        named: names.then_some(("the-cluster", number.into())),
        judge: Some(Box::new(move |_, _| {
            match leading.leader.load(Ordering::Relaxed) == number {
                true => 0,
                false => 6, // NOT_LEADER_OR_FOLLOWER
            }
        })),
        ..Twist::answering(move |_, answer| telling.metadata(answer))
    };
    Scripted::start(11, twist).await
}

/// Broker 1 is gone, and broker 2 has its address now; broker 1 is at broker 2's former address. The
/// producer knows the former view when it connects.
async fn swapped(names: bool) -> (Scripted, Scripted) {
    let cluster = Arc::new(Cluster::default());
    let (one, two) = (
        broker(&cluster, 1, names).await,
        broker(&cluster, 2, names).await,
    );
    cluster.tell([two.port, one.port], 1);
    let servers = one.servers();
    let keys = [("metadata.max.age.ms", "100000")];
    let producer = Producer::start(config(&servers, &keys)).expect("a producer");
    // It waits for the topic alone, and connects to the leader with the first record.
    within(producer.partitions_for("t")).await.expect("known");
    let receipts = send_all(&producer, 0..10).await;
    let truth = Arc::clone(&cluster);
    let ports = [one.port, two.port];
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        truth.tell(ports, 1);
    });
    all_acked(receipts).await;
    all_acked(send_all(&producer, 10..20).await).await;
    close(producer).await;
    assert_eq!(one.values(0), numbers(20), "the leader has all, in order");
    assert!(two.values(0).is_empty(), "the other has none");
    (one, two)
}

/// KIP-1242. The other broker says so in the handshake, and gets no record at all.
#[tokio::test]
async fn a_broker_that_has_anothers_address_is_noticed_in_the_handshake() {
    let (_, two) = swapped(true).await;
    assert!(
        two.handshakes().contains(&(5, true)),
        "{:?}",
        two.handshakes()
    );
    assert_eq!(two.sizes(), Vec::<usize>::new(), "no request of records");
}

/// Before Kafka 4.4 brokers cannot say so. The other one does not lead, and answers that.
#[tokio::test]
async fn a_broker_that_has_anothers_address_and_cannot_say_so_gets_no_record_appended() {
    let (one, two) = swapped(false).await;
    assert!(!two.sizes().is_empty(), "it was asked");
    for broker in [one, two] {
        let asked: Vec<i16> = broker.handshakes().iter().map(|it| it.0).collect();
        assert!(asked.iter().all(|version| *version == 4), "{asked:?}");
    }
}

/// Another cluster with the same topic is at the address now. Its records would be lost in it.
#[tokio::test]
async fn a_broker_of_another_cluster_gets_no_record() {
    let stale = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&stale);
    let stranger = Twist {
        named: Some(("another-cluster", 1)),
        ..Twist::default()
    };
    let stranger = Scripted::start(11, stranger).await;
    let port = stranger.port;
    let ours = Twist {
        named: Some(("the-cluster", 1)),
        ..Twist::answering(move |_, answer| {
            if let Answer::Metadata(answer) = answer
                && still.load(Ordering::Relaxed)
            {
                answer.brokers = vec![node(1, port)];
            }
        })
    };
    let ours = Scripted::start(11, ours).await;
    let producer = Producer::start(config(&ours.servers(), &[])).expect("a producer");
    let receipt = send(&producer, 0).await;
    let noticed = async {
        while !stranger.handshakes().contains(&(5, true)) {
            tokio::task::yield_now().await;
        }
    };
    within(noticed).await;
    let said = async {
        loop {
            let figures = producer.figures().await.expect("figures");
            if let Some(error) = &figures.brokers[0].last_error {
                return error.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let said = within(said).await;
    assert!(
        said.contains("is not broker 1 of cluster the-cluster"),
        "{said}"
    );
    stale.store(false, Ordering::Relaxed);
    acked(receipt).await;
    close(producer).await;
    assert_eq!(ours.values(0), ["0"]);
    assert!(stranger.values(0).is_empty());
}

#[tokio::test]
async fn the_check_can_be_switched_off() {
    for key in [
        ("metadata.cluster.check.enable", "false"),
        ("metadata.recovery.strategy", "none"),
    ] {
        let twist = Twist {
            named: Some(("the-cluster", 1)),
            ..Twist::answering(|_, answer| {
                if let Answer::Metadata(answer) = answer {
                    // A proxy's view: no such broker is behind the address.
                    answer.brokers[0].node_id = 7.into();
                    for partition in answer.topics.iter_mut().flat_map(|it| &mut it.partitions) {
                        partition.leader_id = 7.into();
                    }
                }
            })
        };
        let broker = Scripted::start(11, twist).await;
        let producer = Producer::start(config(&broker.servers(), &[key])).expect("a producer");
        acked(send(&producer, 0).await).await;
        close(producer).await;
        assert!(broker.handshakes().iter().all(|it| *it == (4, false)));
    }
}
