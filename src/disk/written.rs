//! The files that are being written, for those who wait until all of it is on the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::DiskError;
use super::queue::{Synced, Watched};

/// The files that are being written.
#[derive(Debug, Default)]
pub struct Written(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    watched: Vec<(u64, Arc<Watched>)>,
    /// Files that were given up, as their syncs failed.
    failed: u64,
}

impl Written {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many files have failed so far: to be asked before something is written that is to be synced.
    pub fn failed(&self) -> u64 {
        self.files().failed
    }

    /// The file with this number is written from now on.
    pub fn add(&self, number: u64, file: Arc<Watched>) {
        self.files().watched.push((number, file));
    }

    /// Nothing is written to it any more, and all of it is on the disk.
    pub fn remove(&self, number: u64) {
        self.files().watched.retain(|(other, _)| *other != number);
    }

    /// A sync of it has failed, and other files take its place. Who has written to it is told so, however
    /// late they ask.
    pub fn give_up(&self, number: u64) {
        let mut files = self.files();
        files.failed += 1;
        files.watched.retain(|(other, _)| *other != number);
    }

    /// The names of files that have failed, and were not given up.
    pub fn broken(&self) -> Vec<Arc<str>> {
        let files = self.files();
        let failed = files.watched.iter().filter_map(|(_, file)| file.failed());
        failed.map(Arc::clone).collect()
    }

    /// Waits until all is on the disk that the caller has written since so many files had
    /// [`failed`](Self::failed).
    pub fn synced_since(
        &self,
        failed: u64,
    ) -> impl Future<Output = Result<(), DiskError>> + Send + use<> {
        let files = self.files();
        let lost = files.failed > failed;
        let synced = Self::all(files, &|_| true);
        async move {
            match lost {
                true => Err(DiskError::GivenUp),
                false => synced.await,
            }
        }
    }

    /// Waits until all that was written up to this call is on the disk.
    pub fn synced(&self) -> impl Future<Output = Result<(), DiskError>> + Send + use<> {
        Self::all(self.files(), &|_| true)
    }

    /// The same for these files alone, by their numbers.
    pub fn synced_of(
        &self,
        wanted: &dyn Fn(u64) -> bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send + use<> {
        Self::all(self.files(), wanted)
    }

    fn all(
        files: MutexGuard<'_, Files>,
        wanted: &dyn Fn(u64) -> bool,
    ) -> impl Future<Output = Result<(), DiskError>> + Send + use<> {
        let synced: Vec<Synced> = files
            .watched
            .iter()
            .filter(|(number, _)| wanted(*number))
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::disk::{ModelDisk, Store, SyncQueue};

    #[test]
    fn who_wrote_to_a_file_that_failed_is_told_so_however_late_they_ask() {
        let store = ModelDisk::new(1).store().expect("nobody has it");
        let queue = SyncQueue::new(Box::new(|| {}));
        let written = Written::default();
        for number in [1, 2] {
            let name = format!("segment-{number}");
            let file = store.create(&name, 4096).expect("there is room");
            written.add(number, queue.watch(&name, file));
        }
        let before = written.failed();
        written.give_up(1);
        let late = written.synced_since(before).now_or_never();
        assert!(matches!(late, Some(Err(DiskError::GivenUp))), "{late:?}");
        let mut later = Box::pin(written.synced_since(written.failed()));
        assert!(later.as_mut().now_or_never().is_none(), "it waits");
        queue.sync_group(|name, _| panic!("{name} fails"));
        assert!(matches!(later.now_or_never(), Some(Ok(()))));
    }
}
