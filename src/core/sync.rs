//! The locks and atomics where threads meet: the standard library's, or loom's.
//!
//! Loom tries every order in which threads can meet. `sync/loom_tests.rs` has it do so, in a build
//! with `--cfg forebay_loom`. `Arc` stays the standard library's: loom would only check that the last
//! one frees what it holds.

#[cfg(not(all(test, forebay_loom)))]
mod of_threads {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
    pub use std::sync::{Mutex, MutexGuard, OnceLock};

    use spin::relax::Yield;

    /// A lock that is held for a few instructions. Releasing it is a plain store.
    pub type Claim<T> = spin::mutex::SpinMutex<T, Yield>;
    pub type ClaimGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Yield>;
}

#[cfg(all(test, forebay_loom))]
mod of_threads {
    use std::sync::PoisonError;
    use std::sync::atomic::Ordering;

    pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
    pub use loom::sync::{Mutex, MutexGuard};

    /// A mutex, because loom runs one thread at a time, and a thread that spins would never stop.
    pub struct Claim<T>(Mutex<T>);
    pub type ClaimGuard<'a, T> = MutexGuard<'a, T>;

    impl<T> Claim<T> {
        pub fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub fn lock(&self) -> ClaimGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Loom has none. Threads see the value when they see the flag.
    #[derive(Debug)]
    pub struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub fn new() -> Self {
            Self {
                value: std::sync::OnceLock::new(),
                is_set: AtomicBool::new(false),
            }
        }

        pub fn get(&self) -> Option<&T> {
            let is_set = self.is_set.load(Ordering::Acquire);
            self.value.get().filter(|_| is_set)
        }

        pub fn set(&self, value: T) -> Result<(), T> {
            self.value.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }
    }
}

pub(crate) use of_threads::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Claim, ClaimGuard, Mutex, MutexGuard, OnceLock,
};

#[cfg(all(test, forebay_loom))]
mod loom_tests;
