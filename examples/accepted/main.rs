//! A web service that answers as soon as an order is on its disk, whether or not there is a broker.
//!
//! ```text
//! cargo run --example accepted [BOOTSTRAP_SERVERS] [LISTEN_ON] [SPOOL]
//! curl -i -d 'two pairs of shoes' localhost:8080/orders
//! ```
//!
//! | status | meaning                                                   | send it again? |
//! |--------|-----------------------------------------------------------|----------------|
//! | 202    | it is delivered, though the process be killed now         | no             |
//! | 400    | refused, and would be again                               | no             |
//! | 503    | refused for now: no space, no memory, the service ends    | yes            |
//! | 504    | it may be delivered, or not                               | may duplicate  |
//!
//! Kill it with `kill -9` under load and start it again: what it had accepted arrives, once and in order.
//! With `forebay.spool.durability=machine` that holds for a machine that fails, too, and each answer waits
//! for the disk.

mod service;

use std::net::TcpListener;
use std::time::Duration;

use forebay::Producer;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |usual: &str| args.next().unwrap_or_else(|| usual.into());
    let (servers, listen_on, spool) = (
        next("localhost:9092"),
        next("127.0.0.1:8080"),
        next("orders-spool"),
    );
    let listener = TcpListener::bind(&listen_on)?;
    // What a former process has left goes out now, before all that is accepted from here on. There need not
    // be a broker yet.
    let producer = Producer::start(service::config(&servers, &spool)?)?;
    println!("listening on {listen_on}");
    service::serve(producer.clone(), listener)?.await?;
    // What is not delivered by then is kept, and the next start delivers it.
    match producer.close(Duration::from_secs(5)).await {
        Ok(outcomes) => println!("closed: {outcomes}"),
        Err(why) => println!("closed: {why}"),
    }
    Ok(())
}
