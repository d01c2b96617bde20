//! Records that are rejected, on their way to a file of lines.

use crate::actors::messages::PartitionAddr;
use crate::core::ledger::Record;

/// Records that are rejected.
pub(super) struct Rejecting {
    pub slot: u32,
    pub record: Record,
    pub who: PartitionAddr,
    /// All before this position have their lines.
    pub written: u64,
}

/// Lines that are on their way to their file.
pub(super) struct Lines {
    pub file: String,
    pub bytes: Vec<u8>,
    /// The position behind them.
    pub end: u64,
}
