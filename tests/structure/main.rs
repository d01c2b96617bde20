//! The house rules that can be read off the sources.

mod imports;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use imports::{Graph, circles};

/// The rooms of the library, and the rooms that each may import from.
const ROOMS: [(&str, &[&str]); 10] = [
    ("src/core", &[]),
    ("src/config", &["src/core"]),
    ("src/disk", &["src/core", "src/config"]),
    ("src/net", &["src/core"]),
    ("src/meters.rs", &["src/core"]),
    ("src/intake", &["src/core", "src/config"]),
    (
        "actors",
        &[
            "src/core",
            "src/config",
            "src/disk",
            "src/net",
            "src/meters.rs",
            "src/intake",
        ],
    ),
    (
        "src/api",
        &["src/core", "src/config", "src/disk", "src/intake", "actors"],
    ),
    ("src/spool", &["src/core", "src/disk"]),
    (
        "src/check",
        &["src/core", "src/config", "src/net", "src/intake", "actors"],
    ),
];

/// Crates and modules that a room knows nothing of.
const BANNED: [(&str, &[&str]); 5] = [
    (
        "src/core",
        &["actix", "actix_rt", "tokio", "metrics", "std::thread"],
    ),
    ("src/config", &["actix", "actix_rt", "tokio", "metrics"]),
    ("src/disk", &["actix", "actix_rt", "tokio", "metrics"]),
    ("src/net", &["actix", "actix_rt", "metrics"]),
    ("src/intake", &["actix", "actix_rt", "metrics"]),
];

/// The longest line, comments included. A text in quotes may be longer.
const LINE: usize = 110;

fn root(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize();
    root.expect("the package").join(name)
}

fn library() -> Graph {
    Graph::read(&root("src/lib.rs"))
}

