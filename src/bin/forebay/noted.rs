//! A file that is read on behind lines that were sent before, if it is still the same up to there.
//!
//! What is read is noted beside the spool before any line of it is sent: how far, and the digest of all bytes
//! up to there. The position of a line is where the next one begins.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// Bytes that are compared at a time.
const BLOCK: usize = 64 * 1024;

/// Why a file is not gone on with.
#[derive(Debug)]
pub enum Refused {
    /// It ends before the line that comes next.
    Shorter {
        length: u64,
        read: u64,
    },
    /// Its bytes up to there are others than those that were read.
    Changed {
        up_to: u64,
    },
    /// Its last line, which had no end, has become longer after it was sent.
    Longer {
        line: u64,
    },
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shorter { length, read } => write!(
                f,
                "it has {length} bytes, and {read} were read of it before: it is another file, or was cut short"
            ),
            Self::Changed { up_to } => write!(
                f,
                "its first {up_to} bytes are not those that were read before: it is another file, or was changed"
            ),
            Self::Longer { line } => write!(
                f,
                "its line {line} was the last one, without an end, when it was sent, and is longer now"
            ),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A file that notes what is read of it.
#[derive(Debug)]
pub struct Noted {
    from: File,
    notes: File,
    /// Of all bytes before `at`.
    digest: Digest,
    at: u64,
    /// Notes are to be on the disk, as what is accepted is.
    durable: bool,
}

/// Where to go on.
#[derive(Debug)]
pub struct GoesOn {
    pub file: Noted,
    /// Lines that were accepted before, or passed over.
    pub lines: u64,
    /// No notes were found of what was read before, so it was not compared.
    pub unchecked: bool,
}

/// Where the notes on a source's file are, in the spool's directory.
pub fn notes_of(spool: &Path, source: &str) -> PathBuf {
    let name = checksum(CrcAlgorithm::Crc64Nvme, source.as_bytes());
    spool.join("files").join(format!("{name:016x}"))
}

/// Goes on with a file whose lines before `accepted` were accepted. It takes as long as to read these.
pub fn go_on(
    mut from: File,
    notes: &Path,
    accepted: u64,
    durable: bool,
) -> Result<GoesOn, Refused> {
    let known = read_notes(notes)?;
    let compared = Compared::read(&mut from, accepted, &known)?;
    let Compared { digest, at, lines } = compared;
    from.seek(SeekFrom::Start(at))?;
    let notes = begin_notes(notes, note(at, &digest), durable)?;
    Ok(GoesOn {
        file: Noted {
            from,
            notes,
            digest,
            at,
            durable,
        },
        lines,
        unchecked: accepted > 0 && known.is_empty(),
    })
}

/// The file up to where it goes on.
struct Compared {
    digest: Digest,
    at: u64,
    lines: u64,
}

impl Compared {
    fn read(from: &mut File, accepted: u64, known: &[(u64, u64)]) -> Result<Self, Refused> {
        let length = from.metadata()?.len();
        // Where the file has ended without the end of a line, the position is one behind it.
        if accepted > length + 1 {
            let read = accepted;
            return Err(Refused::Shorter { length, read });
        }
        let end = accepted.min(length);
        let mut reader = Comparer {
            from,
            digest: Digest::new(CrcAlgorithm::Crc64Nvme),
            at: 0,
            lines: 0,
            last: b'\n',
        };
        // The first one that covers all that was sent is the last one that counts.
        let covers = known.iter().position(|(at, _)| *at >= accepted);
        let known = &known[..covers.map_or(known.len(), |at| at + 1)];
        let mut here = None;
        for (at, digest) in known {
            if here.is_none() && *at >= end {
                here = Some(reader.here(end, length)?);
            }
            reader.go_to(*at, length)?;
            if reader.digest.finalize() != *digest {
                return Err(Refused::Changed { up_to: *at });
            }
        }
        let (here, last) = match here {
            Some(here) => here,
            None => reader.here(end, length)?,
        };
        match accepted > length {
            // It has ended as it did then.
            true => Ok(Self {
                lines: here.lines + 1,
                ..here
            }),
            false if last == b'\n' => Ok(here),
            false => Err(Refused::Longer {
                line: here.lines + 1,
            }),
        }
    }
}

/// Reads the beginning of the file once more.
struct Comparer<'a> {
    from: &'a mut File,
    digest: Digest,
    at: u64,
    lines: u64,
    last: u8,
}

