//! Which files are kept empty for later, so that a segment is there when it is needed.

use std::collections::VecDeque;

/// How a spare's name begins.
pub(super) const PREFIX: &str = "spare-";

/// The spare files of a directory, by name. All are as long as a segment.
#[derive(Debug)]
pub struct Spares {
    segment: u64,
    ahead: usize,
    names: VecDeque<String>,
    /// The number of the next one.
    next: u64,
}

impl Spares {
    /// Keeps up to twice `ahead` spares of `segment` bytes, and asks for new ones below `ahead`.
    ///
    /// `files`: names and lengths of what is there. The second half of what is returned is to be removed:
    /// spares of another length, and those that are too many.
    pub fn new(segment: u64, ahead: usize, files: &[(String, u64)]) -> (Self, Vec<String>) {
        let spares = files.iter().filter(|(name, _)| name.starts_with(PREFIX));
        let mut this = Self {
            segment,
            ahead,
            names: VecDeque::new(),
            next: 0,
        };
        let mut rest = Vec::new();
        for (name, len) in spares {
            let number = u64::from_str_radix(&name[PREFIX.len()..], 16);
            this.next = this
                .next
                .max(number.map_or(0, |number| number.saturating_add(1)));
            match *len == segment && this.names.len() < 2 * ahead {
                true => this.names.push_back(name.clone()),
                false => rest.push(name.clone()),
            }
        }
        (this, rest)
    }

    /// A spare of this length, the one that was longest unused.
    pub fn take(&mut self, len: u64) -> Option<String> {
        match len == self.segment {
            true => self.names.pop_front(),
            false => None,
        }
    }

    /// A name for a file that is not needed any more. None: there are enough, or it has another length.
    pub fn name_for(&mut self, len: u64) -> Option<String> {
        let wanted = len == self.segment && self.names.len() < 2 * self.ahead;
        wanted.then(|| self.fresh_name())
    }

    /// A name and a length for one that is to be made now.
    pub fn missing(&mut self) -> Option<(String, u64)> {
        let missing = self.names.len() < self.ahead;
        missing.then(|| (self.fresh_name(), self.segment))
    }

    /// A file has become a spare.
    pub fn put(&mut self, name: String) {
        self.names.push_back(name);
    }

    fn fresh_name(&mut self) -> String {
        let number = self.next;
        self.next += 1;
        format!("{PREFIX}{number:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        let files = of.iter().map(|(name, len)| ((*name).to_owned(), *len));
        files.collect()
    }

    #[test]
    fn only_spares_of_a_segments_length_are_kept() {
        let there = files(&[
            ("segment-7", 64),
            ("spare-0000000000000003", 64),
            ("spare-1", 32),
        ]);
        let (mut spares, rest) = Spares::new(64, 1, &there);
        assert_eq!(rest, ["spare-1"]);
        assert_eq!(spares.missing(), None);
        assert_eq!(spares.take(64).as_deref(), Some("spare-0000000000000003"));
        assert_eq!(spares.take(64), None);
        // Behind all numbers that are there.
        assert_eq!(
            spares.missing(),
            Some(("spare-0000000000000004".to_owned(), 64))
        );
    }

    #[test]
    fn a_file_of_another_length_takes_no_spare_and_becomes_none() {
        let (mut spares, _) = Spares::new(64, 1, &files(&[("spare-0", 64)]));
        assert_eq!(spares.take(32), None);
        assert_eq!(spares.name_for(32), None);
        assert_eq!(spares.take(64).as_deref(), Some("spare-0"));
    }

    #[test]
    fn what_is_given_back_is_kept_up_to_twice_as_many_as_are_made() {
        let (mut spares, _) = Spares::new(64, 1, &[]);
        for _ in 0..2 {
            let name = spares.name_for(64).expect("there are few");
            spares.put(name);
        }
        assert_eq!(spares.name_for(64), None);
        assert_eq!(spares.missing(), None);
        // Those that are there at the start, too.
        let many = ["spare-0", "spare-1", "spare-2"].map(|name| (name, 64));
        let (_, rest) = Spares::new(64, 1, &files(&many));
        assert_eq!(rest, ["spare-2"]);
    }

    #[test]
    fn without_any_ahead_there_are_none() {
        let (mut spares, rest) = Spares::new(64, 0, &files(&[("spare-0", 64)]));
        assert_eq!(rest, ["spare-0"]);
        assert_eq!((spares.missing(), spares.name_for(64)), (None, None));
    }
}
