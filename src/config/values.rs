//! Turns the flat map into typed values, by the table of keys. A setting that is wrong is a
//! problem, and its key keeps its default, so that one pass finds all problems.

use std::collections::{BTreeMap, BTreeSet};
use std::num::IntErrorKind;
use std::time::Duration;

use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::error::{Problem, ProblemKind};
use super::foreign::is_foreign;
use super::key::{Bounds, Key, Kind, Status, Unit};
use super::keys::{self, KEYS};
use super::nearest::nearest;
use super::origin::Origin;
use super::source::Flat;
use crate::core::security::Secret;

/// The longest time, 100 years. Longer ones are cut to it, so that adding it to the present time
/// cannot overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(super) struct Values<'a> {
    flat: &'a Flat,
    typed: BTreeMap<&'static str, Value>,
    failed: BTreeSet<&'static str>,
    pub(super) problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Flag(bool),
    Number(i64),
    Text(String),
    Secret(Secret),
}

/// Why a text is not a valid value of a key.
struct Misfit {
    kind: ProblemKind,
    wrong: String,
    advice: String,
}

impl<'a> Values<'a> {
    pub(super) fn of(flat: &'a Flat) -> Self {
        let mut values = Self {
            flat,
            typed: BTreeMap::new(),
            failed: BTreeSet::new(),
            problems: Vec::new(),
        };
        for key in KEYS {
            if let Some(Ok(value)) = key.default.map(|text| parse(key, text)) {
                values.typed.insert(key.name, value);
            }
        }
        for (name, setting) in flat {
            // These have been read where values are filled in.
            if name.starts_with("config.providers.") {
                continue;
            }
            match keys::find(name) {
                Some(key) => values.take(key, name, &setting.value, &setting.origin),
                // The value is not shown, because it may be a password.
                None if is_foreign(name) => {
                    let origin = &setting.origin;
                    tracing::warn!(key = name, %origin, "no key of a producer, ignored");
                }
                None => values.problems.push(unknown(name, &setting.origin)),
            }
        }
        values
    }

    fn take(&mut self, key: &'static Key, name: &str, text: &str, origin: &Origin) {
        match key.status {
            Status::Served => match parse(key, text) {
                // An empty value, as in a template, chooses nothing.
                Ok(Value::Text(word)) if word.is_empty() && matches!(key.kind, Kind::OneOf(_)) => {}
                Ok(value) => {
                    self.typed.insert(key.name, value);
                }
                Err(misfit) => {
                    let problem = Problem::new(misfit.kind, origin, misfit.wrong)
                        .key(name)
                        .seen(text)
                        .advice(misfit.advice);
                    self.fail(key.name, problem);
                }
            },
            Status::NotServedYet { harmless, .. }
                if harmless.is_some_and(|it| it.eq_ignore_ascii_case(text.trim())) => {}
            // The value is not shown, because it may be a password.
            Status::NotServedYet { what, .. } => self.problems.push(
                Problem::new(
                    ProblemKind::NotServedYet,
                    origin,
                    format!("known but not served yet: {what}"),
                )
                .key(name)
                .advice("take the key out"),
            ),
            Status::BrokerOnly => {
                tracing::warn!(key = name, %origin, "only has a meaning for brokers, ignored");
            }
            Status::JvmOnly => {
                tracing::warn!(key = name, %origin, "only has a meaning for Java, ignored");
            }
        }
    }

    /// Notes a problem that makes the key's value unusable for later checks.
    pub(super) fn fail(&mut self, name: &'static str, problem: Problem) {
        self.failed.insert(name);
        self.problems.push(problem);
    }

    /// Notes that a source tried to set the key and failed.
    pub(super) fn distrust(&mut self, name: &str) {
        if let Some(key) = keys::find(name).filter(|key| !self.is_set(key.name)) {
            self.failed.insert(key.name);
        }
    }

    /// Whether none of these keys has a problem.
    pub(super) fn sound(&self, names: &[&str]) -> bool {
        names.iter().all(|name| !self.failed.contains(name))
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.flat.contains_key(name)
    }

