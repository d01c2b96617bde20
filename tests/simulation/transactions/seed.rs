//! One seed, from its plan to its verdict.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use forebay::Unconfirmed;
use forebay::internals::faults;
use forebay_model_cluster::{Cluster, rng};
use rand::Rng;
use tokio::time::timeout;

use super::application::Application;
use super::check::{check, count};
use super::journal::Journal;
use super::tally::{Invariant, Tally};
use super::{life, plan, replay};
use crate::seed::{Verdict, judged};
use crate::weather::before_message;
use crate::world::{History, World};

/// Nothing in a simulation takes longer than this, in virtual time.
const ENDLESS: Duration = Duration::from_secs(2_400);

/// Runs a seed on this thread, in virtual time.
pub(crate) fn run(seed: u64, with_text: bool) -> Verdict<Tally> {
    judged(simulate(seed, with_text))
}

async fn simulate(seed: u64, with_text: bool) -> Verdict<Tally> {
    let mut rng = rng(seed);
    let topics: Vec<usize> = match rng.random_range(0..3) {
        0 => vec![1],
        1 => vec![3],
        _ => vec![1, 2],
    };
    let of_world = plan::of_world(&mut rng, topics.len());
    let plan = plan::of_transactions(&mut rng, &of_world);
    let config = plan::config(&mut rng, &plan);
    let cluster = Cluster::new(3, &topics, &mut rng);
    let world = World::new((seed, replay(seed)), of_world, cluster, rng);
    if with_text {
        let text = vec![format!("{:?}", world.plan), format!("{plan:?}")];
        world.chronicle.history.borrow_mut().text = Some(text);
    }
    {
        let world = Rc::clone(&world);
        faults::at_each(move |actor, message| before_message(&world, actor, message));
    }
    let application = Rc::new(Application {
        world: Rc::clone(&world),
        plan,
        journal: RefCell::new(Journal::default()),
        tasks: Cell::default(),
    });
    let lived = timeout(ENDLESS, life::live(&application, config)).await;
    faults::at_none();
    if lived.is_err() {
        application.wrong(Invariant::Blocked, "it never ends");
    }
    check(&application);
    for (name, sent) in &application.journal.borrow().sent {
        let outcome = match sent.by.outcome() {
            Some(Ok(acked)) => acked.offset.unwrap_or(-1),
            Some(Err(Unconfirmed::NotWritten(_))) => -2,
            Some(Err(Unconfirmed::Aborted(_))) => -3,
            Some(Err(_)) => -4,
            None => -5,
        };
        world.note("outcome", &[i64::from(name.0), i64::from(name.1), outcome]);
    }
    let mut journal = application.journal.borrow_mut();
    count(&mut journal);
    let history: History = std::mem::take(&mut *world.chronicle.history.borrow_mut());
    let mut tally = journal.tally.clone();
    tally.seeds = 1;
    tally.seconds = world.start.elapsed().as_secs();
    tally.events = history.events;
    tally.faults = world.chronicle.tally.borrow().faults;
    tally.troubles = *world.chronicle.troubles.borrow();
    Verdict {
        tally,
        wrong: std::mem::take(&mut journal.wrong),
        hash: history.hash(),
        text: history.text.unwrap_or_default(),
    }
}
