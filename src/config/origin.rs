//! Where a value of the configuration was set.

use std::fmt;
use std::sync::Arc;

/// Where a value was set; see [`Problem::origin`](super::Problem::origin).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nowhere: it is the key's default.
    Default,
    /// In a file, or in a text handed over.
    #[non_exhaustive]
    Text {
        /// The file's path, or what sort of text it was.
        name: Arc<str>,
        /// The line, counted from 1; 0 stands for the whole of it.
        line: usize,
    },
    /// In this environment variable.
    Env(String),
    /// In code.
    Builder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Text { name, line: 0 } => write!(f, "{name}"),
            Self::Text { name, line } => write!(f, "{name}:{line}"),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Builder => f.write_str("builder"),
        }
    }
}
