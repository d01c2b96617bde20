//! Text from outside, as logs and errors show it.

use std::fmt::{self, Write};

/// Shows at most `most` characters of a text on one line. What is not printable is escaped, so that
/// no broker can write lines of its own into a log, or move a terminal's cursor.
pub(crate) struct Shown<'a> {
    pub text: &'a str,
    pub most: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.text.chars().enumerate() {
            if count == self.most {
                return f.write_char('…');
            }
            match c {
                '"' | '\'' => f.write_char(c)?,
                // Marks that join a letter, too: names of hosts have them.
                c if c.is_alphanumeric() => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_stays_as_it_is() {
        for text in ["", "broker-1", "it's \"here\"", "Zürich 東京"] {
            assert_eq!(Shown { text, most: 20 }.to_string(), text);
        }
    }

    #[test]
    fn nothing_leaves_its_line_or_its_bounds() {
        for (text, shown) in [
            ("a\nb\r\0", "a\\nb\\r\\0"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("\u{202e}\u{200b}", "\\u{202e}\\u{200b}"),
            ("\\n", "\\\\n"),
            ("0123456789", "01234567…"),
            ("01234567", "01234567"),
        ] {
            assert_eq!(Shown { text, most: 8 }.to_string(), shown);
        }
        let text = "\n".repeat(1 << 20);
        assert_eq!(
            Shown {
                text: &text,
                most: 8
            }
            .to_string()
            .len(),
            19
        );
    }
}
