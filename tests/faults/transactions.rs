//! What can go wrong with a transaction, in both protocols, against another client's broker.

use std::time::Duration;

use forebay::internals::faults;
use forebay::transaction::{Cause, GroupMetadata, NotCommitted, ReadUpTo, TransactionError};
use forebay::{
    Outcome, Placement, Producer, Reason, Record, SendError, StartError, TopicPartition,
    Transaction, TransactionalProducer, Unconfirmed,
};
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};

use super::{PATIENCE, config};

pub const TOPIC: &str = "t";
pub const ID: &str = "id";
pub const PROTOCOLS: [i16; 2] = [1, 2];

pub async fn broker(transaction_version: i16) -> FakeBroker {
    let broker = FakeBroker::start_cluster(2).await.expect("a cluster");
    assert!(broker.create_topic(TOPIC, 3));
    broker.set_transaction_version(transaction_version);
    broker
}

pub fn producer(broker: &FakeBroker, keys: &[(&str, &str)]) -> TransactionalProducer {
    let keys: Vec<_> = keys
        .iter()
        .copied()
        .chain([("transactional.id", ID)])
        .collect();
    let config = config(&broker.bootstrap_servers(), &keys);
    // On this thread, where panics are planned.
    let builder = Producer::builder().placement(Placement::CurrentArbiter);
    builder.start_transactional(config).expect("it starts")
}

/// What a reader of what is committed sees, or of all.
pub fn seen(broker: &FakeBroker, committed: bool) -> Vec<String> {
    let records = match committed {
        true => broker.committed_records(TOPIC),
        false => broker.all_records(TOPIC),
    };
    let values = records.expect("records").into_iter().map(|record| {
        let value = record.value.expect("a value");
        String::from_utf8(value.to_vec()).expect("text")
    });
    let mut values: Vec<_> = values.collect();
    values.sort();
    values
}

pub async fn send(transaction: &Transaction, value: &str) -> forebay::transaction::Receipt {
    let sent = transaction.send(Record::to(TOPIC).value(value.to_owned()));
    sent.await.expect("accepted")
}

/// The next transaction of the producer works, and nothing else is there for a reader of what is committed.
pub async fn goes_on(broker: &FakeBroker, producer: TransactionalProducer, value: &str) {
    let transaction = producer.begin().await.expect("begun");
    send(&transaction, value).await.await.expect("appended");
    transaction.commit().await.expect("committed");
    close(producer).await;
    assert_eq!(seen(broker, true), [value]);
}

pub async fn close(producer: TransactionalProducer) {
    let closed = producer.close(PATIENCE).await;
    closed.expect("closed in time");
}

pub fn error(code: i16) -> Control {
    Control::Error(ErrorCode::from_i16(code))
}

pub fn is_aborted(outcome: &Outcome) -> bool {
    let never =
        |it: &Unconfirmed| matches!(it, Unconfirmed::Aborted(_) | Unconfirmed::NotWritten(_));
    outcome.as_ref().is_err_and(never)
}

#[test]
fn a_transactional_id_makes_another_producer() {
    let with = config("localhost:1", &[("transactional.id", ID)]);
    let without = config("localhost:1", &[]);
    assert!(matches!(
        Producer::start(with),
        Err(StartError::Transactional)
    ));
    let started = TransactionalProducer::start(without);
    assert!(matches!(started, Err(StartError::NoTransactionalId)));
}

#[actix::test]
async fn commits_and_aborts_take_turns() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        for at in 0..6 {
            let transaction = producer.begin().await.expect("begun");
            let receipt = send(&transaction, &at.to_string()).await;
            receipt.clone().await.expect("appended");
            assert!(broker.transaction_is_open(ID));
            // Those of protocol 2 that follow ask whether markers are written.
            let adds = broker.request_count(ApiKey::AddPartitionsToTxn);
            assert_eq!(adds > 0, version == 1 || at > 0, "{adds} of {at}");
            match at % 2 {
                0 => transaction.commit().await.expect("committed"),
                _ => transaction.abort().await,
            }
            assert_eq!(is_aborted(&receipt.ended().await), at % 2 == 1);
        }
        close(producer).await;
        assert!(!broker.transaction_is_open(ID));
        assert_eq!(seen(&broker, true), ["0", "2", "4"]);
        assert_eq!(seen(&broker, false).len(), 6);
    }
}

