//! A commit that only the marker in its log can tell of: its answer was missed, and then another instance has
//! taken the `transactional.id`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay::internals::faults;
use forebay::transaction::{Cause, GroupMetadata, NotCommitted, ReadUpTo};
use forebay::{TopicPartition, Unconfirmed};
use krafka::testing::{ApiKey, Control, FakeBroker};

use super::PATIENCE;
use super::transactions::{
    ID, PROTOCOLS, TOPIC, broker, close, error, is_aborted, producer, seen, send,
};

/// The first EndTxn is carried out or not, and its answer is lost. Later ones wait for what is returned.
fn lose_the_end(broker: &FakeBroker, arrives: bool) -> Arc<AtomicBool> {
    let passes = Arc::new(AtomicBool::new(false));
    let does = Arc::clone(&passes);
    broker.on(ApiKey::EndTxn, move |request| {
        match (request.api_call_index, arrives) {
            (0, true) => Control::ApplyThen(Box::new(Control::Disconnect)),
            (0, false) => Control::Disconnect,
            _ if does.load(Ordering::Relaxed) => Control::Pass,
            _ => error(51),
        }
    });
    passes
}

/// Commits a transaction of one record in that way. Returns what is told.
async fn fenced_in_doubt(
    broker: &FakeBroker,
    arrives: bool,
    keys: &[(&str, &str)],
) -> Result<(), NotCommitted> {
    let passes = lose_the_end(broker, arrives);
    let older = producer(broker, keys);
    let open = older.begin().await.expect("begun");
    let receipt = send(&open, "older").await;
    receipt.clone().await.expect("appended");
    let committing = actix::spawn(open.commit());
    while broker.request_count(ApiKey::EndTxn) < 2 {
        tokio::task::yield_now().await;
    }
    let newer = producer(broker, &[]);
    let transaction = newer.begin().await.expect("begun");
    send(&transaction, "newer").await.await.expect("appended");
    passes.store(true, Ordering::Relaxed);
    let mut committed = committing.await.expect("no panic");
    while let Err(NotCommitted::InDoubt(it)) = committed {
        committed = it.resolve().await;
    }
    let outcome = receipt.ended().await;
    let agrees = match &committed {
        Ok(()) => outcome.is_ok(),
        Err(NotCommitted::Aborted(_)) => is_aborted(&outcome),
        Err(_) => matches!(outcome, Err(Unconfirmed::Unknown(_))),
    };
    assert!(agrees, "{committed:?}: {outcome:?}");
    transaction.commit().await.expect("committed");
    close(older).await;
    close(newer).await;
    let both = seen(broker, true);
    match arrives {
        true => assert_eq!(both, ["newer", "older"]),
        false => assert_eq!(both, ["newer"]),
    }
    committed
}

/// Why nobody knows the end.
fn unknown(committed: Result<(), NotCommitted>) -> String {
    match committed {
        Err(NotCommitted::Unknown(why @ Cause::Untold { .. })) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn told(committed: &Result<(), NotCommitted>, arrives: bool) -> bool {
    match committed {
        Ok(()) => arrives,
        Err(NotCommitted::Aborted(Cause::Refused(_))) => !arrives,
        Err(_) => false,
    }
}

#[actix::test]
async fn the_marker_says_whether_it_was_committed() {
    for version in PROTOCOLS {
        for arrives in [true, false] {
            let broker = broker(version).await;
            let committed = fenced_in_doubt(&broker, arrives, &[]).await;
            assert!(told(&committed, arrives), "{version}: {committed:?}");
        }
    }
}

#[actix::test]
async fn without_read_nobody_knows_and_it_is_said_why() {
    let broker = broker(2).await;
    broker.on(ApiKey::Fetch, |_| error(29));
    let why = unknown(fenced_in_doubt(&broker, true, &[]).await);
    assert!(why.contains("READ on the topic"), "{why}");
    assert!(why.contains("PRODUCER_FENCED"), "{why}");
}

#[actix::test]
async fn a_log_that_cannot_be_read_for_long_is_given_up() {
    let broker = broker(2).await;
    broker.on(ApiKey::Fetch, |_| error(6));
    let patience = [("forebay.unknown.resolve.timeout.ms", "300")];
    let why = unknown(fenced_in_doubt(&broker, true, &patience).await);
    assert!(why.contains("could not be read for 300ms"), "{why}");
    assert!(why.contains("NOT_LEADER_OR_FOLLOWER"), "{why}");
}

#[actix::test]
async fn what_holds_offsets_alone_is_in_no_log() {
    let broker = broker(2).await;
    let passes = lose_the_end(&broker, true);
    let (older, newer) = (producer(&broker, &[]), producer(&broker, &[]));
    let open = older.begin().await.expect("begun");
    let read = ReadUpTo::new(TopicPartition::new(TOPIC, 0), 5);
    let sent = open
        .send_offsets(&GroupMetadata::new("group"), [read])
        .await;
    sent.expect("sent");
    let committing = actix::spawn(open.commit());
    while broker.request_count(ApiKey::EndTxn) < 2 {
        tokio::task::yield_now().await;
    }
    drop(newer.begin().await.expect("begun"));
    passes.store(true, Ordering::Relaxed);
    let why = unknown(committing.await.expect("no panic"));
    assert!(why.contains("no record of it"), "{why}");
    close(older).await;
    close(newer).await;
    assert!(!broker.transaction_is_open(ID));
}

/// Messages that are lost with a panic are sent again.
#[actix::test]
async fn panics_lose_no_end() {
    const HANDLERS: [&str; 8] = [
        "RuntimeActor:FindMarker",
        "PartitionActor:FindMarker",
        "PartitionActor:LogNews",
        "TransactionActor:MarkerTold",
        "TransactionActor:Tick",
        "LookupActor:LookUp",
        "LookupActor:Spawned",
        "LookupActor:Finished",
    ];
    for handler in HANDLERS {
        for arrives in [true, false] {
            let broker = broker(2).await;
            faults::plan(handler, 1, 2);
            let keys = [("forebay.restart.max", "1000")];
            let looked = fenced_in_doubt(&broker, arrives, &keys);
            let committed = tokio::time::timeout(PATIENCE, looked).await;
            let struck = faults::stop()[0];
            let Ok(committed) = committed else {
                panic!("{handler}: it hangs");
            };
            assert!(struck > 0, "{handler} is not reached");
            assert!(told(&committed, arrives), "{handler}: {committed:?}");
        }
    }
}
