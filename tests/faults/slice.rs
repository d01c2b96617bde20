//! Many records at once, through either door: as well off as if each had been sent by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::{
    BatchOutcome, BorrowedRecord, Header, Interceptor, Lane, Receipts, SendError, SliceError,
};

use crate::*;

fn value(value: &str) -> BorrowedRecord<'_> {
    BorrowedRecord::to("t").value(value)
}

/// Where slices go in.
enum PartitionRoute {
    Shared(Producer),
    /// With owned records.
    Owned(Producer),
    Lane(Box<Lane>),
}

const DOORS: [fn(&Producer) -> PartitionRoute; 3] = [
    |producer| PartitionRoute::Shared(producer.clone()),
    |producer| PartitionRoute::Owned(producer.clone()),
    |producer| PartitionRoute::Lane(Box::new(producer.lane())),
];

impl PartitionRoute {
    async fn send_slice(
        &mut self,
        records: &[BorrowedRecord<'_>],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        match self {
            Self::Shared(producer) => producer.send_slice(records, receipts).await,
            Self::Owned(producer) => {
                let owned: Vec<_> = records.iter().map(|record| record.into_owned()).collect();
                producer.send_slice(&owned, receipts).await
            }
            Self::Lane(lane) => lane.send_slice(records, receipts).await,
        }
    }

