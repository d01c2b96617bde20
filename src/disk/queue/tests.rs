use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;
use crate::disk::model::{ModelDisk, ModelStore};
use crate::disk::store::Store;

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A disk with two files, a queue, and how often it asked for a group.
struct Scene {
    disk: ModelDisk,
    _store: ModelStore,
    queue: Arc<SyncQueue>,
    files: [Arc<Watched>; 2],
    summons: Arc<Count>,
}

fn scene() -> Scene {
    let disk = ModelDisk::new(7);
    let store = disk.store().expect("nobody has it");
    let summons = Arc::new(Count::default());
    let summoned = Arc::clone(&summons);
    let queue = SyncQueue::new(Box::new(move || Wake::wake_by_ref(&summoned)));
    let files = ["segment-1", "journal-1"].map(|name| {
        let file = store.create(name, 4096).expect("there is room");
        queue.watch(name, file)
    });
    Scene {
        disk,
        _store: store,
        queue,
        files,
        summons,
    }
}

impl Scene {
    /// Syncs a group, and returns the names of the files whose sync failed.
    fn sync(&self) -> (bool, Vec<String>) {
        let mut failed = Vec::new();
        let did = self
            .queue
            .sync_group(|name, _| failed.push(name.to_string()));
        (did, failed)
    }
}

fn poll(synced: &mut Synced, waker: &Arc<Count>) -> Poll<Result<(), DiskError>> {
    let waker = Waker::from(Arc::clone(waker));
    pin!(synced).poll(&mut Context::from_waker(&waker))
}

fn is_ok(poll: Poll<Result<(), DiskError>>) -> bool {
    matches!(poll, Poll::Ready(Ok(())))
}

#[test]
fn nothing_is_synced_while_nobody_waits() {
    let scene = scene();
    let [segment, _] = &scene.files;
    segment.file().write(0, b"x");
    let ticket = segment.ticket();
    assert_eq!(scene.sync(), (false, vec![]));
    assert!(ticket.outcome().is_none());
    assert_eq!(scene.summons.get(), 0);
}

#[test]
fn one_sync_serves_all_who_wait() {
    let scene = scene();
    let [segment, _] = &scene.files;
    let woken = Arc::new(Count::default());
    let mut waits: Vec<_> = (0..5).map(|_| segment.ticket().synced()).collect();
    for wait in &mut waits {
        assert!(poll(wait, &woken).is_pending());
    }
    assert_eq!(scene.summons.get(), 1);
    assert_eq!(scene.sync(), (true, vec![]));
    assert_eq!(woken.get(), 5);
    assert!(waits.iter_mut().all(|wait| is_ok(poll(wait, &woken))));
    assert_eq!(scene.sync(), (false, vec![]));
}

#[test]
fn what_is_on_the_disk_already_is_not_waited_for() {
    let scene = scene();
    let [segment, _] = &scene.files;
    let woken = Arc::new(Count::default());
    let (first, mut second) = (segment.ticket(), segment.ticket().synced());
    assert!(poll(&mut second, &woken).is_pending());
    scene.sync();
    assert!(is_ok(poll(&mut first.synced(), &woken)));
}

#[test]
fn who_waits_only_once_a_group_is_over_asks_for_the_next() {
    let scene = scene();
    let [segment, _] = &scene.files;
    let woken = Arc::new(Count::default());
    let mut first = segment.ticket().synced();
    assert!(poll(&mut first, &woken).is_pending());
    assert!(scene.sync().0);
    // The thread is still there: it looks once more before it sleeps, and finds this one.
    let mut second = segment.ticket().synced();
    assert!(poll(&mut second, &woken).is_pending());
    assert_eq!(scene.summons.get(), 1);
    assert!(scene.sync().0);
    assert!(!scene.sync().0, "it sleeps");
    let mut third = segment.ticket().synced();
    assert!(poll(&mut third, &woken).is_pending());
    assert_eq!(scene.summons.get(), 2);
}

