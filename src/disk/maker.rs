//! The thread that makes files, frees them and removes them.
//!
//! It is not the one that syncs: to fill a segment with zeros takes as long as a hundred syncs.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use super::error::DiskError;
use super::events::{DiskEvent, DiskEvents};
use super::spares::Spares;
use super::store::{Store, StoredFile};

/// What is to be done with a file.
#[derive(Debug)]
pub enum FileOrder {
    /// Of a spare, if there is one of this length: then it has bytes of former times in it.
    Make {
        name: String,
        len: u64,
    },
    /// It is not needed any more, and whoever gives the order is the last who has it. One whose sync failed
    /// is to be removed instead.
    Free {
        name: String,
        file: Arc<dyn StoredFile>,
    },
    Remove {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// See [`Store::append`]. The number is told with what becomes of it.
    Append {
        name: String,
        number: u64,
        bytes: Vec<u8>,
    },
}

/// What the thread does, without the thread.
pub struct Making {
    store: Arc<dyn Store>,
    spares: Spares,
    events: Arc<dyn DiskEvents>,
}

impl Making {
    /// Finds the spares of former times. `ahead` spares of `segment` bytes are kept.
    pub fn new(
        store: Arc<dyn Store>,
        segment: u64,
        ahead: usize,
        events: Arc<dyn DiskEvents>,
    ) -> Self {
        let files = store.files().unwrap_or_else(|error| {
            events.told(DiskEvent::NoSpare { error });
            Vec::new()
        });
        let (spares, rest) = Spares::new(segment, ahead, &files);
        for name in rest {
            let done = store.remove(&name);
            events.told(DiskEvent::Removed { name, done });
        }
        Self {
            store,
            spares,
            events,
        }
    }

    /// Does what is asked for, and tells of it.
    pub fn carry_out(&mut self, order: FileOrder) {
        let event = match order {
            FileOrder::Make { name, len } => {
                let file = self.make(&name, len);
                DiskEvent::Made { name, file }
            }
            FileOrder::Free { name, file } => {
                let done = self.free(&name, file);
                DiskEvent::Freed { name, done }
            }
            FileOrder::Remove { name } => {
                let done = self.store.remove(&name);
                DiskEvent::Removed { name, done }
            }
            FileOrder::Rename { from, to } => {
                let done = self.store.rename(&from, &to);
                DiskEvent::Renamed { from, to, done }
            }
            FileOrder::Append {
                name,
                number,
                bytes,
            } => {
                let done = self.store.append(&name, &bytes);
                DiskEvent::Appended { name, number, done }
            }
        };
        self.events.told(event);
    }

    /// Makes a spare if there are too few; false if nothing is to be done, or it cannot be done.
    pub fn make_ahead(&mut self) -> bool {
        let Some((name, len)) = self.spares.missing() else {
            return false;
        };
        match self.store.create(&name, len) {
            Ok(_) => {
                self.spares.put(name);
                true
            }
            Err(error) => {
                self.events.told(DiskEvent::NoSpare { error });
                false
            }
        }
    }

    fn make(&mut self, name: &str, len: u64) -> Result<Arc<dyn StoredFile>, DiskError> {
        while let Some(spare) = self.spares.take(len) {
            // It may have been removed by hand; then the name is as free as before.
            if let Err(error) = self.store.rename(&spare, name) {
                tracing::warn!(%error, "a spare file cannot be used");
                continue;
            }
            let file = self.store.open(name)?;
            file.prepare()?;
            return Ok(file);
        }
        self.store.create(name, len)
    }

    fn free(&mut self, name: &str, file: Arc<dyn StoredFile>) -> Result<(), DiskError> {
        let spare = self.spares.name_for(file.len() as u64);
        drop(file);
        let Some(spare) = spare else {
            return self.store.remove(name);
        };
        self.store.rename(name, &spare)?;
        self.spares.put(spare);
        Ok(())
    }
}

/// The thread. Dropped, it ends behind the orders that it has.
#[derive(Debug)]
pub struct Maker {
    orders: Sender<FileOrder>,
    /// None in a simulation.
    thread: Option<JoinHandle<()>>,
}

impl Maker {
    /// Starts the thread. `ahead` spares of `segment` bytes are kept.
    pub fn start(
        store: Arc<dyn Store>,
        segment: u64,
        ahead: usize,
        events: Arc<dyn DiskEvents>,
    ) -> Result<Self, DiskError> {
        let (orders, received) = channel();
        #[cfg(feature = "internals")]
        if let Some(simulation) = super::simulated::simulation() {
            let mut making = Making::new(store, segment, ahead, events);
            simulation.serve(Box::new(move || serve_those_there(&mut making, &received)));
            let thread = None;
            return Ok(Self { orders, thread });
        }
        let thread = thread::Builder::new().name("forebay-files".to_owned());
        let thread = thread.spawn(move || {
            serve(&mut Making::new(store, segment, ahead, events), &received);
        });
        let thread = thread.map_err(|error| DiskError::NoThread {
            cause: Arc::new(error),
        })?;
        Ok(Self {
            orders,
            thread: Some(thread),
        })
    }

    /// Has something done with a file. What becomes of it is told as an event.
    pub fn order(&self, order: FileOrder) -> Result<(), DiskError> {
        self.orders.send(order).map_err(|_| DiskError::Ended)
    }

    /// Ends the thread, and waits until all orders are carried out.
    pub fn join(self) {
        drop(self.orders);
        if let Some(thread) = self.thread {
            let _panic = thread.join();
        }
    }
}

fn serve(making: &mut Making, orders: &Receiver<FileOrder>) {
    while serve_those_there(making, orders) {
        match orders.recv() {
            Ok(order) => making.carry_out(order),
            Err(_) => return,
        }
    }
}

/// Carries out the orders that are there. Spares are made while there is nothing else to do. False: no more
/// orders come.
fn serve_those_there(making: &mut Making, orders: &Receiver<FileOrder>) -> bool {
    loop {
        match orders.try_recv() {
            Ok(order) => making.carry_out(order),
            Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) if making.make_ahead() => {}
            Err(TryRecvError::Empty) => return true,
        }
    }
}

#[cfg(test)]
mod tests;