    pub(super) fn origin(&self, name: &str) -> Origin {
        let setting = self.flat.get(name);
        setting.map_or(Origin::Default, |it| it.origin.clone())
    }

    /// A problem with this key. Its value and origin are filled in.
    pub(super) fn problem(&self, kind: ProblemKind, name: &str, wrong: String) -> Problem {
        let problem = Problem::new(kind, &self.origin(name), wrong).key(name);
        match self.raw(name) {
            Some(text) if !keys::is_secret(name) => problem.seen(text),
            _ => problem,
        }
    }

    /// Adds a problem with this key, and what to change.
    pub(super) fn report(
        &mut self,
        kind: ProblemKind,
        name: &str,
        wrong: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let problem = self.problem(kind, name, wrong.into());
        self.problems.push(problem.advice(advice));
    }

    /// A secret, unless it is empty.
    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        match self.typed.get(name) {
            Some(Value::Secret(secret)) if !secret.reveal().trim().is_empty() => {
                Some(secret.clone())
            }
            _ => None,
        }
    }

    /// The key with its value and origin, to be named in a problem of another key.
    pub(super) fn shown(&self, name: &str) -> String {
        let text = match self.raw(name) {
            Some(_) if keys::is_secret(name) => "set",
            Some(text) => text,
            None => "not set",
        };
        format!("{name} ({text}, {})", self.origin(name))
    }

    fn raw(&self, name: &str) -> Option<&str> {
        match self.flat.get(name) {
            Some(setting) => Some(setting.value.trim()),
            None => keys::find(name).and_then(|key| key.default),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.typed.get(name), Some(Value::Flag(true)))
    }

    pub(super) fn number(&self, name: &str) -> i64 {
        match self.typed.get(name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// A number as type `T`. The key's bounds fit into it.
    pub(super) fn sized<T: TryFrom<i64> + Default>(&self, name: &str) -> T {
        T::try_from(self.number(name)).unwrap_or_default()
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        Duration::from_millis(self.sized(name)).min(LONGEST)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.typed.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The entries of a list, trimmed and without empty ones.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let entries = self.text(name).unwrap_or_default().split(',');
        entries.map(str::trim).filter(|entry| !entry.is_empty())
    }

    /// The key's word as an enum.
    pub(super) fn word<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let word: StrDeserializer<'_, WordError> = self.text(name)?.into_deserializer();
        T::deserialize(word).ok()
    }
}

fn parse(key: &Key, text: &str) -> Result<Value, Misfit> {
    let trimmed = text.trim();
    match key.kind {
        Kind::Flag if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Flag(true)),
        Kind::Flag if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Flag(false)),
        Kind::Flag => Err(misfit("neither true nor false", "write true or false")),
        Kind::Number(unit, bounds) => number(key, unit, &bounds, trimmed),
        Kind::OneOf(words) => one_of(key, words, trimmed),
        Kind::Text(most) if text.len() > most => Err(Misfit {
            kind: ProblemKind::OutOfRange,
            wrong: format!(
                "{} bytes long, and at most {most} fit into a request",
                text.len()
            ),
            advice: "shorten it".to_owned(),
        }),
        Kind::Text(_) if text.contains(char::is_control) => Err(misfit(
            "has a control character, which logs, metrics and thread names do not take",
            "write printable characters alone",
        )),
        Kind::Text(_) => Ok(Value::Text(text.to_owned())),
        Kind::Secret => Ok(Value::Secret(text.into())),
        Kind::Decimal if trimmed.parse::<f64>().is_err() => Err(misfit(
            "not a number",
            "write digits, with a point where there is a fraction",
        )),
        Kind::Decimal | Kind::List => Ok(Value::Text(trimmed.to_owned())),
    }
}

