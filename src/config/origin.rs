//! Where a value of the configuration was set.

use std::fmt;
use std::sync::Arc;

use crate::core::shown::Shown;

/// Characters of a path or a variable's name that are shown.
const LONGEST_SHOWN: usize = 300;

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
        let shown = |text| Shown {
            text,
            most: LONGEST_SHOWN,
        };
        match self {
            Self::Default => f.write_str("default"),
            Self::Text { name, line: 0 } => write!(f, "{}", shown(name)),
            Self::Text { name, line } => write!(f, "{}:{line}", shown(name)),
            Self::Env(name) => write!(f, "environment variable {}", shown(name)),
            Self::Builder => f.write_str("builder"),
        }
    }
}
