//! Starts a Kafka cluster of three brokers (or as many as `--brokers` says) with the given topics:
//!
//! ```text
//! cargo run --example cluster -- orders:12 payments:3
//! cargo run --example cluster -- --brokers 1 orders:12
//! ```
//!
//! It needs Java 17 and Maven. It prints its bootstrap servers, and runs until Ctrl-C or the end of
//! standard input.

use std::time::Instant;

use forebay_kafka_cluster as kafka;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let mut brokers = 3;
    if args.next_if_eq("--brokers").is_some() {
        let number = args.next().ok_or("--brokers wants a number")?;
        brokers = number.parse().map_err(|e| format!("{number}: {e}"))?;
    }
    let topics = args
        .map(|topic| {
            let (name, partitions) = topic.split_once(':').unwrap_or((&topic, "1"));
            let partitions = partitions
                .parse::<i32>()
                .map_err(|e| format!("{topic}: {e}"))?;
            Ok((name.to_owned(), partitions))
        })
        .collect::<Result<Vec<_>, String>>()?;
    kafka::available()?;
    eprintln!("starting {brokers} brokers");
    let begin = Instant::now();
    let cluster = kafka::Cluster::start(kafka::ClusterOptions::default().brokers(brokers))?;
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
        let copies = brokers.min(3) as i16;
        cluster.create_topic(&topic, partitions, copies, &[])?;
        eprintln!("topic {topic}, {partitions} partitions");
    }
    println!("{}", cluster.bootstrap());

    // Reading blocks, and Ctrl-C must not wait for it.
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
