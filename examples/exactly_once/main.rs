//! Reads a topic, and writes what it makes of each record to another, exactly once: whatever kills it
//! wherever it is, a `read_committed` reader finds one record for each.
//!
//! ```text
//! cargo run --example exactly_once -- BOOTSTRAP_SERVERS FROM TO [ID] [--actor]
//! ```
//!
//! `ID` is its `transactional.id`; start more workers with other
//! ids and the same topics. With `--actor` the work is done by an actix actor, otherwise by a loop.

mod worker;

use std::error::Error;
use std::rc::Rc;

use actix::prelude::*;

use worker::{Job, Worker};

/// The worker as an actor: each step ends with the message for the next.
struct Shouter(Rc<Worker>);

#[derive(Message)]
#[rtype(result = "()")]
struct Step;

impl Actor for Shouter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.notify(Step);
    }
}

impl Handler<Step> for Shouter {
    // Atomic: no other message is handled in the middle of a transaction.
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Step, _: &mut Context<Self>) -> Self::Result {
        let worker = Rc::clone(&self.0);
        let step = async move { worker.step().await.map_err(|error| error.to_string()) };
        AtomicResponse::new(Box::pin(step.into_actor(self).map(
            |worked, _, ctx| match worked {
                Ok(records) => {
                    println!("{records} records");
                    ctx.notify(Step);
                }
                Err(error) => {
                    eprintln!("{error}");
                    ctx.stop();
                    System::current().stop();
                }
            },
        )))
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let (flags, args): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with("--"));
    let [servers, from, to, rest @ ..] = &args[..] else {
        return Err("give it BOOTSTRAP_SERVERS FROM TO [ID]".into());
    };
    let id = rest.first().map_or("shouter-1", String::as_str);
    let job = Job {
        servers: servers.clone(),
        from: from.clone(),
        to: to.clone(),
        group: format!("shouters-of-{from}"),
        transactional_id: id.to_owned(),
    };
    let worker = Rc::new(Worker::start(job).await?);
    if flags.iter().any(|flag| flag == "--actor") {
        let _shouter = Shouter(Rc::clone(&worker)).start();
        tokio::signal::ctrl_c().await?;
    } else {
        loop {
            tokio::select! {
                worked = worker.step() => println!("{} records", worked?),
                _ = tokio::signal::ctrl_c() => break,
            }
        }
    }
    worker.close().await;
    Ok(())
}