fn number(key: &Key, unit: Unit, bounds: &Bounds, text: &str) -> Result<Value, Misfit> {
    let out_of_range = || Misfit {
        kind: ProblemKind::OutOfRange,
        wrong: format!("out of range ({bounds}): {}", bounds.why),
        advice: format!("the default is {}", key.default.unwrap_or("none")),
    };
    match text.parse::<i64>() {
        Ok(number) if bounds.contains(number) => Ok(Value::Number(number)),
        Ok(_) => Err(out_of_range()),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => Err(out_of_range()),
            _ => Err(misfit(
                &format!("not a {unit}"),
                &format!("write digits alone, such as {}", key.default.unwrap_or("1")),
            )),
        },
    }
}

fn one_of(key: &Key, words: &[&'static str], text: &str) -> Result<Value, Misfit> {
    if text.is_empty() && key.default.is_none() {
        return Ok(Value::Text(String::new()));
    }
    let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    match word {
        Some(word) => Ok(Value::Text((*word).to_owned())),
        None if key.default.is_none() => Err(misfit(
            "not one of Kafka's standard classes",
            "take the key out and give your own in code",
        )),
        None => Err(misfit(
            "not a word that this key knows",
            &format!("write one of {}", words.join(", ")),
        )),
    }
}

fn misfit(wrong: &str, advice: &str) -> Misfit {
    Misfit {
        kind: ProblemKind::WrongValue,
        wrong: wrong.to_owned(),
        advice: advice.to_owned(),
    }
}

/// The problem of an unknown key. The value is not shown: the key may be a misspelt one of a
/// password.
fn unknown(name: &str, origin: &Origin) -> Problem {
    let problem = Problem::new(
        ProblemKind::UnknownKey,
        origin,
        "no producer key is so named",
    );
    let problem = problem.key(name);
    match nearest(name) {
        Some(near) => problem.advice(format!("the nearest one is {near}")),
        None => problem.advice("take the key out"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Setting;
    use super::super::types::{
        DnsLookup, Durability, InDoubt, MetadataRecovery, OnUnknown, PartitionerKind,
        SerializerKind,
    };
    use super::*;
    use crate::core::acks::Acks;

    fn flat(settings: &[(&str, &str)]) -> Flat {
        let settings = settings.iter().map(|(name, value)| {
            let setting = Setting {
                value: (*value).to_owned(),
                origin: Origin::Builder,
            };
            ((*name).to_owned(), setting)
        });
        settings.collect()
    }

    fn problem(name: &str, value: &str) -> String {
        let flat = flat(&[(name, value)]);
        let problems = Values::of(&flat).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    }

    #[test]
    fn every_name_stands_once_and_every_default_is_a_value() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        for key in KEYS {
            if let Some(text) = key.default {
                assert!(parse(key, text).is_ok(), "{}", key.name);
            }
            assert!(!key.doc.is_empty(), "{}", key.name);
        }
    }

    #[test]
    fn every_word_of_the_table_is_a_variant() {
        fn all<T: DeserializeOwned>(name: &str) {
            let Some(Kind::OneOf(words)) = keys::find(name).map(|key| key.kind) else {
                panic!("{name} has no words");
            };
            for word in words {
                let flat = flat(&[(name, word)]);
                assert!(Values::of(&flat).word::<T>(name).is_some(), "{word}");
            }
        }
        all::<Acks>("acks");
        all::<DnsLookup>("client.dns.lookup");
        all::<OnUnknown>("forebay.unknown");
        all::<Durability>("forebay.spool.durability");
        all::<InDoubt>("forebay.spool.in.doubt");
        all::<MetadataRecovery>("metadata.recovery.strategy");
        all::<PartitionerKind>("partitioner.class");
        all::<SerializerKind>("key.serializer");
        all::<SerializerKind>("value.serializer");
    }

    #[test]
    fn a_wrong_value_says_what_is_wanted_and_where() {
        assert_eq!(
            problem("linger.ms", "5 ms"),
            "linger.ms = \"5 ms\" (builder): not a whole number of milliseconds; \
             write digits alone, such as 5"
        );
        assert_eq!(
            problem("enable.idempotence", "yes"),
            "enable.idempotence = \"yes\" (builder): neither true nor false; write true or false"
        );
        assert_eq!(
            problem("acks", "2"),
            "acks = \"2\" (builder): not a word that this key knows; write one of all, -1, 0, 1"
        );
        assert_eq!(
            problem("key.serializer", "com.example.Mine"),
            "key.serializer = \"com.example.Mine\" (builder): not one of Kafka's standard \
             classes; take the key out and give your own in code"
        );
    }

    #[test]
    fn out_of_range_says_the_range_and_why() {
        assert_eq!(
            problem("max.in.flight.requests.per.connection", "0"),
            "max.in.flight.requests.per.connection = \"0\" (builder): out of range \
             (1 to 2147483647): with none in flight nothing is ever sent, and it is a 32-bit \
             number; the default is 5"
        );
        for (name, value, range) in [
            ("linger.ms", "-1", "(0 or more)"),
            ("linger.ms", "99999999999999999999", "(0 or more)"),
            ("batch.size", "2147483648", "(0 to 2147483647)"),
            ("send.buffer.bytes", "0", "(1 to 2147483647, or -1)"),
            ("compression.gzip.level", "0", "(1 to 9, or -1)"),
            ("compression.lz4.level", "18", "(1 to 17)"),
            ("compression.zstd.level", "-131073", "(-131072 to 22)"),
            ("metadata.max.idle.ms", "4999", "(5000 or more)"),
        ] {
            let problem = problem(name, value);
            assert!(problem.contains(range), "{problem}");
        }
        assert!(problem("client.id", &"x".repeat(32_768)).contains("at most 32767"));
    }

    #[test]
    fn a_name_has_no_control_characters() {
        assert_eq!(
            problem("client.id", "a\0b"),
            "client.id = \"a\\0b\" (builder): has a control character, which logs, metrics and \
             thread names do not take; write printable characters alone"
        );
        for name in ["a\nb", "\u{1b}[2J", "\u{85}", "\t"] {
            assert!(problem("client.id", name).contains("control character"));
        }
        let printable = flat(&[("client.id", "Zürich 1 / \"a\"")]);
        assert_eq!(Values::of(&printable).problems, []);
    }

    #[test]
    fn an_unknown_key_is_told_its_nearest() {
        assert_eq!(
            problem("linger_ms", "5"),
            "linger_ms (builder): no producer key is so named; the nearest one is linger.ms"
        );
        let far = problem("zzzzzzzz", "5");
        assert!(far.ends_with("take the key out"), "{far}");
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        assert!(!problem("ssl.keystore.pasword", "s3cret").contains("s3cret"));
        let flat = flat(&[("ssl.keystore.password", "s3cret")]);
        let values = Values::of(&flat);
        let conflict = values.problem(
            ProblemKind::Conflict,
            "ssl.keystore.password",
            String::new(),
        );
        let named = values.shown("ssl.keystore.password");
        assert_eq!(conflict.to_string(), "ssl.keystore.password (builder): ");
        assert_eq!(named, "ssl.keystore.password (set, builder)");
    }

    #[test]
    fn not_served_yet_is_an_error_unless_harmless() {
        assert_eq!(
            problem("client.rack", "a"),
            "client.rack (builder): known but not served yet: rack awareness (Kafka 4.4); take the key out"
        );
        assert!(problem("enable.metrics.push", "true").contains("KIP-714"));
        assert!(problem("interceptor.classes", "a.B").contains("in code"));
        let harmless = flat(&[
            ("enable.metrics.push", "False"),
            ("interceptor.classes", " "),
            ("metric.reporters", "a.B"),
            ("config.providers.file.class", "a.B"),
            ("key.serializer", ""),
        ]);
        assert_eq!(Values::of(&harmless).problems, []);
    }

    #[test]
    fn times_are_cut_where_no_clock_could_follow() {
        let flat = flat(&[("max.block.ms", "9223372036854775807")]);
        let values = Values::of(&flat);
        assert_eq!(values.problems, []);
        assert_eq!(values.time("max.block.ms"), LONGEST);
        assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
    }
}
