//! Reads TOML into a flat map. `linger.ms = 5`, `"linger.ms" = 5`, and `ms = 5` in a section
//! `[linger]` are the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, ProblemKind};
use super::keys::{self, KEYS};
use super::origin::Origin;
use super::source::{Read, Setting};

pub(super) fn read(text: &str, name: &Arc<str>) -> Read {
    let mut reader = Reader {
        text,
        name,
        read: Read::default(),
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    // The parser may report several errors for one line. The first one explains the line.
    let mut by_line = BTreeMap::new();
    for error in &errors {
        let at = error.span().unwrap_or_default().start;
        let first = by_line
            .entry(reader.line(at))
            .or_insert((at, error.message()));
        *first = (at, error.message()).min(*first);
    }
    for (at, message) in by_line.into_values() {
        reader.syntax(message, at);
    }
    reader.table("", table.get_ref());
    reader.read
}

struct Reader<'a> {
    text: &'a str,
    name: &'a Arc<str>,
    read: Read,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = match prefix {
                "" => key.get_ref().to_string(),
                _ => format!("{prefix}.{}", key.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(table) => self.table(&name, table),
                DeValue::Array(entries) => match list(entries) {
                    Some(list) => self.setting(name, list, key.span()),
                    None => self.problem(
                        Problem::new(
                            ProblemKind::WrongValue,
                            &self.origin(&key.span()),
                            "a list may only hold strings without commas",
                        )
                        .key(name)
                        .advice("write each entry in quotes"),
                    ),
                },
                scalar => self.setting(name, text_of(scalar), key.span()),
            }
        }
    }

    fn setting(&mut self, name: String, value: String, span: Range<usize>) {
        let origin = self.origin(&span);
        let mut syntax = self.read.problems.iter_mut();
        if let Some(problem) = syntax.find(|it| it.origin == origin) {
            // The value of a line with an error is wrong, so it is not used.
            problem.key.get_or_insert(name);
            return;
        }
        if let Some(earlier) = self.read.flat.get(&name) {
            let wrong = format!("the key is already set at {}", earlier.origin);
            self.problem(
                Problem::new(ProblemKind::Syntax, &origin, wrong)
                    .key(name)
                    .advice("keep one of the two"),
            );
        } else {
            self.read.flat.insert(name, Setting { value, origin });
        }
    }

    fn syntax(&mut self, message: &str, at: usize) {
        let origin = self.origin(&(at..at));
        let problem = match self.collision(at) {
            Some((short, long)) => Problem::new(
                ProblemKind::Syntax,
                &origin,
                format!("TOML cannot hold both {short} and {long} as dotted keys"),
            )
            .advice(format!("put the key in quotes: \"{short}\" = ...")),
            // The line itself is not shown, because it may contain a password.
            None => {
                let wrong = format!("not TOML: {}", message.replace('\n', ", "));
                let problem = Problem::new(ProblemKind::Syntax, &origin, wrong);
                match self.known_key_at(at) {
                    Some(key) => problem.key(key),
                    None => problem,
                }
            }
        };
        self.problem(problem);
    }

    fn known_key_at(&self, at: usize) -> Option<&'static str> {
        let key = key_of(self.text.lines().nth(self.line(at) - 1)?)?;
        keys::find(key.trim_matches(['"', '\''])).map(|key| key.name)
    }

    /// If this line and an earlier one set keys of which one is the beginning of the other, returns
    /// the two keys.
    fn collision(&self, at: usize) -> Option<(&'static str, &'static str)> {
        let line_number = self.line(at);
        let here = key_of(self.text.lines().nth(line_number - 1)?)?;
        let mut earlier = self
            .text
            .lines()
            .take(line_number - 1)
            .filter_map(key_of)
            .collect::<Vec<_>>();
        earlier.retain(|key| *key != here);
        prefix_pairs().find(|(short, long)| {
            let (other, is_here) = if ends_with_key(long, here) {
                (short, true)
            } else {
                (long, ends_with_key(short, here))
            };
            is_here && earlier.iter().any(|key| ends_with_key(other, key))
        })
    }

    fn problem(&mut self, problem: Problem) {
        self.read.problems.push(problem);
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        Origin::Text {
            name: self.name.clone(),
            line: self.line(span.start),
        }
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

/// Pairs of keys of which the first is the beginning of the second.
fn prefix_pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().flat_map(|short| {
        let longer = KEYS.iter().filter(|long| {
            long.name
                .strip_prefix(short.name)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        longer.map(|long| (short.name, long.name))
    })
}

/// The key that a line sets, if it sets one.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && !key.starts_with('#')).then_some(key)
}

/// Whether the line's key can be this name. In a `[section]` the line has only the end of the name.
fn ends_with_key(name: &str, key: &str) -> bool {
    name.strip_suffix(key)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn list(entries: &[Spanned<DeValue<'_>>]) -> Option<String> {
    let entries: Option<Vec<&str>> = entries
        .iter()
        .map(|entry| match entry.get_ref() {
            DeValue::String(text) if !text.contains(',') => Some(text.as_ref()),
            _ => None,
        })
        .collect();
    Some(entries?.join(","))
}

fn text_of(scalar: &DeValue<'_>) -> String {
    match scalar {
        DeValue::String(text) => text.to_string(),
        // Only TOML allows hexadecimal and similar numbers. All other sources have decimal ones.
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(decimal) => decimal.to_string(),
            Err(_) => number.to_string(),
        },
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        // The caller handles arrays and tables.
        DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn flat(text: &str) -> Vec<(String, String)> {
        let read = read(text, &"t".into());
        assert_eq!(read.problems, []);
        let settings = read.flat.into_iter();
        settings
            .map(|(name, it)| (name, it.value.clone()))
            .collect()
    }

    fn problems(text: &str) -> Vec<String> {
        let read = read(text, &"t".into());
        read.problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn dotted_quoted_and_sectioned_keys_are_the_same() {
        let want = [("linger.ms".to_owned(), "5".to_owned())];
        for text in [
            "linger.ms = 5",
            "\"linger.ms\" = 5",
            "'linger.ms' = \"5\"",
            "[linger]\nms = 0x5",
            "linger = { ms = +5 }",
        ] {
            assert_eq!(flat(text), want, "{text}");
        }
    }

    #[test]
    fn lists_are_joined() {
        let want = [("bootstrap.servers".to_owned(), "a:1,b:2".to_owned())];
        assert_eq!(flat("bootstrap.servers = ['a:1', 'b:2']"), want);
        let problems = problems("x = 1\nbootstrap.servers = ['a:1', 2]");
        assert_eq!(
            problems,
            [
                "bootstrap.servers (t:2): a list may only hold strings without commas; \
                write each entry in quotes"
            ]
        );
    }

    #[test]
    fn every_syntax_error_is_told_with_its_line() {
        let text = "linger.ms = \nacks = 'all'\nretries == 3\n[batch]\nsize = flase\n";
        assert_eq!(read(text, &"t".into()).flat.len(), 1);
        let problems = problems(text);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[2].starts_with("batch.size (t:5): not TOML: "));
        assert!(problems[0].starts_with("linger.ms (t:1): not TOML: "));
        assert!(problems[1].starts_with("retries (t:3): not TOML: "));
    }

    #[test]
    fn a_key_written_in_two_ways_is_set_twice() {
        let problems = problems("linger.ms = 5\n\n'linger.ms' = 6");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("already set at t:"), "{problems:?}");
    }

    #[test]
    fn the_colliding_pair_has_its_own_message() {
        let (short, long) = (
            "sasl.oauthbearer.scope",
            "sasl.oauthbearer.scope.claim.name",
        );
        for text in [
            format!("{short} = 'a'\n{long} = 'b'"),
            format!("{long} = 'b'\n{short} = 'a'"),
            "[sasl.oauthbearer]\nscope = 'a'\nscope.claim.name = 'b'".to_owned(),
        ] {
            let problems = problems(&text);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].contains(&format!("cannot hold both {short} and {long}")),
                "{problems:?}"
            );
            assert!(problems[0].contains("in quotes"));
        }
        let quoted = format!("'{short}' = 'a'\n{long} = 'b'");
        assert_eq!(flat(&quoted).len(), 2);
    }

    #[test]
    fn few_keys_begin_with_another_one() {
        // One is a key of Kafka 4.4, one of forebay's own.
        let pairs: BTreeSet<_> = prefix_pairs().map(|(short, _)| short).collect();
        let expected = ["buffer.memory", "forebay.unknown", "sasl.oauthbearer.scope"];
        assert_eq!(pairs, expected.into());
    }

    proptest! {
        #[test]
        fn printing_and_flattening_is_identity(map in btree_map("\\PC{0,20}|[a-z.]{1,12}", any::<String>(), 0..8)) {
            let text: String = map
                .iter()
                .map(|(name, value)| (toml::Value::from(name.as_str()), toml::Value::from(value.as_str())))
                .map(|(name, value)| format!("{} = {value}\n", basic(&name)))
                .collect();
            prop_assert_eq!(flat(&text), map.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            read(&text, &"t".into());
        }
    }

    /// Quotes a key on a single line, as TOML requires.
    fn basic(name: &toml::Value) -> String {
        let name = name.as_str().unwrap_or_default();
        let escaped = name.chars().map(|c| format!("\\U{:08X}", c as u32));
        format!("\"{}\"", escaped.collect::<String>())
    }
}
