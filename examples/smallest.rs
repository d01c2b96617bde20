//! The smallest program: start a producer, send a record, wait for its outcome, close.
//!
//! ```text
//! cargo run --example smallest [BOOTSTRAP_SERVERS] [TOPIC]
//! ```
//!
//! Without arguments it sends to the topic `orders` at `localhost:9092`. To start a cluster for it:
//! `cargo run --example cluster -- orders:12`, which prints its bootstrap servers.

use std::time::Duration;

use forebay::{Config, Producer, Record};

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap_servers = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());

    let producer = Producer::start(Config::new(&bootstrap_servers)?)?;

    // The first wait ends when the record is accepted: its topic is known and there is memory
    // for it. An error here is a refusal, and the record is in no log.
    let receipt = producer
        .send(Record::to(topic).key("customer-7").value("shoes"))
        .await?;

    // The second wait ends with the record's one outcome.
    match receipt.await {
        Ok(acked) => println!("partition {} offset {:?}", acked.partition, acked.offset),
        // Sending again is safe after "not written". After "may or may not be written" it may make
        // a duplicate.
        Err(undelivered) => println!("{undelivered}"),
    }

    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}
