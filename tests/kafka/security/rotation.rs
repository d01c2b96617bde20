//! Certificates that change while a producer runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use forebay::{Producer, Receipt, Record};
use tokio::time::{sleep, timeout};

use super::{Signer, secured, skipped};

/// As Kubernetes does it: the file is a link into a folder that is itself a link, which is replaced.
fn point(dir: &Path, to: &str) {
    let (fresh, data) = (dir.join("..fresh"), dir.join("..data"));
    symlink(dir.join(to), &fresh).unwrap();
    fs::rename(fresh, data).unwrap();
}

/// Once the connection of the record before is gone.
async fn send(producer: &Producer) -> Receipt {
    sleep(Duration::from_millis(100)).await;
    let record = Record::to(TOPIC).value("1");
    producer.send(record).await.expect("a known topic")
}

const TOPIC: &str = "rotation";

#[tokio::test]
async fn new_connections_use_the_files_of_their_time() {
    if skipped("new_connections_use_the_files_of_their_time") {
        return;
    }
    let secured = secured();
    secured.cluster.create_topic(TOPIC, 1, 1, &[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stranger = Signer::new(dir.path(), "other-signer");
    for (version, text) in [
        ("good", fs::read(&secured.signer.certificate).unwrap()),
        ("other", fs::read(&stranger.certificate).unwrap()),
        ("broken", b"no certificate at all".to_vec()),
    ] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("ca.pem"), text).unwrap();
    }
    point(dir.path(), "good");
    let file = dir.path().join("ca.pem");
    symlink(dir.path().join("..data/ca.pem"), &file).unwrap();
    let config = secured
        .config("TLS", "SSL")
        .set("ssl.truststore.location", file.display())
        // Every record gets a connection of its own.
        .set("connections.max.idle.ms", 1)
        .build()
        .unwrap();
    let producer = Producer::start(config).unwrap();
    send(&producer).await.await.expect("it is written");

    point(dir.path(), "broken");
    send(&producer)
        .await
        .await
        .expect("what was read before stays in force");

    point(dir.path(), "other");
    // The next record may still find the connection of the one before.
    let mut waiting = None;
    for _ in 0..10 {
        let mut receipt = send(&producer).await;
        if timeout(Duration::from_secs(1), &mut receipt).await.is_err() {
            waiting = Some(receipt);
            break;
        }
    }
    let receipt = waiting.expect("the broker is not trusted any more");

    point(dir.path(), "good");
    receipt.await.expect("the broker is trusted again");
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
}
