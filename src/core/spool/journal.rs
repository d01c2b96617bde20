//! Reads a journal, and begins the next one.

use super::entry::{self, Entry};
use super::file_header::{FileHeader, HeaderError, Kind, PAGE};
use super::frame::{ALIGN, search_budget};
use super::state::State;

/// What was read of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    pub header: FileHeader,
    pub state: State,
    /// Where the next entry goes.
    pub end: u64,
    /// Whether all that was known when it was begun is in it. One that is not complete is used only if there
    /// is no former one: it may have been on its way to the disk when the machine stopped, in any order.
    pub complete: bool,
    /// Where entries are lost. What is behind them is used.
    pub damage: Vec<JournalDamage>,
}

/// Entries that are lost. What they said is not known: a line among them makes what was sent look as if it
/// never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{length} bytes of the journal at offset {offset} are damaged, and what follows them is whole"
)]
pub struct JournalDamage {
    pub offset: u64,
    pub length: u64,
}

impl Journal {
    /// Reads the journal whose name has this number. An entry that is not whole ends it, if none that is
    /// whole follows.
    pub fn read(number: u64, bytes: &[u8]) -> Result<Self, HeaderError> {
        let page = bytes.get(..PAGE).unwrap_or(bytes);
        let header = FileHeader::decode_page(Kind::Journal, number, page)?;
        let mut journal = Self {
            header,
            state: State::default(),
            end: PAGE as u64,
            complete: false,
            damage: Vec::new(),
        };
        let mut left = search_budget(bytes.len() as u64);
        let mut at = PAGE;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let offset = at as u64;
            // What cannot be is passed over without its CRC.
            let claimed = entry::claimed(rest);
            let Some(after) = left.checked_sub(claimed.unwrap_or(0) as u64) else {
                journal.lost(offset);
                break;
            };
            left = after;
            let (Some(whole), Some(read)) = (claimed, entry::check(rest, header.salt, offset))
            else {
                at += ALIGN;
                continue;
            };
            if offset > journal.end {
                journal.lost(offset);
            }
            at = (at + whole).next_multiple_of(ALIGN);
            journal.end = at as u64;
            match read {
                Ok(Entry::Complete) => journal.complete = journal.damage.is_empty(),
                Ok(entry) => journal.state.apply(&entry),
                Err(()) => journal.damage.push(JournalDamage {
                    offset,
                    length: whole as u64,
                }),
            }
        }
        Ok(journal)
    }

    fn lost(&mut self, to: u64) {
        self.damage.push(JournalDamage {
            offset: self.end,
            length: to - self.end,
        });
    }
}

/// The beginning of a journal that says all that `state` does. Once it is on the disk it takes the place of
/// the former one. More entries go behind it.
pub fn checkpoint(state: &State, header: &FileHeader) -> Vec<u8> {
    let mut bytes = header.page(Kind::Journal).to_vec();
    let mut add = |entry: &Entry| {
        let offset = bytes.len() as u64;
        entry.encode(header.salt, offset, &mut bytes);
    };
    state.entries().iter().for_each(&mut add);
    add(&Entry::Complete);
    bytes
}

#[cfg(test)]
mod tests;
