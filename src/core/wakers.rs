//! The wakers of those who wait for one event.

use std::task::Waker;

use crate::core::user_code;

/// Where a receipt's waker is: in the list of which ack, its batch's own or that of a part at this
/// depth, and at which place. A receipt has it beside its index, where it takes no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    pub const NONE: Self = Self(u32::MAX);
    const BITS: u32 = 26;

    pub fn new(depth: u8, at: usize) -> Self {
        let depth = u32::from(depth);
        match u32::try_from(at) {
            Ok(at) if at >> Self::BITS == 0 && depth < 63 => Self(depth << Self::BITS | at),
            _ => Self::NONE,
        }
    }

    /// The place in the list of an ack at this depth, if it is one there.
    pub fn at(self, depth: u8) -> Option<usize> {
        let at = self.0 & ((1 << Self::BITS) - 1);
        (self.0 >> Self::BITS == u32::from(depth)).then_some(at as usize)
    }
}

/// A waker, and how many receipts have it at their place.
#[derive(Debug)]
struct Waiting {
    waker: Waker,
    receipts: u32,
}

/// The wakers of those who wait for a batch, or for the end of a transaction: one for each receipt at most,
/// and one for all receipts that a task polls one after the other.
#[derive(Debug, Default)]
pub(crate) struct Wakers(Vec<Waiting>);

/// So many of the last wakers are compared with a new one.
const NEAR: usize = 4;

impl Wakers {
    /// Wakes them all.
    pub fn wake(self) {
        for Waiting { waker, .. } in self.0 {
            user_code::wake(waker);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts a waker in, and returns the one whose place it takes.
    #[inline]
    pub fn put(&mut self, depth: u8, place: &mut Place, waker: &Waker) -> Option<Waker> {
        if let Some(waiting) = place.at(depth).and_then(|at| self.0.get_mut(at)) {
            if waiting.waker.will_wake(waker) {
                return None;
            }
            if waiting.receipts == 1 {
                return Some(std::mem::replace(&mut waiting.waker, waker.clone()));
            }
            waiting.receipts -= 1;
        }
        let near = self.0.len().saturating_sub(NEAR)..self.0.len();
        let mut near = near.rev();
        let at = match near.find(|at| self.0[*at].waker.will_wake(waker)) {
            Some(at) => {
                self.0[at].receipts += 1;
                at
            }
            None => {
                let (waker, receipts) = (waker.clone(), 1);
                self.0.push(Waiting { waker, receipts });
                self.0.len() - 1
            }
        };
        *place = Place::new(depth, at);
        None
    }
}