/// All Rust files at or below `path`, but for what was built: the benches of other producers generate some.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("target"))
        .flat_map(|path| sources(&path))
        .filter(|file| file.extension().is_some_and(|end| end == "rs"))
        .collect();
    found.sort();
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles(&library().arrows());
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn imports_go_one_way_between_rooms() {
    let arrows = library().arrows();
    let mut wrong = Vec::new();
    for (room, may) in ROOMS {
        let room = root(room);
        let files = arrows.iter().filter(|(file, _)| file.starts_with(&room));
        assert!(files.clone().count() > 0, "{} is empty", room.display());
        for (file, imports) in files {
            let allowed = |to: &&PathBuf| {
                to.starts_with(&room) || may.iter().any(|room| to.starts_with(root(room)))
            };
            let others = imports.iter().filter(|to| !allowed(to));
            wrong.extend(others.map(|to| format!("{} -> {}", file.display(), to.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rooms_do_not_know_what_is_not_theirs() {
    let graph = library();
    let mut wrong = Vec::new();
    for (file, paths) in graph.external() {
        let rooms = BANNED
            .iter()
            .filter(|(room, _)| file.starts_with(root(room)));
        for banned in rooms.flat_map(|(_, banned)| *banned) {
            let banned: Vec<_> = banned.split("::").collect();
            let uses = |path: &&Vec<String>| path.iter().zip(&banned).all(|(a, b)| a == b);
            let uses = paths
                .iter()
                .filter(|path| path.len() >= banned.len())
                .find(uses);
            wrong.extend(uses.map(|path| format!("{}: {}", file.display(), path.join("::"))));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_graph_sees_what_there_is() {
    let graph = library();
    let arrows = graph.arrows();
    let has = |from: &str, to: &str| arrows[&root(from)].contains(&root(to));
    // By a re-export, by a glob, by a name in a macro's tokens.
    assert!(has("src/core/ledger.rs", "src/core/batch/sealed.rs"));
    assert!(has("actors/partition.rs", "actors/messages.rs"));
    assert!(has("src/api/producer.rs", "actors/runtime/start.rs"));
    let external = graph.external();
    let producer = &external[root("src/api/producer.rs").as_path()];
    assert!(
        producer.iter().any(|path| path[0] == "tokio"),
        "{producer:?}"
    );
    assert!(arrows.len() > 80, "{} files", arrows.len());
}

#[test]
fn a_circle_is_found() {
    let path = |name: &str| PathBuf::from(name);
    let arrow = |from, to: &[&str]| (path(from), to.iter().map(|name| path(name)).collect());
    let arrows = [
        arrow("a", &["b"]),
        arrow("b", &["c", "d"]),
        arrow("c", &["a"]),
        arrow("d", &[]),
    ];
    let found = circles(&arrows.into_iter().collect());
    let expected: BTreeSet<_> = ["a", "b", "c"].map(PathBuf::from).into();
    assert_eq!(found, [expected]);
}

#[test]
fn lines_fit_on_a_screen() {
    let rooms = ["src", "actors", "tests", "examples", "benches"];
    let mut long = Vec::new();
    for file in rooms.iter().flat_map(|room| sources(&root(room))) {
        let text = fs::read_to_string(&file).expect("a source file");
        let lines = text.lines().zip(1..);
        let wide = lines.filter(|(line, _)| line.chars().count() > LINE && !line.contains('"'));
        long.extend(wide.map(|(_, number)| format!("{}:{number}", file.display())));
    }
    assert!(long.is_empty(), "over {LINE} characters: {long:#?}");
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

/// Whether a word stands in a text by itself, after `before`.
fn has_word(text: &str, before: &str, word: &str) -> bool {
    let word = format!("{before}{word}");
    let found = text.match_indices(&word);
    let part_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    found
        .map(|(at, found)| &text[at + found.len()..])
        .any(|rest| !rest.starts_with(part_of_a_word))
}

/// The sources at or below `path`, without the tests beside the code.
fn code_in(path: &str) -> Vec<(PathBuf, String)> {
    let files = sources(&root(path)).into_iter();
    let read = files.map(|file| {
        let text = fs::read_to_string(&file).expect("a source file");
        let code = text.split("\n#[cfg(test)]\nmod tests {").next();
        (file, code.unwrap_or_default().to_owned())
    });
    let is_test =
        |file: &Path| file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
    read.filter(|(file, _)| !is_test(file)).collect()
}

/// What the configuration says, and nothing reads.
const READ_BY_NOBODY: [&str; 3] = [
    "dns_lookup",       // only one value is served, and any other is refused
    "key_serializer",   // given in code; the name is there for the application to read
    "value_serializer", // as that one
];

#[test]
fn whatever_can_be_configured_is_read() {
    let config = code_in("src/config");
    let module = config.iter().find(|(file, _)| file.ends_with("mod.rs"));
    let (_, module) = module.expect("src/config/mod.rs");
    let table = root("src/config/keys");
    let is_table = |file: &Path| file.ends_with("keys.rs") || file.starts_with(&table);
    // Every key that is served gets into the configuration ...
    for key in forebay::config::KEYS {
        let quoted = format!("\"{}\"", key.name);
        // One names all keys, and one most of them in what it advises.
        let quotes = |file: &Path| is_table(file) || file.ends_with("check.rs");
        let reads = |(file, text): &&(PathBuf, String)| !quotes(file) && text.contains(&quoted);
        let served = matches!(key.status, forebay::config::Status::Served);
        assert!(
            !served || config.iter().any(|file| reads(&file)),
            "{quoted} is read by nobody"
        );
    }
    // ... and from there to where it has its effect.
    let (_, fields) = module.split_once("pub struct Config {").expect("Config");
    let (fields, _) = fields.split_once("\n}").expect("its end");
    let fields = fields.lines().filter_map(|line| {
        let (field, _) = line.trim().strip_prefix("pub ")?.split_once(':')?;
        Some(field)
    });
    let fields: Vec<_> = fields.collect();
    assert!(fields.len() > 30, "{fields:?}");
    let files = ["src", "actors"].map(code_in).into_iter().flatten();
    let files = files.filter(|(file, _)| !file.starts_with(root("src/config")));
    // A field may stand on a line of its own.
    let lines: Vec<_> = files.map(|(_, text)| text).collect();
    let lines = lines.iter().flat_map(|text| text.lines()).map(str::trim);
    let code = lines.fold(String::new(), |code, line| match line.starts_with('.') {
        true => code + line,
        false => code + "\n" + line,
    });
    let of_the_configuration = ["config.", "config()."];
    let is_read = |field: &&str| {
        let mut of = of_the_configuration.iter();
        of.any(|of| has_word(&code, of, field))
    };
    let unread = fields.into_iter().filter(|field| !is_read(field));
    assert_eq!(unread.collect::<Vec<_>>(), READ_BY_NOBODY);
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
fn no_test_of_kafkas_stands_twice_in_its_table() {
    let table = fs::read_to_string(root("tests/kafka_names.md")).expect("the table");
    let mut count = 0;
    for section in table.split("\n## ").skip(1) {
        let theirs = section
            .lines()
            .filter_map(|row| row.strip_prefix("| `")?.split('|').next());
        let mut seen = BTreeSet::new();
        for name in theirs.flat_map(|cell| cell.split(['`', ',', ' '])) {
            let again = !name.is_empty() && !seen.insert(name);
            assert!(!again, "{name} stands twice");
        }
        count += seen.len();
    }
    assert!(count > 350, "{count} of theirs");
}

/// `module::test`, where the module's file is somewhere below the sources or the tests.
#[test]
fn each_test_that_the_page_of_clouds_names_is_there() {
    let page = fs::read_to_string(root("docs/clouds.md")).expect("the page");
    let folders = ["src", "tests"].map(|folder| sources(&root(folder)));
    let files = folders.iter().flatten().map(|file| {
        let text = fs::read_to_string(file).expect("a source file");
        (file.with_extension("").display().to_string(), text)
    });
    let files: Vec<_> = files.collect();
    let (_, table) = page.split_once("## What is tried").expect("a table");
    let named = table.split('`').filter(|it| it.contains("::"));
    let mut count = 0;
    for named in named {
        let (module, test) = named.rsplit_once("::").expect("a module");
        let module = module.trim_end_matches("::tests");
        let function = format!("fn {test}(");
        let there = |(path, text): &(String, String)| {
            let path = path.trim_end_matches("/mod");
            path.ends_with(&format!("/{module}")) && text.contains(&function)
        };
        assert!(files.iter().any(there), "{named} is nowhere");
        count += 1;
    }
    assert!(count >= 20, "{count} tests");
}
