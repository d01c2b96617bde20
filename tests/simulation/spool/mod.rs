//! The spool in virtual time: processes that are killed at any moment, on a disk that outlives them, and what
//! is in the logs at the end.

mod application;
mod check;
mod disk;
mod life;
mod plan;
mod rejected;
mod resumed;
mod sources;
mod tally;

use std::rc::Rc;
use std::time::Duration;

use forebay::internals::disk::simulate as disk_of;
use forebay::internals::faults;
use forebay_model_cluster::{Cluster, rng};
use tokio::time::timeout;

use application::Application;
use tally::Tally;

use super::seed::{Verdict, judged};
use super::tally::Invariant;
use super::weather::before_message;
use super::world::{History, World};

/// Nothing in a simulation takes longer than this, in virtual time.
const ENDLESS: Duration = Duration::from_secs(1_200);

/// The line that replays a seed.
pub(super) fn replay(seed: u64) -> String {
    let test = "spool::one_seed_again";
    format!("FOREBAY_SEED={seed} cargo test --test simulation {test} -- --nocapture")
}

/// Runs a seed on this thread, in virtual time.
pub(super) fn run(seed: u64, with_text: bool) -> Verdict<Tally> {
    judged(simulate(seed, with_text))
}

async fn simulate(seed: u64, with_text: bool) -> Verdict<Tally> {
    let mut rng = rng(seed);
    let mut of_world = plan::of_world(&mut rng);
    plan::recreates(seed, &mut of_world);
    let plan = plan::of_lives(&mut rng, &of_world);
    let config = plan::config(&mut rng, &plan, &of_world);
    let cluster = Cluster::new(3, &[plan.partitions], &mut rng);
    let world = World::new((seed, replay(seed)), of_world, cluster, rng);
    if with_text {
        let text = vec![format!("{:?}", world.plan), format!("{plan:?}")];
        world.chronicle.history.borrow_mut().text = Some(text);
    }
    {
        let world = Rc::clone(&world);
        faults::at_each(move |actor, message| before_message(&world, actor, message));
    }
    let application = Application::new(Rc::clone(&world), plan);
    disk_of(Some(Rc::clone(&application.disk) as _));
    let lived = timeout(ENDLESS, life::live(&application, config)).await;
    faults::at_none();
    disk_of(None);
    if lived.is_err() {
        application.wrong(Invariant::Stuck, "it never ends");
    }
    check::check(&application);
    let mut journal = application.journal.borrow_mut();
    let mut tally = journal.tally.clone();
    let history: History = std::mem::take(&mut *world.chronicle.history.borrow_mut());
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

#[test]
fn what_was_accepted_is_there_once_whenever_processes_end() {
    super::play(|seed| run(seed, false), replay, |tally: &Tally| tally.seeds);
}

/// Runs the seed of `FOREBAY_SEED` and prints everything that happened.
#[test]
fn one_seed_again() {
    if let Some(seed) = super::wanted() {
        super::play_again(seed, replay, |seed| run(seed, true));
    }
}

#[test]
fn processes_with_a_spool_repeat_themselves() {
    super::play_twice(|seed| run(seed, false).hash);
}
