//! The disk that outlives processes, and what its threads do.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use forebay::internals::disk::{DiskError, ModelDisk, Round, Simulation, Store};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::world::World;

pub(super) struct Disk {
    pub model: ModelDisk,
    pub world: Rc<World>,
    /// Milliseconds that a round of a thread takes at most.
    pub slowness: u64,
}

impl Simulation for Disk {
    fn open(&self, _: &Path) -> Result<Arc<dyn Store>, DiskError> {
        Ok(Arc::new(self.model.store()?))
    }

    /// The task is part of the process, and ends with it.
    fn serve(&self, mut round: Round) {
        let (world, slowness) = (Rc::clone(&self.world), self.slowness);
        spawn_local(async move {
            loop {
                sleep(world.between(0, slowness)).await;
                if !round() {
                    return;
                }
            }
        });
    }
}
