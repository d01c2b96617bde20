//! Coordinators that refuse, are slow, or are not there, and what whoever sends in transactions is told.

use std::time::{Duration, Instant};

use forebay::transaction::{Cause, GroupMetadata, NotCommitted, ReadUpTo, TransactionError};
use forebay::{Reason, TopicPartition};
use krafka::testing::{ApiKey, Control};

use super::transactions::{
    ID, PROTOCOLS, TOPIC, broker, close, error, goes_on, is_aborted, producer, seen, send,
};
use super::{PATIENCE, within};

fn read(offset: i64) -> [ReadUpTo; 1] {
    [ReadUpTo::new(TopicPartition::new(TOPIC, 0), offset)]
}

#[actix::test]
async fn a_begin_that_waited_too_long_may_be_tried_again() {
    for api in [ApiKey::FindCoordinator, ApiKey::InitProducerId] {
        let broker = broker(2).await;
        let producer = producer(&broker, &[("max.block.ms", "200")]);
        broker.on(api, |_| error(15));
        for _ in 0..2 {
            let Err(TransactionError::TimedOut { why, .. }) = producer.begin().await else {
                panic!("{api:?}: nobody coordinates");
            };
            assert!(why.contains("COORDINATOR_NOT_AVAILABLE"), "{api:?}: {why}");
        }
        broker.clear_hooks();
        goes_on(&broker, producer, "one").await;
    }
}

/// TRANSACTIONAL_ID_AUTHORIZATION_FAILED, TRANSACTION_ABORTABLE.
#[actix::test]
async fn a_refusal_to_name_the_coordinator_is_told_to_whoever_begins() {
    for code in [53, 120] {
        let broker = broker(2).await;
        let producer = producer(&broker, &[]);
        broker.on(ApiKey::FindCoordinator, move |_| error(code));
        let Err(TransactionError::Refused { error, .. }) = producer.begin().await else {
            panic!("{code}: it is refused");
        };
        assert_eq!(error.code, code);
        broker.clear_hooks();
        producer.begin().await.expect("begun").abort().await;
        close(producer).await;
    }
}

#[actix::test]
async fn a_broker_without_transactions_is_named_at_once() {
    for (api, versions) in [
        // Version 0 can only ask for groups.
        (ApiKey::FindCoordinator, (0, 0)),
        (ApiKey::InitProducerId, (100, 100)),
    ] {
        let broker = broker(2).await;
        broker.set_api_versions(api, versions.0, versions.1);
        let producer = producer(&broker, &[]);
        let begun = within(producer.begin()).await;
        let told = matches!(begun, Err(TransactionError::NotServed(_)));
        assert!(told, "{api:?}: {begun:?}");
        close(producer).await;
    }
}

/// GROUP_AUTHORIZATION_FAILED.
#[actix::test]
async fn a_group_that_may_not_be_read_has_the_transaction_aborted() {
    let broker = broker(2).await;
    let producer = producer(&broker, &[]);
    let transaction = producer.begin().await.expect("begun");
    let receipt = send(&transaction, "never").await;
    receipt.clone().await.expect("appended");
    broker.on(ApiKey::FindCoordinator, |_| error(30));
    let group = GroupMetadata::new("g");
    let sent = transaction.send_offsets(&group, read(1));
    let Err(TransactionError::Failed(cause)) = sent.await else {
        panic!("the group may not be read");
    };
    let Cause::Refused(TransactionError::Refused { error, part, .. }) = &*cause else {
        panic!("{cause}");
    };
    assert!(error.code == 30 && part.contains('g'), "{cause}");
    let Err(NotCommitted::Aborted(why)) = transaction.commit().await else {
        panic!("its offsets were refused");
    };
    assert_eq!(why, *cause);
    assert!(is_aborted(&receipt.ended().await));
    broker.clear_hooks();
    producer.begin().await.expect("begun").abort().await;
    close(producer).await;
    assert_eq!(seen(&broker, true).len(), 0);
}

