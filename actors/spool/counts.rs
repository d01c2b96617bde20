//! What the spool has done since its start.

use std::sync::Arc;
use std::time::Duration;

use crate::meters::SpoolMeters;

/// What is counted.
pub(super) struct Counts {
    meters: SpoolMeters,
    pub resumed: u64,
    pub lost: u64,
    pub rejected: u64,
    pub syncs: u64,
    pub sync_time: Duration,
}

impl Counts {
    pub fn new(client_id: &Arc<str>, resumed: u64) -> Self {
        let meters = SpoolMeters::new(client_id);
        meters.resumed(resumed);
        Self {
            meters,
            resumed,
            lost: 0,
            rejected: 0,
            syncs: 0,
            sync_time: Duration::ZERO,
        }
    }

    pub fn bytes(&self, bytes: u64) {
        self.meters.bytes(bytes);
    }

    pub fn lost(&mut self, records: u64) {
        self.lost += records;
        self.meters.lost(records);
    }

    pub fn rejected(&mut self, records: u64) {
        self.rejected += records;
        self.meters.rejected(records);
    }

    pub fn synced(&mut self, time: Duration) {
        self.syncs += 1;
        self.sync_time += time;
        self.meters.synced(time);
    }
}
