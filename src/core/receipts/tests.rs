use proptest::prelude::*;

use super::*;
use crate::core::ack::{AckSettler, Settlement};
use crate::core::broker_error::BrokerError;
use crate::core::outcome::Reason;

fn acked(base_offset: i64) -> Settlement {
    Settlement::Acked {
        base_offset: Some(base_offset),
        log_append_time: None,
    }
}

fn told(receipts: &mut Receipts) -> Vec<Outcome> {
    std::iter::from_fn(|| receipts.try_next()).collect()
}

fn offsets(outcomes: &[Outcome]) -> Vec<Option<i64>> {
    let offset = |outcome: &Outcome| outcome.as_ref().expect("acked").offset;
    outcomes.iter().map(offset).collect()
}

/// A task's waker, which does nothing.
struct Task;

impl std::task::Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn two_tasks_that_wait_for_one_batch_leave_one_waker_each() {
    let batch = AckSettler::new(0);
    let mut both = [Receipts::default(), Receipts::default()];
    let tasks = [Arc::new(Task), Arc::new(Task)].map(std::task::Waker::from);
    for (at, receipts) in (0..).zip(&mut both) {
        receipts.push_receipt(batch.receipt(at, 7));
    }
    for _ in 0..100 {
        for (receipts, waker) in both.iter_mut().zip(&tasks) {
            let polled = Pin::new(receipts).poll_next(&mut Context::from_waker(waker));
            assert!(polled.is_pending());
        }
    }
    assert_eq!(batch.ack().waiting(), 2);
}

#[test]
fn records_of_one_batch_that_follow_one_another_are_one_run_of_one_piece() {
    let batches = [AckSettler::new(0), AckSettler::new(1)];
    let mut receipts = Receipts::default();
    for index in 0..1000 {
        receipts.push_receipt(batches[0].receipt(index, 7));
    }
    assert_eq!((receipts.runs.len(), receipts.pieces.len()), (0, 1));
    // In turn with another batch: more runs, no more pieces than batches.
    for index in 0..10 {
        receipts.push_receipt(batches[1].receipt(index, 7));
        receipts.push_receipt(batches[0].receipt(1000 + index, 7));
    }
    assert_eq!((receipts.runs.len(), receipts.pieces.len()), (20, 2));
    let [first, second] = batches;
    first.settle(acked(100));
    assert_eq!(told(&mut receipts).len(), 1000);
    second.settle(acked(50));
    let rest = told(&mut receipts);
    assert_eq!(offsets(&rest)[..3], [Some(50), Some(1100), Some(51)]);
    assert_eq!((rest.len(), receipts.len()), (20, 0));
    // What is told leaves its place to others.
    let third = AckSettler::new(0);
    receipts.push_receipt(third.receipt(0, 7));
    assert_eq!(receipts.pieces.len(), 2);
}

#[test]
fn a_batch_that_was_told_is_let_go() {
    let batch = AckSettler::new(0);
    let ack = Arc::downgrade(batch.ack());
    let mut receipts = Receipts::default();
    receipts.push_receipt(batch.receipt(0, 0));
    batch.settle(acked(0));
    assert_eq!(told(&mut receipts).len(), 1);
    assert_eq!(ack.strong_count(), 0);
}

#[test]
fn a_batch_that_was_cut_is_told_part_by_part() {
    let batch = AckSettler::new(0);
    let mut receipts = Receipts::default();
    for index in 0..5 {
        receipts.push_receipt(batch.receipt(index, 7));
    }
    let parts = [0, 2, 3].map(|first| (first, AckSettler::new(0)));
    batch.split(parts.iter().map(|(first, part)| (*first, part)));
    let [(_, one), (_, two), (_, three)] = parts;
    three.settle(acked(300));
    assert!(receipts.try_next().is_none(), "the first is not known yet");
    one.settle(acked(100));
    assert_eq!(offsets(&told(&mut receipts)), [Some(100), Some(101)]);
    drop(two);
    let rest = told(&mut receipts);
    assert!(matches!(
        rest[0],
        Err(Unconfirmed::NotWritten(Reason::RuntimeGone))
    ));
    assert_eq!(offsets(&rest[1..]), [Some(300), Some(301)]);
}

