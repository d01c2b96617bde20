//! An actor that produces, and is told of the outcomes by messages.
//!
//! ```text
//! cargo run --example actor [BOOTSTRAP_SERVERS] [TOPIC]
//! ```
//!
//! No receipt is awaited here: the `Shop` notes which record carries which order, and receives one
//! `BatchOutcome` message for each batch. At the end, a record is sent to a partition's own address
//! as a typed message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use forebay::{BatchOutcome, Config, Producer, Record, RecordId, SendError, SendRecord};

/// Sends orders, and counts their outcomes.
struct Shop {
    producer: Producer,
    topic: Arc<str>,
    /// The number of the order that each record carries.
    open: HashMap<RecordId, u32>,
    written: usize,
}

impl Actor for Shop {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "Result<(), SendError>")]
struct Order {
    number: u32,
    customer: u32,
}

impl Handler<Order> for Shop {
    // Atomic: no other message is handled while an order waits for its topic or for memory. So
    // orders are sent in the order in which they arrived, and a full buffer slows down the senders
    // of orders.
    type Result = AtomicResponse<Self, Result<(), SendError>>;

    fn handle(&mut self, Order { number, customer }: Order, _: &mut Context<Self>) -> Self::Result {
        let producer = self.producer.clone();
        let record = Record::to(Arc::clone(&self.topic))
            .key(format!("customer-{customer}"))
            .value(format!("order {number}"));
        let sent = async move { producer.send(record).await }.into_actor(self);
        AtomicResponse::new(Box::pin(sent.map(move |sent, shop, _| {
            // This runs in the same turn of the actor in which `send` accepted the record. So its
            // `BatchOutcome` cannot have been handled before.
            shop.open.insert(sent?.id(), number);
            Ok(())
        })))
    }
}

impl Handler<BatchOutcome> for Shop {
    type Result = ();

    fn handle(&mut self, delivered: BatchOutcome, _: &mut Context<Self>) {
        // A batch may also contain records of other handles.
        let own = delivered.ids().filter_map(|id| self.open.remove(&id));
        let orders: Vec<u32> = own.collect();
        let place = &delivered.topic_partition;
        match &delivered.result {
            Ok(offset) => {
                self.written += orders.len();
                println!("{place}: {} orders, offset {offset:?}", orders.len());
            }
            Err(undelivered) => println!("{place}: {undelivered}: {orders:?}"),
        }
    }
}

#[derive(Message)]
#[rtype(result = "(usize, usize)")]
struct Account;

impl Handler<Account> for Shop {
    type Result = MessageResult<Account>;

    fn handle(&mut self, _: Account, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.written, self.open.len()))
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap_servers = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic: Arc<str> = args.next().unwrap_or_else(|| "orders".into()).into();

    let producer = Producer::start(Config::new(&bootstrap_servers)?)?;
    let shop = Shop::create(|ctx| Shop {
        // The outcomes of records sent with this handle come to this actor.
        producer: producer.outcomes_to(ctx.address().recipient()),
        topic: Arc::clone(&topic),
        open: HashMap::new(),
        written: 0,
    });
    for number in 0..1000 {
        let customer = number % 50;
        shop.send(Order { number, customer }).await??;
    }

    // The third way to send: a partition has an actor with an address, which takes typed messages.
    // It costs a message for each record. `Producer::send` costs none.
    let partition = producer.partition_actor(&topic, 0).await?;
    let by_message = SendRecord::new(Record::to(topic).value("by message"));
    let acked = partition.send(by_message).await??.await?;
    println!("by message: offset {:?}", acked.offset);

    // When `close` has returned, every `BatchOutcome` is in its recipient's mailbox.
    producer.close(Duration::from_secs(30)).await?;
    let (written, open) = shop.send(Account).await?;
    println!("{written} orders written, {open} without an outcome");
    Ok(())
}
