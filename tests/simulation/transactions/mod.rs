//! Transactions in virtual time: a `TransactionalProducer` and all that befalls its coordinators, and what
//! a `read_committed` reader sees of it at the end.

mod application;
mod check;
mod journal;
mod life;
mod plan;
mod seed;
mod sending;
mod tally;
mod troubles;

pub(super) use seed::run;

/// The line that replays a seed.
pub(super) fn replay(seed: u64) -> String {
    let test = "transactions::one_seed_again";
    format!("FOREBAY_SEED={seed} cargo test --test simulation {test} -- --nocapture")
}

/// The label of an invariant of transactions.
pub(super) fn labelled(name: &str) -> Option<&'static str> {
    let named = |it: &&tally::Invariant| format!("{it:?}") == name;
    tally::Invariant::ALL
        .iter()
        .find(named)
        .map(|it| it.label())
}

#[test]
fn readers_see_all_or_nothing_whatever_happens() {
    super::play(
        |seed| run(seed, false),
        replay,
        |tally: &tally::Tally| tally.seeds,
    );
}

/// Runs the seed of `FOREBAY_SEED` and prints everything that happened.
#[test]
fn one_seed_again() {
    if let Some(seed) = super::wanted() {
        super::play_again(seed, replay, |seed| run(seed, true));
    }
}

#[test]
fn transactions_repeat_themselves() {
    super::play_twice(|seed| run(seed, false).hash);
}
