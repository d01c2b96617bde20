//! Everything that is wrong with a configuration, at once.

use std::fmt;

use super::origin::Origin;
use crate::core::shown::Shown;

/// A configuration that cannot be used, with everything that is wrong with it.
///
/// Prints one problem per line.
///
/// ```
/// use forebay::Config;
/// use forebay::config::{Origin, ProblemKind};
///
/// let error = Config::builder()
///     .toml("linger.mss = 5")
///     .set("acks", "some")
///     .bootstrap_servers("localhost:9092")
///     .build()
///     .expect_err("two keys are wrong");
/// let kinds: Vec<_> = error.problems().iter().map(|problem| problem.kind).collect();
/// assert!(kinds.contains(&ProblemKind::UnknownKey) && kinds.contains(&ProblemKind::WrongValue));
/// assert!(error.problems().iter().any(|problem| problem.origin == Origin::Builder));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One thing that is wrong; see [`ConfigError::problems`]. [`ConfigError`] has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What sort of problem it is.
    pub kind: ProblemKind,
    /// The key that it is about; `None` if a whole source could not be read.
    pub key: Option<String>,
    /// Where the value was set. [`ConfigError`] has an example.
    pub origin: Origin,
    /// The value, unless it could be a secret.
    pub seen: Option<String>,
    /// What is wrong, and why.
    pub wrong: String,
    /// What to change.
    pub advice: String,
}

/// What sort of problem it is; see [`Problem::kind`]. [`ConfigError`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Values that exclude each other.
    Conflict,
    /// The codec was left out of this build of forebay.
    FeatureOff,
    /// A key that must be set is not.
    Missing,
    /// The key is known, but what it asks for is not built yet.
    NotServedYet,
    /// A number, or a text's length, beyond its bounds.
    OutOfRange,
    /// The text of a source breaks the rules of its format.
    Syntax,
    /// No key has this name.
    UnknownKey,
    /// A source could not be read at all.
    Unreadable,
    /// The value is not of the kind that the key takes.
    WrongValue,
}

impl ConfigError {
    /// The error that these problems make, if there are any.
    pub(super) fn of(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// What is wrong; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, origin: &Origin, wrong: impl Into<String>) -> Self {
        Self {
            kind,
            key: None,
            origin: origin.clone(),
            seen: None,
            wrong: wrong.into(),
            advice: String::new(),
        }
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(super) fn seen(mut self, value: impl Into<String>) -> Self {
        self.seen = Some(value.into());
        self
    }

    pub(super) fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys and values come from outside: escaped and cut, so that a problem stays on its line.
        if let Some(key) = &self.key {
            write!(f, "{}", shown(key))?;
            if let Some(seen) = &self.seen {
                write!(f, " = \"{}\"", shown(seen))?;
            }
            write!(f, " ")?;
        }
        write!(f, "({}): {}", self.origin, self.wrong)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

const LONGEST_SHOWN: usize = 100;

fn shown(text: &str) -> Shown<'_> {
    let most = LONGEST_SHOWN;
    Shown { text, most }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_stays_on_one_line() {
        let problem = Problem::new(ProblemKind::WrongValue, &Origin::Builder, "no number")
            .key("linger\n.ms")
            .seen("5\n".repeat(200))
            .advice("write 5");
        let error = ConfigError::of(vec![problem.clone(), problem]).unwrap();
        assert_eq!(error.problems().len(), 2);
        let text = error.to_string();
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("linger\\n.ms = \"5\\n5"));
        assert!(text.ends_with("…\" (builder): no number; write 5"));
    }

    #[test]
    fn no_problems_make_no_error() {
        assert_eq!(ConfigError::of(Vec::new()), None);
    }
}
