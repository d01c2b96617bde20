//! The table of all configuration keys: every producer key of Kafka 4.3, the few that 4.4 adds, and
//! forebay's own. Defaults and bounds are Kafka's where Kafka has them.

use super::key::{Bounds, Key, Kind, Status, Unit};

/// Every key that forebay knows.
///
/// ```
/// use forebay::config::KEYS;
///
/// let linger = KEYS.iter().find(|key| key.name == "linger.ms").expect("a key of Kafka's");
/// assert_eq!(linger.default, Some("5"));
/// ```
#[rustfmt::skip] // A row of the long tail is one line.
pub static KEYS: &[Key] = &[
    // Where the cluster is.
    served(
        "bootstrap.servers",
        Kind::List,
        None,
        "Brokers to ask first for all the others, as host:port, separated by commas; required. \
         Two or more, so that one may be down. A name that stands twice is an error.",
    ),
    served(
        "client.id",
        Kind::Text(i16::MAX as usize),
        None,
        "Name that the brokers log and count this producer under; when not set, \
         forebay-producer-N with N counting up in the process. Two producers with one name share \
         their quota and their metrics.",
    ),
    served(
        "client.dns.lookup",
        Kind::OneOf(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]),
        Some("use_all_dns_ips"),
        "What to do with a name that has several addresses: try each, or first resolve the \
         bootstrap addresses into canonical names, as Kerberos wants them.",
    ),
    served(
        "security.protocol",
        Kind::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        Some("PLAINTEXT"),
        "How connections are secured. Only PLAINTEXT is served yet; anything else is an error, \
         never a connection in the clear.",
    ),
    // Acknowledgements and retries.
    served(
        "acks",
        Kind::OneOf(&["all", "-1", "0", "1"]),
        Some("all"),
        "Which confirmation makes a record acked: none (0), the leader's (1), or that of all \
         in-sync replicas (all, -1). With 0 every outcome is unknown. With 1 a record is lost if \
         the leader fails before it is replicated. Both exclude idempotence.",
    ),
    served(
        "enable.idempotence",
        FLAG,
        Some("true"),
        "Whether brokers recognise duplicates, so that a retry neither doubles nor reorders \
         records. Needs acks=all, retries above 0 and at most 5 requests in flight; a \
         conflict is an error, also when true is only the default.",
    ),
    served(
        "max.in.flight.requests.per.connection",
        count(1, INT, "with none in flight nothing is ever sent, and it is a 32-bit number"),
        Some("5"),
        "Requests to a broker that may be in flight. With 1 each request waits for the response \
         before it. Above 5 needs enable.idempotence=false, because brokers remember only five \
         batches. Then a retry may reorder records.",
    ),
    served(
        "retries",
        count(0, INT, "a count cannot be negative, and it is a 32-bit number"),
        Some("2147483647"),
        "How often a batch is sent again. Better left at the default: delivery.timeout.ms ends \
         the attempts. With 0 the first failure is final, and idempotence is excluded.",
    ),
    served(
        "retry.backoff.ms",
        TIME,
        Some("100"),
        "Wait before the first retry, in ms; doubles up to retry.backoff.max.ms, with 20 % jitter. \
         0 retries in a tight loop.",
    ),
    served(
        "retry.backoff.max.ms",
        TIME,
        Some("1000"),
        "Longest wait before a retry, in ms. Must not be less than retry.backoff.ms.",
    ),
    served(
        "delivery.timeout.ms",
        TIME_INT,
        Some("120000"),
        "Time in ms within which every accepted record has its outcome, retries included. At least \
         linger.ms + request.timeout.ms, or a record could expire before its first response.",
    ),
    served(
        "request.timeout.ms",
        TIME_INT,
        Some("30000"),
        "Wait for the response to a request, in ms. Keep it above the brokers' \
         replica.lag.time.max.ms (30000), or slow replicas cause needless retries.",
    ),
    served(
        "max.block.ms",
        TIME,
        Some("60000"),
        "Longest wait of one send for metadata and memory together, in ms. 0 refuses at once, the \
         first record of every topic too, unless its metadata are already known.",
    ),
    // Batches.
    served(
        "buffer.memory",
        bytes(0, isize::MAX as i64, "a size cannot be negative, nor beyond what can be addressed"),
        Some("33554432"),
        "Memory for records that wait or are in flight, in bytes. When it is used up, callers wait \
         up to max.block.ms. Callers that are much faster than the brokers wait briefly before \
         that. At least batch.size; with 0 every record is refused.",
    ),
    served(
        "batch.size",
        bytes(0, INT, "a size cannot be negative, and it is a 32-bit number"),
        Some("16384"),
        "Upper bound of a partition's batch, in bytes; a larger record gets a batch of its own. 0 \
         sends every record alone. Large batches compress better and cost less to send. Every \
         partition that is written to takes one from buffer.memory.",
    ),
    served(
        "linger.ms",
        TIME,
        Some("5"),
        "How long a batch waits for more records, in ms. 0 sends as soon as a request can go; more \
         adds to each record's latency while traffic is low. Part of delivery.timeout.ms.",
    ),
    served(
        "max.request.size",
        bytes(0, INT, "a size cannot be negative, and it is a 32-bit number"),
        Some("1048576"),
        "Upper bound of a request, and of a record before compression, in bytes. Brokers \
         refuse batches above their message.max.bytes. A record above this limit is refused at \
         once.",
    ),
    served(
        "compression.type",
        Kind::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
        Some("none"),
        "Codec of the batches. Each is a cargo feature; one that was left out of the build is an \
         error.",
    ),
    served(
        "compression.gzip.level",
        level(1, 9, true),
        Some("-1"),
        "1 is fastest, 9 smallest, -1 zlib's own choice (6). Read only with compression.type=gzip.",
    ),
    served(
        "compression.lz4.level",
        level(1, 17, false),
        Some("9"),
        "1 is fastest, 17 smallest. Read only with compression.type=lz4.",
    ),
    served(
        "compression.zstd.level",
        level(-131_072, 22, false),
        Some("3"),
        "Lower is faster, higher smaller; from 20 on it takes much memory. Read only with \
         compression.type=zstd.",
    ),
    // Partitions.
    served(
        "partitioner.class",
        Kind::OneOf(&[ROUND_ROBIN, DEFAULT_PARTITIONER, UNIFORM_STICKY]),
        None,
        "What chooses the partition of a record that names none. Not set: murmur2 of the key; \
         without a key, one partition until it has taken batch.size bytes. UniformStickyPartitioner \
         is that with partitioner.ignore.keys=true. Your own partitioner is given in code.",
    ),
    served(
        "partitioner.ignore.keys",
        FLAG,
        Some("false"),
        "Whether records with a key are spread like those without. With true, records of one key \
         are no longer in order.",
    ),
    served(
        "partitioner.adaptive.partitioning.enable",
        FLAG,
        Some("true"),
        "Whether partitions with a shorter queue get more of the records without a key. With \
         false all get the same, and one slow broker may fill buffer.memory.",
    ),
    served(
        "partitioner.availability.timeout.ms",
        TIME,
        Some("0"),
        "How long a broker may take nothing before records without a key avoid its partitions, in \
         ms; 0 never avoids them. Has no effect without adaptive partitioning.",
    ),
    served(
        "key.serializer",
        Kind::OneOf(SERIALIZERS),
        None,
        "Kafka's standard serializers are known by their class names; what really serializes is \
         given in code.",
    ),
    served(
        "value.serializer",
        Kind::OneOf(SERIALIZERS),
        None,
        "Like key.serializer, for the value.",
    ),
    // Connections.
    served(
        "send.buffer.bytes",
        socket_buffer(),
        Some("131072"),
        "The socket's send buffer in bytes; -1 leaves it to the operating system, which then grows \
         it by itself. Too small starves connections with a long round trip.",
    ),
    served(
        "receive.buffer.bytes",
        socket_buffer(),
        Some("32768"),
        "The socket's receive buffer in bytes; -1 leaves it to the operating system.",
    ),
    served(
        "connections.max.idle.ms",
        Kind::Number(Unit::Millis, bounds(i64::MIN, i64::MAX, "it is a 64-bit number")),
        Some("540000"),
        "Idle time after which a connection is closed, in ms; a negative number keeps it. Keep it \
         below the brokers' own (600000), or both sides close at once.",
    ),
    served(
        "reconnect.backoff.ms",
        TIME,
        Some("50"),
        "Wait before connecting again to a broker, in ms; doubles up to reconnect.backoff.max.ms, \
         with 20 % jitter. 0 reconnects in a tight loop.",
    ),
    served(
        "reconnect.backoff.max.ms",
        TIME,
        Some("1000"),
        "Longest wait before connecting again, in ms. Must not be less than reconnect.backoff.ms.",
    ),
    served(
        "socket.connection.setup.timeout.ms",
        TIME_ABOVE_0,
        Some("10000"),
        "How long to wait for a connection, in ms; doubles with every failure in a row, up to \
         socket.connection.setup.timeout.max.ms, with 20 % jitter.",
    ),
    served(
        "socket.connection.setup.timeout.max.ms",
        TIME_ABOVE_0,
        Some("30000"),
        "Longest wait for a connection, in ms. Must not be less than \
         socket.connection.setup.timeout.ms.",
    ),
    // Metadata.
    served(
        "metadata.max.age.ms",
        TIME,
        Some("300000"),
        "Age at which metadata are fetched again even if nothing failed, in ms; finds new \
         partitions and brokers. 0 asks without a pause.",
    ),
    served(
        "metadata.max.idle.ms",
        Kind::Number(
            Unit::Millis,
            bounds(5000, i64::MAX, "less would forget a topic between two of its records"),
        ),
        Some("300000"),
        "Time after which a topic without new records is forgotten, in ms. The next record then \
         waits for its metadata.",
    ),
    served(
        "metadata.recovery.strategy",
        Kind::OneOf(&["rebootstrap", "none"]),
        Some("rebootstrap"),
        "What to do when no known broker answers: start again from bootstrap.servers, or go on \
         asking those known last, which may all be gone.",
    ),
    served(
        "metadata.recovery.rebootstrap.trigger.ms",
        TIME,
        Some("300000"),
        "Time without fresh metadata after which to start again from bootstrap.servers, in ms. Has \
         no effect with metadata.recovery.strategy=none.",
    ),
    // forebay's own.
    served(
        "forebay.restart.max",
        count(0, INT, "a count cannot be negative, and it is a 32-bit number"),
        Some("5"),
        "How often an actor may be restarted within forebay.restart.window.ms before it \
         is given up, which is reported. With 0 the first failure is final.",
    ),
    served(
        "forebay.restart.window.ms",
        TIME_ABOVE_0,
        Some("10000"),
        "The time over which restarts are counted, in ms. If it is very long, rare failures add up \
         to the limit.",
    ),
    // Known but not supported yet.
    later("transactions", "transactional.id", TEXT, None, "Name of the transactional producer."),
    later("transactions", "transaction.timeout.ms", TIME_INT, Some("60000"), "Time after which the coordinator aborts an open transaction."),
    later("transactions", "transaction.two.phase.commit.enable", FLAG, Some("false"), "Whether an external coordinator decides when transactions end."),
    later("rack awareness (Kafka 4.4)", "client.rack", TEXT, Some(""), "Rack that this client is in."),
    later("rack awareness (Kafka 4.4)", "partitioner.rack.aware", FLAG, Some("false"), "Whether records without a key go to partitions led from the same rack."),
    later("resolving names in the background (Kafka 4.4)", "bootstrap.resolve.timeout.ms", TIME, Some("0"), "How long to go on resolving bootstrap.servers."),
    later("the check for the wrong cluster (Kafka 4.4)", "metadata.cluster.check.enable", FLAG, Some("true"), "Whether brokers of another cluster are noticed."),
    later("a choice of allocation strategy (Kafka 4.4)", "buffer.memory.allocation.strategy", TEXT, Some("full"), "Whether a batch takes its memory whole or in pieces."),
    Key {
        status: Status::NotServedYet {
            what: "telemetry (KIP-714)",
            harmless: Some("false"),
        },
        ..later(
            "",
            "enable.metrics.push",
            FLAG,
            Some("true"),
            "Whether metrics are pushed to the brokers. Kafka's default is true; forebay pushes \
             nothing, so that false may be set and true may not.",
        )
    },
    Key {
        status: Status::NotServedYet {
            what: "interceptors by class name; give them in code",
            harmless: Some(""),
        },
        ..later(
            "",
            "interceptor.classes",
            Kind::List,
            Some(""),
            "Java classes that see each record. An empty list may be set.",
        )
    },
    later(SASL, "sasl.client.callback.handler.class", TEXT, None, "Java class that answers SASL questions on connections."),
    later(SASL, "sasl.jaas.config", TEXT, None, "Login module and its options, credentials among them."),
    later(SASL, "sasl.kerberos.kinit.cmd", TEXT, Some("/usr/bin/kinit"), "Path of kinit."),
    later(SASL, "sasl.kerberos.min.time.before.relogin", TIME, Some("60000"), "Shortest time between two logins."),
    later(SASL, "sasl.kerberos.service.name", TEXT, None, "Principal name that the brokers run as."),
    later(SASL, "sasl.kerberos.ticket.renew.jitter", Kind::Decimal, Some("0.05"), "Share of random jitter on the renewal time."),
    later(SASL, "sasl.kerberos.ticket.renew.window.factor", Kind::Decimal, Some("0.8"), "Share of a ticket's life after which it is renewed."),
    later(SASL, "sasl.login.callback.handler.class", TEXT, None, "Java class that answers SASL questions at login."),
    later(SASL, "sasl.login.class", TEXT, None, "Java class that logs in."),
    later(SASL, "sasl.login.connect.timeout.ms", TIME_INT, None, "Longest time to connect to the identity provider."),
    later(SASL, "sasl.login.read.timeout.ms", TIME_INT, None, "Longest time to read from the identity provider."),
    later(SASL, "sasl.login.refresh.buffer.seconds", SECONDS, Some("300"), "Time kept between a refresh and the expiry of a credential."),
    later(SASL, "sasl.login.refresh.min.period.seconds", SECONDS, Some("60"), "Shortest time before a credential is refreshed."),
    later(SASL, "sasl.login.refresh.window.factor", Kind::Decimal, Some("0.8"), "Share of a credential's life after which it is refreshed."),
    later(SASL, "sasl.login.refresh.window.jitter", Kind::Decimal, Some("0.05"), "Share of random jitter on the refresh."),
    later(SASL, "sasl.login.retry.backoff.max.ms", TIME, Some("10000"), "Longest wait between two attempts to log in."),
    later(SASL, "sasl.login.retry.backoff.ms", TIME, Some("100"), "First wait between two attempts to log in."),
    later(SASL, "sasl.mechanism", TEXT, Some("GSSAPI"), "SASL mechanism of the connections."),
    later(SASL, "sasl.oauthbearer.assertion.algorithm", TEXT, Some("RS256"), "Algorithm that signs the assertion."),
    later(SASL, "sasl.oauthbearer.assertion.claim.aud", TEXT, None, "Claim aud of the assertion."),
    later(SASL, "sasl.oauthbearer.assertion.claim.exp.seconds", SECONDS, Some("300"), "Lifetime of the assertion."),
    later(SASL, "sasl.oauthbearer.assertion.claim.iss", TEXT, None, "Claim iss of the assertion."),
    later(SASL, "sasl.oauthbearer.assertion.claim.jti.include", FLAG, Some("false"), "Whether the assertion has a claim jti."),
    later(SASL, "sasl.oauthbearer.assertion.claim.nbf.seconds", SECONDS, Some("60"), "How far back the assertion is valid."),
    later(SASL, "sasl.oauthbearer.assertion.claim.sub", TEXT, None, "Claim sub of the assertion."),
    later(SASL, "sasl.oauthbearer.assertion.file", TEXT, None, "File with a ready assertion."),
    later(SASL, "sasl.oauthbearer.assertion.private.key.file", TEXT, None, "File with the key that signs the assertion."),
    later(SASL, "sasl.oauthbearer.assertion.private.key.passphrase", TEXT, None, "Passphrase of that key."),
    later(SASL, "sasl.oauthbearer.assertion.template.file", TEXT, None, "File with headers and claims of the assertion."),
    later(SASL, "sasl.oauthbearer.client.credentials.client.id", TEXT, None, "Client id of the client credentials grant."),
    later(SASL, "sasl.oauthbearer.client.credentials.client.secret", TEXT, None, "Client secret of the client credentials grant."),
    later(SASL, "sasl.oauthbearer.clock.skew.seconds", SECONDS, Some("30"), "Tolerated difference of clocks."),
    later(SASL, "sasl.oauthbearer.expected.audience", Kind::List, Some(""), "Audiences that a token may have."),
    later(SASL, "sasl.oauthbearer.expected.issuer", TEXT, None, "Issuer that a token must have."),
    later(SASL, "sasl.oauthbearer.header.urlencode", FLAG, Some("false"), "Whether client id and secret are URL-encoded in the header."),
    later(SASL, "sasl.oauthbearer.jwks.endpoint.refresh.ms", TIME, Some("3600000"), "Time between two reads of the key set."),
    later(SASL, "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", TIME, Some("10000"), "Longest wait between two attempts to read the key set."),
    later(SASL, "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", TIME, Some("100"), "First wait between two attempts to read the key set."),
    later(SASL, "sasl.oauthbearer.jwks.endpoint.url", TEXT, None, "Where the key set is read."),
    later(SASL, "sasl.oauthbearer.jwt.retriever.class", TEXT, Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"), "Java class that fetches tokens."),
    later(SASL, "sasl.oauthbearer.jwt.validator.class", TEXT, Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"), "Java class that checks tokens."),
    later(SASL, "sasl.oauthbearer.scope", TEXT, None, "Scope to ask a token for. As a dotted TOML key it collides with the next one: quote it."),
    later(SASL, "sasl.oauthbearer.scope.claim.name", TEXT, Some("scope"), "Name of the claim that holds the scope."),
    later(SASL, "sasl.oauthbearer.sub.claim.name", TEXT, Some("sub"), "Name of the claim that holds the subject."),
    later(SASL, "sasl.oauthbearer.token.endpoint.url", TEXT, None, "Where tokens are fetched."),
    later(TLS, "ssl.cipher.suites", Kind::List, Some(""), "Cipher suites to offer."),
    later(TLS, "ssl.enabled.protocols", Kind::List, Some("TLSv1.2,TLSv1.3"), "TLS versions to offer."),
    later(TLS, "ssl.endpoint.identification.algorithm", TEXT, Some("https"), "How the broker's host name is checked; empty checks nothing."),
    later(TLS, "ssl.engine.factory.class", TEXT, None, "Java class that makes the TLS engine."),
    later(TLS, "ssl.key.password", TEXT, None, "Password of the private key."),
    later(TLS, "ssl.keystore.certificate.chain", TEXT, None, "Certificate chain, PEM."),
    later(TLS, "ssl.keystore.key", TEXT, None, "Private key, PEM."),
    later(TLS, "ssl.keystore.location", TEXT, None, "File with the private key and its certificate."),
    later(TLS, "ssl.keystore.password", TEXT, None, "Password of that file."),
    later(TLS, "ssl.keystore.type", TEXT, Some("JKS"), "Format of that file."),
    later(TLS, "ssl.protocol", TEXT, Some("TLSv1.3"), "TLS version to prefer."),
    later(TLS, "ssl.truststore.certificates", TEXT, None, "Trusted certificates, PEM."),
    later(TLS, "ssl.truststore.location", TEXT, None, "File with the trusted certificates."),
    later(TLS, "ssl.truststore.password", TEXT, None, "Password of that file."),
    later(TLS, "ssl.truststore.type", TEXT, Some("JKS"), "Format of that file."),
    // Only for Java.
    jvm("auto.include.jmx.reporter", "Whether JMX reports metrics."),
    jvm("config.providers", "Java classes that fill in ${...}; values are taken as they stand."),
    jvm("metric.reporters", "Java classes that report metrics."),
    jvm("metrics.num.samples", "Samples per metric; forebay's metrics go through a facade."),
    jvm("metrics.recording.level", "Which of Java's metrics are recorded."),
    jvm("metrics.sample.window.ms", "Time that one sample covers."),
    jvm("security.providers", "Java classes that provide security algorithms."),
    jvm("ssl.keymanager.algorithm", "Algorithm of Java's key manager."),
    jvm("ssl.provider", "Java's security provider."),
    jvm("ssl.secure.random.implementation", "Java's random number generator."),
    jvm("ssl.trustmanager.algorithm", "Algorithm of Java's trust manager."),
];

pub(super) const ROUND_ROBIN: &str = "org.apache.kafka.clients.producer.RoundRobinPartitioner";
pub(super) const DEFAULT_PARTITIONER: &str =
    "org.apache.kafka.clients.producer.internals.DefaultPartitioner";
pub(super) const UNIFORM_STICKY: &str =
    "org.apache.kafka.clients.producer.UniformStickyPartitioner";

const SERIALIZERS: &[&str] = &[
    "org.apache.kafka.common.serialization.BooleanSerializer",
    "org.apache.kafka.common.serialization.ByteArraySerializer",
    "org.apache.kafka.common.serialization.ByteBufferSerializer",
    "org.apache.kafka.common.serialization.BytesSerializer",
    "org.apache.kafka.common.serialization.DoubleSerializer",
    "org.apache.kafka.common.serialization.FloatSerializer",
    "org.apache.kafka.common.serialization.IntegerSerializer",
    "org.apache.kafka.common.serialization.ListSerializer",
    "org.apache.kafka.common.serialization.LongSerializer",
    "org.apache.kafka.common.serialization.ShortSerializer",
    "org.apache.kafka.common.serialization.StringSerializer",
    "org.apache.kafka.common.serialization.UUIDSerializer",
    "org.apache.kafka.common.serialization.VoidSerializer",
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    // The configuration names its providers, and each has its own settings.
    let name = match name.strip_prefix("config.providers.") {
        Some(_) => "config.providers",
        None => name,
    };
    KEYS.iter().find(|key| key.name == name)
}

const TLS: &str = "TLS";
const SASL: &str = "SASL";

const INT: i64 = i32::MAX as i64;
const FLAG: Kind = Kind::Flag;
const TEXT: Kind = Kind::Text(usize::MAX);
const TIME: Kind = Kind::Number(
    Unit::Millis,
    bounds(0, i64::MAX, "a time cannot be negative"),
);
const TIME_INT: Kind = Kind::Number(
    Unit::Millis,
    bounds(
        0,
        INT,
        "a time cannot be negative, and it is a 32-bit number",
    ),
);
const TIME_ABOVE_0: Kind = Kind::Number(
    Unit::Millis,
    bounds(1, i64::MAX, "nothing can happen in no time"),
);
const SECONDS: Kind = Kind::Number(
    Unit::Seconds,
    bounds(0, i64::MAX, "a time cannot be negative"),
);

const fn bounds(min: i64, max: i64, why: &'static str) -> Bounds {
    Bounds {
        min,
        max,
        or_minus_one: false,
        why,
    }
}

const fn bytes(min: i64, max: i64, why: &'static str) -> Kind {
    Kind::Number(Unit::Bytes, bounds(min, max, why))
}

const fn count(min: i64, max: i64, why: &'static str) -> Kind {
    Kind::Number(Unit::Count, bounds(min, max, why))
}

const fn level(min: i64, max: i64, or_minus_one: bool) -> Kind {
    let bounds = Bounds {
        or_minus_one,
        ..bounds(min, max, "the codec has no other levels")
    };
    Kind::Number(Unit::Level, bounds)
}

const fn socket_buffer() -> Kind {
    let bounds = Bounds {
        or_minus_one: true,
        ..bounds(1, INT, "a buffer has a size, and it is a 32-bit number")
    };
    Kind::Number(Unit::Bytes, bounds)
}

const fn served(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        status: Status::Served,
        doc,
    }
}

const fn later(
    what: &'static str,
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    let status = Status::NotServedYet {
        what,
        harmless: None,
    };
    Key {
        status,
        ..served(name, kind, default, doc)
    }
}

const fn jvm(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Status::JvmOnly,
        ..served(name, TEXT, None, doc)
    }
}
