//! Reads Java's `.properties` files as `java.util.Properties` does.

//!
//! Any value may be a password. What is copied on the way is zeroed, and takes its memory at once: text
//! that grows leaves its beginning behind.

use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::{Problem, ProblemKind};
use super::origin::Origin;
use super::source::{Read, Setting};

pub(super) fn read(text: &str, name: &Arc<str>) -> Read {
    let mut read = Read::default();
    // Java ends a line at \n, \r and \r\n. Turn them all into \n.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = Zeroizing::new(text.replace("\r\n", "\n"));
    let text = Zeroizing::new(text.replace('\r', "\n"));
    for line in logical_lines(&text) {
        let origin = Origin::Text {
            name: name.clone(),
            line: line.number,
        };
        let text = Zeroizing::new(line.parts.concat());
        let (key, value) = split(&text);
        match (unescape(key), unescape(value)) {
            (Ok(key), Ok(value)) => {
                if let Some(earlier) = read.flat.get(&key) {
                    tracing::warn!(%key, earlier = %earlier.origin, later = %origin, "key set twice, the later value holds");
                }
                read.flat.insert(key, Setting { value, origin });
            }
            (Err(wrong), _) | (_, Err(wrong)) => read.problems.push(
                Problem::new(ProblemKind::Syntax, &origin, wrong)
                    .advice("write a backslash as \\\\"),
            ),
        }
    }
    read
}

struct Line<'a> {
    number: usize,
    /// What is to be joined.
    parts: Vec<&'a str>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Returns the lines, without blank ones and comments. A line that ends in an odd number of
/// backslashes is joined with the next one.
fn logical_lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut open: Option<Line<'_>> = None;
    for (index, natural) in text.split('\n').enumerate() {
        let natural = natural.trim_start_matches(is_space);
        let continues = natural.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        let part = if continues {
            &natural[..natural.len() - 1]
        } else {
            natural
        };
        match &mut open {
            Some(line) => line.parts.push(part),
            // A lone backslash starts no line either: the next line may be a comment.
            None if part.is_empty() || natural.starts_with(['#', '!']) => continue,
            None => {
                open = Some(Line {
                    number: index + 1,
                    parts: vec![part],
                });
            }
        }
        if !continues {
            lines.extend(open.take());
        }
    }
    lines.extend(open);
    lines
}

/// Splits a line into key and value. The key ends at the first `=`, `:` or blank without a
/// backslash before it.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (is_space(c) || matches!(c, '=' | ':'));
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(is_space))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    // In UTF-16, because \u escapes write characters beyond 16 bits as a pair.
    let mut units: Zeroizing<Vec<u16>> = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    units.push(hex4(&mut chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => continue,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    // A unit takes three bytes at most.
    let mut text = Zeroizing::new(String::with_capacity(3 * units.len()));
    for c in char::decode_utf16(units.iter().copied()) {
        text.push(c.map_err(|_| "\\u escapes give half of a character")?);
    }
    Ok(std::mem::take(&mut *text))
}

fn hex4(chars: &mut Peekable<Chars<'_>>) -> Result<u16, &'static str> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = chars.next_if(char::is_ascii_hexdigit);
        let digit = digit.and_then(|c| c.to_digit(16));
        unit = unit << 4 | digit.ok_or("\\u needs four hexadecimal digits")?;
    }
    u16::try_from(unit).map_err(|_| "\\u needs four hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn flat(text: &str) -> Vec<(String, String)> {
        let read = read(text, &"p".into());
        assert_eq!(read.problems, []);
        let settings = read.flat.into_iter();
        settings
            .map(|(name, it)| (name, it.value.clone()))
            .collect()
    }

    #[test]
    fn every_separator() {
        for text in [
            "linger.ms=5",
            "linger.ms:5",
            "linger.ms 5",
            "  linger.ms \t=  5",
            "linger.ms = 5\r\n",
            "linger.ms=\\\r\n   5",
            "linger.\\\n\tms 5",
            "\u{feff}linger.ms=5",
            "# a comment \\\n! another\n\n\x0clinger.ms=5",
            "linger.ms=4\nlinger.ms=5",
        ] {
            assert_eq!(flat(text), [("linger.ms".into(), "5".into())], "{text:?}");
        }
    }

    #[test]
    fn escapes_and_odd_lines() {
        for (text, key, value) in [
            ("a\\ b\\=c=d", "a b=c", "d"),
            ("k=a=b:c", "k", "a=b:c"),
            ("k==v", "k", "=v"),
            ("k", "k", ""),
            ("k=", "k", ""),
            ("=v", "", "v"),
            ("k=\\t\\n\\r\\f\\q\\\\", "k", "\t\n\r\x0cq\\"),
            ("k=\\u00e9\\uD83D\\uDE00é", "k", "é😀é"),
            ("k=v  ", "k", "v  "),
            ("k=v\\\\", "k", "v\\"),
            ("k=v\\", "k", "v"),
            ("k=a\\\n#b", "k", "a#b"),
            ("k=a\\\n\n", "k", "a"),
            ("\\\n# comment\nk=a\n\\", "k", "a"),
        ] {
            assert_eq!(flat(text), [(key.into(), value.into())], "{text:?}");
        }
    }

    #[test]
    fn wrong_escapes_are_told_with_their_line() {
        let read = read("a=1\n\nb=\\u12g4\nc=\\\n\\uD83D\n", &"p".into());
        let problems: Vec<_> = read.problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "(p:3): \\u needs four hexadecimal digits; write a backslash as \\\\",
                "(p:4): \\u escapes give half of a character; write a backslash as \\\\",
            ]
        );
        assert_eq!(read.flat.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(parts in vec("[\\\\=: \\t\\r\\n#!au0é]{0,6}|\\PC{0,4}", 0..8)) {
            read(&parts.concat(), &"p".into());
        }
    }
}
