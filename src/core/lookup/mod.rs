//! What became of batches and commits whose fate is in doubt. The logs of their partitions tell.

mod answer;
mod lookups;
mod marker;
mod scan;

pub use answer::{Follows, Refusal, missing_acl};
pub use lookups::{Ask, Log, Look, Looked, Lookups, News, Question, Told, Wish};
pub use marker::{Marker, MarkerNews, Witness};
#[cfg(test)]
pub use scan::Found;
pub use scan::{Absence, Fence, Sought, Verdict};
