//! Checks a configuration whose fields were set after it was built.

use std::time::Duration;

use super::builder::millis;
use super::origin::Origin;
use super::{Config, ConfigError, DnsLookup, Durability, InDoubt, OnUnknown, Problem, ProblemKind};

impl Config {
    /// Whether tokens come from somewhere, and from where they are expected: `in_code` says that the
    /// application has a source of its own.
    pub(crate) fn check_tokens(&self, in_code: bool) -> Result<(), ConfigError> {
        let login = self.security.login.as_ref();
        let problem = match login.and_then(|login| login.bearer()) {
            Some(bearer) if !in_code && !bearer.has_source() => {
                let wrong = "is not set, and there is no token source in code";
                let advice =
                    "set it to an https: or file: URL, or give ProducerBuilder::token_source";
                let problem = Problem::new(ProblemKind::Missing, &Origin::Default, wrong);
                problem
                    .key("sasl.oauthbearer.token.endpoint.url")
                    .advice(advice)
            }
            None if in_code => {
                let wrong = "a token source is given in code, and no login has tokens";
                let problem = Problem::new(ProblemKind::Conflict, &Origin::Default, wrong);
                problem
                    .key("sasl.mechanism")
                    .advice("set it to OAUTHBEARER, with SASL_SSL")
            }
            _ => return Ok(()),
        };
        ConfigError::of(vec![problem]).map_or(Ok(()), Err)
    }

