//! What the spool needs of a disk.

use std::fmt;
use std::sync::Arc;

use super::DiskError;
use crate::core::spool::Region;

/// A directory of files of fixed length.
///
/// Names consist of lower-case letters, digits, `-` and `.`, and may have one folder before them:
/// `damaged/segment-0000000000000001`. All methods block.
pub trait Store: Send + Sync + fmt::Debug {
    /// Names and lengths, those in folders too, in order of their names.
    fn files(&self) -> Result<Vec<(String, u64)>, DiskError>;

    /// Creates a file of so many zero bytes, whose blocks are allocated. Durable when this returns (file
    /// and its name); if it fails nothing is left. The name must be free, and the length a multiple of 8.
    fn create(&self, name: &str, len: u64) -> Result<Arc<dyn StoredFile>, DiskError>;

    /// Opens a file that is there, for reading and writing.
    fn open(&self, name: &str) -> Result<Arc<dyn StoredFile>, DiskError>;

    /// Durable when this returns. The new name must be free. An open file keeps its former name in errors.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Durable when this returns. On Windows, where a file that was written to must not be open any more.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// Adds lines to a file that grows, and makes it if it is not there. Durable when this returns; if it
    /// fails nothing is added. A line that a process has left without its end gets one. Such a file is not
    /// opened.
    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Bytes that are free for this process; `u64::MAX` where that is not told (Windows, some network
    /// file systems).
    fn free(&self) -> Result<u64, DiskError>;
}

/// A file of a [`Store`]. What is written to it survives the process at once, and the machine with
/// [`sync`](Self::sync).
pub trait StoredFile: Region {
    /// Fills `into` from the file's place `at` on. Bytes beyond the end are an error.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Everything written before is on the disk when this returns.
    ///
    /// After an error nobody knows what of it is: the kernel may have dropped what it could not write, and
    /// a second attempt would succeed without it. So each further call has the same error. Who writes to it
    /// all the same has what survives the process, and no more.
    fn sync(&self) -> Result<(), DiskError>;

    /// Has what is in it read, so that those who write do not wait for the disk, or end with it where it
    /// cannot be read. A new file is ready.
    fn prepare(&self) -> Result<(), DiskError>;
}
