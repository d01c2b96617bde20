//! The whole runtime, its real actors, in virtual time: a seed decides everything that happens.
//!
//! See `DESIGN.md` for what is modelled and what is not.

mod check;
mod load;
mod many;
mod planted;
mod seed;
mod small;
mod tally;
mod topics;
mod weather;
mod world;

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
    let wrong = Mutex::new(Vec::new());
    let began = std::time::Instant::now();
    let (first, seeds) = (first(), seeds(300));
    let tally = many::run_many(first..first + seeds, |seed, verdict| {
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
        println!(
            "seed {seed}: {}\n    {}",
            wrong.join("\n    "),
            many::replay(*seed)
        );
    }
    assert!(
        wrong.is_empty(),
        "{} of {} seeds failed",
        wrong.len(),
        tally.seeds
    );
}

/// Runs the seed of `FOREBAY_SEED` and prints everything that happened.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("FOREBAY_SEED") else {
        return;
    };
    let seed = seed.parse().expect("FOREBAY_SEED is a number");
    many::keep_quiet();
    let watchdog = many::Watchdog::start();
    watchdog.begin(seed);
    let verdict = seed::run(seed, true);
    for line in &verdict.text {
        println!("{line}");
    }
    println!("{}hash {:016x}", verdict.tally, verdict.hash);
    assert!(verdict.wrong.is_empty(), "{:#?}", verdict.wrong);
}

#[test]
fn a_seed_repeats_itself() {
    many::keep_quiet();
    let hashes = |_| {
        (0..40)
            .map(|seed| seed::run(seed, false).hash)
            .collect::<Vec<_>>()
    };
    let [first, second] = [0, 1].map(hashes);
    for (seed, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first, second, "seed {seed}");
    }
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), first.len(), "seeds differ from each other");
}
