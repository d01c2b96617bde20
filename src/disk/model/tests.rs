use super::*;

fn read(store: &ModelStore, name: &str) -> Vec<u8> {
    let file = store.open(name).expect("it is there");
    let mut bytes = vec![0; file.len()];
    file.read(0, &mut bytes).expect("it can be read");
    bytes
}

/// A file of two pages, of which the first `synced` writes are on the disk.
fn written(disk: &ModelDisk, synced: u8, unsynced: u8) -> Arc<dyn StoredFile> {
    let store = disk.store().expect("nobody has it");
    let file = store
        .create("segment-1", 2 * PAGE as u64)
        .expect("there is room");
    for fill in 1..=synced + unsynced {
        assert!(file.write(0, &[fill; 2 * PAGE]));
        if fill == synced {
            file.sync().expect("the disk is fine");
        }
    }
    file
}

/// What seeds make of a scene, by how often.
fn outcomes<T: Ord>(scene: impl Fn(ModelDisk) -> T) -> BTreeMap<T, u32> {
    let mut outcomes = BTreeMap::new();
    for seed in 0..200 {
        *outcomes.entry(scene(ModelDisk::new(seed))).or_insert(0) += 1;
    }
    outcomes
}

#[test]
fn the_process_loses_nothing() {
    let disk = ModelDisk::new(7);
    written(&disk, 1, 1);
    disk.crash_process();
    let store = disk.store().expect("nobody has it");
    assert_eq!(read(&store, "segment-1"), [2; 2 * PAGE]);
}

#[test]
fn the_machine_keeps_what_was_synced() {
    let kept = outcomes(|disk| {
        written(&disk, 2, 0);
        disk.crash_machine();
        read(&disk.store().expect("nobody has it"), "segment-1")
    });
    assert_eq!(kept.into_keys().collect::<Vec<_>>(), [vec![2; 2 * PAGE]]);
}

#[test]
fn of_what_was_not_synced_the_machine_keeps_anything_by_pages_and_sectors() {
    let pages = outcomes(|disk| {
        written(&disk, 1, 1);
        disk.crash_machine();
        let bytes = read(&disk.store().expect("nobody has it"), "segment-1");
        let sectors = bytes.chunks(SECTOR);
        assert!(sectors.clone().all(|sector| sector == [sector[0]; SECTOR]));
        let pages = bytes.chunks(PAGE).map(|page| match page {
            page if page == [1; PAGE] => "old",
            page if page == [2; PAGE] => "new",
            _ => "torn",
        });
        pages.collect::<Vec<_>>()
    });
    // Each page is old, new or torn, whatever the other is.
    assert_eq!(pages.len(), 9, "{pages:?}");
}

#[test]
fn an_earlier_version_may_be_what_the_machine_keeps() {
    let first_bytes = outcomes(|disk| {
        written(&disk, 1, 20);
        disk.crash_machine();
        read(&disk.store().expect("nobody has it"), "segment-1")[0]
    });
    assert!(first_bytes.len() > 5, "{first_bytes:?}");
}

#[test]
fn a_seed_repeats_itself() {
    let run = || {
        let disk = ModelDisk::new(11);
        written(&disk, 1, 5);
        disk.crash_machine();
        read(&disk.store().expect("nobody has it"), "segment-1")
    };
    assert_eq!(run(), run());
}

#[test]
fn a_sync_that_failed_lies_ever_after() {
    let kept = outcomes(|disk| {
        let file = written(&disk, 1, 1);
        assert!(disk.fail_sync("segment-1"));
        file.sync().expect_err("it was asked to fail");
        file.sync().expect("so says Linux");
        disk.crash_process();
        let store = disk.store().expect("nobody has it");
        assert_eq!(
            read(&store, "segment-1"),
            [2; 2 * PAGE],
            "the kernel has them all"
        );
        store
            .open("segment-1")
            .expect("it is there")
            .sync()
            .expect("so says Linux");
        drop(store);
        disk.crash_machine();
        let bytes = read(&disk.store().expect("nobody has it"), "segment-1");
        [bytes[0], bytes[PAGE]]
    });
    assert_eq!(
        kept.into_keys().collect::<Vec<_>>(),
        [[1, 1], [1, 2], [2, 1], [2, 2]]
    );
}

