//! An application's own supervisor: it is told of every component that panics, and restarts those
//! that were given up.
//!
//! ```text
//! cargo run --example supervisor [BOOTSTRAP_SERVERS] [TOPIC]
//! ```
//!
//! forebay itself restarts a component that panics, up to a limit. Above the limit the component is
//! given up, and the application decides what happens then. This supervisor waits a while and
//! restarts the component, a few times. Then it stops doing so. To have something to show, it first
//! retires a partition.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use forebay::{
    Component, Config, Lifecycle, LifecycleEvent, Producer, Record, SendError, Supervise,
    TopicPartition,
};

/// The wait before a component that failed is restarted.
const PAUSE: Duration = Duration::from_secs(1);

/// How often each component is restarted by this supervisor.
const MOST: u32 = 3;

struct Supervisor {
    /// Receives the supervisor's commands. It is the runtime's address, and does not keep the
    /// producer alive.
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
            // The partition may accept a record or two before it learns of it.
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
