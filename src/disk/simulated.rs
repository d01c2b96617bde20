//! A disk that is none: tests have it take the place of directories, and do themselves what threads would do.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::error::DiskError;
use super::store::Store;

/// What a thread of the disk does whenever it is woken; false: it has come to its end.
pub type Round = Box<dyn FnMut() -> bool>;

/// Stands for the disk of this thread's producers.
pub trait Simulation {
    /// Opens a directory.
    fn open(&self, directory: &Path) -> Result<Arc<dyn Store>, DiskError>;

    /// Has a thread's rounds made from now on.
    fn serve(&self, round: Round);
}

thread_local! {
    static DISK: RefCell<Option<Rc<dyn Simulation>>> = const { RefCell::new(None) };
}

/// Has directories that are opened on this thread be in the simulation, or on the disk again.
pub fn simulate(simulation: Option<Rc<dyn Simulation>>) {
    DISK.set(simulation);
}

/// The simulation of this thread, if there is one.
pub fn simulation() -> Option<Rc<dyn Simulation>> {
    DISK.with_borrow(Clone::clone)
}