#[actix::test]
async fn an_upgrade_is_noticed_between_two_transactions() {
    let broker = broker(1).await;
    let producer = producer(&broker, &[]);
    let transaction = producer.begin().await.expect("begun");
    send(&transaction, "first").await.await.expect("appended");
    broker.set_transaction_version(2);
    // What is open goes on as it began. The next connection says what is spoken now.
    broker.on_once(ApiKey::EndTxn, |_| Control::Disconnect);
    transaction.commit().await.expect("committed");
    let adds = broker.request_count(ApiKey::AddPartitionsToTxn);
    for at in 0..2 {
        let transaction = producer.begin().await.expect("begun");
        send(&transaction, &at.to_string())
            .await
            .await
            .expect("appended");
        let since = broker.request_count(ApiKey::AddPartitionsToTxn) - adds;
        assert!(since <= at, "{since}");
        transaction.commit().await.expect("committed");
    }
    close(producer).await;
    assert_eq!(seen(&broker, true), ["0", "1", "first"]);
}

/// The callbacks of the transaction before may not have returned.
#[actix::test]
async fn a_commit_does_not_wait_for_callbacks() {
    let broker = broker(2).await;
    let keys = [("transactional.id", ID), ("max.block.ms", "3000")];
    let config = config(&broker.bootstrap_servers(), &keys);
    let producer = TransactionalProducer::start(config).expect("it starts");
    let (go_on, stands_still) = std::sync::mpsc::channel::<()>();
    let callback = move |_: Outcome| {
        let _ = stands_still.recv();
    };
    let transaction = producer.begin().await.expect("begun");
    let record = Record::to(TOPIC).value("0");
    let sent = transaction.send_with(record, callback).await;
    drop(sent.expect("accepted"));
    transaction.commit().await.expect("committed");
    let (tell, told) = tokio::sync::oneshot::channel();
    let transaction = producer.begin().await.expect("begun");
    let record = Record::to(TOPIC).value("1");
    let behind = move |outcome: Outcome| drop(tell.send(outcome));
    let sent = transaction.send_with(record, behind).await;
    drop(sent.expect("accepted"));
    transaction
        .commit()
        .await
        .expect("it waits for no callback");
    drop(go_on);
    let outcome = told.await.expect("it is told, too");
    outcome.expect("committed");
    close(producer).await;
}

/// Each of them passes: nobody notices.
#[actix::test]
async fn what_passes_is_waited_for() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        for (at, code) in [14, 15, 16, 51].into_iter().enumerate() {
            for api in [
                ApiKey::FindCoordinator,
                ApiKey::InitProducerId,
                ApiKey::AddPartitionsToTxn,
                ApiKey::EndTxn,
            ] {
                broker.on_times(api, 2, move |_| error(code));
            }
            broker.set_txn_coordinator(ID, (at % 2) as i32);
            let transaction = producer.begin().await.expect("begun");
            let receipt = send(&transaction, &at.to_string()).await;
            transaction.commit().await.expect("committed");
            receipt.ended().await.expect("acked");
            broker.clear_hooks();
        }
        close(producer).await;
        assert_eq!(seen(&broker, true).len(), 4);
    }
}

/// The answer is lost when the coordinator has done it, and the client asks again.
#[actix::test]
async fn a_commit_whose_answer_is_lost_is_committed_once() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        for at in 0..3 {
            broker.on_times(ApiKey::EndTxn, 1, |_| {
                Control::ApplyThen(Box::new(Control::Disconnect))
            });
            let transaction = producer.begin().await.expect("begun");
            let receipt = send(&transaction, &at.to_string()).await;
            transaction.commit().await.expect("committed");
            receipt.ended().await.expect("acked");
        }
        close(producer).await;
        assert_eq!(seen(&broker, true), ["0", "1", "2"]);
    }
}

