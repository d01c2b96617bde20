//! What the simulation has found.

use super::*;

/// A broker that is cut off from the others goes on answering as the leader, and another one has the marker.
#[test]
fn who_leads_is_asked_for_while_a_leader_has_nothing_new() {
    let (mut lookups, mut now) = (lookups(), Instant::now());
    let fence = Fence::Marker {
        producer_id: 77,
        above: 4,
    };
    lookups.want(log(0, 1), Wish::Look(look(Some(fence))));
    let mut refreshed = Vec::new();
    for passed in 0..25 {
        let question = lookups.next(now).expect("a question");
        match lookups.answered(&question, &NOTHING, now) {
            News::Nothing => {}
            News::Trouble { refresh: true, .. } => refreshed.push(passed),
            other => panic!("{other:?}"),
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(refreshed, [10, 20]);
}

/// Its time may be over while another is asked: an alarm for that time would ring at once, again and again.
#[test]
fn nothing_is_due_of_a_leader_that_has_not_answered() {
    let (mut lookups, now) = (lookups(), Instant::now());
    for partition in 0..2 {
        lookups.want(log(partition, 1), Wish::End);
    }
    let first = lookups.next(now).expect("a question");
    lookups.answered(&first, &failed(Follows::Retry), now);
    let second = lookups.next(now).expect("the other one has its turn");
    assert_eq!(lookups.next_at(), None);
    lookups.answered(&second, &Told::End(3), now);
    assert!(lookups.next_at().is_some_and(|at| at > now));
}