#[test]
fn a_wait_that_is_dropped_is_forgotten() {
    let scene = scene();
    let [segment, _] = &scene.files;
    let woken = Arc::new(Count::default());
    let mut wait = segment.ticket().synced();
    assert!(poll(&mut wait, &woken).is_pending());
    assert!(
        poll(&mut wait, &woken).is_pending(),
        "asked twice, it is one wait"
    );
    drop(wait);
    assert!(scene.queue.waiting().wakers.is_empty());
    assert_eq!(scene.sync(), (false, vec![]));
    assert_eq!((woken.get(), Arc::strong_count(&woken)), (0, 1));
}

#[test]
fn only_files_with_tickets_are_synced() {
    let scene = scene();
    let [segment, journal] = &scene.files;
    // It would fail, and be told.
    assert!(scene.disk.fail_sync("segment-1"));
    segment.file().write(0, b"x");
    let woken = Arc::new(Count::default());
    let mut wait = journal.ticket().synced();
    assert!(poll(&mut wait, &woken).is_pending());
    assert_eq!(scene.sync(), (true, vec![]));
    assert!(is_ok(poll(&mut wait, &woken)));
}

#[test]
fn a_failed_sync_is_told_to_those_who_wrote_to_its_file() {
    let scene = scene();
    let [segment, journal] = &scene.files;
    let woken = Arc::new(Count::default());
    let mut safe = segment.ticket().synced();
    assert!(poll(&mut safe, &woken).is_pending());
    scene.sync();
    let (mut lost, mut other) = (segment.ticket().synced(), journal.ticket().synced());
    for wait in [&mut lost, &mut other] {
        assert!(poll(wait, &woken).is_pending());
    }
    assert!(scene.disk.fail_sync("segment-1"));
    assert_eq!(scene.sync(), (true, vec!["segment-1".to_owned()]));
    assert!(is_ok(poll(&mut safe, &woken)), "it was synced before");
    assert!(is_ok(poll(&mut other, &woken)));
    let error = poll(&mut lost, &woken);
    assert!(
        matches!(&error, Poll::Ready(Err(DiskError::SyncFailed { .. }))),
        "{error:?}"
    );
    // The disk would say that all is well now.
    let late = segment.ticket();
    assert!(matches!(
        late.outcome(),
        Some(Err(DiskError::SyncFailed { .. }))
    ));
    let mut journal = journal.ticket().synced();
    assert!(poll(&mut journal, &woken).is_pending());
    assert_eq!(scene.sync(), (true, vec![]));
    assert!(is_ok(poll(&mut journal, &woken)));
    assert!(matches!(
        late.outcome(),
        Some(Err(DiskError::SyncFailed { .. }))
    ));
}

#[test]
fn a_file_that_nobody_has_is_let_go_of() {
    let scene = scene();
    let Scene { queue, files, .. } = &scene;
    let [segment, journal] = files.clone();
    assert_eq!(queue.waiting().files.len(), 2);
    let short = queue.watch("short", Arc::clone(segment.file()));
    let woken = Arc::new(Count::default());
    let mut kept = short.ticket().synced();
    drop(short);
    assert!(poll(&mut kept, &woken).is_pending());
    scene.sync();
    assert!(is_ok(poll(&mut kept, &woken)), "the wait has kept it");
    drop(kept);
    let mut wait = journal.ticket().synced();
    assert!(poll(&mut wait, &woken).is_pending());
    scene.sync();
    assert_eq!(queue.waiting().files.len(), 2);
}

#[test]
fn at_the_end_those_who_wait_are_told_so_and_those_who_come() {
    let scene = scene();
    let [segment, _] = &scene.files;
    let woken = Arc::new(Count::default());
    let done = segment.ticket();
    let mut wait = segment.ticket().synced();
    assert!(poll(&mut wait, &woken).is_pending());
    scene.sync();
    let mut wait = segment.ticket().synced();
    assert!(poll(&mut wait, &woken).is_pending());
    scene.queue.end();
    assert_eq!(woken.get(), 2);
    let ended = |poll| matches!(poll, Poll::Ready(Err(DiskError::Ended)));
    assert!(ended(poll(&mut wait, &woken)));
    assert!(ended(poll(&mut segment.ticket().synced(), &woken)));
    assert!(matches!(done.outcome(), Some(Ok(()))), "it is on the disk");
}