#[actix::test]
async fn offsets_that_waited_too_long_are_sent_all_the_same() {
    let broker = broker(2).await;
    let producer = producer(&broker, &[("max.block.ms", "200")]);
    let transaction = producer.begin().await.expect("begun");
    broker.on(ApiKey::TxnOffsetCommit, |_| error(14));
    let group = GroupMetadata::new("g");
    let sent = transaction.send_offsets(&group, read(7)).await;
    let timed_out = matches!(sent, Err(TransactionError::TimedOut { .. }));
    assert!(timed_out, "{sent:?}");
    broker.clear_hooks();
    transaction.commit().await.expect("committed");
    producer.begin().await.expect("begun").abort().await;
    close(producer).await;
    assert_eq!(broker.committed_offset("g", TOPIC, 0), Some(7));
}

#[actix::test]
async fn an_abort_takes_no_longer_than_it_may_and_goes_on() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[("max.block.ms", "300")]);
        let transaction = producer.begin().await.expect("begun");
        let receipt = send(&transaction, "never").await;
        receipt.clone().await.expect("appended");
        broker.on(ApiKey::EndTxn, |_| error(14));
        let began = Instant::now();
        transaction.abort().await;
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(is_aborted(&receipt.ended().await), "no commit is asked for");
        assert!(broker.transaction_is_open(ID), "the broker does not know");
        broker.clear_hooks();
        producer.begin().await.expect("begun").abort().await;
        assert!(!broker.transaction_is_open(ID));
        close(producer).await;
    }
}

#[actix::test]
async fn a_commit_does_not_wait_for_the_linger() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[("linger.ms", "60000")]);
        let transaction = producer.begin().await.expect("begun");
        let receipt = send(&transaction, "one").await;
        within(transaction.commit()).await.expect("committed");
        receipt.ended().await.expect("acked");
        close(producer).await;
        assert_eq!(seen(&broker, true), ["one"]);
    }
}

#[actix::test]
async fn no_end_is_asked_for_before_every_batch_is_back() {
    for (version, commits) in [(1, true), (1, false), (2, true), (2, false)] {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        let transaction = producer.begin().await.expect("begun");
        let late = Duration::from_millis(300);
        broker.on(ApiKey::Produce, move |_| Control::Delay(late));
        let receipt = send(&transaction, "slow").await;
        // Until it is on its way: what is not is given up by an abort.
        while broker.request_count(ApiKey::Produce) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ending = actix::spawn(async move {
            match commits {
                true => transaction.commit().await.expect("committed"),
                false => transaction.abort().await,
            }
        });
        tokio::time::sleep(late / 3).await;
        let ends = broker.request_count(ApiKey::EndTxn);
        assert_eq!(ends, 0, "of protocol {version}, it commits: {commits}");
        within(ending).await.expect("no panic");
        assert_eq!(receipt.ended().await.is_ok(), commits);
        close(producer).await;
    }
}

/// The batch is on its way, and its broker says nothing.
#[actix::test]
async fn a_record_that_expires_has_all_aborted_and_the_next_transaction_goes_on() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let keys = [
            ("request.timeout.ms", "100"),
            ("delivery.timeout.ms", "300"),
        ];
        let producer = producer(&broker, &keys);
        let transaction = producer.begin().await.expect("begun");
        let good = send(&transaction, "good").await;
        good.clone().await.expect("appended");
        broker.on(ApiKey::Produce, |_| Control::Silence);
        let late = send(&transaction, "late").await;
        late.clone().await.expect_err("it has expired");
        let committed = within(transaction.commit()).await;
        let Err(NotCommitted::Aborted(Cause::Record { unconfirmed, .. })) = committed else {
            panic!("{committed:?}");
        };
        let expired = matches!(unconfirmed.reason(), Reason::Expired { .. });
        assert!(expired, "{unconfirmed}");
        assert!(is_aborted(&good.ended().await) && is_aborted(&late.ended().await));
        broker.clear_hooks();
        goes_on(&broker, producer, "after").await;
    }
}

#[actix::test]
async fn with_one_request_at_a_time_transactions_go_on() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let keys = [("max.in.flight.requests.per.connection", "1")];
        let producer = producer(&broker, &keys);
        let mut expected = Vec::new();
        for at in 0..6 {
            let transaction = producer.begin().await.expect("begun");
            for part in 0..3 {
                let _receipt = send(&transaction, &format!("{at} {part}")).await;
            }
            match at % 2 {
                0 => transaction.commit().await.expect("committed"),
                _ => transaction.abort().await,
            }
            expected.extend(
                (0..3)
                    .filter(|_| at % 2 == 0)
                    .map(|it| format!("{at} {it}")),
            );
        }
        close(producer).await;
        assert_eq!(seen(&broker, true), expected);
    }
}

