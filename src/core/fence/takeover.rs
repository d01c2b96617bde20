//! Whether another producer has taken a transactional id, or its coordinator has only ended a transaction of
//! which the time was over.
//!
//! Both refuse the former epoch with the same codes. Whoever asks for a new one then fences whoever else has
//! the id. So a spool's producer, whose ids the next one on the directory takes, has them described first.

use crate::core::identity::Identity;

/// Whether this state of an id that has gone on from `own` to `present` is nobody else's doing. A fence's
/// transactions are only ever committed. So one that was aborted an epoch further on was ended for its time,
/// or by a producer that is about to take the id: that one then has a newer epoch than who goes on from
/// `present`. Another that has taken it is further, or its transaction was not aborted.
pub fn is_own(own: Identity, state: &str, present: Identity) -> bool {
    let behind = present.epoch.checked_sub(own.epoch);
    match (own.producer_id == present.producer_id, behind) {
        (true, Some(0)) => true,
        (true, Some(1)) => matches!(
            state,
            "PrepareEpochFence" | "PrepareAbort" | "CompleteAbort"
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_for_time_is_told_from_another_producer() {
        let at = |producer_id, epoch| Identity { producer_id, epoch };
        let own = at(7, 3);
        for (state, present, expected) in [
            // What was refused did not come to the coordinator that is asked now.
            ("Empty", own, true),
            ("Ongoing", own, true),
            ("CompleteAbort", at(7, 4), true),
            ("PrepareAbort", at(7, 4), true),
            // InitProducerId of another.
            ("Empty", at(7, 4), false),
            ("Ongoing", at(7, 4), false),
            ("CompleteCommit", at(7, 4), false),
            ("CompleteAbort", at(7, 5), false),
            ("CompleteAbort", at(8, 0), false),
            ("CompleteAbort", at(7, 2), false),
            ("CompleteAbort", at(7, i16::MIN), false),
        ] {
            assert_eq!(is_own(own, state, present), expected, "{state} {present:?}");
        }
    }
}
