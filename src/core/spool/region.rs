//! Memory that survives the process: a file that is mapped, or a stand-in for one.

use std::fmt;

/// Memory of a fixed length. What was written to it is there for the next process, even if this one is
/// killed at the next instruction; whether it survives the machine, too, is not decided here.
pub trait Region: Send + Sync + fmt::Debug {
    /// Bytes.
    fn len(&self) -> usize;

    /// Copies `bytes` to `at`. Each place has one owner, who alone writes there. Out of bounds it writes
    /// nothing and returns false.
    fn write(&self, at: usize, bytes: &[u8]) -> bool;
}

/// A region that survives nothing, for tests.
#[cfg(any(test, feature = "internals"))]
#[derive(Debug)]
pub struct Memory(std::sync::Mutex<Vec<u8>>);

#[cfg(any(test, feature = "internals"))]
impl Memory {
    pub fn new(length: usize) -> Self {
        Self::of(vec![0; length])
    }

    /// With what a former use has left there.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self(std::sync::Mutex::new(bytes))
    }

    /// What is in it by now.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(any(test, feature = "internals"))]
impl Region for Memory {
    fn len(&self) -> usize {
        self.lock().len()
    }

    fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let mut memory = self.lock();
        let place = at
            .checked_add(bytes.len())
            .and_then(|end| memory.get_mut(at..end));
        place.map(|place| place.copy_from_slice(bytes)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_out_of_bounds() {
        let memory = Memory::new(4);
        assert!(memory.write(1, b"abc"));
        assert!(!memory.write(2, b"xyz"));
        assert!(!memory.write(usize::MAX, b"x"));
        assert_eq!(memory.bytes(), b"\0abc");
        assert_eq!(memory.len(), 4);
    }
}
