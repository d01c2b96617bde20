use std::sync::Mutex;

use super::*;
use crate::disk::directory::Directory;
use crate::disk::model::ModelDisk;

const SEGMENT: u64 = 8192;

/// What was told, in words.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl DiskEvents for Heard {
    fn told(&self, event: DiskEvent) {
        let how = |error: Option<&DiskError>| error.map_or("", |_| " not");
        let line = match event {
            DiskEvent::Made { name, file } => format!("{name}{} made", how(file.as_ref().err())),
            DiskEvent::Freed { name, done } => format!("{name}{} freed", how(done.as_ref().err())),
            DiskEvent::Removed { name, done } => {
                format!("{name}{} removed", how(done.as_ref().err()))
            }
            DiskEvent::Renamed { from, to, done } => {
                format!("{from}{} renamed to {to}", how(done.as_ref().err()))
            }
            DiskEvent::Appended { name, done, .. } => {
                format!("{name}{} added to", how(done.as_ref().err()))
            }
            DiskEvent::NoSpare { error } => format!("no spare, full: {}", error.is_full()),
            DiskEvent::SyncFailed { .. } => "a sync".to_owned(),
        };
        self.0.lock().expect("no panic").push(line);
    }
}

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

fn names(store: &dyn Store) -> Vec<String> {
    let files = store.files().expect("they can be listed");
    files.into_iter().map(|(name, _)| name).collect()
}

fn make(name: &str) -> FileOrder {
    FileOrder::Make {
        name: name.to_owned(),
        len: SEGMENT,
    }
}

/// A disk, what works on it, and what that tells.
fn scene(ahead: usize) -> (ModelDisk, Arc<dyn Store>, Making, Arc<Heard>) {
    let disk = ModelDisk::new(7);
    let store: Arc<dyn Store> = Arc::new(disk.store().expect("nobody has it"));
    let heard = Arc::new(Heard::default());
    let events = Arc::clone(&heard) as Arc<dyn DiskEvents>;
    let making = Making::new(Arc::clone(&store), SEGMENT, ahead, events);
    (disk, store, making, heard)
}

#[test]
fn a_segment_is_made_of_a_spare_and_another_spare_is_made_when_there_is_time() {
    let (_disk, store, mut making, heard) = scene(1);
    assert!(making.make_ahead());
    assert!(!making.make_ahead(), "there is one");
    assert_eq!(names(&*store), ["spare-0000000000000000"]);
    making.carry_out(make("segment-1"));
    assert_eq!(names(&*store), ["segment-1"]);
    assert!(making.make_ahead());
    assert_eq!(names(&*store), ["segment-1", "spare-0000000000000001"]);
    assert_eq!(heard.take(), ["segment-1 made"]);
}

#[test]
fn a_freed_segment_is_taken_again_with_what_is_in_it() {
    let (_disk, store, mut making, heard) = scene(1);
    making.carry_out(make("segment-1"));
    let file = store.open("segment-1").expect("it is there");
    assert!(file.write(100, b"former"));
    making.carry_out(FileOrder::Free {
        name: "segment-1".to_owned(),
        file,
    });
    assert_eq!(names(&*store), ["spare-0000000000000000"]);
    making.carry_out(make("segment-2"));
    let mut bytes = [0; 6];
    let file = store.open("segment-2").expect("it is there");
    file.read(100, &mut bytes).expect("it can be read");
    assert_eq!(&bytes, b"former");
    assert_eq!(
        heard.take(),
        ["segment-1 made", "segment-1 freed", "segment-2 made"]
    );
}

#[test]
fn what_is_too_much_for_spares_gives_its_space_back() {
    let (_disk, store, mut making, heard) = scene(1);
    for name in ["segment-1", "segment-2", "segment-3"] {
        making.carry_out(make(name));
    }
    for name in ["segment-1", "segment-2", "segment-3"] {
        let file = store.open(name).expect("it is there");
        let name = name.to_owned();
        making.carry_out(FileOrder::Free { name, file });
    }
    assert_eq!(
        names(&*store),
        ["spare-0000000000000000", "spare-0000000000000001"]
    );
    assert_eq!(heard.take().len(), 6);
}

#[test]
fn a_full_disk_is_told_and_asked_again_behind_the_next_order() {
    let (disk, store, mut making, heard) = scene(1);
    disk.limit(SEGMENT);
    making.carry_out(make("segment-1"));
    making.carry_out(make("segment-2"));
    assert!(!making.make_ahead());
    let told = [
        "segment-1 made",
        "segment-2 not made",
        "no spare, full: true",
    ];
    assert_eq!(heard.take(), told);
    disk.limit(2 * SEGMENT);
    assert!(making.make_ahead());
    making.carry_out(make("segment-2"));
    assert_eq!(names(&*store), ["segment-1", "segment-2"]);
}

#[test]
fn a_spare_that_was_removed_by_hand_is_made_up_for() {
    let (_disk, store, mut making, heard) = scene(1);
    assert!(making.make_ahead());
    store.remove("spare-0000000000000000").expect("it is there");
    making.carry_out(make("segment-1"));
    assert_eq!(heard.take(), ["segment-1 made"]);
}

#[test]
fn spares_of_a_former_process_are_used_and_those_of_another_length_removed() {
    let (_disk, store, making, heard) = scene(1);
    drop(making);
    store
        .create("spare-0000000000000004", SEGMENT)
        .expect("there is room");
    store
        .create("spare-0000000000000002", SEGMENT / 2)
        .expect("there is room");
    let events = Arc::clone(&heard) as Arc<dyn DiskEvents>;
    let mut making = Making::new(Arc::clone(&store), SEGMENT, 1, events);
    assert!(!making.make_ahead());
    making.carry_out(make("segment-1"));
    assert_eq!(names(&*store), ["segment-1"]);
    assert_eq!(
        heard.take(),
        ["spare-0000000000000002 removed", "segment-1 made"]
    );
}

/// On a real disk, with the thread.
#[test]
fn the_thread_carries_out_all_orders_before_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Directory::open(folder.path()).expect("it is empty");
    let store: Arc<dyn Store> = Arc::new(directory);
    let heard = Arc::new(Heard::default());
    let events = Arc::clone(&heard) as Arc<dyn DiskEvents>;
    let maker = Maker::start(Arc::clone(&store), SEGMENT, 0, events).expect("a thread");
    let rename = FileOrder::Rename {
        from: "segment-1".to_owned(),
        to: "damaged/segment-1".to_owned(),
    };
    let remove = FileOrder::Remove {
        name: "segment-3".to_owned(),
    };
    for order in [make("segment-1"), make("segment-2"), rename, remove] {
        maker.order(order).expect("it is there");
    }
    maker.join();
    let told = [
        "segment-1 made",
        "segment-2 made",
        "segment-1 renamed to damaged/segment-1",
        "segment-3 not removed",
    ];
    assert_eq!(heard.take(), told);
    assert_eq!(names(&*store), ["damaged/segment-1", "segment-2"]);
    drop(store);
    Directory::open(folder.path()).expect("nobody has it");
}

#[test]
fn a_spool_starts_with_its_spares_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = Directory::open(folder.path()).expect("it is empty");
    let store: Arc<dyn Store> = Arc::new(directory);
    let heard = Arc::new(Heard::default());
    let events = Arc::clone(&heard) as Arc<dyn DiskEvents>;
    let mut making = Making::new(Arc::clone(&store), SEGMENT, 2, events);
    while making.make_ahead() {}
    assert_eq!(store.files().expect("a list").len(), 2);
    assert_eq!(heard.take(), Vec::<String>::new());
}