#[actix::test]
async fn a_commit_that_takes_too_long_is_in_doubt_and_can_only_be_resolved() {
    let broker = broker(2).await;
    let producer = producer(&broker, &[("max.block.ms", "200")]);
    let transaction = producer.begin().await.expect("begun");
    let receipt = send(&transaction, "late").await;
    broker.on(ApiKey::EndTxn, |_| error(51));
    let Err(NotCommitted::InDoubt(in_doubt)) = transaction.commit().await else {
        panic!("the coordinator has not answered");
    };
    assert_eq!(receipt.outcome(), None);
    let Err(TransactionError::TimedOut { why, .. }) = producer.begin().await else {
        panic!("the one before has not ended");
    };
    assert!(why.contains("CONCURRENT_TRANSACTIONS"), "{why}");
    let Err(NotCommitted::InDoubt(in_doubt)) = in_doubt.resolve().await else {
        panic!("nor by now");
    };
    broker.clear_hooks();
    in_doubt.resolve().await.expect("committed");
    receipt.ended().await.expect("acked");
    close(producer).await;
    assert_eq!(seen(&broker, true), ["late"]);
}

/// The coordinator has aborted it by itself.
#[actix::test]
async fn a_transaction_whose_time_is_over_is_aborted_and_the_next_goes_on() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        let transaction = producer.begin().await.expect("begun");
        let receipt = send(&transaction, "too late").await;
        receipt.clone().await.expect("appended");
        assert!(broker.abort_transaction(ID));
        let committed = transaction.commit().await;
        assert!(
            matches!(committed, Err(NotCommitted::Aborted(_))),
            "{committed:?}"
        );
        assert!(is_aborted(&receipt.ended().await));
        match producer.begin().await {
            Ok(transaction) => {
                send(&transaction, "in time").await.await.expect("appended");
                transaction.commit().await.expect("committed");
                assert_eq!(seen(&broker, true), ["in time"]);
            }
            // Of protocol 2 that broker says PRODUCER_FENCED, where Kafka says INVALID_TXN_STATE.
            Err(TransactionError::Fenced { .. }) if version == 2 => {}
            Err(error) => panic!("protocol {version}: {error}"),
        }
        close(producer).await;
    }
}

/// Whatever the older instance still does: it looks for the reason why it was refused.
#[actix::test]
async fn an_instance_that_is_fenced_leaves_the_newer_one_alone() {
    for version in PROTOCOLS {
        for older_commits in [true, false] {
            let broker = broker(version).await;
            let (older, newer) = (producer(&broker, &[]), producer(&broker, &[]));
            let open = older.begin().await.expect("begun");
            send(&open, "older").await.await.expect("appended");
            let transaction = newer.begin().await.expect("begun");
            send(&transaction, "newer").await.await.expect("appended");
            match older_commits {
                true => drop(open.commit().await.expect_err("fenced")),
                false => open.abort().await,
            }
            for _ in 0..2 {
                let begun = older.begin().await;
                assert!(
                    matches!(begun, Err(TransactionError::Fenced { .. })),
                    "{begun:?}"
                );
            }
            transaction.commit().await.expect("committed");
            close(older).await;
            close(newer).await;
            assert_eq!(seen(&broker, true), ["newer"]);
        }
    }
}

fn is_invalid_record(why: &Cause) {
    let Cause::Record { unconfirmed, .. } = why else {
        panic!("{why}");
    };
    let Reason::Broker(error) = unconfirmed.reason() else {
        panic!("{why}");
    };
    assert_eq!(error.name().as_deref(), Some("INVALID_RECORD"), "{why}");
}

