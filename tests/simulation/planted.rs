//! Whether a bug that was planted is seen: `tests/planted/run` plants them.

use std::sync::Mutex;

use super::many;
use super::tally::Invariant;

/// Looks for a symptom that `FOREBAY_EXPECT` names (`Lost,Reordered`), and says how soon it showed.
#[test]
fn finds_what_was_planted() {
    let Ok(expected) = std::env::var("FOREBAY_EXPECT") else {
        println!("skipped: FOREBAY_EXPECT names no symptom to look for");
        return;
    };
    let symptoms: Vec<_> = expected.split(',').map(symptom).collect();
    let shows = |wrong: &&String| symptoms.iter().any(|it| it.is_broken_by(wrong));
    let found = Mutex::new(None);
    let (first, seeds) = (super::first(), super::seeds(50_000));
    let tally = many::run_many(first..first + seeds, |seed, verdict| {
        let mut found = found.lock().expect("no panic holds it");
        if let Some(wrong) = verdict.wrong.iter().find(shows) {
            found.get_or_insert((seed, wrong.clone()));
        }
        found.is_some()
    });
    let found = found.into_inner().expect("no panic held it");
    let (seed, wrong) = found.unwrap_or_else(|| panic!("{seeds} seeds do not show {expected}"));
    println!("found after {} seeds, by seed {seed}: {wrong}", tally.seeds);
}

fn symptom(name: &str) -> Invariant {
    let named = |it: &&Invariant| format!("{it:?}") == name;
    let found = Invariant::ALL.iter().find(named);
    *found.unwrap_or_else(|| panic!("there is no symptom {name:?}: {:?}", Invariant::ALL))
}
