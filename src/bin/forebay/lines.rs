//! Reads lines on a separate thread.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// Bytes to read at a time.
const BLOCK: usize = 64 * 1024;
/// Blocks of lines read ahead.
const AHEAD: usize = 8;

/// The bytes between two `\n`.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Bytes),
    /// Longer than any record may be. The line is not kept, only its length.
    TooLong(u64),
}

/// Splits `from` at every `\n`. The bytes after the last `\n` are a line too, unless there are
/// none.
///
/// The thread ends with its input, or when the receiver is dropped. It is not joined, because a
/// read may last for ever.
pub fn read(
    mut from: impl Read + Send + 'static,
    longest: usize,
) -> io::Result<mpsc::Receiver<io::Result<Vec<Line>>>> {
    let (to, lines) = mpsc::channel(AHEAD);
    let mut block = vec![0; BLOCK];
    let mut splitter = Splitter::new(longest);
    let reader = move || {
        loop {
            let mut lines = Vec::new();
            let ended = match from.read(&mut block) {
                Ok(0) => {
                    lines.extend(splitter.rest());
                    true
                }
                Ok(len) => {
                    splitter.split(&block[..len], &mut lines);
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let _ = to.blocking_send(Err(error));
                    return;
                }
            };
            if (!lines.is_empty() && to.blocking_send(Ok(lines)).is_err()) || ended {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name(String::from("lines"))
        .spawn(reader)?;
    Ok(lines)
}

struct Splitter {
    longest: usize,
    /// The beginning of a line whose end was not read yet.
    begun: BytesMut,
    /// The length of that line, if it is too long to be kept.
    too_long: Option<u64>,
}

impl Splitter {
    fn new(longest: usize) -> Self {
        Self {
            longest,
            begun: BytesMut::new(),
            too_long: None,
        }
    }

    fn split(&mut self, block: &[u8], lines: &mut Vec<Line>) {
        // One copy per block: the lines are slices of it.
        let mut block = Bytes::copy_from_slice(block);
        while let Some(end) = block.iter().position(|byte| *byte == b'\n') {
            let line = block.split_to(end);
            let _newline = block.split_to(1);
            if self.begun.is_empty() && self.too_long.is_none() && line.len() <= self.longest {
                lines.push(Line::Whole(line));
                continue;
            }
            self.go_on(&line);
            lines.push(self.end());
        }
        self.go_on(&block);
    }

    fn go_on(&mut self, part: &[u8]) {
        let len = self.begun.len() + part.len();
        if let Some(too_long) = &mut self.too_long {
            *too_long += part.len() as u64;
        } else if len > self.longest {
            self.too_long = Some(len as u64);
            self.begun = BytesMut::new();
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn end(&mut self) -> Line {
        match self.too_long.take() {
            Some(len) => Line::TooLong(len),
            None => Line::Whole(self.begun.split().freeze()),
        }
    }

    fn rest(&mut self) -> Option<Line> {
        (!self.begun.is_empty() || self.too_long.is_some()).then(|| self.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8], block: usize, longest: usize) -> Vec<Line> {
        let mut splitter = Splitter::new(longest);
        let mut lines = Vec::new();
        for part in text.chunks(block) {
            splitter.split(part, &mut lines);
        }
        lines.extend(splitter.rest());
        lines
    }

    fn whole(lines: &[&[u8]]) -> Vec<Line> {
        let line = |line: &&[u8]| Line::Whole(Bytes::copy_from_slice(line));
        lines.iter().map(line).collect()
    }

    #[test]
    fn wherever_the_blocks_end_the_lines_are_the_same() {
        let text = b"one\n\n\xff\xfe\r\nfour";
        for block in 1..=text.len() {
            let lines = split(text, block, 100);
            assert_eq!(lines, whole(&[b"one", b"", b"\xff\xfe\r", b"four"]));
        }
        assert_eq!(split(b"", 1, 100), []);
        assert_eq!(split(b"\n", 1, 100), whole(&[b""]));
    }

    #[test]
    fn a_line_that_no_record_can_hold_is_counted_not_kept() {
        for block in 1..=20 {
            let lines = split(b"12345\n123456\nabc\n12345678", block, 5);
            let mut expected = whole(&[b"12345"]);
            expected.push(Line::TooLong(6));
            expected.extend(whole(&[b"abc"]));
            expected.push(Line::TooLong(8));
            assert_eq!(lines, expected);
        }
    }

    #[tokio::test]
    async fn lines_come_through_the_channel() {
        let text: &[u8] = b"a\nb\n";
        let mut lines = read(text, 10).expect("a thread");
        let block = lines.recv().await.expect("a block").expect("no error");
        assert_eq!(block, whole(&[b"a", b"b"]));
        assert!(lines.recv().await.is_none());
    }
}
