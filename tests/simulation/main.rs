//! The whole runtime, its real actors, in virtual time: a seed decides everything that happens.
//!
//! See `DESIGN.md` for what is modelled and what is not.

#[macro_use]
mod tally;

mod check;
mod load;
mod many;
mod planted;
mod resolve;
mod seed;
mod small;
mod spool;
mod topics;
mod transactions;
mod weather;
mod world;

use std::fmt::Display;
use std::ops::AddAssign;
use std::sync::Mutex;

/// What an injected panic carries.
struct Injected;

/// How many to run, unless `FOREBAY_SEEDS` says otherwise.
fn seeds(usual: u64) -> u64 {
    let wanted = std::env::var("FOREBAY_SEEDS").ok();
    wanted.map_or(usual, |seeds| {
        seeds.parse().expect("FOREBAY_SEEDS is a number")
    })
}

fn first() -> u64 {
    let wanted = std::env::var("FOREBAY_FIRST_SEED").ok();
    wanted.map_or(0, |seed| {
        seed.parse().expect("FOREBAY_FIRST_SEED is a number")
    })
}

#[test]
fn no_seed_breaks_an_invariant() {
    play(
        |seed| seed::run(seed, false),
        many::replay,
        |tally| tally.seeds,
    );
}

/// Runs as many seeds as are wanted, and prints what there was.
fn play<T: Default + Display + Send + for<'a> AddAssign<&'a T>>(
    run: impl Fn(u64) -> seed::Verdict<T> + Sync,
    replay: fn(u64) -> String,
    ran: impl Fn(&T) -> u64,
) {
    let wrong = Mutex::new(Vec::new());
    let began = std::time::Instant::now();
    let (first, seeds) = (first(), seeds(300));
    let tally = many::run_many(first..first + seeds, run, replay, |seed, verdict| {
        let mut wrong = wrong.lock().expect("no panic holds it");
        if !verdict.wrong.is_empty() {
            wrong.push((seed, verdict.wrong.clone()));
        }
        wrong.len() >= 20
    });
    println!("{tally}{:?} of real time", began.elapsed());
    let mut wrong = wrong.into_inner().expect("no panic held it");
    wrong.sort();
    for (seed, wrong) in &wrong {
        let wrong = wrong.join("\n    ");
        println!("seed {seed}: {wrong}\n    {}", replay(*seed));
    }
    let (failed, seeds) = (wrong.len(), ran(&tally));
    assert!(wrong.is_empty(), "{failed} of {seeds} seeds failed");
}

/// The seed of `FOREBAY_SEED`, if one is to be played again.
fn wanted() -> Option<u64> {
    let seed = std::env::var("FOREBAY_SEED").ok()?;
    Some(seed.parse().expect("FOREBAY_SEED is a number"))
}

/// Runs a seed and prints everything that happened.
fn play_again<T: Display>(
    seed: u64,
    replay: fn(u64) -> String,
    run: impl Fn(u64) -> seed::Verdict<T>,
) {
    many::keep_quiet();
    let watchdog = many::Watchdog::start(replay);
    watchdog.begin(seed);
    let verdict = run(seed);
    for line in &verdict.text {
        println!("{line}");
    }
    println!("{}hash {:016x}", verdict.tally, verdict.hash);
    assert!(verdict.wrong.is_empty(), "{:#?}", verdict.wrong);
}

/// Runs seeds twice: what happens is the same.
fn play_twice(hash: impl Fn(u64) -> u64) {
    many::keep_quiet();
    let hashes = |_| (0..40).map(&hash).collect::<Vec<_>>();
    let [first, second] = [0, 1].map(hashes);
    for (seed, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first, second, "seed {seed}");
    }
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), first.len(), "seeds differ from each other");
}

/// Runs the seed of `FOREBAY_SEED` and prints everything that happened.
#[test]
fn replay() {
    if let Some(seed) = wanted() {
        play_again(seed, many::replay, |seed| seed::run(seed, true));
    }
}

#[test]
fn a_seed_repeats_itself() {
    play_twice(|seed| seed::run(seed, false).hash);
}