#[actix::test]
async fn coordinators_that_throttle_are_waited_for() {
    let broker = broker(2).await;
    for api in [ApiKey::InitProducerId, ApiKey::EndTxn, ApiKey::Produce] {
        broker.set_throttle(api, Duration::from_millis(50));
    }
    let producer = producer(&broker, &[]);
    for at in 0..3 {
        let transaction = within(producer.begin()).await.expect("begun");
        send(&transaction, &at.to_string())
            .await
            .await
            .expect("appended");
        within(transaction.commit()).await.expect("committed");
    }
    close(producer).await;
    assert_eq!(seen(&broker, true).len(), 3);
}

#[actix::test]
async fn a_close_ends_though_no_coordinator_answers() {
    for api in [
        ApiKey::FindCoordinator,
        ApiKey::InitProducerId,
        ApiKey::AddPartitionsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::EndTxn,
    ] {
        let version = match api {
            ApiKey::AddPartitionsToTxn => 1,
            _ => 2,
        };
        let broker = broker(version).await;
        let producer = producer(&broker, &[("request.timeout.ms", "30000")]);
        broker.on(api, |_| Control::Silence);
        let transactions = producer.clone();
        let working = actix::spawn(async move {
            let transaction = transactions.begin().await?;
            let receipt = send(&transaction, "open").await;
            let group = GroupMetadata::new("g");
            transaction
                .send_offsets(
                    &group,
                    (version == 2).then(|| read(1)).into_iter().flatten(),
                )
                .await?;
            let committed = transaction.commit().await;
            Ok::<_, TransactionError>((committed, receipt))
        });
        while broker.request_count(api) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let began = Instant::now();
        let _ = producer.close(Duration::from_millis(500)).await;
        assert!(began.elapsed() < PATIENCE / 2, "{api:?}");
        match within(working).await.expect("no panic") {
            Err(TransactionError::Closed | TransactionError::Failed(_)) => {}
            Ok((Err(NotCommitted::Unknown(_)), receipt)) if api == ApiKey::EndTxn => {
                let outcome = receipt.ended().await;
                assert!(outcome.is_err() && !is_aborted(&outcome), "{outcome:?}");
            }
            Ok((Err(NotCommitted::Aborted(_)), receipt)) if api == ApiKey::AddPartitionsToTxn => {
                assert!(is_aborted(&receipt.ended().await));
            }
            other => panic!("{api:?}: {other:?}"),
        }
    }
}

#[actix::test]
async fn a_close_lets_a_commit_come_to_its_end() {
    for version in PROTOCOLS {
        let broker = broker(version).await;
        let producer = producer(&broker, &[]);
        let transaction = producer.begin().await.expect("begun");
        let receipt = send(&transaction, "one").await;
        let late = Duration::from_millis(200);
        broker.on(ApiKey::Produce, move |_| Control::Delay(late));
        broker.on(ApiKey::EndTxn, move |_| Control::Delay(late));
        let committing = actix::spawn(transaction.commit());
        tokio::time::sleep(late / 4).await;
        close(producer).await;
        within(committing)
            .await
            .expect("no panic")
            .expect("committed");
        receipt.ended().await.expect("acked");
        assert_eq!(seen(&broker, true), ["one"]);
    }
}

/// What cannot be written is refused, and the others are committed without it.
#[actix::test]
async fn a_record_that_is_refused_before_it_is_sent_keeps_nothing_from_being_committed() {
    let broker = broker(2).await;
    let keys = [("max.request.size", "2000"), ("max.block.ms", "300")];
    let producer = producer(&broker, &keys);
    let transaction = producer.begin().await.expect("begun");
    let record = |topic: &str| forebay::Record::to(topic.to_owned());
    broker.on(ApiKey::Metadata, |_| error(3));
    let missing = transaction.send(record("missing")).await;
    missing.expect_err("no broker knows it");
    broker.clear_hooks();
    for refused in [
        record(TOPIC).value("x".repeat(3_000)),
        record("no such topic"),
        record(TOPIC).partition(99),
    ] {
        let refused = transaction.send(refused).await;
        refused.expect_err("it cannot be sent");
    }
    send(&transaction, "good").await.await.expect("appended");
    transaction.commit().await.expect("committed");
    close(producer).await;
    assert_eq!(seen(&broker, true), ["good"]);
}
