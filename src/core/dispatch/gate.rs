//! Decides whether a request is written to the socket.

use std::sync::atomic::Ordering;

use crate::core::sync::AtomicU8;

/// Decides once whether a request is written to the socket. Two sides race for the decision: the
/// connection's task, which is about to write the request, and the loan, which is given back. The
/// first one decides.
///
/// A flag that the task sets when it begins to write would not be enough. A cancelled task is
/// polled once more before it is dropped. In that poll it could write a request after the partition
/// was told that it is unwritten.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicU8);

const OPEN: u8 = 0;
const PASSED: u8 = 1;
const SHUT: u8 = 2;

impl Gate {
    fn decide(&self, state: u8) -> Result<u8, u8> {
        self.0
            .compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire)
    }

    /// For the writer, before the first byte. Returns `false` if the request must not be written
    /// any more.
    pub fn pass(&self) -> bool {
        self.decide(PASSED).is_ok()
    }

    /// Stops the request if its writing has not begun. Returns whether it has begun.
    pub fn shut(&self) -> bool {
        self.decide(SHUT) == Err(PASSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_passed_or_shut_and_stays_so() {
        let gate = Gate::default();
        assert!(gate.pass());
        assert!(gate.shut() && gate.shut());
        let gate = Gate::default();
        assert!(!gate.shut());
        assert!(!gate.pass() && !gate.shut());
    }
}
