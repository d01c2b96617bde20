//! What every source of a configuration becomes before it is typed: one flat map.

use std::collections::BTreeMap;

use super::error::Problem;
use super::origin::Origin;

/// A value before it is typed, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub value: String,
    pub origin: Origin,
}

/// Keys in Kafka's spelling. Flat because trees trip over a key that is also another's prefix.
pub(super) type Flat = BTreeMap<String, Setting>;

/// What one text gave.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub flat: Flat,
    pub problems: Vec<Problem>,
}
