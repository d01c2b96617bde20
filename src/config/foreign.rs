//! Keys that are no producer's, and stand beside its keys where a file serves several clients: as on the
//! pages of clouds from which one copies.

/// What Kafka's consumer and its admin client have, and its producer has not (4.4).
const OTHER_CLIENTS: [&str; 25] = [
    "allow.auto.create.topics",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "bootstrap.controllers",
    "check.crcs",
    "default.api.timeout.ms",
    "enable.auto.commit",
    "exclude.internal.topics",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "key.deserializer",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "max.poll.records",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "share.acknowledgement.mode",
    "value.deserializer",
];

/// How keys begin that serializers of a schema registry read.
const OF_SCHEMA_REGISTRIES: [&str; 3] = ["schema.registry.", "basic.auth.", "bearer.auth."];

/// Whether this is the key of another client, or of a serializer. It changes nothing here, nor in Java.
pub(super) fn is_foreign(name: &str) -> bool {
    OTHER_CLIENTS.contains(&name) || OF_SCHEMA_REGISTRIES.iter().any(|it| name.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn no_key_of_a_producer_is_foreign() {
        for key in keys::KEYS {
            assert!(!is_foreign(key.name), "{}", key.name);
        }
        assert!(is_foreign("session.timeout.ms"));
        assert!(is_foreign("schema.registry.url"));
        for near in ["session.timeout", "schema.registry", "group.id "] {
            assert!(!is_foreign(near), "{near}");
        }
    }
}
