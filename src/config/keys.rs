//! The table of all configuration keys: every producer key of Kafka 4.3, the few that 4.4 adds, and
//! forebay's own. Defaults and bounds are Kafka's where Kafka has them. `security.rs` has the rows of TLS and
//! logins, `row.rs` what rows are made of.

mod row;
mod security;

use super::key::{Key, Kind, Status, Unit};
use row::{
    FLAG, INT, TEXT, TIME, TIME_ABOVE_0, TIME_INT, bounds, bytes, count, jvm, later, level, served,
    socket_buffer,
};
use security::SECURITY;

/// Every key that forebay knows.
///
/// ```
/// use forebay::config::KEYS;
///
/// let linger = KEYS.iter().find(|key| key.name == "linger.ms").expect("a key of Kafka's");
/// assert_eq!(linger.default, Some("5"));
/// ```
pub static KEYS: &[Key] = &joined::<{ GENERAL.len() + SECURITY.len() }>(GENERAL, SECURITY);

/// Whatever is not of TLS and logins.
#[rustfmt::skip] // A row of the long tail is one line.
const GENERAL: &[Key] = &[
    // Where the cluster is.
    served(
        "bootstrap.servers",
        Kind::List,
        None,
        "Brokers to ask first for all the others, as host:port, separated by commas; required. \
         Two or more, so that one may be down. Of two that are the same, the second is dropped \
         with a warning.",
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
        "Time in ms within which every accepted record has its outcome, retries included. The clock \
         of a batch starts with its first record; one that joins later has what is left. At least \
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
         partition that is written to takes one from buffer.memory, or a sixteenth of it where \
         little is sent, or what its records need where buffer.memory is nearly used up.",
    ),
    served(
        "linger.ms",
        TIME,
        Some("5"),
        "How long a batch waits for more records, in ms, at most: one whose outcome is awaited goes as \
         soon as nothing is in flight to its broker. 0 sends as soon as a request can go. Part of \
         delivery.timeout.ms.",
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
        "Has no effect: the codec has one speed. Java has 1 as the fastest, 17 as the smallest.",
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
         below the brokers' own (600000), or both sides close at once. Until then the kernel probes it \
         each minute, since clouds drop connections that are silent for four.",
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
         partitions and brokers. 0 asks again after each retry.backoff.ms.",
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
        "What to do when no known broker answers, or one says that it belongs to another cluster now: \
         start again from bootstrap.servers, or go on asking those known last, which may all be gone.",
    ),
    served(
        "metadata.recovery.rebootstrap.trigger.ms",
        TIME,
        Some("300000"),
        "Time for which brokers were asked for metadata and none answered, after which to start again \
         from bootstrap.servers though not all known ones were tried, in ms. With 0 only the first \
         attempt goes to a known broker. Has no effect with metadata.recovery.strategy=none. KIP-1102.",
    ),
    served(
        "metadata.cluster.check.enable",
        FLAG,
        Some("true"),
        "Whether brokers are told whom a connection is meant for. From Kafka 4.4 on one that is another \
         by now, or of another cluster, says so, and the brokers are looked up again by \
         bootstrap.servers. Has no effect with metadata.recovery.strategy=none. KIP-1242.",
    ),
    // Transactions.
    served(
        "transactional.id",
        TEXT,
        None,
        "Name of a producer that sends in transactions, which makes it a transactional one. It stays the \
         same when the producer is started again, and no two that run at a time have the same: the newer \
         one fences the other.",
    ),
    served(
        "transaction.timeout.ms",
        TIME_INT,
        Some("60000"),
        "Time from the first record of a transaction after which the coordinator aborts it, in ms, if it \
         was not ended before. Readers of what is committed wait for it meanwhile. The brokers' \
         transaction.max.timeout.ms is its upper bound, which is 15 minutes by default. Has no effect \
         without transactional.id.",
    ),
    // forebay's own.
    served(
        "forebay.producer.id.expiration.ms",
        TIME_ABOVE_0,
        Some("86400000"),
        "The lowest producer.id.expiration.ms of the brokers, in ms, which clients cannot ask for. \
         A broker forgets a producer when the timestamps of its last records are older, and would \
         append a retry again. So a batch that may be written already and whose records are older \
         than 23/24 of this is not retried: they are unknown. Topics with the broker's append time \
         are not concerned. And when a producer has been silent for so long that brokers may have \
         forgotten it, or for five minutes, one batch goes alone. If it is higher than the brokers', \
         retries of old records may double them.",
    ),
    served(
        "forebay.unknown",
        Kind::OneOf(&["tell", "resolve"]),
        Some("tell"),
        "What becomes of records that may be in the log or not: tell says that they are unknown; resolve \
         looks for them in the log first, behind a fence that keeps late copies out, and says acked or \
         not written. It takes READ on the topics, and WRITE on transactional ids with \
         forebay.unknown.transactional.id.prefix, without which the next record has to be the fence. \
         Needs acks=all and enable.idempotence, and excludes transactional.id.",
    ),
    served(
        "forebay.unknown.resolve.timeout.ms",
        TIME_INT,
        Some("60000"),
        "How long past delivery.timeout.ms records are looked for, in ms, before they are unknown after \
         all. Every accepted record has its outcome within both together. Has no effect without \
         forebay.unknown=resolve, but with a transactional.id: then it is how long a log is tried that \
         cannot be read, where only that tells whether a transaction was committed.",
    ),
    served(
        "forebay.unknown.resolve.max.bytes",
        bytes(1, i64::MAX, "nothing could be read, and it is a 64-bit number"),
        Some("1073741824"),
        "How much of a partition's log is read for one look, in bytes, with what others have written \
         there meanwhile. What was not found by then is unknown. Has no effect without \
         forebay.unknown=resolve or a transactional.id.",
    ),
    served(
        "forebay.unknown.transactional.id.prefix",
        TEXT,
        Some("forebay-"),
        "What the transactional ids begin with whose markers are the fences; the rest is random for each \
         start. No record is sent in a transaction for that. Has no effect without \
         forebay.unknown=resolve.",
    ),
    served(
        "forebay.spool.dir",
        TEXT,
        None,
        "Directory of the spool, one for each producer; when not set, there is none. A record is accepted \
         when it is in the spool, and what has no outcome when the producer ends is delivered by the next \
         one on the directory, once and in order. Needs acks=all and enable.idempotence, READ on the \
         topics, and WRITE on transactional ids with forebay.unknown.transactional.id.prefix; excludes \
         transactional.id.",
    ),
    served(
        "forebay.spool.topics",
        Kind::List,
        None,
        "Topics whose records are in the spool, separated by commas; when not set, all. Others of which a \
         former producer has left records are there as long as the producer lives. Has no effect without \
         forebay.spool.dir.",
    ),
    served(
        "forebay.spool.durability",
        Kind::OneOf(&["process", "machine", "spill"]),
        Some("process"),
        "What an accepted record survives: the end of the process, however it comes; or that of the \
         machine, too, for which a send waits until the disk has the record. try_send does not wait. With \
         spill only what memory has no room for is in the spool: an outage of the brokers is waited out, and \
         what is in memory ends with the process. Has no effect without forebay.spool.dir.",
    ),
    served(
        "forebay.spool.in.doubt",
        Kind::OneOf(&["resend", "unknown"]),
        Some("resend"),
        "What becomes of records that a former producer may have written where the log cannot tell, as part \
         of it is gone or more would have to be read than forebay.unknown.resolve.max.bytes: they are sent \
         again, and may be there twice; or they are unknown, and may not be there. A warning says so, with \
         their number. Has no effect without forebay.spool.dir.",
    ),
    served(
        "forebay.spool.max.bytes",
        bytes(0, i64::MAX, "a size cannot be negative, and it is a 64-bit number"),
        Some("10737418240"),
        "Upper bound of the spool's segments on the disk, in bytes. When it is used up, callers wait up to \
         max.block.ms. Beside them are up to three spare files of forebay.spool.segment.bytes, the journal, \
         and what is rejected or damaged. At least three times forebay.spool.segment.bytes. Has no effect \
         without forebay.spool.dir.",
    ),
    served(
        "forebay.spool.max.age.ms",
        TIME_ABOVE_0,
        Some("604800000"),
        "How long a record waits in the spool at most, in ms, by the wall clock. One that was never sent by \
         then is not written; it goes to the directory rejected of the spool, as a line of JSON. One that \
         may be in the log goes on. It is looked at an eighth of this, or each ten minutes; of a partition \
         with few records it may be up to an hour late, and never early. Has no effect without \
         forebay.spool.dir.",
    ),
    served(
        "forebay.spool.segment.bytes",
        bytes(1 << 20, 1 << 30, "a segment is of 1 MiB to 1 GiB"),
        Some("67108864"),
        "Size of the spool's files, in bytes, which are allocated before they are written. At least twice \
         max.request.size. Has no effect without forebay.spool.dir.",
    ),
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
    later("two-phase commit (KIP-939), which brokers of Kafka 4.3 do not serve", "transaction.two.phase.commit.enable", FLAG, Some("false"), "Whether an external coordinator decides when transactions end."),
    later("rack awareness (Kafka 4.4)", "client.rack", TEXT, Some(""), "Rack that this client is in."),
    later("rack awareness (Kafka 4.4)", "partitioner.rack.aware", FLAG, Some("false"), "Whether records without a key go to partitions led from the same rack."),
    later("resolving names in the background (Kafka 4.4)", "bootstrap.resolve.timeout.ms", TIME, Some("0"), "How long to go on resolving bootstrap.servers."),
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
    // Only for Java.
    jvm("auto.include.jmx.reporter", "Whether JMX reports metrics."),
    jvm("metric.reporters", "Java classes that report metrics."),
    jvm("metrics.num.samples", "Samples per metric; forebay's metrics go through a facade."),
    jvm("metrics.recording.level", "Which of Java's metrics are recorded."),
    jvm("metrics.sample.window.ms", "Time that one sample covers."),
];

const fn joined<const N: usize>(first: &[Key], second: &[Key]) -> [Key; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() {
            first[at]
        } else {
            second[at - first.len()]
        };
        at += 1;
    }
    all
}

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

/// Whether the value of this key must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    find(name).is_some_and(|key| key.kind == Kind::Secret)
}
