//! Bugs that other clients had, put back one at a time to see that the simulation sees them.
//!
//! Where a bug would be, the library asks `planted::is(Bug::…)` under `cfg(test)`.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use super::tally::Invariant;
use crate::core::batch::{HEADER_LEN, Payload};
use crate::core::dispatch::OutgoingRequest;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The counter of sequences is dropped with the leader, as librdkafka dropped it with the topic.
    SequenceForgotten,
    /// After a bump, batches that may be in the log are numbered anew (KAFKA-14034).
    UnresolvedRestamped,
    /// A retry goes behind newer batches (librdkafka #1092).
    RetryBehind,
    /// Several requests go before the first has succeeded (franz-go #223).
    UnprovenPipelined,
    /// Answers that come after the append are taken for refusals.
    DoubtIgnored,
    /// DUPLICATE_SEQUENCE_NUMBER is a failure.
    DuplicateFails,
    /// Memory is used again when its batch expires, while a request still carries it
    /// (CVE-2026-35554).
    FreedAtExpiry,
}

impl Bug {
    pub const ALL: [Self; 7] = [
        Self::SequenceForgotten,
        Self::UnresolvedRestamped,
        Self::RetryBehind,
        Self::UnprovenPipelined,
        Self::DoubtIgnored,
        Self::DuplicateFails,
        Self::FreedAtExpiry,
    ];

    /// What the bug shows itself as.
    pub(super) fn symptom(self) -> &'static [Invariant] {
        use Invariant::{Duplicated, Lost, Misrouted, Phantom, Reordered};
        match self {
            Self::SequenceForgotten => &[Lost],
            Self::UnresolvedRestamped => &[Duplicated, Phantom],
            Self::RetryBehind | Self::UnprovenPipelined => &[Reordered],
            Self::DoubtIgnored | Self::DuplicateFails => &[Phantom],
            Self::FreedAtExpiry => &[Misrouted],
        }
    }
}

/// An expired batch's memory, and the header and records of the one that lies in it now.
type Reused = (Weak<Payload>, [u8; HEADER_LEN], Vec<u8>);

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    /// Memory of expired batches.
    static FREED: RefCell<Vec<(Weak<Payload>, usize)>> = const { RefCell::new(Vec::new()) };
    static REUSED: RefCell<Vec<Reused>> = const { RefCell::new(Vec::new()) };
}

/// From now on this thread has the bug, or none.
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
    forget();
}

/// Another seed begins.
pub(super) fn forget() {
    FREED.take();
    REUSED.take();
}

pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// A batch expires while it is lent. Ownership keeps its memory from being used again, so the bug
/// is acted out: what would have been written over it is remembered beside it.
pub(crate) fn free(records: &Arc<Payload>) {
    if is(Bug::FreedAtExpiry) {
        FREED.with_borrow_mut(|freed| freed.push((Arc::downgrade(records), records.len())));
    }
}

/// A batch takes memory, and finds some of its size that was freed.
pub(crate) fn reuse(header: &[u8; HEADER_LEN], records: &Arc<Payload>) {
    FREED.with_borrow_mut(|freed| {
        let other = |old: &Weak<Payload>| old.as_ptr() != Arc::as_ptr(records);
        let fits = |(old, size): &(_, usize)| *size == records.len() && other(old);
        if let Some(at) = freed.iter().position(fits) {
            let reused = (freed.remove(at).0, *header, records.to_vec());
            REUSED.with_borrow_mut(|list| list.push(reused));
        }
    });
}

/// A request as it goes to the socket, with what lies in its memory by now.
pub(crate) fn as_memory_is(outbound: &mut OutgoingRequest) {
    let OutgoingRequest {
        envelope, records, ..
    } = outbound;
    REUSED.with_borrow(|list| {
        for (payload, cut) in records.iter_mut().zip(&envelope.cuts) {
            let reused = list
                .iter()
                .find(|(old, ..)| old.as_ptr() == Arc::as_ptr(payload));
            if let Some((_, header, bytes)) = reused {
                envelope.bytes[cut - HEADER_LEN..*cut].copy_from_slice(header);
                *payload = Arc::new(Payload::Own(bytes.clone()));
            }
        }
    });
}
