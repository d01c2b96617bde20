//! The common form of all sources of a configuration: a flat map from keys to text.

use std::collections::BTreeMap;

use zeroize::Zeroize;

use super::error::Problem;
use super::origin::Origin;

/// A value as text, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub value: String,
    pub origin: Origin,
}

/// It may be a password, or have one in it.
impl Drop for Setting {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

/// Settings by key, in Kafka's spelling. The map is flat because some keys are also the beginning
/// of another key, which a tree cannot hold.
pub(super) type Flat = BTreeMap<String, Setting>;

/// What was read from one source.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub flat: Flat,
    pub problems: Vec<Problem>,
}