    /// What [`ConfigBuilder::build`](super::ConfigBuilder::build) makes of these values, or finds wrong
    /// with them.
    #[expect(clippy::too_many_lines, reason = "a table of all fields")]
    pub(crate) fn checked(self) -> Result<Self, ConfigError> {
        // Every field is named, so that a new one is not forgotten.
        let Self {
            bootstrap_servers,
            client_id,
            dns_lookup,
            acks,
            enable_idempotence,
            max_in_flight,
            retries,
            retry_backoff,
            retry_backoff_max,
            delivery_timeout,
            request_timeout,
            max_block,
            buffer_memory,
            batch_size,
            linger,
            max_request_size,
            compression,
            partitioner_availability_timeout,
            send_buffer,
            receive_buffer,
            connections_max_idle,
            reconnect_backoff,
            reconnect_backoff_max,
            connection_setup_timeout,
            connection_setup_timeout_max,
            metadata_max_age,
            metadata_max_idle,
            rebootstrap_trigger,
            transactional_id,
            transaction_timeout,
            producer_expiration,
            unknown,
            unknown_resolve_timeout,
            unknown_resolve_max_bytes,
            unknown_transactional_id_prefix,
            spool_dir,
            spool_topics,
            spool_durability,
            spool_in_doubt,
            spool_max_bytes,
            spool_max_age,
            spool_segment_bytes,
            restart_max,
            restart_window,
            // These are valid with any other value.
            security,
            partitioner,
            partitioner_ignore_keys,
            partitioner_adaptive,
            key_serializer,
            value_serializer,
            metadata_recovery,
            metadata_cluster_check,
        } = self;
        let servers: Vec<_> = bootstrap_servers.iter().map(ToString::to_string).collect();
        let mut builder = Self::builder()
            .bootstrap_servers(servers.join(","))
            .client_id(client_id)
            .acks(acks)
            .idempotence(enable_idempotence)
            .compression(compression)
            .set("retries", retries)
            .set(
                "forebay.unknown.resolve.max.bytes",
                unknown_resolve_max_bytes,
            )
            .set(
                "forebay.unknown.transactional.id.prefix",
                unknown_transactional_id_prefix,
            )
            .set("forebay.restart.max", restart_max);
        if let Some(dir) = &spool_dir {
            builder = builder.set("forebay.spool.dir", dir.to_string_lossy());
        }
        if !spool_topics.is_empty() {
            builder = builder.set("forebay.spool.topics", spool_topics.join(","));
        }
        match spool_durability {
            Durability::Process => {}
            Durability::Machine => builder = builder.set("forebay.spool.durability", "machine"),
            Durability::Spill => builder = builder.set("forebay.spool.durability", "spill"),
        }
        if spool_in_doubt == InDoubt::Unknown {
            builder = builder.set("forebay.spool.in.doubt", "unknown");
        }
        builder = builder
            .set("forebay.spool.max.bytes", spool_max_bytes)
            .set("forebay.spool.segment.bytes", spool_segment_bytes);
        if unknown == OnUnknown::Resolve {
            builder = builder.set("forebay.unknown", "resolve");
        }
        if dns_lookup == DnsLookup::ResolveCanonicalBootstrapServersOnly {
            let word = "resolve_canonical_bootstrap_servers_only";
            builder = builder.set("client.dns.lookup", word);
        }
        if let Some(id) = transactional_id {
            builder = builder.set("transactional.id", id);
        }
        let sizes = [
            ("max.in.flight.requests.per.connection", max_in_flight),
            ("buffer.memory", buffer_memory),
            ("batch.size", batch_size),
            ("max.request.size", max_request_size),
        ];
        let buffers = [
            ("send.buffer.bytes", send_buffer),
            ("receive.buffer.bytes", receive_buffer),
        ];
        let buffers = buffers
            .into_iter()
            .filter_map(|(key, size)| Some((key, size?)));
        for (key, size) in sizes.into_iter().chain(buffers) {
            builder = builder.set(key, size);
        }
        let times = [
            ("retry.backoff.ms", retry_backoff),
            ("retry.backoff.max.ms", retry_backoff_max),
            ("delivery.timeout.ms", delivery_timeout),
            ("request.timeout.ms", request_timeout),
            ("max.block.ms", max_block),
            ("linger.ms", linger),
            ("reconnect.backoff.ms", reconnect_backoff),
            ("reconnect.backoff.max.ms", reconnect_backoff_max),
            (
                "socket.connection.setup.timeout.ms",
                connection_setup_timeout,
            ),
            (
                "socket.connection.setup.timeout.max.ms",
                connection_setup_timeout_max,
            ),
            ("metadata.max.age.ms", metadata_max_age),
            ("metadata.max.idle.ms", metadata_max_idle),
            (
                "metadata.recovery.rebootstrap.trigger.ms",
                rebootstrap_trigger,
            ),
            ("transaction.timeout.ms", transaction_timeout),
            ("forebay.producer.id.expiration.ms", producer_expiration),
            (
                "forebay.unknown.resolve.timeout.ms",
                unknown_resolve_timeout,
            ),
            ("forebay.spool.max.age.ms", spool_max_age),
            ("forebay.restart.window.ms", restart_window),
            (
                "connections.max.idle.ms",
                connections_max_idle.unwrap_or(Duration::ZERO),
            ),
            (
                "partitioner.availability.timeout.ms",
                partitioner_availability_timeout.unwrap_or(Duration::ZERO),
            ),
        ];
        for (key, time) in times {
            builder = builder.set(key, millis(time));
        }
        let checked = builder.build()?;
        Ok(Self {
            security,
            partitioner,
            partitioner_ignore_keys,
            partitioner_adaptive,
            key_serializer,
            value_serializer,
            metadata_recovery,
            metadata_cluster_check,
            // `None` is a value of its own.
            send_buffer,
            receive_buffer,
            connections_max_idle: connections_max_idle.and(checked.connections_max_idle),
            ..checked
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_stays_as_it_is() {
        let shipped = include_str!("../../config.toml");
        for text in [
            "",
            "max.block.ms = 9223372036854775807",
            "acks = 1\nenable.idempotence = false\nretries = 0\nclient.id = \"\"",
            "send.buffer.bytes = -1\nreceive.buffer.bytes = 1\nconnections.max.idle.ms = -1",
            "connections.max.idle.ms = 0\npartitioner.availability.timeout.ms = 7",
            "partitioner.class = \"org.apache.kafka.clients.producer.UniformStickyPartitioner\"",
            "compression.type = \"gzip\"\ncompression.gzip.level = 9",
            "metadata.cluster.check.enable = false",
            shipped,
        ] {
            let builder = Config::builder().toml(text);
            let config = builder.bootstrap_servers("a:1,[::1]:2").build();
            let config = config.expect("a configuration");
            assert_eq!(config.clone().checked(), Ok(config), "{text}");
        }
    }

    #[test]
    fn what_was_set_becomes_what_a_key_would_make_of_it() {
        let mut config = Config::new("a:1").expect("a configuration");
        let century = Duration::from_secs(100 * 366 * 24 * 60 * 60);
        config.max_block = 1_000 * century;
        config.linger = Duration::from_micros(1);
        let checked = config.checked().expect("a configuration");
        assert!(checked.max_block < century);
        assert_eq!(checked.linger, Duration::from_millis(1));
    }
}
