//! Starts a real Kafka cluster on this machine, with a listener for each way to secure connections, and
//! writes the configuration for each:
//!
//! ```text
//! cargo run --example cluster -- orders:12 payments:3
//! cargo run --example cluster -- --brokers 1 --folder /tmp/cluster orders
//! ```
//!
//! It needs Java 17 and Maven. Its bootstrap servers in plain text go to standard output, all else to
//! standard error. It runs until Ctrl-C or the end of standard input.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `TOPIC[:PARTITIONS]` ... | `orders:12 payments:3` | the topics; `bob` may write to the first alone |
//! | `--brokers N` | 3 | how many brokers |
//! | `--folder DIR` | `target/cluster` | where certificates and configurations are written to |
//! | `--plain` | | no other listener than the one in plain text, and no rules for access |

mod secured;

use std::path::PathBuf;
use std::time::Instant;

use forebay_kafka_cluster as kafka;
use kafka::{Cluster, ClusterOptions};
use secured::Secured;

struct Args {
    brokers: usize,
    folder: PathBuf,
    plain: bool,
    topics: Vec<(String, i32)>,
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        brokers: 3,
        folder: "target/cluster".into(),
        plain: false,
        topics: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--brokers" => {
                let number = value()?;
                args.brokers = number.parse().map_err(|e| format!("{number}: {e}"))?;
            }
            "--folder" => args.folder = value()?.into(),
            "--plain" => args.plain = true,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            topic => {
                let (name, partitions) = topic.split_once(':').unwrap_or((topic, "1"));
                let partitions = partitions.parse().map_err(|e| format!("{topic}: {e}"))?;
                args.topics.push((name.to_owned(), partitions));
            }
        }
    }
    if args.topics.is_empty() && !args.plain {
        args.topics = vec![("orders".to_owned(), 12), ("payments".to_owned(), 3)];
    }
    Ok(args)
}

fn start(args: &Args, options: ClusterOptions) -> kafka::Result<Cluster> {
    eprintln!("starting {} brokers", args.brokers);
    let begin = Instant::now();
    let cluster = Cluster::start(options.brokers(args.brokers))?;
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
    for (topic, partitions) in &args.topics {
        let copies = args.brokers.min(3) as i16;
        cluster.create_topic(topic, *partitions, copies, &[])?;
        eprintln!("topic {topic}, {partitions} partitions");
    }
    Ok(cluster)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = args()?;
    kafka::available()?;
    let options = ClusterOptions::default();
    let cluster = match args.plain {
        true => start(&args, options)?,
        false => {
            let secured = Secured::new(&args.folder)?;
            let cluster = start(&args, secured.listeners(options))?;
            secured.write(&cluster, &args.topics)?;
            cluster
        }
    };
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
