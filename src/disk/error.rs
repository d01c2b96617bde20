//! What can go wrong with files. Each message names the file and says what to change.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was done to a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    Create,
    List,
    Lock,
    Map,
    Open,
    Read,
    Remove,
    Rename,
    /// Asking for the space that is free.
    Space,
    Sync,
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "created",
            Self::List => "listed",
            Self::Lock => "locked",
            Self::Map => "mapped into memory",
            Self::Open => "opened",
            Self::Read => "read",
            Self::Remove => "removed",
            Self::Rename => "renamed",
            Self::Space => "asked for its free space",
            Self::Sync => "synced",
            Self::Write => "written",
        })
    }
}

/// Why a file or a directory cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    #[error(
        "the spool {} is in use by {}; end that one, or give this producer a directory of its own",
        directory.display(),
        Holder(*process)
    )]
    InUse {
        directory: PathBuf,
        /// Who has it, if that can be read.
        process: Option<u32>,
    },

    #[error(
        "{} is not a spool: it has {found} in it; name an empty directory, or one that is not there yet",
        directory.display()
    )]
    NotASpool {
        directory: PathBuf,
        /// One of the names that are in it.
        found: String,
    },

    #[error(
        "{} is no spool, or is not there; name the directory that forebay.spool.dir names",
        directory.display()
    )]
    NoSpool { directory: PathBuf },

    #[error(
        "{name:?} cannot be a spool's file; names have lower-case letters, digits, '-' and '.'"
    )]
    Name { name: String },

    #[error(
        "{name} cannot have {len} bytes; the length is a multiple of 8, above 0, that fits in memory"
    )]
    Length { name: String, len: u64 },

    #[error("{} is there already; move it out of the spool's directory", path.display())]
    Exists { path: PathBuf },

    #[error(
        "the disk of {} is full: {wanted} bytes were asked for ({cause}); free some space there, \
         or lower the limit of the spool",
        path.display()
    )]
    Full {
        path: PathBuf,
        wanted: u64,
        cause: Arc<io::Error>,
    },

    #[error(
        "{} could not be synced ({cause}): what was written to it since the last sync may be lost; \
         the file is not used any more; look for the disk's errors in the system's log",
        path.display()
    )]
    SyncFailed {
        path: PathBuf,
        cause: Arc<io::Error>,
    },

    #[error(
        "a file of the spool could not be synced while it was written to; look for the disk's errors in the \
         system's log"
    )]
    GivenUp,

    #[error("{} ends before the {wanted} bytes at {at} that were to be read", path.display())]
    Short {
        path: PathBuf,
        at: u64,
        wanted: usize,
    },

    #[error("{} could not be {operation}: {cause}; {}", path.display(), advice(cause))]
    Io {
        operation: Operation,
        path: PathBuf,
        cause: Arc<io::Error>,
    },

    #[error(
        "no thread could be started for the disk: {cause}; raise the limit of processes (`ulimit -u`)"
    )]
    NoThread { cause: Arc<io::Error> },

    #[error("{name} cannot be used: {why}")]
    Refused { name: String, why: String },

    #[error("the thread that writes to the spool's disk has ended; start the producer anew")]
    Ended,
}

impl DiskError {
    pub(super) fn io(operation: Operation, path: &Path, error: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_owned(),
            cause: Arc::new(error),
        }
    }

    /// Whether space is what is missing, so that another attempt may go well later.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) if id == std::process::id() => f.write_str("another producer of this process"),
            Some(id) => write!(f, "the process {id}"),
            None => f.write_str("another producer"),
        }
    }
}

/// What to do about an error of the system's.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "was it removed by hand?",
        io::ErrorKind::PermissionDenied => "let the user of this process read and write there",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; after an error of its disk it may have become so"
        }
        io::ErrorKind::Unsupported => "put the spool on a local file system",
        _ => "look for the disk's errors in the system's log",
    }
}
