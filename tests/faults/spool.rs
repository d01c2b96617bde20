//! What waits in the spool, and for how long.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use forebay::{CloseError, Producer, Reason, Record, Resumed, ResumedOutcome, Unconfirmed};

use super::{PATIENCE, broker, config};

/// A producer with a spool.
fn spooled(servers: &str, dir: &Path, keys: &[(&str, &str)]) -> Producer {
    let dir = dir.to_string_lossy();
    let spool: [(&str, &str); 3] = [
        ("forebay.spool.dir", &dir),
        ("forebay.spool.segment.bytes", "2097152"),
        ("max.request.size", "100000"),
    ];
    let keys: Vec<_> = spool.iter().chain(keys).copied().collect();
    Producer::start(config(servers, &keys)).expect("a producer")
}

/// A directory that remembers the topic "t", and so many records that no broker has.
async fn left_by_a_former_producer(dir: &Path, records: usize) {
    let broker = broker().await;
    let producer = spooled(&broker.bootstrap_servers(), dir, &[]);
    let sent = producer.send(Record::to("t").value("x")).await;
    let _ = sent.expect("accepted").await;
    drop(broker);
    let _ = producer.close(Duration::ZERO).await;
    if records > 0 {
        let producer = spooled("127.0.0.1:1", dir, &[]);
        for _ in 0..records {
            let sent = producer.send(Record::to("t").value("y")).await;
            drop(sent.expect("accepted"));
        }
        let closed = producer.close(Duration::ZERO).await;
        let text = format!("{closed:?}");
        assert!(text.contains(&format!("kept: {records}")), "{text}");
    }
}

#[tokio::test]
async fn what_waits_for_too_long_is_not_written_and_in_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = dir.path().join("spool");
    left_by_a_former_producer(&spool, 0).await;
    let producer = spooled(
        "127.0.0.1:1",
        &spool,
        &[("forebay.spool.max.age.ms", "300")],
    );
    let sent = producer.send(Record::to("t").value("too old")).await;
    let outcome = tokio::time::timeout(PATIENCE, sent.expect("accepted")).await;
    let outcome = outcome.expect("in time");
    assert!(
        matches!(outcome, Err(Unconfirmed::NotWritten(Reason::TooOld { .. }))),
        "{outcome:?}"
    );
    let figures = producer.figures().await.expect("it lives");
    assert_eq!(figures.spool.expect("a spool").rejected, 1);
    let closed = producer.close(PATIENCE).await.expect("nothing is left");
    assert_eq!(closed.kept, 0);
    let mut files = std::fs::read_dir(spool.join("rejected")).expect("it is there");
    let file = files.next().expect("a file").expect("it can be read");
    let text = std::fs::read_to_string(file.path()).expect("text");
    assert!(text.contains(r#""value":"too old""#), "{text}");
}

#[tokio::test]
async fn what_is_left_of_a_topic_that_is_not_asked_for_any_more_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = dir.path().join("spool");
    left_by_a_former_producer(&spool, 5).await;
    let other = [("forebay.spool.topics", "another")];
    let producer = spooled("127.0.0.1:1", &spool, &other);
    let closed = producer.close(Duration::ZERO).await;
    let text = format!("{closed:?}");
    assert!(text.contains("kept: 5"), "{text}");
}

/// Adds up what it is told.
struct Heard(Arc<Mutex<Vec<Resumed>>>);

impl Actor for Heard {
    type Context = Context<Self>;
}

impl Handler<Resumed> for Heard {
    type Result = ();

    fn handle(&mut self, resumed: Resumed, _: &mut Context<Self>) {
        self.0.lock().expect("nobody panics").push(resumed);
    }
}

#[actix::test]
async fn what_becomes_of_what_was_left_is_told_by_messages() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = dir.path().join("spool");
    left_by_a_former_producer(&spool, 5).await;
    let broker = broker().await;
    let told: Arc<Mutex<Vec<Resumed>>> = Arc::default();
    let heard = Heard(Arc::clone(&told)).start();
    let path = spool.to_string_lossy();
    let keys = [
        ("forebay.spool.dir", &*path),
        ("forebay.spool.segment.bytes", "2097152"),
        ("max.request.size", "100000"),
    ];
    let producer = Producer::builder()
        .resumed_to(heard.recipient())
        .start(config(&broker.bootstrap_servers(), &keys))
        .expect("a producer");
    let resumed = tokio::time::timeout(PATIENCE, producer.resumed()).await;
    resumed.expect("in time").expect("all was delivered");
    let mut records = 0;
    for resumed in told.lock().expect("nobody panics").iter() {
        assert_eq!(resumed.topic_partition.topic.as_ref(), "t");
        assert!(
            matches!(
                resumed.outcome,
                ResumedOutcome::Acked {
                    offset: Some(_),
                    ..
                }
            ),
            "{resumed:?}"
        );
        records += resumed.count;
    }
    assert_eq!(records, 5);
    // Of its own it tells nothing.
    let sent = producer.send(Record::to("t").value("z")).await;
    sent.expect("accepted").await.expect("acked");
    let closed = producer.close(PATIENCE).await;
    closed.expect("nothing is left");
    let told: u32 = told
        .lock()
        .expect("nobody panics")
        .iter()
        .map(|it| it.count)
        .sum();
    assert_eq!(told, 5);
    let gone = producer.resumed().await;
    assert!(matches!(gone, Err(CloseError::Gone)), "{gone:?}");
}

#[tokio::test]
async fn without_a_spool_nothing_is_resumed() {
    let broker = broker().await;
    let producer = Producer::start(config(&broker.bootstrap_servers(), &[])).expect("a producer");
    let resumed = tokio::time::timeout(PATIENCE, producer.resumed()).await;
    resumed.expect("at once").expect("nothing was left");
    producer.close(PATIENCE).await.expect("nothing is left");
}
