//! Every error code of the protocol as the response to a batch: on its first attempt, and when an
//! earlier attempt is unresolved.

use super::model::Broker;
use super::*;
use crate::core::broker_error::tests::{After, Code, Then, codes};

/// A response with `code` to one batch of two records, the first in a ledger with a success. With
/// `doubt` the batch was tried before, and the result of that is unknown.
fn answered(code: i16, doubt: bool) -> (Line, BorrowedReceipt, Lent) {
    let mut line = Line::proven();
    let sent = line.push(2);
    if doubt {
        let first = line.take();
        line.lost(&first);
        line.back_off();
    }
    let lent = line.take();
    line.report(&lent, Report::Answered(answer(code, Some(40))));
    (line, sent, lent)
}

/// How the batch ended, in a word.
fn end(sent: &BorrowedReceipt) -> &'static str {
    match (sent.is_acked(), sent.is_unknown()) {
        (true, _) => "acked",
        (_, true) => "unknown",
        _ => "not written",
    }
}

fn ends(code: &Code, doubt: bool, expected: &str) {
    let (_, sent, _) = answered(code.code, doubt);
    let Code { code, name, .. } = code;
    assert!(!sent.is_open(), "{code} {name} is tried again");
    assert_eq!(end(&sent), expected, "{code} {name}, in doubt: {doubt}");
}

/// The batch is retried with the same bytes. If time runs out first, it ends as `out_of_time`.
fn is_retried(code: &Code, doubt: bool, out_of_time: &str) {
    let Code { code, name, .. } = code;
    let (mut line, sent, lent) = answered(*code, doubt);
    assert!(sent.is_open(), "{code} {name} is not tried again");
    line.back_off();
    let again = line.take();
    assert_eq!(again.header, lent.header, "{code} {name}");
    line.acked(&again, 1);
    assert_eq!(sent.offsets(), [Some(1), Some(2)], "{code} {name}");

    let (mut line, sent, _) = answered(*code, doubt);
    line.time_out();
    assert_eq!(end(&sent), out_of_time, "{code} {name}, in doubt: {doubt}");
}

fn is_split(code: i16) {
    let (mut line, sent, _) = answered(code, false);
    assert!(sent.is_open());
    for offset in [1, 2] {
        line.back_off();
        let half = line.take();
        assert_eq!((half.count, sequence(&half)), (1, offset));
        line.acked(&half, i64::from(offset));
    }
    assert_eq!(sent.offsets(), [Some(1), Some(2)]);
}

/// The batch is retried under another epoch, with sequence number 0.
fn begins_anew(code: i16) {
    let (mut line, sent, _) = answered(code, false);
    assert!(sent.is_open());
    assert_eq!(line.left, [FIRST], "{code}");
    line.adopt(SECOND);
    line.back_off();
    let again = line.take();
    assert_eq!(stamp(&again), (7, 1, 0), "{code}");
    line.acked(&again, 1);
    assert_eq!(sent.offsets(), [Some(1), Some(2)], "{code}");

    let (mut line, sent, _) = answered(code, false);
    line.time_out();
    assert_eq!(end(&sent), "not written", "{code}");
}

#[test]
fn every_code_leads_to_the_outcome_that_is_true() {
    for code in &codes() {
        match (code.after, code.then) {
            (After::Present, _) if code.code == 0 => {
                ends(code, false, "acked");
                ends(code, true, "acked");
            }
            // DUPLICATE_SEQUENCE_NUMBER: an earlier attempt wrote the batch, if there was one.
            (After::Present, _) => {
                ends(code, false, "unknown");
                ends(code, true, "acked");
            }
            (After::Absent, Then::Ends) => {
                ends(code, false, "not written");
                ends(code, true, "unknown");
            }
            (After::Absent, Then::Retried) => {
                is_retried(code, false, "not written");
                is_retried(code, true, "unknown");
            }
            (After::Absent, Then::Split) => {
                is_split(code.code);
                ends(code, true, "unknown");
            }
            (After::Absent, Then::Anew) => {
                begins_anew(code.code);
                ends(code, true, "unknown");
            }
            (After::Maybe, Then::Retried) => {
                is_retried(code, false, "unknown");
                is_retried(code, true, "unknown");
            }
            (After::Maybe, _) => {
                ends(code, false, "unknown");
                ends(code, true, "unknown");
            }
        }
    }
}

/// A batch that is refused, before or after others that are not, does not block them.
#[test]
fn every_code_at_every_place_of_the_window_lets_the_others_arrive() {
    for code in codes().iter().filter(|code| code.code != 0) {
        for out in 1..=5 {
            for at in 0..out {
                let mut broker = Broker::default();
                let mut line = Line::proven();
                let sent: Vec<_> = (0..out as u32)
                    .map(|batch| line.push_values([2 * batch, 2 * batch + 1]))
                    .collect();
                let lent = line.take_many(out);
                for (place, lent) in lent.iter().enumerate() {
                    match place == at {
                        // The broker responds without reading its log.
                        true => drop(line.error(lent, code.code)),
                        false => broker.answer(&mut line, lent),
                    }
                }
                broker.settle_down(&mut line, SECOND);
                for (place, sent) in sent.iter().enumerate().filter(|(place, _)| *place != at) {
                    let what = format!("{} at {at} of {out}, batch {place}", code.code);
                    assert!(sent.is_acked(), "{what}: {:?}", sent.outcome());
                }
                broker.check_order(&format!("{} at {at} of {out}", code.code));
            }
        }
    }
}