#[test]
fn a_page_that_is_written_anew_behind_a_failed_sync_is_synced() {
    let disk = ModelDisk::new(7);
    let file = written(&disk, 1, 1);
    assert!(disk.fail_sync("segment-1"));
    file.sync().expect_err("it was asked to fail");
    assert!(file.write(0, &[3; 2 * PAGE]));
    file.sync().expect("the disk is fine");
    disk.crash_machine();
    assert_eq!(
        read(&disk.store().expect("nobody has it"), "segment-1"),
        [3; 2 * PAGE]
    );
}

#[test]
fn names_are_durable_but_for_one_that_was_being_changed() {
    let names = outcomes(|disk| {
        let store = disk.store().expect("nobody has it");
        store.create("a", 8).expect("there is room");
        store.rename("a", "b").expect("it is there");
        disk.stop_behind(0);
        store.rename("b", "c").expect_err("it stops");
        assert!(disk.has_stopped());
        disk.crash_machine();
        disk.store()
            .expect("nobody has it")
            .files()
            .expect("a list")
    });
    let names: Vec<_> = names.into_keys().map(|files| files[0].0.clone()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn a_process_stops_in_the_middle_of_what_it_does() {
    let written = outcomes(|disk| {
        let store = disk.store().expect("nobody has it");
        let file = store.create("a", 64).expect("there is room");
        disk.stop_behind(1);
        assert!(file.write(0, &[1; 8]));
        assert!(!file.write(8, &[2; 8]));
        assert!(!file.write(16, &[3; 8]), "it has stopped");
        store.create("b", 8).map(drop).expect_err("it has stopped");
        disk.crash_process();
        let bytes = read(&disk.store().expect("nobody has it"), "a");
        assert_eq!(bytes[..8], [1; 8]);
        assert_eq!(bytes[16..], [0; 48]);
        bytes[8..16].iter().filter(|byte| **byte == 2).count()
    });
    assert_eq!(
        written.into_keys().collect::<Vec<_>>(),
        (0..=8).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_left_of_a_former_process_reaches_nothing() {
    let disk = ModelDisk::new(7);
    let former = disk.store().expect("nobody has it");
    let file = former.create("a", 8).expect("there is room");
    disk.store().expect_err("it is in use");
    disk.crash_process();
    let store = disk.store().expect("nobody has it");
    assert!(!file.write(0, b"former"));
    file.sync().expect_err("it is gone");
    former.remove("a").expect_err("it is gone");
    drop(former);
    disk.store().expect_err("it is in use, by the second");
    assert_eq!(read(&store, "a"), [0; 8]);
}

#[test]
fn faults_are_those_that_were_asked_for() {
    let disk = ModelDisk::new(7);
    let store = disk.store().expect("nobody has it");
    let file = store.create("a", 64).expect("there is room");
    disk.limit(100);
    assert_eq!(store.free().expect("it is told"), 36);
    assert!(store.create("b", 40).expect_err("it is full").is_full());
    store.create("b", 32).expect("there is room");
    assert!(disk.flip("a", 3, 0x10));
    assert_eq!(read(&store, "a")[..4], [0, 0, 0, 0x10]);
    assert!(disk.fail_reads("a", true));
    file.read(0, &mut [0; 8]).expect_err("it was asked to fail");
    assert!(disk.fail_reads("a", false));
    file.read(0, &mut [0; 8]).expect("it is fine");
    assert!(matches!(
        file.read(60, &mut [0; 8]),
        Err(DiskError::Short { .. })
    ));
    assert!(!disk.flip("c", 0, 1) && !disk.fail_sync("c") && !disk.flip("a", 64, 1));
}

#[test]
fn what_was_added_outlives_the_machine() {
    let kept = outcomes(|disk| {
        let store = disk.store().expect("nobody has it");
        store.append("rejected/a", b"one\n").expect("there is room");
        assert!(disk.fail_sync("rejected/a"));
        store.append("rejected/a", b"two\n").expect_err("it fails");
        store.append("rejected/a", b"three\n").expect("it is well");
        disk.crash_machine();
        read(&disk.store().expect("nobody has it"), "rejected/a")
    });
    let all = b"one\nthree\n".to_vec();
    assert_eq!(kept.into_keys().collect::<Vec<_>>(), [all]);
}
