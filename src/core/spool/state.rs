//! What the journal's entries say, taken together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::{Entry, Fate, Line};
use super::settled::Settled;

/// A topic partition, as the spool knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTopic {
    pub topic: Arc<str>,
    pub topic_id: [u8; 16],
    pub partition: i32,
}

/// What is known of one slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotState {
    /// `None` only where that entry is lost.
    pub topic: Option<SlotTopic>,
    /// In the order in which they were begun.
    pub lines: Vec<Line>,
    pub settled: Settled,
}

impl SlotState {
    /// Forgets lines under which nothing can be sent that is not settled.
    pub fn forget_lines(&mut self) {
        let up_to = self.settled.up_to();
        let done = |next: &Line| next.sent <= up_to;
        let keep = self.lines.iter().skip(1).rposition(done);
        self.lines.drain(..keep.map_or(0, |at| at + 1));
    }
}

/// What is known of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceState {
    /// `None` only where that entry is lost.
    pub name: Option<Arc<str>>,
    /// The highest position that the journal knows of. Frames may have a higher one.
    pub accepted: Option<u64>,
}

/// What a journal says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Transactional ids whose markers fence, with the producer ids that they had.
    pub ids: BTreeSet<(Arc<str>, i64)>,
    pub slots: BTreeMap<u32, SlotState>,
    pub sources: BTreeMap<u32, SourceState>,
}

impl State {
    /// An entry was written, or read.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Id { name, producer_id } => {
                self.ids.insert((Arc::clone(name), *producer_id));
            }
            Entry::Slot {
                slot,
                topic_id,
                partition,
                topic,
            } => {
                let topic = SlotTopic {
                    topic: Arc::clone(topic),
                    topic_id: *topic_id,
                    partition: *partition,
                };
                self.slot(*slot).topic = Some(topic);
            }
            Entry::Line { slot, line } => {
                let slot = self.slot(*slot);
                // It may be written twice, as a line that is lost is worse than any other entry.
                if slot.lines.last() != Some(line) {
                    slot.lines.push(*line);
                }
                slot.forget_lines();
            }
            Entry::Settled {
                slot,
                position,
                count,
                fate,
            } => {
                let floor = match fate {
                    Fate::Acked(offset) => offset.saturating_add((*count).into()),
                    Fate::NotWritten | Fate::Unknown | Fate::Rejected => 0,
                };
                let end = position + u64::from(*count);
                self.settle(*slot, *position..end, floor);
            }
            Entry::Source { source, name } => {
                self.sources.entry(*source).or_default().name = Some(Arc::clone(name));
            }
            Entry::Accepted { source, position } => self.accept(*source, *position),
            Entry::Past {
                slot,
                from,
                to,
                floor,
            } => self.settle(*slot, *from..*to, *floor),
            Entry::Complete => {}
        }
    }

    fn slot(&mut self, slot: u32) -> &mut SlotState {
        self.slots.entry(slot).or_default()
    }

    fn settle(&mut self, slot: u32, positions: std::ops::Range<u64>, floor: i64) {
        if positions.is_empty() {
            return;
        }
        let slot = self.slot(slot);
        slot.settled.add(positions, floor);
        slot.forget_lines();
    }

    /// Records have this number of a source.
    pub fn has_source(&mut self, source: u32) {
        self.sources.entry(source).or_default();
    }

    fn accept(&mut self, source: u32, position: u64) {
        let source = self.sources.entry(source).or_default();
        source.accepted = source.accepted.max(Some(position));
    }

    /// The entries that say all of it.
    pub fn entries(&self) -> Vec<Entry> {
        let ids = self.ids.iter().map(|(name, producer_id)| Entry::Id {
            name: Arc::clone(name),
            producer_id: *producer_id,
        });
        let mut entries: Vec<_> = ids.collect();
        for (source, state) in &self.sources {
            let source = *source;
            let name = state.name.clone();
            entries.extend(name.map(|name| Entry::Source { source, name }));
            let accepted = state.accepted;
            entries.extend(accepted.map(|position| Entry::Accepted { source, position }));
        }
        for (slot, state) in &self.slots {
            let slot = *slot;
            entries.extend(state.topic.as_ref().map(|it| Entry::Slot {
                slot,
                topic_id: it.topic_id,
                partition: it.partition,
                topic: Arc::clone(&it.topic),
            }));
            let past = state.settled.iter();
            let past = past.map(|(past, floor)| Entry::past(slot, past, floor));
            entries.extend(past);
            entries.extend(
                state
                    .lines
                    .iter()
                    .map(|line| Entry::Line { slot, line: *line }),
            );
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::Identity;

    fn line(position: u64, sent: u64) -> Line {
        Line {
            identity: Identity {
                producer_id: 1,
                epoch: position as i16,
            },
            sequence: 0,
            position,
            floor: 0,
            sent,
        }
    }

    #[test]
    fn a_line_is_forgotten_once_all_that_was_sent_under_it_is_settled() {
        let mut state = State::default();
        for line in [line(0, 0), line(10, 25), line(10, 25), line(30, 30)] {
            state.apply(&Entry::Line { slot: 1, line });
        }
        let settle = |state: &mut State, position, count| {
            state.apply(&Entry::Settled {
                slot: 1,
                position,
                count,
                fate: Fate::NotWritten,
            });
            let lines = state.slots[&1].lines.iter();
            lines.map(|line| line.position).collect::<Vec<_>>()
        };
        assert_eq!(settle(&mut state, 10, 15), [0, 10, 30]);
        assert_eq!(
            settle(&mut state, 0, 10),
            [10, 30],
            "the first sent up to 25"
        );
        assert_eq!(settle(&mut state, 25, 5), [30]);
        assert_eq!(
            settle(&mut state, 30, 99),
            [30],
            "more may follow under the last"
        );
    }
}
