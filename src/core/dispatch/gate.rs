//! Whether a request goes to the socket.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether a request goes to the socket, decided once, by whoever comes first: the connection's task
/// that is about to write it, or the loan that is given back.
///
/// A task that is cancelled is polled once more before it is dropped. A flag that the task sets would
/// not do: the task could write what the partition was told is unwritten.
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

    /// For the writer, before the first byte. `false` if the request is not to go any more.
    pub fn pass(&self) -> bool {
        self.decide(PASSED).is_ok()
    }

    /// Stops a request that has not gone. Returns whether it has.
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
