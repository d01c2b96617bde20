//! What goes wrong with coordinators and with transactions, while the weather is as for everybody.

use std::rc::Rc;
use std::time::Duration;

use forebay_model_cluster::{Conditions, Kind, Participant, V2};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::{ID, Plan};
use crate::tally::Trouble;
use crate::world::World;

/// The consumer groups whose offsets are committed.
pub(super) const GROUPS: [&str; 2] = ["group-a", "group-b"];

/// How long EndTxn may be lost behind what is planned, in milliseconds.
const MUFFLED: u64 = 300;

/// Lets things go wrong for as long as the world's plan says, and until what is planned has come.
pub(super) async fn storm(world: &Rc<World>, plan: &Plan) {
    let began = Instant::now();
    let end = began + world.plan.storm;
    let level = |trouble: Trouble| plan.weights[trouble as usize];
    // The storm of all has set its own by then.
    sleep(Duration::from_micros(1)).await;
    world.kafka.change(|conditions| {
        conditions.coordinator_errors = level(Trouble::CoordinatorError) * 20;
        conditions.coordinator_errors_after = level(Trouble::CoordinatorError) * 10;
        conditions.markers_again = level(Trouble::MarkerAgain) * 20;
    });
    if let Some(after) = plan.upgrade {
        later(world, after, |world| {
            world.chronicle.trouble(Trouble::Upgrade);
            world.kafka.finalize(V2);
        });
    }
    for after in [plan.taken_over, plan.second].into_iter().flatten() {
        muffle(world, after, plan.muffled);
    }
    if let Some(after) = plan.taken_over {
        later(world, after, |world| {
            let epoch = || world.kafka.transaction(ID).map(|it| it.identity());
            let before = epoch();
            // Whatever it is answered: what was open is aborted, or the epoch is a new one.
            let _ = world.kafka.take_over(ID);
            if epoch() != before {
                world.chronicle.trouble(Trouble::TakenOver);
            }
        });
    }
    let total: u32 = plan.weights.iter().sum();
    while total > 0 && Instant::now() < end {
        sleep(world.between(1, 300)).await;
        if let Some(trouble) = world.pick(Trouble::ALL, &plan.weights) {
            strike(world, trouble);
        }
    }
    let planned = [plan.upgrade, plan.taken_over, plan.second];
    if let Some(last) = planned.into_iter().flatten().max() {
        sleep_until(began + last + Duration::from_millis(MUFFLED + 1)).await;
    }
}

fn later(world: &Rc<World>, after: Duration, what: impl FnOnce(&World) + 'static) {
    let world = Rc::clone(world);
    spawn_local(async move {
        sleep(after).await;
        what(&world);
    });
}

/// Requests and answers of EndTxn are lost around that time.
fn muffle(world: &Rc<World>, after: Duration, (requests, answers): (u32, u32)) {
    if requests + answers == 0 {
        return;
    }
    let before = after.saturating_sub(world.between(0, 600));
    let until = after + world.between(50, MUFFLED);
    later(world, before, move |world| {
        world.kafka.change(|conditions| {
            (conditions.ends_dropped, conditions.ends_lost) = (requests, answers);
        });
    });
    later(world, until, |world| {
        world.kafka.change(|conditions| {
            (conditions.ends_dropped, conditions.ends_lost) = (0, 0);
        });
    });
}

/// A spell that begins now and ends later.
fn spell(world: &Rc<World>, most: u64, on: fn(&mut Conditions), off: fn(&mut Conditions)) {
    world.kafka.change(on);
    let after = world.between(20, most);
    later(world, after, move |world| world.kafka.change(off));
}

fn some_group(world: &World) -> &'static str {
    GROUPS[world.below(GROUPS.len() as u64) as usize]
}

fn strike(world: &Rc<World>, trouble: Trouble) {
    if let Some((most, on, off)) = trouble.spell() {
        spell(world, most, on, off);
        return world.chronicle.trouble(trouble);
    }
    match trouble {
        Trouble::CoordinatorMove => {
            let moved = match world.below(4) {
                0 => world.kafka.move_coordinator(Kind::Group, some_group(world)),
                _ => world.kafka.move_coordinator(Kind::Transaction, ID),
            };
            if !moved {
                return;
            }
        }
        Trouble::MarkersBlocked => {
            let everywhere = world.kafka.cluster.borrow().everywhere();
            let at = world.below(everywhere.len() as u64 + 1) as usize;
            let of = match everywhere.get(at) {
                Some(at) => Participant::Partition(*at),
                None => Participant::Group(some_group(world).to_owned()),
            };
            world.kafka.block_markers(of, world.between(50, 3_000));
        }
        Trouble::Rebalance => {
            let mut groups = world.kafka.groups.borrow_mut();
            let group = groups.entry(some_group(world).to_owned()).or_default();
            group.rebalance([("member".to_owned(), None)]);
        }
        // These happen by themselves, and are counted when they do; the rest is planned.
        _ => return,
    }
    world.chronicle.trouble(trouble);
}