    async fn send_all(&mut self, records: &[BorrowedRecord<'_>]) -> Receipts {
        let mut receipts = Receipts::default();
        let sent = within(self.send_slice(records, &mut receipts)).await;
        sent.expect("accepted");
        receipts
    }
}

#[tokio::test]
async fn each_record_arrives_as_it_was_and_in_its_order() {
    for door in DOORS {
        let broker = cluster(2).await;
        broker.create_topic("wide", 3);
        let producer = producer(&broker, &[("batch.size", "600"), ("linger.ms", "1")]);
        let mut door = door(&producer);
        let headers = [Header::null("trace")];
        const RECORDS: usize = 500;
        let texts: Vec<_> = (0..RECORDS)
            .map(|i| (format!("k{}", i % 11), format!("v{i}")))
            .collect();
        // Runs of all kinds that go together, and all that ends one: topics, keys, partitions, times.
        let records: Vec<_> = (0..RECORDS)
            .map(|i| {
                let (key, value) = &texts[i];
                let record = BorrowedRecord::to(if i % 50 < 9 { "t" } else { "wide" }).value(value);
                let record = match i / 20 % 5 {
                    0 => record,
                    1 => record.key(key),
                    2 => record.partition(0),
                    3 => record.timestamp(1_000 + (i / 3) as i64),
                    _ => record.headers(&headers),
                };
                match i % 13 {
                    0 => record.key(key),
                    _ => record,
                }
            })
            .collect();
        let mut receipts = Receipts::default();
        for slice in records.chunks(37) {
            let sent = within(door.send_slice(slice, &mut receipts)).await;
            sent.expect("accepted");
        }
        assert_eq!(receipts.len(), RECORDS);
        within(producer.flush()).await.expect("flushed");
        let logs = ["t", "wide"].map(|topic| broker.all_records(topic).expect("a log"));
        let mut last = std::collections::HashMap::new();
        for (i, record) in records.iter().enumerate() {
            let acked = receipts.try_next().expect("flushed").expect("acked");
            let wide = usize::from(i % 50 >= 9);
            let there = logs[wide]
                .iter()
                .find(|it| (it.partition, Some(it.offset)) == (acked.partition, acked.offset))
                .expect("it is where its outcome says");
            let sent = record.into_owned();
            assert_eq!(there.value.as_ref(), sent.value_bytes(), "{i}");
            assert_eq!(there.key.as_ref(), sent.key_bytes(), "{i}");
            assert_eq!(there.headers.len(), sent.headers().len(), "{i}");
            if i / 20 % 5 == 2 {
                assert_eq!(there.partition, 0);
            }
            if i / 20 % 5 == 3 {
                assert_eq!(there.timestamp, 1_000 + (i / 3) as i64);
            }
            assert_eq!(acked.timestamp, there.timestamp);
            let before = last.insert((wide, acked.partition), acked.offset);
            assert!(before.is_none_or(|before| before < acked.offset), "{i}");
        }
        assert!(receipts.try_next().is_none());
        close(producer).await;
    }
}

#[tokio::test]
async fn it_says_which_record_was_refused_and_sends_those_before_it() {
    for door in DOORS {
        let broker = broker().await;
        let producer = producer(&broker, &[("max.request.size", "2000")]);
        let mut door = door(&producer);
        drop(door.send_all(&[value("0")]).await);
        let large = "x".repeat(3000);
        type Is = fn(&SendError) -> bool;
        let refused: [(BorrowedRecord<'_>, Is); 3] = [
            (value("x").partition(9), |error| {
                matches!(error, SendError::PartitionOutOfRange { .. })
            }),
            (value(&large), |error| {
                matches!(error, SendError::TooLarge { .. })
            }),
            (value("x").timestamp(-1), |error| {
                matches!(error, SendError::NegativeTimestamp(-1))
            }),
        ];
        let mut sent = vec!["0".to_owned()];
        for (round, (record, is)) in refused.into_iter().enumerate() {
            let texts: Vec<_> = (0..4).map(|i| format!("{round}-{i}")).collect();
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| value(&texts[i]));
            let mut receipts = Receipts::default();
            let slice = [a, b, c, record, d];
            let refused = within(door.send_slice(&slice, &mut receipts)).await;
            let SliceError { at, error, .. } = refused.expect_err("refused");
            assert!(at == 3 && is(&error), "{at}: {error}");
            assert_eq!(receipts.len(), at);
            all_told(receipts).await;
            sent.extend_from_slice(&texts[..3]);
        }
        assert_eq!(log(&broker), sent);
        close(producer).await;
        let mut receipts = Receipts::default();
        let refused = door.send_slice(&[value("x")], &mut receipts).await;
        let SliceError { at, error, .. } = refused.expect_err("refused");
        assert!(matches!((at, error), (0, SendError::Closed)));
        assert!(door.send_slice(&[], &mut receipts).await.is_ok());
        assert!(receipts.is_empty());
    }
}

#[tokio::test]
async fn it_may_be_given_up_half_way_and_go_on_from_there() {
    for door in DOORS {
        let (broker, producer) = short_of_memory().await;
        let mut door = door(&producer);
        let texts: Vec<_> = (0..80).map(|i| format!("{i:0300}")).collect();
        let records: Vec<_> = texts.iter().map(|text| value(text)).collect();
        let (mut receipts, mut given_up) = (Receipts::default(), 0);
        while receipts.len() < records.len() {
            let rest = &records[receipts.len()..];
            let sending = door.send_slice(rest, &mut receipts);
            match tokio::time::timeout(Duration::from_millis(20), sending).await {
                Ok(sent) => sent.expect("accepted"),
                Err(_) => given_up += 1,
            }
        }
        assert!(given_up > 0, "memory was never short");
        all_told(receipts).await;
        assert_eq!(log(&broker), texts);
        close(producer).await;
    }
}

#[tokio::test]
async fn interceptors_see_every_record() {
    for door in DOORS {
        #[derive(Clone, Default)]
        struct Counts(Arc<AtomicUsize>);
        impl Interceptor for Counts {
            fn on_send(&self, record: Record) -> Record {
                self.0.fetch_add(1, Ordering::Relaxed);
                record
            }
        }
        let broker = broker().await;
        let counts = Counts::default();
        let builder = Producer::builder().interceptor(counts.clone());
        let producer = builder.start(config(&broker.bootstrap_servers(), &[]));
        let producer = producer.expect("a producer");
        let mut door = door(&producer);
        let texts: Vec<_> = numbers(50);
        let records: Vec<_> = texts.iter().map(|text| value(text)).collect();
        all_told(door.send_all(&records).await).await;
        assert_eq!(counts.0.load(Ordering::Relaxed), 50);
        assert_eq!(log(&broker), texts);
        close(producer).await;
    }
}

#[actix::test]
async fn an_actor_is_told_of_every_record_of_a_slice() {
    for door in DOORS {
        struct Ear(tokio::sync::mpsc::UnboundedSender<u32>);
        impl actix::Actor for Ear {
            type Context = actix::Context<Self>;
        }
        impl actix::Handler<BatchOutcome> for Ear {
            type Result = ();
            fn handle(&mut self, delivered: BatchOutcome, _: &mut Self::Context) {
                let _ = self.0.send(delivered.count);
            }
        }
        let broker = broker().await;
        let producer = producer(&broker, &[("batch.size", "300")]);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let ear = actix::Actor::start(Ear(tell));
        let mut door = door(&producer.outcomes_to(ear.recipient()));
        let texts: Vec<_> = numbers(50);
        let records: Vec<_> = texts.iter().map(|text| value(text)).collect();
        drop(door.send_all(&records).await);
        let mut count = 0;
        while count < 50 {
            count += within(told.recv()).await.expect("an ear");
        }
        assert_eq!((count, log(&broker)), (50, texts));
        close(producer).await;
    }
}

#[test]
fn a_slice_may_be_sent_from_a_task_of_any_runtime() {
    fn is_send(_: impl Send) {}
    fn look(producer: &Producer, lane: &mut Lane, receipts: &mut Receipts) {
        is_send(lane.send_slice(&[value("x")], receipts));
        is_send(producer.send_slice(&[value("x")], receipts));
        is_send(producer.send_slice(&[to("x")], receipts));
    }
    let _ = look;
}
