use std::process::Command;

use tempfile::{TempDir, tempdir};

use super::*;

fn spool() -> (TempDir, Directory) {
    let folder = tempdir().expect("a folder");
    let directory = Directory::open(folder.path()).expect("it is empty");
    (folder, directory)
}

fn names(directory: &Directory) -> Vec<String> {
    let files = directory.files().expect("they can be listed");
    files.into_iter().map(|(name, _)| name).collect()
}

fn read(file: &dyn StoredFile, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read(at, &mut bytes).expect("they can be read");
    bytes
}

#[test]
fn a_second_producer_is_refused_until_the_first_is_gone() {
    let (folder, first) = spool();
    let second = Directory::open(folder.path()).expect_err("it is in use");
    let here = folder.path().display();
    assert_eq!(
        second.to_string(),
        format!(
            "the spool {here} is in use by another producer of this process; end that one, or give \
             this producer a directory of its own"
        )
    );
    drop(first);
    Directory::open(folder.path()).expect("nobody has it");
}

/// The other process is this test again, which the variable tells to take the directory.
#[test]
fn a_second_process_is_refused_and_told_who_has_the_directory() {
    const VARIABLE: &str = "FOREBAY_TEST_SPOOL";
    if let Some(path) = std::env::var_os(VARIABLE) {
        match Directory::open(Path::new(&path)) {
            Ok(_) => println!("[taken]"),
            Err(error) => println!("[{error}]"),
        }
        return;
    }
    let (folder, directory) = spool();
    let test = "disk::directory::tests::a_second_process_is_refused_and_told_who_has_the_directory";
    let again = || {
        let mut again = Command::new(std::env::current_exe().expect("this test"));
        again.args(["--exact", test, "--nocapture"]);
        let output = again.env(VARIABLE, folder.path()).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    };
    let refused = again();
    let process = format!("is in use by the process {};", std::process::id());
    assert!(refused.contains(&process), "{refused}");
    drop(directory);
    let taken = again();
    assert!(taken.contains("[taken]"), "{taken}");
}

#[test]
fn a_directory_with_files_of_others_is_refused_and_left_as_it_is() {
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("thesis.txt"), "years of work").expect("it is written");
    let error = Directory::open(folder.path()).expect_err("it is no spool");
    assert!(
        error
            .to_string()
            .contains("\"thesis.txt\", and no file \"lock\""),
        "{error}"
    );
    assert_eq!(entries(folder.path()).expect("a list").len(), 1);
}

#[test]
fn a_lock_of_something_else_is_left_as_it_is() {
    let folder = tempdir().expect("a folder");
    let lock = folder.path().join(LOCK);
    fs::write(&lock, "pid 17").expect("it is written");
    let error = Directory::open(folder.path()).expect_err("it is no spool");
    assert!(matches!(error, DiskError::NotASpool { .. }), "{error}");
    assert_eq!(fs::read(&lock).expect("it is there"), b"pid 17");
    // As is one that says nothing, with files beside it.
    fs::write(&lock, "").expect("it is written");
    fs::write(folder.path().join("other"), "").expect("it is written");
    Directory::open(folder.path()).expect_err("it is no spool");
    assert_eq!(fs::read(&lock).expect("it is there"), b"");
}

#[test]
fn an_empty_disk_and_a_start_that_ended_at_once_become_a_spool() {
    let folder = tempdir().expect("a folder");
    fs::create_dir(folder.path().join(LOST_AND_FOUND)).expect("a folder");
    fs::write(folder.path().join(LOCK), "").expect("it is written");
    let directory = Directory::open(folder.path()).expect("it has nothing in it");
    assert_eq!(names(&directory), Vec::<String>::new());
}

#[test]
fn a_directory_is_made_with_those_above_it() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().join("a/b");
    Directory::open(&path).expect("it is made");
    assert!(path.join(LOCK).is_file());
}

