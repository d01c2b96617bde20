//! Which segment has which records, which segments nobody needs any more, and what to move out of those
//! that hold little.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::chunk::ChunkUse;
use super::settled::Settled;

/// A segment is mostly settled if less than one part in so many is not.
const MOSTLY: u64 = 4;

/// No chunk takes records for longer than so many milliseconds.
pub const FILLS: i64 = 3_600_000;

/// Records of one chunk that are read from it. Where the same records are in two chunks, one of them has
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub segment: u64,
    pub used: ChunkUse,
    pub from: u64,
    pub to: u64,
}

impl Held {
    pub fn positions(&self) -> Range<u64> {
        self.from..self.to
    }

    /// Bytes of the chunk that so many records take, about.
    fn bytes(&self, records: u64) -> u64 {
        let all = u64::from(self.used.count).max(1);
        (u64::from(self.used.bytes) * records).div_ceil(all)
    }
}

/// Records to copy into another segment, so that this one can be freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub segment: u64,
    /// What is not settled of it, in the order of slots and positions.
    pub records: Vec<(u32, Held)>,
}

/// The oldest record that is not settled, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    pub slot: u32,
    pub position: u64,
    /// The newest timestamp of the chunk that it is in, in milliseconds since 1970.
    pub newest: i64,
}

#[derive(Debug, Default)]
struct Segment {
    /// Bytes on the disk.
    length: u64,
    /// No further chunk begins in it.
    full: bool,
    /// Chunks that are being filled, by their offsets.
    open: BTreeSet<u32>,
    /// Closed chunks that hold records: their slots and where those records begin.
    held: BTreeSet<(u32, u64)>,
    /// Of what they hold, what is not settled: records, and bytes, about.
    live: Live,
}

/// So much is not settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Live {
    records: u64,
    bytes: u64,
}

impl Live {
    fn of(held: &Held, settled: &Settled) -> Self {
        let records = settled.count_unsettled(held.positions());
        Self {
            records,
            bytes: held.bytes(records),
        }
    }

    fn add(&mut self, more: Self) {
        self.records += more.records;
        self.bytes += more.bytes;
    }

