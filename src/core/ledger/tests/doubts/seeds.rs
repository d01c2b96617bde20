//! What the simulation has found.

use super::*;

/// The marker that was asked for may be in the former log, or before what is learned to be the end of the
/// new one: it would be looked for in vain.
#[test]
fn a_marker_asked_for_before_a_topic_was_made_anew_is_not_waited_for() {
    for told_early in [false, true] {
        let mut line = begun();
        let sent = line.push(1);
        let lent = line.take();
        line.time_out();
        line.lost(&lent);
        assert!(line.ledger.wants_identity());
        if told_early {
            line.ledger.adopt_behind(SECOND, Some(MARKER));
        }
        let effects = line.ledger.topic_changed();
        line.note(effects);
        assert!(sent.is_unknown());
        assert!(!line.ledger.wants_identity(), "not before its end is known");
        line.ledger.set_floor(1);
        line.ledger.adopt_behind(SECOND, Some(MARKER));
        assert!(line.ledger.wants_identity() && line.ledger.wants_fresh());
        line.ledger.adopt_behind(OTHER, None);
        line.push(1);
        line.take();
    }
}

/// What was acked fences what came before it under its producer alone. The log was read up to there again
/// and again for what another producer had sent.
#[test]
fn a_fence_that_was_reached_is_not_looked_up_again() {
    let mut line = begun();
    let sent = line.push(1);
    let lent = line.take();
    line.time_out();
    line.lost(&lent);
    // Epochs have run out.
    line.ledger.adopt_behind(OTHER, None);
    let other = line.push(1);
    let lent = line.take();
    line.lost(&lent);
    line.back_off();
    let lent = line.take();
    line.error(&lent, OUT_OF_ORDER);
    line.ledger
        .adopt_behind(Identity { epoch: 1, ..OTHER }, None);
    line.push(1);
    let lent = line.take();
    line.acked(&lent, END);
    assert_eq!(line.look().fence, Some(Fence::Offset(END)));
    line.looked(&[Verdict::Absent, Verdict::Absent], Some(END));
    assert!(sent.is_open() && other.is_not_written());
    assert_eq!(
        line.look().fence,
        None,
        "it may be found, and not ruled out"
    );
}

/// It has another stamp then, and cannot be before the fence.
#[test]
fn what_is_sent_again_is_looked_for_a_second_time() {
    let mut line = begun();
    line.push(1);
    let first = line.take();
    line.acked(&first, END);
    let sent = line.push(1);
    let mut fence = END + 5;
    for epoch in 1..3 {
        let lent = line.take();
        line.lost(&lent);
        line.back_off();
        let lent = line.take();
        line.error(&lent, OUT_OF_ORDER);
        let identity = Identity { epoch, ..FIRST };
        let marker = Fence::Marker {
            producer_id: FIRST.producer_id,
            above: epoch - 1,
        };
        line.ledger.adopt_behind(identity, Some(marker));
        line.looked(&[Verdict::Absent], Some(fence));
        assert!(sent.is_open());
        fence += 5;
    }
    let lent = line.take();
    assert_eq!(stamp(&lent), (7, 2, 0));
}

/// It asks for another producer only when nothing is in doubt, so until then it takes what it asks for.
#[test]
fn a_fence_is_waited_for_though_another_producer_is_wanted_later() {
    let mut line = begun();
    line.push(1);
    line.push(1);
    let first = line.take();
    line.acked(&first, END);
    let second = line.take();
    line.ledger.leave_producer(FIRST.producer_id);
    line.time_out();
    line.lost(&second);
    assert!(line.ledger.has_doubts() && !line.ledger.wants_fresh());
    line.fence();
}

/// Its request may take longer than all the time there is.
#[test]
fn what_is_never_given_back_is_unknown_and_says_why() {
    let mut line = begun();
    let sent = line.push(1);
    let _lent = line.take();
    line.time_out();
    assert!(sent.is_open());
    line.pass(RESOLVE);
    line.expire();
    let outcome = sent.outcome();
    let Err(Unconfirmed::Unknown(Reason::Unresolved { first, why })) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(matches!(*first, Reason::Expired { .. }) && why.contains("answered"));
}

const OTHER: Identity = Identity {
    producer_id: 8,
    epoch: 0,
};