#[actix::test]
async fn a_record_that_is_refused_keeps_all_from_being_committed() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        let transaction = producer.begin().await.expect("begun");
        let good = send(&transaction, "good").await;
        good.clone().await.expect("appended");
        broker.on_once(ApiKey::Produce, |_| error(87));
        let bad = send(&transaction, "bad").await;
        bad.clone().await.expect_err("refused");
        let more = transaction.try_send(Record::to(TOPIC).value("more"));
        let refused = more.expect_err("it can only be aborted");
        let SendError::TransactionEnded { why: Some(why), .. } = refused.error() else {
            panic!("{:?}", refused.error());
        };
        is_invalid_record(why);
        let Err(NotCommitted::Aborted(why)) = transaction.commit().await else {
            panic!("a record was refused");
        };
        is_invalid_record(&why);
        assert!(is_aborted(&good.ended().await) && is_aborted(&bad.ended().await));
        goes_on(&broker, producer, "after").await;
    }
}

#[actix::test]
async fn a_partition_that_may_not_be_added_has_the_transaction_aborted() {
    let broker = broker(1).await;
    let producer = producer(&broker, &[]);
    broker.on_once(ApiKey::AddPartitionsToTxn, |_| error(29));
    let transaction = producer.begin().await.expect("begun");
    let receipt = send(&transaction, "never").await;
    assert!(is_aborted(&receipt.ended().await));
    let Err(NotCommitted::Aborted(why)) = transaction.commit().await else {
        panic!("it may not be written to");
    };
    let Cause::Refused(TransactionError::Refused { request, error, .. }) = &why else {
        panic!("{why}");
    };
    assert_eq!(*request, "AddPartitionsToTxn");
    assert!(error.missing_acl().is_some(), "{error}");
    producer.begin().await.expect("begun").abort().await;
    close(producer).await;
    assert_eq!(seen(&broker, false).len(), 0);
}

#[actix::test]
async fn offsets_are_committed_with_the_transaction_or_not_at_all() {
    // That broker has no TxnOffsetCommit of protocol 1.
    {
        let version = 2;
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        let committed = || broker.committed_offset("group", TOPIC, 2);
        let (group, at) = (GroupMetadata::new("group"), TopicPartition::new(TOPIC, 2));
        for (offset, commits) in [(5, false), (7, true)] {
            let transaction = producer.begin().await.expect("begun");
            let read = ReadUpTo::new(at.clone(), offset);
            broker.on_once(ApiKey::TxnOffsetCommit, |_| error(14));
            transaction
                .send_offsets(&group, [read])
                .await
                .expect("sent");
            match commits {
                true => transaction.commit().await.expect("committed"),
                false => transaction.abort().await,
            }
            // Markers may take a moment.
            producer.begin().await.expect("begun").abort().await;
            assert_eq!(committed(), commits.then_some(offset), "protocol {version}");
        }
        // ILLEGAL_GENERATION: another member has its partitions by now.
        let transaction = producer.begin().await.expect("begun");
        broker.on_once(ApiKey::TxnOffsetCommit, |_| error(22));
        let read = ReadUpTo::new(at.clone(), 9);
        let refused = transaction.send_offsets(&group, [read]).await;
        assert!(
            matches!(refused, Err(TransactionError::Failed(_))),
            "{refused:?}"
        );
        transaction
            .commit()
            .await
            .expect_err("it can only be aborted");
        close(producer).await;
        assert_eq!(committed(), Some(7));
    }
}

#[actix::test]
async fn who_may_not_use_the_id_is_told_so_and_may_try_again() {
    let broker = broker(2).await;
    let producer = producer(&broker, &[]);
    broker.on_once(ApiKey::InitProducerId, |_| error(53));
    let error = producer.begin().await.expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("WRITE on the transactional id"), "{text}");
    let transaction = producer.begin().await.expect("begun");
    send(&transaction, "allowed").await.await.expect("appended");
    transaction.commit().await.expect("committed");
    close(producer).await;
}

