//! Ports that stay ours while a broker is down.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

use super::{Error, Result};

/// Below the range that systems hand out to outgoing connections (from 32768
/// on Linux): else a client could be given a killed broker's port as its own.
const FIRST: u16 = 20_000;
const BLOCK: u16 = 32;
const BLOCKS: u16 = 375;

/// A block of ports, held by a file lock against other clusters of this kind.
pub struct Ports {
    first: u16,
    taken: u16,
    _lock: File,
}

impl Ports {
    pub fn reserve() -> Result<Self> {
        let dir = std::env::temp_dir().join("forebay-kafka-ports");
        std::fs::create_dir_all(&dir).map_err(Error::at(dir.display()))?;
        // Another start for each process makes an early hit likely.
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        for n in 0..BLOCKS {
            let first = FIRST + (start + n) % BLOCKS * BLOCK;
            let lock = File::create(dir.join(first.to_string()))
                .map_err(Error::at("create a port lock"))?;
            if lock.try_lock().is_ok() && (first..first + BLOCK).all(is_free) {
                return Ok(Self {
                    first,
                    taken: 0,
                    _lock: lock,
                });
            }
        }
        Err(Error::new("no free block of ports"))
    }

    pub fn take(&mut self) -> Result<u16> {
        if self.taken == BLOCK {
            return Err(Error::new(format!("a cluster has {BLOCK} ports at most")));
        }
        self.taken += 1;
        Ok(self.first + self.taken - 1)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
