//! Every error code there is, over the wire: what the outcome says is what the log shows.

use std::sync::atomic::{AtomicUsize, Ordering};

use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::*;

/// (code, in the log afterwards, what then) of `tests/kafka_errors.txt`, and codes that Kafka does
/// not know.
fn codes() -> Vec<(i16, &'static str, &'static str)> {
    let rows = include_str!("../kafka_errors.txt").lines();
    let known = rows.filter(|row| !row.starts_with('#')).map(|row| {
        let words: Vec<_> = row.split(' ').collect();
        (words[0].parse().expect("a code"), words[2], words[3])
    });
    let unknown = [-2, 9999, i16::MIN, i16::MAX].map(|code| (code, "maybe", "ends"));
    let all: Vec<_> = known
        .chain(unknown)
        .filter(|(code, ..)| *code != 0)
        .collect();
    assert!(all.len() > 130);
    all
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(_) => "acked",
        Err(Unconfirmed::NotWritten(_)) => "not written",
        Err(_) => "unknown",
    }
}

/// Has each code answer a record that `before` was done with first, and compares what became of it.
async fn walk(before: Option<Control>, expected: impl Fn(i16, &str, &str) -> &'static str) {
    let broker = broker().await;
    let producer = producer(&broker, &[]);
    let mut in_the_log = Vec::new();
    for (code, after, then) in codes() {
        let (script, at) = (before.clone(), AtomicUsize::new(0));
        let first = usize::from(script.is_none());
        broker.on(ApiKey::Produce, move |_| {
            match (first + at.fetch_add(1, Ordering::Relaxed), &script) {
                (0, Some(before)) => before.clone(),
                (1, _) => Control::Error(ErrorCode::from_i16(code)),
                _ => Control::Pass,
            }
        });
        let value = format!("{code}");
        let outcome = outcome(send(&producer, &value).await).await;
        assert_eq!(
            word(&outcome),
            expected(code, after, then),
            "{code}: {outcome:?}"
        );
        let appended = matches!(before, Some(Control::ApplyThen(_)));
        // A broker that calls a duplicate what it does not have is believed.
        if appended || (outcome.is_ok() && code != 46) {
            in_the_log.push(value);
        }
        broker.clear_hooks();
        acked(send(&producer, "next").await).await;
        in_the_log.push("next".to_owned());
    }
    // Each once, in the order of sending, and nothing that was told of as not written.
    assert_eq!(log(&broker), in_the_log);
    close(producer).await;
}

#[tokio::test]
async fn every_code_answers_a_fresh_record() {
    walk(None, |code, after, then| match (after, then) {
        (_, "retried" | "anew") => "acked",
        ("absent", _) => "not written", // one record is not split
        ("maybe", _) => "unknown",
        _ => {
            assert_eq!(code, 46, "what was never sent is no duplicate");
            "unknown"
        }
    })
    .await;
}

/// The answer to the first attempt is lost, after the append or before it.
#[tokio::test]
async fn every_code_answers_a_record_in_doubt() {
    let applied = Control::ApplyThen(Box::new(Control::Disconnect));
    for before in [applied, Control::Disconnect] {
        walk(Some(before), |_, after, then| match (after, then) {
            (_, "retried") | ("present", _) => "acked",
            _ => "unknown",
        })
        .await;
    }
}