/// Whoever waited gives up, and nobody takes the transaction.
#[actix::test]
async fn a_begin_that_is_dropped_holds_nobody_up() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        for _ in 0..20 {
            let begun = tokio::time::timeout(Duration::from_micros(300), producer.begin()).await;
            drop(begun);
        }
        let transaction = tokio::time::timeout(PATIENCE, producer.begin()).await;
        let transaction = transaction.expect("in time").expect("begun");
        send(&transaction, "one").await.await.expect("appended");
        transaction.commit().await.expect("committed");
        close(producer).await;
        assert_eq!(seen(&broker, true), ["one"]);
    }
}

#[actix::test]
async fn a_close_aborts_what_is_open() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        let transaction = producer.begin().await.expect("begun");
        let receipt = send(&transaction, "open").await;
        receipt.clone().await.expect("appended");
        close(producer).await;
        assert!(!broker.transaction_is_open(ID), "the brokers were told");
        assert!(is_aborted(&receipt.ended().await));
        let committed = transaction.commit().await;
        assert!(
            matches!(committed, Err(NotCommitted::Aborted(_))),
            "{committed:?}"
        );
        assert_eq!(seen(&broker, true).len(), 0);
    }
}

/// Panics at everything that the TransactionActor does, with answers lost and coordinators moved.
#[actix::test]
async fn panics_lose_no_transaction() {
    const HANDLERS: [&str; 9] = [
        "TransactionActor:BeginTransaction",
        "TransactionActor:EndTransaction",
        "TransactionActor:WantIdentity",
        "TransactionActor:SendOffsets",
        "TransactionActor:Tick",
        "TransactionActor:SetNodes",
        "TransactionActor:Resync",
        "TransactionActor:Spawned",
        "TransactionActor:Finished",
    ];
    for version in PROTOCOLS {
        for handler in HANDLERS {
            if version == 1 && handler.ends_with("SendOffsets") {
                continue;
            }
            let survived = tokio::time::timeout(PATIENCE, survive(version, handler)).await;
            survived.unwrap_or_else(|_| panic!("{handler}, protocol {version}: it hangs"));
        }
    }
}

async fn survive(version: i16, handler: &str) {
    let broker = broker(version).await;
    broker.on(ApiKey::EndTxn, |request| match request.api_call_index % 5 {
        1 => Control::ApplyThen(Box::new(Control::Disconnect)),
        3 => error(16),
        _ => Control::Pass,
    });
    let producer = producer(&broker, &[("forebay.restart.max", "1000")]);
    // The nodes are told once.
    let every = if handler.ends_with("SetNodes") { 1 } else { 2 };
    faults::plan(handler, every, 6);
    if handler.contains("Resync") {
        faults::plan("PartitionActor:LoanReturned", 3, 6);
    }
    let mut expected = Vec::new();
    for at in 0..12 {
        broker.set_txn_coordinator(ID, at % 2);
        let transaction = producer.begin().await.expect("begun");
        let receipt = send(&transaction, &at.to_string()).await;
        let group = GroupMetadata::new("group");
        let read = ReadUpTo::new(TopicPartition::new(TOPIC, 0), i64::from(at));
        let offsets = (version == 2).then_some(read);
        let sent = transaction.send_offsets(&group, offsets).await;
        if at % 3 == 2 {
            drop(transaction);
            assert!(is_aborted(&receipt.ended().await), "{handler}");
            continue;
        }
        match (transaction.commit().await, sent) {
            (Ok(()), Ok(())) => {
                receipt.ended().await.expect("acked");
                expected.push(at.to_string());
            }
            // They were lost with the message.
            (Err(NotCommitted::Aborted(_)), Err(TransactionError::Failed(_))) => {
                assert!(is_aborted(&receipt.ended().await), "{handler}");
            }
            other => panic!("{handler}, protocol {version}: {other:?}"),
        }
    }
    close(producer).await;
    let struck = faults::stop()[0];
    assert!(struck > 0, "{handler} is not reached");
    expected.sort();
    assert_eq!(
        seen(&broker, true),
        expected,
        "{handler}, protocol {version}"
    );
}
