//! The description of a configuration key: one row of the table [`KEYS`](super::KEYS).

use std::fmt;

/// One configuration key; [`KEYS`](super::KEYS) has them all, and an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// The name, as Kafka spells it.
    pub name: &'static str,
    /// The form of its value.
    pub kind: Kind,
    /// The default value, as text. `None` if there is none.
    pub default: Option<&'static str>,
    /// Whether forebay supports it.
    pub status: Status,
    /// What it means, and what its extreme values do.
    pub doc: &'static str,
}

/// The form of a key's value; see [`Key::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Number(Unit, Bounds),
    /// A number with a fraction.
    Decimal,
    /// One of these words, in any case.
    OneOf(&'static [&'static str]),
    /// Any text of at most this many bytes.
    Text(usize),
    /// Any text that no error, log or `Debug` shows: a password, or PEM, which may have a key in it.
    Secret,
    /// Entries separated by commas.
    List,
}

/// What a number counts; see [`Kind::Number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A plain count.
    Count,
    /// A codec's compression level.
    Level,
}

/// The numbers that a key accepts; see [`Kind::Number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
    /// Whether -1 is accepted too, although it is less than `min`.
    pub or_minus_one: bool,
    /// The reason for these bounds.
    pub why: &'static str,
}

/// Whether forebay supports a key; see [`Key::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// forebay does what Kafka's documentation says.
    Served,
    /// Known but not supported yet. Setting it is an error.
    #[non_exhaustive]
    NotServedYet {
        /// What is missing.
        what: &'static str,
        /// A value that changes nothing and is therefore accepted.
        harmless: Option<&'static str>,
    },
    /// Has a meaning only for brokers. It is ignored with a warning.
    BrokerOnly,
    /// Has a meaning only in a Java virtual machine. It is ignored with a warning.
    JvmOnly,
}

impl Bounds {
    pub(super) fn contains(&self, number: i64) -> bool {
        (self.min..=self.max).contains(&number) || (self.or_minus_one && number == -1)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (i64::MIN, i64::MAX) => write!(f, "any")?,
            (min, i64::MAX) => write!(f, "{min} or more")?,
            (min, max) => write!(f, "{min} to {max}")?,
        }
        if self.or_minus_one {
            write!(f, ", or -1")?;
        }
        Ok(())
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Millis => "whole number of milliseconds",
            Self::Seconds => "whole number of seconds",
            Self::Bytes => "whole number of bytes",
            Self::Count => "whole number",
            Self::Level => "compression level, a whole number",
        })
    }
}
