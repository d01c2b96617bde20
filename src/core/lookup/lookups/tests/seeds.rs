//! What the simulation has found.

use super::*;

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
