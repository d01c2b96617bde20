//! Reads environment variables, named as in Kafka's container images.

use std::ffi::OsString;

use super::error::{Problem, ProblemKind};
use super::keys;
use super::nearest::near_miss;
use super::origin::Origin;
use super::source::{Read, Setting};

const PREFIX: &str = "KAFKA_";

pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Read {
    let mut read = Read::default();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = key_of(name) else { continue };
        if keys::find(&key).is_none() {
            ignore(name, &key);
            continue;
        }
        let origin = Origin::Env(name.to_owned());
        match value.into_string() {
            Ok(value) => {
                read.flat.insert(key, Setting { value, origin });
            }
            Err(_) => read.problems.push(
                Problem::new(ProblemKind::Unreadable, &origin, "the value is not UTF-8").key(key),
            ),
        }
    }
    read
}

/// Brokers and their start scripts use the same prefix, so only what is nearly a key is warned of.
fn ignore(variable: &str, key: &str) {
    match near_miss(key) {
        Some(near) => {
            let meant = format!("{PREFIX}{}", near.replace('.', "_").to_ascii_uppercase());
            tracing::warn!(variable, meant, "no producer key is so named, ignored");
        }
        None => tracing::debug!(variable, "no key of a producer, ignored"),
    }
}

/// Returns the key of a variable: `KAFKA_LINGER_MS` is `linger.ms`, `__` stands for `_`, and `___`
/// for `-`.
fn key_of(variable: &str) -> Option<String> {
    let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
    // `\0` marks a `_` in between, because it cannot be in a variable's name.
    let name = name.replace("___", "-").replace("__", "\0");
    Some(name.replace('_', ".").replace('\0', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped_as_in_the_container_images() {
        for (variable, key) in [
            ("KAFKA_LINGER_MS", Some("linger.ms")),
            ("KAFKA_A__B_C___D", Some("a_b.c-d")),
            ("KAFKA_", Some("")),
            ("LINGER_MS", None),
            ("kafka_linger_ms", None),
        ] {
            assert_eq!(key_of(variable).as_deref(), key);
        }
    }

    #[test]
    fn only_producer_keys_are_taken() {
        let variables = [
            ("KAFKA_LINGER_MS", "7"),
            ("KAFKA_LOG_DIRS", "/tmp"),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("HOME", "/"),
        ];
        let read = read(variables.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(read.problems, []);
        assert_eq!(read.flat.len(), 1);
        let setting = &read.flat["linger.ms"];
        assert_eq!(setting.value, "7");
        assert_eq!(
            setting.origin.to_string(),
            "environment variable KAFKA_LINGER_MS"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_is_a_problem() {
        use std::os::unix::ffi::OsStringExt;
        let read = read([("KAFKA_ACKS".into(), OsString::from_vec(vec![0xff]))]);
        assert_eq!(read.problems.len(), 1);
    }
}