#[test]
fn a_new_file_is_zeros_that_have_their_blocks() {
    let (_folder, directory) = spool();
    let len = 3 * PIECE + 4096;
    let file = directory
        .create("segment-1", len as u64)
        .expect("it is made");
    assert_eq!(file.len(), len);
    assert!(read(&*file, 0, len).iter().all(|byte| *byte == 0));
    assert_eq!(
        directory.files().expect("a list"),
        [("segment-1".to_owned(), len as u64)]
    );
    #[cfg(target_os = "linux")]
    {
        let metadata = fs::metadata(directory.path.join("segment-1")).expect("it is there");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
        // Some file systems squeeze zeros: those say so with hardly any blocks.
        assert!(blocks * 512 >= len as u64 || blocks < 16, "{blocks} blocks");
    }
}

#[test]
fn what_is_written_is_there_for_whoever_opens_the_file_next() {
    let (folder, directory) = spool();
    let file = directory.create("segment-1", 8192).expect("it is made");
    assert!(file.write(4090, b"across pages"));
    assert!(file.write(8180, b"up to here:)"));
    assert!(!file.write(8181, b"up to here:)"), "behind the end");
    // Without a sync: as when the process is killed.
    assert_eq!(
        read(
            &*directory.open("segment-1").expect("it is there"),
            4090,
            12
        ),
        b"across pages"
    );
    file.sync().expect("the disk is fine");
    drop((file, directory));
    let directory = Directory::open(folder.path()).expect("nobody has it");
    let file = directory.open("segment-1").expect("it is there");
    assert_eq!(file.len(), 8192);
    assert_eq!(read(&*file, 8180, 12), b"up to here:)");
    file.prepare().expect("it can be mapped");
    assert!(file.write(0, b"on"), "it goes on");
    assert_eq!(read(&*file, 0, 3), b"on\0");
}

#[test]
fn a_read_behind_the_end_says_so() {
    let (_folder, directory) = spool();
    let file = directory.create("segment-1", 4096).expect("it is made");
    let error = file.read(4090, &mut [0; 8]).expect_err("it ends there");
    let text = error.to_string();
    assert!(
        text.ends_with("segment-1 ends before the 8 bytes at 4090 that were to be read"),
        "{text}"
    );
}

#[test]
fn an_empty_file_and_an_odd_one_can_be_read_and_not_written() {
    let (folder, directory) = spool();
    fs::write(folder.path().join("empty"), "").expect("it is written");
    fs::write(folder.path().join("odd"), "0123456789").expect("it is written");
    let empty = directory.open("empty").expect("it is there");
    assert_eq!(empty.len(), 0);
    assert!(!empty.write(0, b"x"));
    empty.prepare().expect("there is nothing to do");
    let odd = directory.open("odd").expect("it is there");
    assert_eq!(read(&*odd, 0, 10), b"0123456789");
    assert!(!odd.write(8, b"xy"));
}

