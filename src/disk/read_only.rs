//! A directory that is only looked at.

use std::sync::Arc;

use super::error::DiskError;
use super::store::{Store, StoredFile};

/// Lets nothing of a store be changed.
#[derive(Debug)]
pub struct ReadOnly<S>(pub S);

fn refused(name: &str) -> DiskError {
    DiskError::Refused {
        name: name.to_owned(),
        why: "the spool is only looked at".to_owned(),
    }
}

impl<S: Store> Store for ReadOnly<S> {
    fn files(&self) -> Result<Vec<(String, u64)>, DiskError> {
        self.0.files()
    }

    fn create(&self, name: &str, _: u64) -> Result<Arc<dyn StoredFile>, DiskError> {
        Err(refused(name))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn StoredFile>, DiskError> {
        self.0.open(name)
    }

    fn rename(&self, from: &str, _: &str) -> Result<(), DiskError> {
        Err(refused(from))
    }

    /// Whoever reads a spool removes what nobody needs. It stays.
    fn remove(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn append(&self, name: &str, _: &[u8]) -> Result<(), DiskError> {
        Err(refused(name))
    }

    fn free(&self) -> Result<u64, DiskError> {
        self.0.free()
    }
}
