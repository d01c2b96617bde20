//! What files may be called, so that a name never leads out of the directory.

use std::path::{Path, PathBuf};

use super::error::DiskError;

/// It is locked, and says whose directory this is.
pub(super) const LOCK: &str = "lock";
/// At the end of the name of a file that is not whole yet.
pub(super) const UNFINISHED: &str = ".new";

const LONGEST: usize = 100;

/// Whether this can be a file, or a folder of files.
fn is_part(part: &str) -> bool {
    let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    let ends = [part.bytes().next(), part.bytes().last()];
    part.len() <= LONGEST
        && part.bytes().all(known)
        && ends.iter().all(|end| end.is_some_and(|end| end != b'.'))
}

/// Whether a file may have this name: one that the directory does not need for itself.
pub(super) fn is_name(name: &str) -> bool {
    let (folder, file) = match name.split_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, name),
    };
    is_part(file)
        && folder.is_none_or(is_part)
        && name != LOCK
        && folder != Some(LOCK)
        && !file.ends_with(UNFINISHED)
}

/// Where a file of this name lies.
pub(super) fn path_of(directory: &Path, name: &str) -> Result<PathBuf, DiskError> {
    match is_name(name) {
        true => Ok(directory.join(name)),
        false => Err(DiskError::Name {
            name: name.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spools_names_are_names() {
        for name in [
            "journal-0000000000000001",
            "segment-00000000000000ff",
            "segment-00000000000000ff.index",
            "damaged/segment-00000000000000ff",
            "spare-0000000000000002",
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for name in [
            "",
            ".",
            "..",
            "/",
            "/etc/passwd",
            "../up",
            "a/..",
            "a/../b",
            "a/b/c",
            "a/",
            "/a",
            "a\\b",
            "c:",
            "a\0",
            "A",
            "ü",
            ".hidden",
            "ends.",
            "lock",
            "lock/a",
            "half.new",
            "a/half.new",
        ] {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(!is_name(&"a".repeat(101)));
        let error = path_of(Path::new("/spool"), "../up").expect_err("it leads up");
        assert!(error.to_string().contains("\"../up\""), "{error}");
    }
}