#[test]
fn a_disk_without_the_space_is_told_before_anything_is_written() {
    let (folder, directory) = spool();
    let most = 1 << 60;
    let error = directory
        .create("segment-1", most)
        .map(drop)
        .expect_err("no disk is so large");
    assert!(error.is_full(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("segment-1 is full: 1152921504606846976 bytes were asked for"),
        "{text}"
    );
    assert_eq!(entries(folder.path()).expect("a list").len(), 1, "the lock");
}

#[test]
fn of_a_file_that_cannot_be_finished_nothing_is_left() {
    let (folder, _directory) = spool();
    let path = folder.path().join("segment-1.new");
    let full = || {
        fs::write(&path, "half of it").expect("it is written");
        Err::<(), _>(full(&path, 64, io::ErrorKind::StorageFull.into()))
    };
    assert!(or_nothing(&path, full).expect_err("it is full").is_full());
    assert!(!path.exists());
}

#[test]
fn what_was_not_finished_is_removed_at_the_next_start() {
    let (folder, directory) = spool();
    directory
        .create("damaged/segment-2", 4096)
        .expect("it is made");
    drop(directory);
    fs::write(folder.path().join("segment-1.new"), "half of it").expect("it is written");
    fs::write(folder.path().join("damaged/segment-1.new"), "half of it").expect("it is written");
    let directory = Directory::open(folder.path()).expect("nobody has it");
    assert_eq!(names(&directory), ["damaged/segment-2"]);
    assert!(!folder.path().join("segment-1.new").exists());
    assert!(!folder.path().join("damaged/segment-1.new").exists());
}

#[test]
fn names_that_are_taken_are_refused() {
    let (_folder, directory) = spool();
    let first = directory.create("segment-1", 4096).expect("it is made");
    first.write(0, b"kept");
    let again = directory
        .create("segment-1", 4096)
        .expect_err("it is there");
    assert!(matches!(again, DiskError::Exists { .. }), "{again}");
    directory.create("segment-2", 4096).expect("it is made");
    let onto = directory
        .rename("segment-2", "segment-1")
        .expect_err("it is there");
    assert!(matches!(onto, DiskError::Exists { .. }), "{onto}");
    assert_eq!(read(&*first, 0, 4), b"kept");
}

#[test]
fn files_are_renamed_into_folders_and_removed() {
    let (_folder, directory) = spool();
    let file = directory.create("segment-1", 4096).expect("it is made");
    file.write(0, b"damaged");
    drop(file);
    directory
        .rename("segment-1", "damaged/segment-1")
        .expect("it is there");
    assert_eq!(names(&directory), ["damaged/segment-1"]);
    assert_eq!(
        read(
            &*directory.open("damaged/segment-1").expect("it is there"),
            0,
            7
        ),
        b"damaged"
    );
    directory.remove("damaged/segment-1").expect("it is there");
    assert_eq!(names(&directory), Vec::<String>::new());
    let error = directory
        .remove("damaged/segment-1")
        .expect_err("it is gone");
    assert!(
        error.to_string().contains("could not be removed"),
        "{error}"
    );
    let error = directory
        .rename("segment-1", "aside/segment-1")
        .expect_err("it is gone");
    assert!(
        error.to_string().contains("could not be renamed"),
        "{error}"
    );
    assert!(directory.open("segment-1").is_err());
}

#[test]
fn what_no_spool_makes_is_not_listed() {
    let (folder, directory) = spool();
    directory.create("journal-1", 4096).expect("it is made");
    fs::write(folder.path().join("README.txt"), "").expect("it is written");
    fs::create_dir_all(folder.path().join("damaged/deeper")).expect("a folder");
    fs::write(folder.path().join("damaged/deeper/segment-1"), "").expect("it is written");
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc/hosts", folder.path().join("segment-1")).expect("a link");
    assert_eq!(names(&directory), ["journal-1"]);
}

#[test]
fn lengths_that_cannot_be_mapped_are_refused() {
    let (folder, directory) = spool();
    for len in [0, 1, 4097] {
        let error = directory
            .create("segment-1", len)
            .expect_err("it cannot be mapped");
        assert!(matches!(error, DiskError::Length { .. }), "{error}");
    }
    assert_eq!(entries(folder.path()).expect("a list").len(), 1, "the lock");
}

#[cfg(unix)]
#[test]
fn free_space_is_what_the_system_says() {
    let (_folder, directory) = spool();
    let free = directory.free().expect("it is told");
    assert!(free > 0 && free < 1 << 60, "{free}");
}

/// The process was killed in the middle of one.
#[test]
fn a_line_that_has_no_end_spoils_none_behind_it() {
    let (folder, directory) = spool();
    let append = |text: &str| directory.append("rejected/a", text.as_bytes());
    append("{\"a\":1}\n{\"b\"").expect("there is room");
    append("{\"b\":2}\n").expect("there is room");
    let text = fs::read_to_string(folder.path().join("rejected/a")).expect("text");
    assert_eq!(text, "{\"a\":1}\n{\"b\"\n{\"b\":2}\n");
}

#[test]
fn what_is_added_to_a_file_is_behind_what_it_had() {
    let (folder, directory) = spool();
    for line in ["one\n", "two\n"] {
        directory
            .append("rejected/orders.jsonl", line.as_bytes())
            .expect("there is room");
    }
    let text = fs::read_to_string(folder.path().join("rejected/orders.jsonl"));
    assert_eq!(text.expect("it is there"), "one\ntwo\n");
}
