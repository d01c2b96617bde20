//! An application's own supervisor: told of every component that falls, it restarts what was given up.
//!
//! ```text
//! cargo run --example supervisor [BOOTSTRAP_SERVERS] [TOPIC]
//! ```
//!
//! forebay restarts a component that panics by itself, within a budget. Past the budget the component
//! is given up, and what happens then is the application's to decide. This one lets a while pass and restarts
//! it, a few times; then it lets things be. To have something to show it retires a partition first.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use forebay::{
    Component, Config, Lifecycle, LifecycleEvent, Producer, Record, SendError, Supervise,
    TopicPartition,
};

/// Before a component that failed is restarted.
const PAUSE: Duration = Duration::from_secs(1);

/// Restarts by hand, for each component.
const MOST: u32 = 3;

struct Supervisor {
    /// Does not keep the producer open, as a handle would.
    supervision: Recipient<Supervise>,
    restarted: HashMap<Component, u32>,
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<Lifecycle> for Supervisor {
    type Result = ();

    fn handle(
        &mut self,
        Lifecycle {
            component, event, ..
        }: Lifecycle,
        ctx: &mut Context<Self>,
    ) {
        match event {
            LifecycleEvent::Started => println!("{component}: started"),
            LifecycleEvent::Restarted {
                why, kept, took, ..
            } => {
                println!(
                    "{component}: panicked ({why}), restarted in {took:?} and kept {kept} batches"
                );
            }
            LifecycleEvent::Failed { why, .. } => {
                let restarts = self.restarted.entry(component.clone()).or_default();
                *restarts += 1;
                if *restarts > MOST {
                    return println!("{component}: failed again ({why}), and stays so");
                }
                println!("{component}: failed ({why}), to be restarted in {PAUSE:?}");
                ctx.run_later(PAUSE, |supervisor, _| {
                    supervisor
                        .supervision
                        .do_send(Supervise::Restart(component));
                });
            }
            LifecycleEvent::Retired => {
                println!("{component}: retired, to be restarted in {PAUSE:?}");
                ctx.run_later(PAUSE, |supervisor, _| {
                    supervisor
                        .supervision
                        .do_send(Supervise::Restart(component));
                });
            }
            LifecycleEvent::Recovered => println!("{component}: works again"),
            other => println!("{component}: {other:?}"),
        }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap_servers = args.next().unwrap_or_else(|| "localhost:9092".into());
    let topic = args.next().unwrap_or_else(|| "orders".into());

    let producer = Producer::start(Config::new(&bootstrap_servers)?)?;
    let supervisor = Supervisor {
        supervision: producer.supervision(),
        restarted: HashMap::new(),
    };
    producer.subscribe(supervisor.start().recipient());

    let record = || Record::to(topic.as_str()).partition(0).value("an order");
    let receipt = producer.send(record()).await?;
    println!("offset {:?}", receipt.await?.offset);

    producer.retire(Component::Partition(TopicPartition::new(topic.as_str(), 0)));
    let mut refused = 0;
    let acked = loop {
        match producer.send(record()).await {
            // Before the partition is told it may still take a record or two.
            Ok(receipt) if refused == 0 => drop(receipt.await?),
            Ok(receipt) => break receipt.await?,
            Err(SendError::PartitionDown { .. }) => refused += 1,
            Err(other) => return Err(other.into()),
        }
        actix::clock::sleep(PAUSE / 10).await;
    };
    println!("refused {refused} times, then offset {:?}", acked.offset);
    producer.close(Duration::from_secs(30)).await?;
    Ok(())
}