#[test]
fn many_are_put_in_as_one() {
    let batch = AckSettler::new(3);
    let mut receipts = Receipts::default();
    for indices in [0..10, 10..15] {
        let joins = receipts.joins(batch.ack(), 3, indices.start);
        receipts.put(joins, 3, indices, 7);
    }
    assert_eq!((receipts.len(), receipts.pieces.len()), (15, 1));
    batch.settle(acked(0));
    let outcomes = told(&mut receipts);
    assert!(offsets(&outcomes).into_iter().eq((0..15).map(Some)));
}

proptest! {
    /// Whatever order records are put in, with gaps and with times of their own, and whatever
    /// becomes of their batches: each has the outcome that its own receipt has, in that order.
    #[test]
    fn each_has_its_own_outcome_in_the_order_in_which_it_was_put_in(
        steps in proptest::collection::vec((0usize..4, 0u32..8, 0i64..2, 0u32..5), 1..120),
        ends in proptest::collection::vec((0usize..4, 0u8..6), 1..8),
        every in 1usize..40,
    ) {
        let mut batches: Vec<Option<AckSettler>> = (0..4).map(|i| Some(AckSettler::new(i % 2))).collect();
        let mut next = [0u32; 4];
        let (mut receipts, mut expected) = (Receipts::default(), VecDeque::new());
        let mut ends = ends.into_iter();
        for (step, (batch, gap, timestamp, count)) in steps.into_iter().enumerate() {
            if let Some(open) = &batches[batch] {
                // Most follow one another.
                next[batch] += gap.saturating_sub(5);
                let first = next[batch];
                next[batch] += count.max(1);
                let indices = first..next[batch];
                expected.extend(indices.clone().map(|index| open.receipt(index, timestamp)));
                if count == 0 {
                    receipts.push_receipt(open.receipt(first, timestamp));
                } else {
                    let joins = receipts.joins(open.ack(), batch % 2, first);
                    receipts.put(joins, batch % 2, indices, timestamp);
                }
            }
            if step % every == every - 1 && let Some((batch, end)) = ends.next() {
                finish(&mut batches[batch], end);
            }
            while let Some(outcome) = receipts.try_next() {
                let receipt = expected.pop_front().expect("no more than were put in");
                prop_assert_eq!(receipt.outcome().map(|it| format!("{it:?}")), Some(format!("{outcome:?}")));
            }
            let known = expected.front().is_some_and(|first| first.outcome().is_some());
            prop_assert!(!known, "what is known is told");
            prop_assert_eq!(receipts.len(), expected.len());
        }
        for batch in &mut batches {
            finish(batch, 0);
        }
        let rest = told(&mut receipts);
        prop_assert_eq!(rest.len(), expected.len());
        for (outcome, receipt) in rest.into_iter().zip(expected) {
            prop_assert_eq!(receipt.outcome().map(|it| format!("{it:?}")), Some(format!("{outcome:?}")));
        }
    }
}

fn invalid() -> Settlement {
    Settlement::Invalid {
        error: BrokerError::new(87),
        records: Arc::from([(1, Arc::from("no key"))]),
    }
}

/// Settles a batch, if it is not settled yet.
fn finish(batch: &mut Option<AckSettler>, end: u8) {
    let Some(batch) = batch.take() else { return };
    match end {
        0 => batch.settle(acked(1000)),
        1 => batch.settle(Settlement::Acked {
            base_offset: None,
            log_append_time: None,
        }),
        2 => batch.settle(Settlement::Acked {
            base_offset: Some(2000),
            log_append_time: Some(99),
        }),
        3 => {
            let parts = [0, 3, 4].map(|first| (first, AckSettler::new(0)));
            batch.split(parts.iter().map(|(first, part)| (*first, part)));
            let [one, two, three] = parts.map(|(_, part)| part);
            one.settle(acked(3000));
            drop(two);
            three.settle(invalid());
        }
        4 => batch.settle(invalid()),
        _ => drop(batch),
    }
}
