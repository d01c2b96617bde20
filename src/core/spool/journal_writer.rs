//! Writes entries of the journal, one behind the other.

use std::sync::Arc;

use super::entry::Entry;
use super::file_header::FileHeader;
use super::journal::checkpoint;
use super::region::Region;
use super::state::State;

/// The journal that is written, and what it says.
#[derive(Debug)]
pub struct JournalWriter {
    region: Arc<dyn Region>,
    header: FileHeader,
    /// Where the next entry goes.
    at: u64,
    state: State,
    bytes: Vec<u8>,
}

impl JournalWriter {
    /// Goes on with a journal that was read, or begins one that says all that `state` does.
    pub fn begin(region: Arc<dyn Region>, header: FileHeader, state: State) -> Option<Self> {
        let bytes = checkpoint(&state, &header);
        let fits = region.write(0, &bytes);
        fits.then(|| Self {
            at: bytes.len() as u64,
            region,
            header,
            state,
            bytes: Vec::new(),
        })
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of its file.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Writes an entry. False: there is no room for it, and the next journal has to say it.
    pub fn write(&mut self, entry: &Entry) -> bool {
        self.state.apply(entry);
        self.bytes.clear();
        entry.encode(self.header.salt, self.at, &mut self.bytes);
        let fits = self.region.write(self.at as usize, &self.bytes);
        if fits {
            self.at += self.bytes.len() as u64;
        }
        fits
    }

    /// Whether it is time for the next journal.
    pub fn is_half_full(&self) -> bool {
        self.at as usize >= self.region.len() / 2
    }

    /// Bytes of a journal that has room for what is known, and for more.
    pub fn len_for(state: &State, least: u64) -> u64 {
        let header = FileHeader {
            number: 0,
            salt: 0,
            length: 0,
        };
        let bytes = checkpoint(state, &header).len() as u64;
        least.max(4 * bytes).next_multiple_of(4096)
    }

    /// Goes on in another file, in which all that is known stands first.
    pub fn go_on(&mut self, region: Arc<dyn Region>, header: FileHeader) -> bool {
        match Self::begin(region, header, self.state.clone()) {
            Some(next) => {
                *self = next;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
