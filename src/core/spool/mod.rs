//! The spool: what is on disk of records that were accepted and are not settled, and what a resume makes
//! of it. Formats and decisions; files and threads are elsewhere.
//!
//! Invariant: whatever the bytes say, nothing in here panics, and what is read was written.

#![cfg_attr(
    test,
    allow(
        clippy::single_range_in_vec_init,
        reason = "one range of positions is meant, not the positions in it"
    )
)]

mod age;
mod catalog;
mod chunk;
mod copier;
mod entry;
mod file_header;
mod former;
mod frame;
mod index_file;
mod journal;
mod journal_writer;
mod lines;
mod pieces;
mod progress;
mod reader;
mod region;
mod resume;
#[cfg(test)]
mod sample;
mod seat;
mod segment;
mod settled;
mod space;
mod state;
mod survey;

pub use age::AgeClock;
pub use catalog::{Catalog, FILLS, Held, Move, Oldest};
pub use chunk::{ALIGN, Appending, Batch, Chunk, ChunkHeader, ChunkUse, Place};
pub use copier::{Copied, copy};
pub use entry::{Entry, Fate, Line};
pub use file_header::{FileHeader, HeaderError, Kind, PAGE};
pub use former::{Former, FromSource, Resumed, ResumedOutcome};
pub use frame::Source;
pub use index_file::{Index, IndexError};
pub use journal::{Journal, JournalDamage, checkpoint};
pub use journal_writer::JournalWriter;
pub use lines::{Note, lines, rejected_file};
pub use pieces::{Piece, Pieces, ReadChunk, Records};
pub use progress::{Open, Progress, highest};
pub use reader::{Reader, Spooled};
#[cfg(any(test, feature = "internals"))]
pub use region::Memory;
pub use region::Region;
pub use resume::{Resume, SentUnder, forget_former, resume};
pub use seat::Seat;
pub use segment::{Damage, ReadAt, Scanned, scan};
pub use settled::Settled;
pub use space::{EmptySegment, Space, SpaceEvent};
pub use state::{SlotState, SlotTopic, SourceState, State};
pub use survey::{InLog, Mismatch, Seen, Survey};

#[cfg(test)]
mod tests;
