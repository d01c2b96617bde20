//! What the threads of the disk tell.

use std::sync::Arc;

use super::error::DiskError;
use super::store::StoredFile;

/// Hears what became of files.
///
/// It is called on the threads that everybody waits for who waits for the disk, so it must not wait itself.
pub trait DiskEvents: Send + Sync {
    fn told(&self, event: DiskEvent);
}

/// What became of a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiskEvent {
    Made {
        name: String,
        file: Result<Arc<dyn StoredFile>, DiskError>,
    },
    /// It is a spare now, or gone. After an error it is still there, under its name.
    Freed {
        name: String,
        done: Result<(), DiskError>,
    },
    Removed {
        name: String,
        done: Result<(), DiskError>,
    },
    Renamed {
        from: String,
        to: String,
        done: Result<(), DiskError>,
    },
    Appended {
        name: String,
        number: u64,
        done: Result<(), DiskError>,
    },
    /// A spare cannot be made. That is tried again behind the next order.
    NoSpare { error: DiskError },
    /// What was written to the file since its last sync is in doubt, and so is what will be.
    SyncFailed { name: Arc<str>, error: DiskError },
}
