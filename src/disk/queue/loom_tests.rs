//! Tries every order in which those who wait for a sync and the thread that syncs can meet.
//!
//! See `src/core/sync/loom_tests.rs` for how it is run.

use loom::sync::atomic::AtomicUsize;
use loom::sync::mpsc::{Sender, channel};
use loom::thread::spawn;

use super::*;
use crate::core::spool::Region;

/// A file of two words, and what the disk has of it.
#[derive(Debug)]
struct Words {
    written: [AtomicUsize; 2],
    synced: [AtomicUsize; 2],
}

impl Region for Words {
    fn len(&self) -> usize {
        2
    }

    fn write(&self, at: usize, _: &[u8]) -> bool {
        self.written[at].store(1, Ordering::Relaxed);
        true
    }
}

impl StoredFile for Words {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        for (written, synced) in self.written.iter().zip(&self.synced) {
            synced.store(written.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(())
    }

    fn prepare(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn search(preemptions: usize, scene: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.check(scene);
}

/// Loom's sender is not `Sync`.
fn summons(orders: Sender<bool>) -> Summon {
    let orders = Mutex::new(orders);
    Box::new(move || {
        let orders = orders.lock().expect("no panic");
        orders.send(true).expect("a thread");
    })
}

#[test]
fn who_is_told_that_it_is_synced_finds_it_on_the_disk() {
    search(2, || {
        let (orders, received) = channel();
        let queue = SyncQueue::new(summons(orders.clone()));
        let file = Arc::new(Words {
            written: [AtomicUsize::new(0), AtomicUsize::new(0)],
            synced: [AtomicUsize::new(0), AtomicUsize::new(0)],
        });
        let watched = queue.watch("segment-1", Arc::clone(&file) as Arc<dyn StoredFile>);
        let serves = spawn(move || {
            while received.recv().expect("an order") {
                while queue.sync_group(|_, _| {}) {}
            }
        });
        let waits = [0, 1].map(|at| {
            let (file, watched) = (Arc::clone(&file), Arc::clone(&watched));
            spawn(move || {
                watched.file().write(at, &[1]);
                let synced = watched.ticket().synced();
                loom::future::block_on(synced).expect("it is synced");
                assert_eq!(file.synced[at].load(Ordering::Relaxed), 1);
            })
        });
        waits
            .into_iter()
            .for_each(|it| it.join().expect("no panic"));
        orders.send(false).expect("a thread");
        serves.join().expect("no panic");
    });
}

#[test]
fn who_waits_hears_of_the_end() {
    search(3, || {
        let (orders, _received) = channel();
        let queue = SyncQueue::new(summons(orders));
        let file = Arc::new(Words {
            written: [AtomicUsize::new(0), AtomicUsize::new(0)],
            synced: [AtomicUsize::new(0), AtomicUsize::new(0)],
        });
        let watched = queue.watch("segment-1", file);
        let waits = spawn(move || loom::future::block_on(watched.ticket().synced()));
        queue.end();
        let outcome = waits.join().expect("no panic");
        assert!(matches!(outcome, Err(DiskError::Ended)));
    });
}
