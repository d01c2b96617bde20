//! Whether a bug that was planted is seen: `tests/planted/run` plants them.

use std::ops::AddAssign;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tally::{Invariant, is_labelled};
use super::{many, seed, spool, transactions};

/// Looks for a symptom that `FOREBAY_EXPECT` names (`Lost,Reordered`), and says how soon it showed.
#[test]
fn finds_what_was_planted() {
    let Ok(expected) = std::env::var("FOREBAY_EXPECT") else {
        println!("skipped: FOREBAY_EXPECT names no symptom to look for");
        return;
    };
    // One of transactions, or of the spool, shows in that simulation alone.
    let all = |labelled: fn(&str) -> Option<_>| {
        let mut names = expected.split(',');
        names.all(|name| labelled(name).is_some())
    };
    if all(transactions::labelled) {
        find(
            &expected,
            transactions::labelled,
            |seed| transactions::run(seed, false),
            transactions::replay,
        );
    } else if all(of_spool) {
        find(
            &expected,
            of_spool,
            |seed| spool::run(seed, false),
            spool::replay,
        );
    } else {
        find(
            &expected,
            labelled,
            |seed| seed::run(seed, false),
            many::replay,
        );
    }
}

/// `SpoolLost` is `Lost` in the simulation of the spool.
fn of_spool(name: &str) -> Option<&'static str> {
    labelled(name.strip_prefix("Spool")?)
}

fn find<T: Default + Send + for<'a> AddAssign<&'a T>>(
    expected: &str,
    labelled: fn(&str) -> Option<&'static str>,
    run: impl Fn(u64) -> seed::Verdict<T> + Sync,
    replay: fn(u64) -> String,
) {
    let label = |name| labelled(name).unwrap_or_else(|| panic!("there is no symptom {name:?}"));
    let symptoms: Vec<_> = expected.split(',').map(label).collect();
    let shows = |wrong: &&String| symptoms.iter().any(|label| is_labelled(wrong, label));
    let (found, ran) = (Mutex::new(None), AtomicU64::new(0));
    let (first, seeds) = (super::first(), super::seeds(50_000));
    many::run_many(first..first + seeds, run, replay, |seed, verdict| {
        ran.fetch_add(1, Ordering::Relaxed);
        let mut found = found.lock().expect("no panic holds it");
        if let Some(wrong) = verdict.wrong.iter().find(shows) {
            found.get_or_insert((seed, wrong.clone()));
        }
        found.is_some()
    });
    let found = found.into_inner().expect("no panic held it");
    let (seed, wrong) = found.unwrap_or_else(|| panic!("{seeds} seeds do not show {expected}"));
    let ran = ran.into_inner();
    println!("found after {ran} seeds, by seed {seed}: {wrong}");
}

fn labelled(name: &str) -> Option<&'static str> {
    let named = |it: &&Invariant| format!("{it:?}") == name;
    Invariant::ALL.iter().find(named).map(|it| it.label())
}
