//! A three-broker Kafka cluster by hand, with the topics that are named:
//!
//! ```text
//! cargo run --example cluster -- orders:12 payments:3
//! ```
//!
//! It needs Java 17 and Maven, prints its bootstrap servers, and runs until Ctrl-C or the end of
//! standard input.

#[path = "../tests/kafka/mod.rs"]
mod kafka;

use std::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topics = std::env::args()
        .skip(1)
        .map(|topic| {
            let (name, partitions) = topic.split_once(':').unwrap_or((&topic, "1"));
            let partitions = partitions
                .parse::<i32>()
                .map_err(|e| format!("{topic}: {e}"))?;
            Ok((name.to_owned(), partitions))
        })
        .collect::<Result<Vec<_>, String>>()?;
    kafka::available()?;
    eprintln!("starting three brokers");
    let begin = Instant::now();
    let cluster = kafka::Cluster::start(kafka::ClusterOptions::default())?;
    eprintln!(
        "ready after {:.1?}, logs in {}",
        begin.elapsed(),
        cluster.dir().display()
    );
    for broker in cluster.brokers() {
        let pid = broker.pid().unwrap_or_default();
        eprintln!(
            "broker {}: {}, process {pid}",
            broker.id(),
            broker.address()
        );
    }
    for (topic, partitions) in topics {
        cluster.create_topic(&topic, partitions, 3, &[])?;
        eprintln!("topic {topic}, {partitions} partitions");
    }
    println!("{}", cluster.bootstrap());

    // A blocking read that Ctrl-C must not wait for.
    let (ended, end_of_input) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = end_of_input => {}
    }
    eprintln!("stopping");
    Ok(())
}
