//! What waits in the spool, and for how long.

use std::path::Path;
use std::time::Duration;

use forebay::{Producer, Record};

use super::{broker, config};

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
