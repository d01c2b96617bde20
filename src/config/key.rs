//! What a configuration key is: the shape of one row of the table in [`KEYS`](super::KEYS).

use std::fmt;

/// One configuration key; [`KEYS`](super::KEYS) has them all, and an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Key {
    /// The name, as Kafka spells it.
    pub name: &'static str,
    /// What its value must look like.
    pub kind: Kind,
    /// The value that holds when nobody sets it, as text; `None` if there is no such value.
    pub default: Option<&'static str>,
    /// Whether forebay acts on it.
    pub status: Status,
    /// What it means, and what goes wrong at its edges.
    pub doc: &'static str,
}

/// What the value of a key must look like; see [`Key::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Number(Unit, Bounds),
    /// A number with a fraction. Only keys that are not served yet have it.
    Decimal,
    /// One of these words, in any case.
    OneOf(&'static [&'static str]),
    /// Any text of at most this many bytes.
    Text(usize),
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
    /// How many of something.
    Count,
    /// A codec's compression level.
    Level,
}

/// The numbers that a key takes; see [`Kind::Number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
    /// Whether -1 is taken too, though it is less than `min`.
    pub or_minus_one: bool,
    /// Why the bounds are where they are.
    pub why: &'static str,
}

/// Whether forebay acts on a key; see [`Key::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// forebay does what Kafka's documentation says.
    Served,
    /// Known, but what it asks for is not built yet: setting it is an error.
    #[non_exhaustive]
    NotServedYet {
        /// What is missing.
        what: &'static str,
        /// The one value that asks for nothing and is therefore taken.
        harmless: Option<&'static str>,
    },
    /// Has a meaning only inside a Java virtual machine: a warning, and it is ignored.
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