    fn take(&mut self, less: Self) {
        self.records = self.records.saturating_sub(less.records);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

#[derive(Debug, Default)]
struct Slot {
    settled: Settled,
    /// Records on the disk, by the position of the first. None of them overlap. All have some that are not
    /// settled.
    held: BTreeMap<u64, Held>,
    /// The position behind all that were ever seen.
    end: u64,
}

/// What is on the disk, as the SpoolActor keeps it.
///
/// A segment is free once it is full, none of its chunks is being filled, and all records of it are settled
/// or are held by another one.
#[derive(Debug, Default)]
pub struct Catalog {
    segments: BTreeMap<u64, Segment>,
    slots: BTreeMap<u32, Slot>,
}

impl Catalog {
    /// A segment is on the disk. `full`: no further chunk begins in it.
    pub fn segment(&mut self, number: u64, length: u64, full: bool) {
        let segment = self.segments.entry(number).or_default();
        (segment.length, segment.full) = (length, full);
    }

    /// No further chunk begins in the segment. Returns whether it is free.
    pub fn segment_full(&mut self, number: u64) -> bool {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.full = true;
        }
        self.is_free(number)
    }

    /// A chunk is being filled at this offset of a segment.
    pub fn chunk_opened(&mut self, segment: u64, offset: u32) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.open.insert(offset);
        }
    }

    /// A chunk is filled, or was found on the disk. Records that another chunk holds stay there: they are
    /// the same. Returns whether the segment is free.
    pub fn chunk_closed(&mut self, number: u64, used: ChunkUse) -> bool {
        let Some(segment) = self.segments.get_mut(&number) else {
            return false;
        };
        segment.open.remove(&used.offset);
        let slot = self.slots.entry(used.slot).or_default();
        slot.end = slot.end.max(used.end());
        for part in slot.not_held(used.position..used.end()) {
            self.hold(number, used, part);
        }
        self.is_free(number)
    }

    /// The segment holds these records, if any of them are not settled.
    fn hold(&mut self, segment: u64, used: ChunkUse, part: Range<u64>) {
        let slot = self.slots.entry(used.slot).or_default();
        let held = Held {
            segment,
            used,
            from: part.start,
            to: part.end,
        };
        let live = Live::of(&held, &slot.settled);
        let holder = self.segments.get_mut(&segment);
        if let Some(holder) = holder.filter(|_| live.records > 0) {
            holder.held.insert((used.slot, part.start));
            holder.live.add(live);
            slot.held.insert(part.start, held);
        }
    }

    /// These positions of a slot are settled. Returns the segments that are free by that.
    pub fn settle(&mut self, slot: u32, positions: Range<u64>, floor: i64) -> Vec<u64> {
        let state = self.slots.entry(slot).or_default();
        let held = state.overlapping(positions.clone());
        let mut held: Vec<_> = held.map(|it| (it, Live::of(&it, &state.settled))).collect();
        state.end = state.end.max(positions.end);
        state.settled.add(positions, floor);
        held.retain(|(held, before)| {
            let after = Live::of(held, &state.settled);
            if let Some(segment) = self.segments.get_mut(&held.segment) {
                segment.live.take(*before);
                segment.live.add(after);
            }
            after.records == 0
        });
        let over: Vec<_> = held.into_iter().map(|(held, _)| held).collect();
        self.release(slot, &over)
    }

    /// Records were copied to a chunk of another segment that is closed and on the disk: it holds them from
    /// now on. Returns the segments that are free by that.
    pub fn moved(&mut self, to: u64, used: ChunkUse) -> Vec<u64> {
        let positions = used.position..used.end();
        let slot = self.slots.entry(used.slot).or_default();
        let old: Vec<_> = slot.overlapping(positions.clone()).collect();
        self.release(used.slot, &old);
        for held in &old {
            // What was not copied stays where it is.
            self.hold(held.segment, held.used, held.from..positions.start);
            self.hold(held.segment, held.used, positions.end..held.to);
        }
        self.chunk_closed(to, used);
        let concerned: BTreeSet<_> = old.iter().map(|it| it.segment).chain([to]).collect();
        let free = concerned.into_iter().filter(|it| self.is_free(*it));
        free.collect()
    }

    /// These are held no more.
    fn release(&mut self, slot: u32, held: &[Held]) -> Vec<u64> {
        let mut free = Vec::new();
        for held in held {
            let mut live = Live::default();
            if let Some(state) = self.slots.get_mut(&slot) {
                live = Live::of(held, &state.settled);
                state.held.remove(&held.from);
            }
            if let Some(segment) = self.segments.get_mut(&held.segment) {
                segment.held.remove(&(slot, held.from));
                segment.live.take(live);
            }
            if self.is_free(held.segment) && !free.contains(&held.segment) {
                free.push(held.segment);
            }
        }
        free
    }

    /// Whether nothing is written to the segment any more.
    pub fn is_closed(&self, number: u64) -> bool {
        let segment = self.segments.get(&number);
        segment.is_none_or(|it| it.full && it.open.is_empty())
    }

    /// Whether nobody needs the segment.
    pub fn is_free(&self, number: u64) -> bool {
        let segment = self.segments.get(&number);
        segment.is_some_and(|it| it.full && it.open.is_empty() && it.held.is_empty())
    }

    /// The segments that nobody needs.
    pub fn free(&self) -> Vec<u64> {
        let numbers = self.segments.keys().copied();
        numbers.filter(|number| self.is_free(*number)).collect()
    }

    /// A free segment was removed from the disk, or is used again under another number.
    pub fn removed(&mut self, number: u64) {
        if self.is_free(number) {
            self.segments.remove(&number);
        }
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of all segments.
    pub fn total_bytes(&self) -> u64 {
        self.segments.values().map(|it| it.length).sum()
    }

    /// Bytes of records that are not settled, about, but for those in chunks that are being filled.
    pub fn unsettled_bytes(&self) -> u64 {
        self.segments.values().map(|it| it.live.bytes).sum()
    }

    /// Records that are not settled, but for those in chunks that are being filled.
    pub fn unsettled_records(&self) -> u64 {
        self.segments.values().map(|it| it.live.records).sum()
    }

    /// Bytes of a slot's records that are not settled, about.
    pub fn unsettled_bytes_of(&self, slot: u32) -> u64 {
        let state = self.slots.get(&slot).into_iter();
        let held = state.flat_map(|it| it.held.values().map(|held| (held, &it.settled)));
        held.map(|(held, settled)| Live::of(held, settled).bytes)
            .sum()
    }

    /// When the oldest chunk was begun that has records which are not settled, in milliseconds since 1970.
    pub fn oldest_begun(&self) -> Option<i64> {
        let slots = self.slots.values();
        let begun = slots.filter_map(|slot| slot.held.values().next());
        begun.map(|held| held.used.begun).min()
    }

    fn held_by(&self, number: u64) -> impl Iterator<Item = (u32, &Settled, Held)> {
        let held = self.segments.get(&number).map(|it| it.held.iter());
        held.into_iter().flatten().filter_map(|(slot, from)| {
            let state = self.slots.get(slot)?;
            Some((*slot, &state.settled, *state.held.get(from)?))
        })
    }

    /// What to copy out of mostly settled segments, the oldest first, so that a partition that takes nothing
    /// pins no disk. The `newest` segments stay as they are: they settle by themselves.
    pub fn moves(&self, newest: usize) -> impl Iterator<Item = Move> {
        let old = self.segments.len().saturating_sub(newest);
        let old = self.segments.iter().take(old);
        let old = old.filter(|(_, it)| it.full && it.open.is_empty() && !it.held.is_empty());
        let mostly = old.filter(|(_, it)| it.live.bytes * MOSTLY < it.length);
        mostly.map(|(number, _)| Move {
            segment: *number,
            records: self.unsettled_of(*number),
        })
    }

    /// Segments that chunks which are being filled keep, but for the `newest` ones. A partition that gets
    /// little fills its chunk for long.
    pub fn kept_open(&self, newest: usize) -> Vec<u64> {
        let old = self.segments.len().saturating_sub(newest);
        let old = self.segments.iter().take(old);
        old.filter(|(_, it)| !it.open.is_empty())
            .map(|(number, _)| *number)
            .collect()
    }

    /// What is not settled of a segment, but for what is in chunks that are being filled.
    pub fn unsettled_of(&self, number: u64) -> Vec<(u32, Held)> {
        let parts = self.held_by(number).flat_map(|(slot, settled, held)| {
            let open = settled.unsettled(held.positions());
            open.map(move |part| {
                let (from, to) = (part.start, part.end);
                (slot, Held { from, to, ..held })
            })
        });
        parts.collect()
    }

    /// Which records were accepted before a time, for certain: for each slot the position behind the last of
    /// them. Milliseconds since 1970.
    ///
    /// None of a chunk's records was accepted later than [`FILLS`] after it was begun, nor after the next one
    /// was, nor after the time that `latest` tells of its slot. A chunk can be there in parts, and all of
    /// them say when the whole was begun.
    pub fn accepted_before(&self, time: i64, latest: impl Fn(u32) -> i64) -> Vec<(u32, u64)> {
        let mut before = Vec::new();
        for (slot, state) in &self.slots {
            let mut next = latest(*slot);
            let mut ends = None;
            let mut last: Option<i64> = None;
            for held in state.held.values().rev() {
                if let Some(begun) = last.filter(|begun| *begun > held.used.begun) {
                    next = next.min(begun);
                }
                last = Some(held.used.begun);
                let latest = next.min(held.used.begun.saturating_add(FILLS));
                if latest >= time {
                    ends = None;
                } else if ends.is_none() {
                    ends = Some(held.to);
                }
            }
            before.extend(ends.map(|end| (*slot, end)));
        }
        before
    }

    /// Every slot that was seen.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.slots.keys().copied()
    }

    /// What is settled of a slot.
    pub fn settled(&self, slot: u32) -> Option<&Settled> {
        self.slots.get(&slot).map(|it| &it.settled)
    }

    /// The position behind all of the slot that were ever seen.
    pub fn end(&self, slot: u32) -> u64 {
        self.slots.get(&slot).map_or(0, |it| it.end)
    }

    /// A slot had positions up to this one.
    pub fn reached(&mut self, slot: u32, end: u64) {
        let slot = self.slots.entry(slot).or_default();
        slot.end = slot.end.max(end);
    }

    /// Where the records of a slot are, from a position on, in order. Chunks that are being filled are not
    /// among them.
    pub fn held(&self, slot: u32, from: u64) -> impl Iterator<Item = Held> {
        let state = self.slots.get(&slot).into_iter();
        state.flat_map(move |it| it.overlapping(from..u64::MAX))
    }

    /// Positions up to the slot's end that are neither settled nor on the disk. At a start, when no chunk is
    /// being filled, they are lost.
    pub fn missing(&self, slot: u32) -> Vec<Range<u64>> {
        let Some(state) = self.slots.get(&slot) else {
            return Vec::new();
        };
        let gaps = state.not_held(state.settled.up_to()..state.end);
        let open = gaps
            .into_iter()
            .flat_map(|gap| state.settled.unsettled(gap));
        open.collect()
    }

    /// The oldest record that is not settled, of those in closed chunks.
    pub fn oldest(&self) -> Option<Oldest> {
        let first = |(slot, state): (&u32, &Slot)| {
            let (_, held) = state.held.first_key_value()?;
            Some(Oldest {
                slot: *slot,
                position: state.settled.unsettled_from(held.from),
                newest: held.used.newest,
            })
        };
        let firsts = self.slots.iter().filter_map(first);
        firsts.min_by_key(|oldest| oldest.newest)
    }
}

impl Slot {
    /// What holds any of these positions, in order.
    fn overlapping(&self, positions: Range<u64>) -> impl Iterator<Item = Held> {
        let before = self.held.range(..positions.start).next_back();
        let before = before.filter(|(_, held)| held.to > positions.start);
        let from = positions.start.min(positions.end);
        let within = self.held.range(from..positions.end);
        before.into_iter().chain(within).map(|(_, held)| *held)
    }

    /// Parts of these positions that nothing holds.
    fn not_held(&self, positions: Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut next = positions.start;
        for held in self.overlapping(positions.clone()) {
            if held.from > next {
                parts.push(next..held.from);
            }
            next = next.max(held.to);
        }
        if next < positions.end {
            parts.push(next..positions.end);
        }
        parts
    }
}

#[cfg(test)]
mod tests;