impl Comparer<'_> {
    fn go_to(&mut self, to: u64, length: u64) -> Result<(), Refused> {
        let mut block = vec![0; BLOCK];
        while self.at < to {
            let most = usize::try_from(to - self.at).map_or(BLOCK, |left| left.min(BLOCK));
            let read = match self.from.read(&mut block[..most]) {
                Ok(0) => return Err(Refused::Shorter { length, read: to }),
                Ok(read) => &block[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.digest.update(read);
            self.at += read.len() as u64;
            self.lines += read.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.last = read.last().copied().unwrap_or(self.last);
        }
        Ok(())
    }

    /// Goes to where the file goes on. Also returns the byte before.
    fn here(&mut self, to: u64, length: u64) -> Result<(Compared, u8), Refused> {
        self.go_to(to, length)?;
        let here = Compared {
            digest: self.digest,
            at: self.at,
            lines: self.lines,
        };
        Ok((here, self.last))
    }
}

impl Read for Noted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        if read > 0 {
            self.digest.update(&into[..read]);
            self.at += read as u64;
            self.notes
                .write_all(note(self.at, &self.digest).as_bytes())?;
            if self.durable {
                self.notes.sync_data()?;
            }
        }
        Ok(read)
    }
}

fn note(at: u64, digest: &Digest) -> String {
    format!("{at} {:016x}\n", digest.finalize())
}

/// Where the file was read up to, and the digests there; in their order. A line that is torn ends them.
fn read_notes(path: &Path) -> io::Result<Vec<(u64, u64)>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let note = |line: &str| {
        let (at, digest) = line.strip_suffix('\n')?.split_once(' ')?;
        Some((at.parse().ok()?, u64::from_str_radix(digest, 16).ok()?))
    };
    Ok(text.split_inclusive('\n').map_while(note).collect())
}

/// Begins the notes anew, whole or not at all.
fn begin_notes(path: &Path, first: String, durable: bool) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut notes = File::create(&new)?;
    notes.write_all(first.as_bytes())?;
    if durable {
        notes.sync_data()?;
    }
    fs::rename(&new, path)?;
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use std::io::read_to_string;

    use tempfile::TempDir;

    use super::*;

    struct Scene(TempDir);

    impl Scene {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn write(&self, text: &str) {
            fs::write(self.0.path().join("lines"), text).expect("it can be written");
        }

        fn go_on(&self, accepted: u64) -> Result<(String, u64), Refused> {
            let from = File::open(self.0.path().join("lines")).expect("it is there");
            let notes = notes_of(self.0.path(), "lines");
            let GoesOn { file, lines, .. } = go_on(from, &notes, accepted, true)?;
            Ok((read_to_string(file).expect("text"), lines))
        }
    }

    #[test]
    fn a_file_that_has_grown_goes_on_at_its_next_line() {
        let scene = Scene::new();
        scene.write("one\ntwo\n");
        assert_eq!(scene.go_on(0).expect("it is new"), ("one\ntwo\n".into(), 0));
        scene.write("one\ntwo\nthree");
        let rest = ("two\nthree".to_owned(), 1);
        assert_eq!(scene.go_on(4).expect("it has grown"), rest);
        assert_eq!(scene.go_on(4).expect("nothing was accepted"), rest);
        // The last line has no end: its position is behind the file.
        assert_eq!(scene.go_on(14).expect("all was sent"), (String::new(), 3));
        scene.write("one\ntwo\nthree\nfour\n");
        assert_eq!(
            scene.go_on(14).expect("it has an end"),
            ("four\n".into(), 3)
        );
    }

    #[test]
    fn a_file_that_has_changed_is_refused() {
        for (now, accepted, why) in [
            ("one\n", 8, "it has 4 bytes, and 8 were read"),
            ("one\n", 4, "it has 4 bytes, and 13 were read"),
            ("ONE\ntwo\nthree", 4, "its first 13 bytes are not those"),
            // It was read already, and what becomes of it is not known.
            ("one\ntwo\nTHREE", 4, "its first 13 bytes are not those"),
            ("one\ntwo\nthreefold\n", 14, "its line 3 was the last one"),
        ] {
            let scene = Scene::new();
            scene.write("one\ntwo\nthree");
            scene.go_on(0).expect("it is new");
            scene.write(now);
            let refused = scene.go_on(accepted).expect_err(now).to_string();
            assert!(refused.starts_with(why), "{refused}");
        }
    }

    #[test]
    fn notes_that_are_torn_say_what_stands_before() {
        let scene = Scene::new();
        scene.write("one\ntwo\n");
        scene.go_on(0).expect("it is new");
        let notes = notes_of(scene.0.path(), "lines");
        let mut text = fs::read_to_string(&notes).expect("notes");
        text.push_str("900 12");
        fs::write(&notes, text).expect("it can be written");
        assert_eq!(scene.go_on(4).expect("the same"), ("two\n".into(), 1));
    }
}
