//! The real disk: a directory that one producer has for itself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{DiskError, Operation};
use super::mapped::MappedFile;
use super::names::{LOCK, UNFINISHED, is_name, path_of};
use super::store::{Store, StoredFile};

/// How the lock begins in a directory that is a spool's. Then comes the number of the process.
const MARK: &str = "forebay spool\n";
/// What a disk that was just formatted has in it.
const LOST_AND_FOUND: &str = "lost+found";
/// Zeros that are written at once. Linux keeps them in pieces of this size, and marks a whole piece as
/// changed for each byte that is stored into it by a mapping: with 1 MiB, a sync of 16 KiB wrote 1 MiB. With
/// 4 KiB it looks at each page at its first store: 100 bytes took 78 ns instead of 28.
const PIECE: usize = 64 << 10;

/// A directory of files, locked for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The lock goes with the file.
    _lock: File,
}

impl Directory {
    /// Takes a directory, and makes it if it is not there. One that belongs to something else is refused,
    /// and one that another producer has, in this process or in another.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let absolute = std::path::absolute(path);
        let path = absolute.map_err(|error| DiskError::io(Operation::Open, path, error))?;
        let made = fs::create_dir_all(&path);
        made.map_err(|error| DiskError::io(Operation::Create, &path, error))?;
        if let Some(above) = path.parent() {
            sync_directory(above)?;
        }
        let lock = lock(&path)?;
        let directory = Self { path, _lock: lock };
        directory.tidy()?;
        Ok(directory)
    }

    /// Takes a directory that is a spool's, and changes nothing in it but who has it.
    #[cfg(feature = "cli")]
    pub fn of_spool(path: &Path) -> Result<Self, DiskError> {
        let absolute = std::path::absolute(path);
        let path = absolute.map_err(|error| DiskError::io(Operation::Open, path, error))?;
        if !path.join(LOCK).is_file() {
            return Err(DiskError::NoSpool { directory: path });
        }
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Removes what was not finished when a process ended.
    fn tidy(&self) -> Result<(), DiskError> {
        let folders = self.folders()?;
        for folder in folders.iter().map(|it| self.path.join(it)) {
            for (name, _) in entries(&folder)? {
                if name.ends_with(UNFINISHED) {
                    remove(&folder.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// The directory itself, as an empty name, and those in it that can have files.
    fn folders(&self) -> Result<Vec<String>, DiskError> {
        let found = entries(&self.path)?.into_iter();
        let folders = found.filter(|(name, kind)| kind.is_dir() && is_name(name));
        let folders = folders.map(|(name, _)| name);
        Ok(std::iter::once(String::new()).chain(folders).collect())
    }

    /// The path of a name, whose folder is there.
    fn path_in_folder(&self, name: &str) -> Result<PathBuf, DiskError> {
        let path = path_of(&self.path, name)?;
        let folder = folder_of(&path);
        if !folder.is_dir() {
            let made = fs::create_dir(folder);
            made.map_err(|error| DiskError::io(Operation::Create, folder, error))?;
            sync_directory(&self.path)?;
        }
        Ok(path)
    }

    /// The path of a name that nobody has, whose folder is there.
    fn free_path(&self, name: &str) -> Result<PathBuf, DiskError> {
        let path = self.path_in_folder(name)?;
        match path.try_exists() {
            Ok(false) => {}
            Ok(true) => return Err(DiskError::Exists { path }),
            Err(error) => return Err(DiskError::io(Operation::Open, &path, error)),
        }
        Ok(path)
    }
}

impl Store for Directory {
    fn files(&self) -> Result<Vec<(String, u64)>, DiskError> {
        let mut files = Vec::new();
        for folder in self.folders()? {
            let path = self.path.join(&folder);
            for (name, kind) in entries(&path)? {
                let path = path.join(&name);
                let name = match folder.as_str() {
                    "" => name,
                    folder => format!("{folder}/{name}"),
                };
                if kind.is_file() && is_name(&name) {
                    let read = path.metadata();
                    let read =
                        read.map_err(|error| DiskError::io(Operation::List, &path, error))?;
                    files.push((name, read.len()));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    fn create(&self, name: &str, len: u64) -> Result<Arc<dyn StoredFile>, DiskError> {
        let path = self.free_path(name)?;
        let places = places(name, len)?;
        // So that a full disk is not filled to its last byte first.
        if self.free()? < len {
            return Err(full(&path, len, io::ErrorKind::StorageFull.into()));
        }
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        let file = or_nothing(&unfinished, || fill(&unfinished, len)).and_then(|file| {
            move_durably(&unfinished, &path)?;
            Ok(file)
        })?;
        Ok(Arc::new(MappedFile::new(file, path, places).mapped()?))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn StoredFile>, DiskError> {
        let path = path_of(&self.path, name)?;
        let failed = |error| DiskError::io(Operation::Open, &path, error);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        let len = usize::try_from(len).map_err(|_| DiskError::Length {
            name: name.to_owned(),
            len,
        })?;
        Ok(Arc::new(MappedFile::new(file, path, len)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let from = path_of(&self.path, from)?;
        // Only there to be asked: a folder is not made for a file that is not there.
        if let Err(error) = from.metadata() {
            return Err(DiskError::io(Operation::Rename, &from, error));
        }
        move_durably(&from, &self.free_path(to)?)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = path_of(&self.path, name)?;
        remove(&path)?;
        sync_directory(folder_of(&path))
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.path_in_folder(name)?;
        let mut options = OpenOptions::new();
        let failed = |error| DiskError::io(Operation::Open, &path, error);
        let file = options.append(true).read(true).create(true).open(&path);
        let mut file = file.map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let end: &[u8] = match ends_a_line(&mut file, length).map_err(failed)? {
            true => b"",
            false => b"\n",
        };
        let written = file.write_all(end).and_then(|()| file.write_all(bytes));
        let written = written.and_then(|()| file.sync_all());
        if let Err(error) = written {
            // A part of a line would spoil the next one.
            let _ = file.set_len(length);
            return Err(full(&path, bytes.len() as u64, error));
        }
        match length {
            0 => sync_directory(folder_of(&path)),
            _ => Ok(()),
        }
    }

    #[cfg(unix)]
    fn free(&self) -> Result<u64, DiskError> {
        let space = rustix::fs::statvfs(&self.path);
        let space =
            space.map_err(|error| DiskError::io(Operation::Space, &self.path, error.into()))?;
        // A file system without blocks counts nothing.
        match space.f_blocks {
            0 => Ok(u64::MAX),
            _ => Ok(space.f_bavail.saturating_mul(space.f_frsize)),
        }
    }

    #[cfg(not(unix))]
    fn free(&self) -> Result<u64, DiskError> {
        Ok(u64::MAX)
    }
}

/// Whether nothing is in a file, or whole lines.
fn ends_a_line(file: &mut File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else {
        return Ok(true);
    };
    let mut end = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut end)?;
    Ok(end == *b"\n")
}

/// Locks a directory, if it is a spool's or can become one.
fn lock(directory: &Path) -> Result<File, DiskError> {
    let path = directory.join(LOCK);
    let failed = |error| DiskError::io(Operation::Lock, &path, error);
    let is_there = path.try_exists().map_err(failed)?;
    if !is_there {
        refuse_others(directory)?;
    }
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DiskError::InUse {
                directory: directory.to_owned(),
                process: read_mark(&mut file).and_then(|text| holder(&text)),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    match read_mark(&mut file) {
        Some(text) if text.starts_with(MARK) => {}
        // It was made just now, or by a process that ended at once.
        Some(text) if text.is_empty() => refuse_others(directory)?,
        _ => {
            return Err(DiskError::NotASpool {
                directory: directory.to_owned(),
                found: format!(
                    "a file {LOCK:?} that does not begin with {:?}",
                    MARK.trim_end()
                ),
            });
        }
    }
    // Always of one length, so that at no time there is less than the mark.
    let text = format!("{MARK}{:>10}\n", std::process::id());
    let written = file.rewind().and_then(|()| file.write_all(text.as_bytes()));
    written.and_then(|()| file.sync_all()).map_err(failed)?;
    sync_directory(directory)?;
    Ok(file)
}

/// What the lock says, if it can be read.
fn read_mark(file: &mut File) -> Option<String> {
    let mut text = String::new();
    let longest = 2 * MARK.len() as u64;
    file.take(longest).read_to_string(&mut text).ok()?;
    Some(text)
}

fn holder(text: &str) -> Option<u32> {
    text.strip_prefix(MARK)?.trim().parse().ok()
}

/// A directory with files of others in it is theirs.
fn refuse_others(directory: &Path) -> Result<(), DiskError> {
    let others = entries(directory)?.into_iter().map(|(name, _)| name);
    match others
        .into_iter()
        .find(|name| name != LOCK && name != LOST_AND_FOUND)
    {
        None => Ok(()),
        Some(found) => Err(DiskError::NotASpool {
            directory: directory.to_owned(),
            found: format!("{found:?}, and no file {LOCK:?}"),
        }),
    }
}

/// Names and kinds of what is in a directory. Links are not followed.
fn entries(directory: &Path) -> Result<Vec<(String, fs::FileType)>, DiskError> {
    let failed = |error| DiskError::io(Operation::List, directory, error);
    let read = fs::read_dir(directory).map_err(failed)?;
    let entries = read.map(|entry| {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok((name, entry.file_type()?))
    });
    entries.collect::<io::Result<_>>().map_err(failed)
}

/// The length in memory of a file that can be written to.
fn places(name: &str, len: u64) -> Result<usize, DiskError> {
    let places = usize::try_from(len).ok();
    let places = places.filter(|len| *len > 0 && isize::try_from(*len).is_ok());
    places
        .filter(|len| len % 8 == 0)
        .ok_or_else(|| DiskError::Length {
            name: name.to_owned(),
            len,
        })
}

/// Runs `make`, and if it fails removes what it has made.
fn or_nothing<T>(path: &Path, make: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    make().inspect_err(|_| {
        if let Err(error) = remove(path) {
            tracing::warn!(%error, "a file that could not be finished stays until the next start");
        }
    })
}

/// A file of zeros, on the disk. They are written and not only asked for: blocks that were never written
/// make each later sync write the file system's own notes, too, and may then turn out not to be there.
fn fill(path: &Path, len: u64) -> Result<File, DiskError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.open(path);
    let mut file = file.map_err(|error| DiskError::io(Operation::Create, path, error))?;
    let zeros = vec![0; PIECE];
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let written = file.write_all(&zeros[..piece]);
        written.map_err(|error| full(path, len, error))?;
        left -= piece as u64;
    }
    file.sync_all().map_err(|error| full(path, len, error))?;
    Ok(file)
}

/// An error of writing, in which a disk that is full is one of its own.
fn full(path: &Path, wanted: u64, error: io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full {
            path: path.to_owned(),
            wanted,
            cause: Arc::new(error),
        },
        _ => DiskError::io(Operation::Write, path, error),
    }
}

fn move_durably(from: &Path, to: &Path) -> Result<(), DiskError> {
    let moved = fs::rename(from, to);
    moved.map_err(|error| DiskError::io(Operation::Rename, from, error))?;
    sync_directory(folder_of(to))?;
    match folder_of(from) == folder_of(to) {
        true => Ok(()),
        false => sync_directory(folder_of(from)),
    }
}

fn remove(path: &Path) -> Result<(), DiskError> {
    fs::remove_file(path).map_err(|error| DiskError::io(Operation::Remove, path, error))
}

/// All files lie in a folder.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Makes names durable. Windows does so by itself.
fn sync_directory(path: &Path) -> Result<(), DiskError> {
    #[cfg(unix)]
    {
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| DiskError::io(Operation::Sync, path, error))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests;
