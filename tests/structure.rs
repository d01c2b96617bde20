//! The house rules that can be read off the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Decide, and know nothing of actors, sockets or clocks.
const CORE: [&str; 16] = [
    "ack.rs",
    "batch",
    "broker_error.rs",
    "compress",
    "config",
    "delivery.rs",
    "identity.rs",
    "metadata",
    "outcome.rs",
    "partition",
    "partitioner",
    "pool",
    "receipts.rs",
    "record.rs",
    "sender",
    "wire",
];

/// Where tokio may be used: the doors, the socket's room, the command line.
const TOKIO: [&str; 5] = ["bin", "intake", "intake.rs", "net", "producer.rs"];

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All Rust files at or below `path`.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut found: Vec<_> = entries
        .flat_map(|entry| sources(&entry.expect("an entry").path()))
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        .collect();
    found.sort();
    found
}

/// The lines of these files that have one of `words` in them, outside comments.
fn mentions(files: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a source file");
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", file.display(), at + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_core_knows_neither_actors_nor_tokio() {
    for part in CORE {
        let files = sources(&root("src").join(part));
        assert!(!files.is_empty(), "src/{part} is there");
        let found = mentions(&files, &["actix", "tokio"]);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn tokio_stays_in_its_rooms() {
    let allowed = TOKIO.map(|part| root("src").join(part));
    let mut files = sources(&root("src"));
    files.retain(|file| !allowed.iter().any(|room| file.starts_with(room)));
    let found = mentions(&files, &["tokio"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn whoever_opens_the_folder_of_actors_sees_them_all() {
    let listed = fs::read_to_string(root("actors/mod.rs")).expect("actors/mod.rs");
    for entry in fs::read_dir(root("actors")).expect("actors/") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let line = format!("mod {name};");
        assert!(name == "mod" || listed.contains(&line), "{line}");
    }
}

#[test]
fn the_tests_named_beside_kafkas_exist() {
    let table = fs::read_to_string(root("tests/kafka_names.md")).expect("the table");
    let ours = table
        .lines()
        .filter_map(|row| row.strip_prefix('|')?.split('|').nth(1));
    let names = ours.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let names: Vec<_> = names.filter(|name| name.contains('_')).collect();
    assert!(names.len() > 50, "{names:?}");
    let folders = ["src", "actors", "tests"].map(|folder| sources(&root(folder)));
    let text = folders.iter().flatten().map(fs::read_to_string);
    let text: String = text.map(|text| text.expect("a source file")).collect();
    for name in names {
        assert!(text.contains(&format!("fn {name}()")), "no test {name}");
    }
}

#[test]
fn a_forbidden_word_is_found() {
    let files = sources(&root("src/producer.rs"));
    assert!(!mentions(&files, &["actix"]).is_empty());
    assert!(!mentions(&files, &["tokio"]).is_empty());
}
