//! Files: a directory of them, their memory, and the threads that wait for disks.
//!
//! What is in the files is [`core::spool`](crate::core::spool)'s. All here blocks, and so belongs on
//! threads of its own; nothing here knows actix or tokio.

mod chunk;
mod directory;
mod error;
mod events;
mod maker;
mod mapped;
#[cfg(any(test, feature = "internals"))]
mod model;
mod names;
mod queue;
#[cfg(feature = "cli")]
mod read_only;
mod recovery;
#[cfg(feature = "internals")]
mod simulated;
mod spares;
mod store;
mod syncer;
mod written;

use std::path::Path;
use std::sync::Arc;

pub use chunk::read_chunk;
pub use directory::Directory;
pub use error::DiskError;
pub use events::{DiskEvent, DiskEvents};
pub use maker::{FileOrder, Maker, Making};
#[cfg(any(test, feature = "internals"))]
pub use model::{ModelDisk, ModelStore};
pub use queue::{SyncQueue, Synced, Ticket, Watched};
#[cfg(feature = "cli")]
pub use read_only::ReadOnly;
#[cfg(feature = "cli")]
pub use recovery::scan_file;
pub use recovery::{Recovered, SegmentFile, file_name, parse_name, recover};
#[cfg(feature = "internals")]
pub use simulated::{Round, Simulation, simulate, simulation};
pub use store::{Store, StoredFile};
pub use syncer::Syncer;
pub use written::Written;

/// Opens the directory, which one process has at a time. One that is not there is made.
pub fn open(directory: &Path) -> Result<Arc<dyn Store>, DiskError> {
    #[cfg(feature = "internals")]
    if let Some(simulation) = simulation() {
        return simulation.open(directory);
    }
    Ok(Arc::new(Directory::open(directory)?))
}
