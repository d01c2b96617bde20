//! The files that are being written, for those who wait until all of it is on the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::DiskError;
use super::queue::{Synced, Watched};

/// The files that are being written.
#[derive(Debug, Default)]
pub struct Written(Mutex<Vec<(u64, Arc<Watched>)>>);

impl Written {
    fn files(&self) -> MutexGuard<'_, Vec<(u64, Arc<Watched>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file with this number is written from now on.
    pub fn add(&self, number: u64, file: Arc<Watched>) {
        self.files().push((number, file));
    }

    /// Nothing is written to it any more, and all of it is on the disk.
    pub fn remove(&self, number: u64) {
        self.files().retain(|(other, _)| *other != number);
    }

    /// Waits until all that was written up to this call is on the disk.
    pub fn synced(&self) -> impl Future<Output = Result<(), DiskError>> + Send + use<> {
        let files = self.files();
        let synced: Vec<Synced> = files
            .iter()
            .map(|(_, file)| file.ticket().synced())
            .collect();
        drop(files);
        async move {
            for synced in synced {
                synced.await?;
            }
            Ok(())
        }
    }
}
