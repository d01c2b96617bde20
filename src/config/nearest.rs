//! Which known key a misspelt one is most like.

use super::foreign::is_foreign;
use super::keys::KEYS;

/// The known key with the smallest edit distance, unless more than half of the name would have to
/// change.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    // Much longer than any key, so comparing is useless.
    if name.len() > 100 {
        return None;
    }
    let near = KEYS.iter().map(|key| (distance(name, key.name), key.name));
    let (edits, key) = near.min()?;
    (edits <= name.chars().count() / 2).then_some(key)
}

/// The Levenshtein distance, computed row by row.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.chars().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.chars().count()]
}

/// The key that was certainly meant, among names most of which are no keys of a producer: one letter
/// in five differs, two at most, or a unit is missing at the end.
pub(super) fn near_miss(name: &str) -> Option<&'static str> {
    let units = [".ms", ".bytes"];
    let unitless = |key: &str| {
        units
            .iter()
            .any(|unit| key.strip_suffix(unit) == Some(name))
    };
    if let Some(key) = KEYS.iter().find(|key| unitless(key.name)) {
        return Some(key.name);
    }
    let key = nearest(name).filter(|_| !is_foreign(name))?;
    (distance(name, key) <= (name.len() / 5).min(2)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_told_its_nearest() {
        assert_eq!(nearest("batch.sise"), Some("batch.size"));
        assert_eq!(nearest("comression.type"), Some("compression.type"));
        assert_eq!(nearest(&"x".repeat(1000)), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn what_is_meant_for_others_is_no_near_miss() {
        for (name, meant) in [
            ("linger.mss", Some("linger.ms")),
            ("bootstrap.server", Some("bootstrap.servers")),
            ("clientid", Some("client.id")),
            ("linger", Some("linger.ms")),
            ("send.buffer", Some("send.buffer.bytes")),
            // Of start scripts, container images and brokers.
            ("home", None),
            ("opts", None),
            ("heap.opts", None),
            ("jmx.opts", None),
            ("log.dirs", None),
            ("node.id", None),
            ("acls", None),
            ("advertised.listeners", None),
            ("log.retention.ms", None),
            ("replica.lag.time.max.ms", None),
            ("max.connections", None),
            // Of services in a cluster of containers.
            ("port", None),
            ("service.host", None),
            ("port.9092.tcp.addr", None),
            // Of consumers.
            ("group.id", None),
            ("key.deserializer", None),
            ("fetch.max.bytes", None),
            ("", None),
        ] {
            assert_eq!(near_miss(name), meant, "{name}");
        }
    }

    #[test]
    fn distances() {
        for (from, to, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), edits);
        }
    }
}
