//! The sizes of buffers, and buffers that are kept for reuse.

/// How often `batch.size` is halved, at most.
const HALVINGS: usize = 4;

/// No buffer is smaller, but where `batch.size` is.
const LEAST: usize = 512;

/// The sizes of buffers: `batch.size`, and its halves down to a sixteenth. So a batch takes about what its
/// records need, and in a partition to which little is sent that is little.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    largest: usize,
    halvings: usize,
}

impl Sizes {
    pub fn new(largest: usize) -> Self {
        let halvings = (1..=HALVINGS).take_while(|by| largest >> by >= LEAST);
        Self {
            largest,
            halvings: halvings.count(),
        }
    }

    pub fn largest(self) -> usize {
        self.largest
    }

    pub fn smallest(self) -> usize {
        self.largest >> self.halvings
    }

    /// The smallest size that has room for so many bytes; the largest one if none has.
    pub fn fit(self, bytes: usize) -> usize {
        let mut sizes = (0..=self.halvings).rev().map(|by| self.largest >> by);
        sizes.find(|size| *size >= bytes).unwrap_or(self.largest)
    }

    /// How often the largest size is halved for this one; `None` if it is no size.
    fn halved(self, size: usize) -> Option<usize> {
        (0..=self.halvings).find(|by| self.largest >> by == size)
    }

    /// Whether buffers of this size are used again.
    pub fn has(self, size: usize) -> bool {
        self.halved(size).is_some()
    }
}

/// Buffers that are kept for reuse: those of each size last in, first out. The one used last is most likely
/// still in the processor's caches.
#[derive(Debug)]
pub(crate) struct Kept {
    sizes: Sizes,
    /// Of the largest size first.
    lists: [Vec<Box<[u8]>>; HALVINGS + 1],
    bytes: usize,
    /// The fewest bytes since [`trim`](Self::trim) was last called.
    fewest: usize,
}

impl Kept {
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            lists: Default::default(),
            bytes: 0,
            fewest: 0,
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a buffer, if it is of one of the sizes.
    pub fn push(&mut self, buffer: Box<[u8]>) {
        if let Some(halved) = self.sizes.halved(buffer.len()) {
            self.bytes += buffer.len();
            self.lists[halved].push(buffer);
        }
    }

    pub fn pop(&mut self, size: usize) -> Option<Box<[u8]>> {
        let buffer = self.lists[self.sizes.halved(size)?].pop()?;
        self.gone(size);
        Some(buffer)
    }

    /// Frees buffers until they have no more than so many bytes.
    pub fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            let Some(buffer) = self.lists.iter_mut().find_map(Vec::pop) else {
                return;
            };
            self.gone(buffer.len());
        }
    }

    /// Frees buffers that were kept for nothing since this was last called.
    pub fn trim(&mut self) {
        self.shrink(self.bytes - self.fewest);
        self.fewest = self.bytes;
    }

    fn gone(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.fewest = self.fewest.min(self.bytes);
    }

    /// Takes buffers that are not of the largest size, of so many bytes at most.
    pub fn take_small(&mut self, most: usize) -> Vec<Box<[u8]>> {
        let mut taken = Vec::new();
        let mut left = most;
        for list in &mut self.lists[1..] {
            while let Some(buffer) = list.pop_if(|buffer| buffer.len() <= left) {
                left -= buffer.len();
                taken.push(buffer);
            }
        }
        self.gone(most - left);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::memory::blank;

    #[test]
    fn sizes_are_halves_of_the_batch_size() {
        let sizes = Sizes::new(16_384);
        assert_eq!((sizes.smallest(), sizes.largest()), (1024, 16_384));
        let fit = |bytes| sizes.fit(bytes);
        assert_eq!(
            [0, 1024, 1025, 8192, 8193].map(fit),
            [1024, 1024, 2048, 8192, 16_384]
        );
        assert_eq!(fit(20_000), 16_384, "nothing has room for that");
        assert!(sizes.has(2048) && !sizes.has(2047) && !sizes.has(512));
        let small = Sizes::new(1000);
        assert_eq!((small.smallest(), small.fit(1)), (1000, 1000));
    }

    #[test]
    fn buffers_are_kept_by_their_size() {
        let mut kept = Kept::new(Sizes::new(2048));
        for size in [2048, 512, 1024, 512, 700] {
            kept.push(blank(size));
        }
        assert_eq!(kept.bytes(), 4096, "one is of no size");
        assert!(kept.pop(1024).is_some_and(|it| it.len() == 1024));
        assert!(kept.pop(1024).is_none());
        assert_eq!(kept.take_small(600).len(), 1);
        assert_eq!(kept.bytes(), 2048 + 512);
        kept.shrink(512);
        assert_eq!((kept.bytes(), kept.pop(2048)), (512, None));
    }
}
