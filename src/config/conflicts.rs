//! Finds values that are valid each by itself and wrong together. Each conflict is an error with
//! its reason. Java would silently turn something off.

use std::collections::BTreeSet;

use super::error::ProblemKind;
use super::keys::UNIFORM_STICKY;
use super::values::Values;
use crate::core::acks::Acks;
use crate::core::compress::Compression;
use crate::core::endpoint::Endpoint;

/// How many batches a broker remembers of each producer and partition.
const REMEMBERED_BATCHES: i64 = 5;

pub(super) fn find(values: &mut Values<'_>) {
    idempotence(values);
    transactions(values);
    unknown(values);
    spool(values);
    delivery_timeout(values);
    for (less, more) in [
        ("retry.backoff.ms", "retry.backoff.max.ms"),
        ("reconnect.backoff.ms", "reconnect.backoff.max.ms"),
        (
            "socket.connection.setup.timeout.ms",
            "socket.connection.setup.timeout.max.ms",
        ),
        ("batch.size", "buffer.memory"),
    ] {
        at_most(values, less, more);
    }
    partitioner(values);
    codec(values);
    dns(values);
}

/// Parses the bootstrap servers. Errors in them are added to the problems.
pub(super) fn bootstrap_servers(values: &mut Values<'_>) -> Vec<Endpoint> {
    const KEY: &str = "bootstrap.servers";
    let mut servers = Vec::new();
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for entry in values.list(KEY) {
        let problem = |kind, wrong| values.problem(kind, KEY, wrong).seen(entry);
        match entry.parse::<Endpoint>() {
            Err(error) => problems.push(problem(ProblemKind::WrongValue, error.to_string())),
            Ok(server) if !seen.insert(server.clone()) => {
                let origin = values.origin(KEY);
                tracing::warn!(%server, %origin, "stands twice in {KEY}; once counts");
            }
            Ok(server) => servers.push(server),
        }
    }
    if servers.is_empty() && problems.is_empty() && values.sound(&[KEY]) {
        let wrong = "no broker to start from".to_owned();
        problems.push(
            values
                .problem(ProblemKind::Missing, KEY, wrong)
                .advice("set it to one or more host:port, separated by commas"),
        );
    }
    values.problems.extend(problems);
    servers
}

pub(super) fn compression(values: &Values<'_>) -> Compression {
    match values.text("compression.type") {
        Some("gzip") => Compression::Gzip {
            level: values.sized("compression.gzip.level"),
        },
        Some("snappy") => Compression::Snappy,
        Some("lz4") => Compression::Lz4 {
            level: values.sized("compression.lz4.level"),
        },
        Some("zstd") => Compression::Zstd {
            level: values.sized("compression.zstd.level"),
        },
        _ => Compression::None,
    }
}

fn idempotence(values: &mut Values<'_>) {
    const KEY: &str = "enable.idempotence";
    if !values.sound(&[KEY]) || !values.flag(KEY) {
        return;
    }
    let idempotence = values.shown(KEY);
    let conflict = |name, needs: &str, why: &str, set: &str| {
        let wrong = format!("{idempotence} needs {needs}, {why}");
        let advice = format!("set {set}, or {KEY}=false explicitly");
        values
            .problem(ProblemKind::Conflict, name, wrong)
            .advice(advice)
    };
    let mut found = Vec::new();
    if values.sound(&["acks"]) && values.word::<Acks>("acks") != Some(Acks::All) {
        found.push(conflict(
            "acks",
            "acks=all",
            "for what only the leader has can be lost or doubled when it fails",
            "acks=all",
        ));
    }
    if values.sound(&["retries"]) && values.number("retries") == 0 {
        found.push(conflict(
            "retries",
            "retries above 0",
            "for a batch that is not sent again leaves a gap in the sequence",
            "retries above 0 or not at all",
        ));
    }
    let in_flight = "max.in.flight.requests.per.connection";
    if values.sound(&[in_flight]) && values.number(in_flight) > REMEMBERED_BATCHES {
        found.push(conflict(
            in_flight,
            "at most 5 requests in flight",
            "for brokers remember only the last 5 batches of a producer",
            "it to 5 or less",
        ));
    }
    values.problems.extend(found);
}

/// Empty text is none.
pub(super) fn transactional_id<'a>(values: &'a Values<'_>) -> Option<&'a str> {
    values.text("transactional.id").filter(|id| !id.is_empty())
}

fn transactions(values: &mut Values<'_>) {
    const KEY: &str = "transactional.id";
    const IDEMPOTENCE: &str = "enable.idempotence";
    if transactional_id(values).is_none() || !values.sound(&[KEY, IDEMPOTENCE]) {
        return;
    }
    if !values.flag(IDEMPOTENCE) {
        let wrong = format!(
            "needs {IDEMPOTENCE}, since a record that is written twice would be committed twice"
        );
        let advice = format!("take {IDEMPOTENCE}=false out, or {KEY}");
        values.report(ProblemKind::Conflict, KEY, wrong, advice);
    }
}

fn unknown(values: &mut Values<'_>) {
    const KEY: &str = "forebay.unknown";
    if values.text(KEY) != Some("resolve") {
        return;
    }
    let mut found = Vec::new();
    let conflict = |wrong: &str, advice: &str| {
        values
            .problem(ProblemKind::Conflict, KEY, wrong.to_owned())
            .advice(advice)
    };
    if values.sound(&["acks"]) && values.word::<Acks>("acks") != Some(Acks::All) {
        found.push(conflict(
            "resolve needs acks=all, since what only the leader has is no more in the log when it fails",
            "set acks=all, or take forebay.unknown=resolve out",
        ));
    }
    if values.sound(&["enable.idempotence"]) && !values.flag("enable.idempotence") {
        found.push(conflict(
            "resolve needs enable.idempotence, by whose numbers batches are found in the log",
            "set enable.idempotence=true, or take forebay.unknown=resolve out",
        ));
    }
    if transactional_id(values).is_some() {
        found.push(conflict(
            "resolve has no meaning with a transactional.id: the end of a transaction says what became of \
             its records, and its markers would end the fences",
            "take forebay.unknown=resolve out, or transactional.id",
        ));
    }
    values.problems.extend(found);
}

/// The directory of the spool, if there is one.
pub(super) fn spool_dir<'a>(values: &'a Values<'_>) -> Option<&'a str> {
    values
        .text("forebay.spool.dir")
        .filter(|dir| !dir.is_empty())
}

/// The topics whose records are in the spool; all if there is none.
pub(super) fn spool_topics(values: &Values<'_>) -> Vec<String> {
    values
        .list("forebay.spool.topics")
        .map(str::to_owned)
        .collect()
}

fn spool(values: &mut Values<'_>) {
    const KEY: &str = "forebay.spool.dir";
    const SEGMENT: &str = "forebay.spool.segment.bytes";
    if spool_dir(values).is_none() {
        return;
    }
    let mut found = Vec::new();
    let conflict = |key: &str, wrong: &str, advice: &str| {
        values
            .problem(ProblemKind::Conflict, key, wrong.to_owned())
            .advice(advice)
    };
    if values.sound(&["acks"]) && values.word::<Acks>("acks") != Some(Acks::All) {
        found.push(conflict(
            KEY,
            "a spool needs acks=all, since what is acked leaves it, and only the leader would have it",
            "set acks=all, or take forebay.spool.dir out",
        ));
    }
    if values.sound(&["enable.idempotence"]) && !values.flag("enable.idempotence") {
        found.push(conflict(
            KEY,
            "a spool needs enable.idempotence, by whose numbers it is found out what was delivered",
            "set enable.idempotence=true, or take forebay.spool.dir out",
        ));
    }
    if transactional_id(values).is_some() {
        found.push(conflict(
            KEY,
            "a spool has no meaning with a transactional.id: what a transaction holds when the producer \
             ends is aborted",
            "take forebay.spool.dir out, or transactional.id",
        ));
    }
    let (segment, most) = (
        values.number(SEGMENT),
        values.number("forebay.spool.max.bytes"),
    );
    if segment / 2 < values.number("max.request.size") {
        found.push(conflict(
            SEGMENT,
            "is less than twice max.request.size, and a record has to fit into one file",
            "raise it, or lower max.request.size",
        ));
    }
    if most / 3 < segment {
        found.push(conflict(
            "forebay.spool.max.bytes",
            "is less than three times forebay.spool.segment.bytes: one file is filled, one is ready, one \
             is given back",
            "raise it, or lower forebay.spool.segment.bytes",
        ));
    }
    values.problems.extend(found);
}

fn delivery_timeout(values: &mut Values<'_>) {
    const DELIVERY: &str = "delivery.timeout.ms";
    const LINGER: &str = "linger.ms";
    const REQUEST: &str = "request.timeout.ms";
    if !values.sound(&[DELIVERY, LINGER, REQUEST]) {
        return;
    }
    let least = values.number(LINGER).saturating_add(values.number(REQUEST));
    if values.number(DELIVERY) < least {
        let wrong = format!(
            "less than {} + {}, so that a record could expire before its first answer is due",
            values.shown(LINGER),
            values.shown(REQUEST)
        );
        let advice = format!("set it to {least} or more, or lower one of the others");
        values.report(ProblemKind::Conflict, DELIVERY, wrong, advice);
    }
}

fn at_most(values: &mut Values<'_>, less: &str, more: &str) {
    if values.sound(&[less, more]) && values.number(less) > values.number(more) {
        let wrong = format!("more than {}, which is its upper bound", values.shown(more));
        let advice = format!("lower it, or raise {more}");
        values.report(ProblemKind::Conflict, less, wrong, advice);
    }
}

fn partitioner(values: &mut Values<'_>) {
    const IGNORE_KEYS: &str = "partitioner.ignore.keys";
    let sticky = values.text("partitioner.class") == Some(UNIFORM_STICKY);
    let refused = values.is_set(IGNORE_KEYS) && !values.flag(IGNORE_KEYS);
    if sticky && refused && values.sound(&[IGNORE_KEYS]) {
        let wrong = format!("{} ignores keys", values.shown("partitioner.class"));
        let advice = "take one of the two out";
        values.report(ProblemKind::Conflict, IGNORE_KEYS, wrong, advice);
    }
}

fn codec(values: &mut Values<'_>) {
    let codec = compression(values);
    if !codec.is_built_in() {
        let wrong = format!(
            "forebay was built without its cargo feature `{}`",
            codec.name()
        );
        let advice = "build with the feature, or choose another codec";
        values.report(ProblemKind::FeatureOff, "compression.type", wrong, advice);
    }
}

fn dns(values: &mut Values<'_>) {
    const KEY: &str = "client.dns.lookup";
    if values.text(KEY) == Some("resolve_canonical_bootstrap_servers_only") {
        let wrong = "known but not served yet: canonical names, which Kerberos wants";
        let advice = "only use_all_dns_ips is served";
        values.report(ProblemKind::NotServedYet, KEY, wrong, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ProblemKind};

    /// The problems that these settings make, with valid bootstrap servers.
    fn problems(settings: &[(&str, &str)]) -> Vec<String> {
        let mut builder = Config::builder().bootstrap_servers("localhost:9092");
        for (key, value) in settings {
            builder = builder.set(*key, value);
        }
        match builder.build() {
            Ok(_) => Vec::new(),
            Err(error) => error.problems().iter().map(ToString::to_string).collect(),
        }
    }

    fn bootstrap(servers: &str) -> Vec<String> {
        problems(&[("bootstrap.servers", servers)])
    }

    #[test]
    fn idempotence_excludes_what_java_would_quietly_drop_it_for() {
        assert_eq!(
            problems(&[("acks", "1")]),
            [
                "acks = \"1\" (builder): enable.idempotence (true, default) needs acks=all, for \
                 what only the leader has can be lost or doubled when it fails; set acks=all, or \
                 enable.idempotence=false explicitly"
            ]
        );
        let all = [
            ("acks", "0"),
            ("retries", "0"),
            ("max.in.flight.requests.per.connection", "6"),
        ];
        assert_eq!(problems(&all).len(), 3);
        let mut off = all.to_vec();
        off.push(("enable.idempotence", "false"));
        assert_eq!(problems(&off), [""; 0]);
        let mut on = all.to_vec();
        on.push(("enable.idempotence", "true"));
        assert!(problems(&on)[0].contains("(true, builder)"));
    }

    #[test]
    fn delivery_must_leave_time_for_one_request() {
        assert_eq!(
            problems(&[("delivery.timeout.ms", "30004")]),
            [
                "delivery.timeout.ms = \"30004\" (builder): less than linger.ms (5, default) + \
                 request.timeout.ms (30000, default), so that a record could expire before its \
                 first answer is due; set it to 30005 or more, or lower one of the others"
            ]
        );
        assert_eq!(problems(&[("delivery.timeout.ms", "30005")]), [""; 0]);
        assert_eq!(problems(&[("linger.ms", "9223372036854775807")]).len(), 1);
    }

    #[test]
    fn a_bound_is_not_below_what_it_bounds() {
        for (less, value, more) in [
            (
                "retry.backoff.ms",
                "1001",
                "retry.backoff.max.ms (1000, default)",
            ),
            ("reconnect.backoff.ms", "1001", "reconnect.backoff.max.ms"),
            (
                "socket.connection.setup.timeout.ms",
                "30001",
                "socket.connection.setup.timeout.max.ms",
            ),
            ("batch.size", "33554433", "buffer.memory"),
        ] {
            let problems = problems(&[(less, value)]);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains(more), "{problems:?}");
        }
        assert_eq!(problems(&[("max.request.size", "2147483647")]), [""; 0]);
    }

    #[test]
    fn uniform_sticky_ignores_keys() {
        let sticky = "org.apache.kafka.clients.producer.UniformStickyPartitioner";
        let class = ("partitioner.class", sticky);
        assert_eq!(problems(&[class]), [""; 0]);
        assert_eq!(
            problems(&[class, ("partitioner.ignore.keys", "true")]),
            [""; 0]
        );
        let problems = problems(&[class, ("partitioner.ignore.keys", "false")]);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_codec_that_was_left_out_names_its_feature() {
        for (codec, built_in) in [
            ("none", true),
            ("gzip", cfg!(feature = "gzip")),
            ("snappy", cfg!(feature = "snappy")),
            ("lz4", cfg!(feature = "lz4")),
            ("zstd", cfg!(feature = "zstd")),
        ] {
            let problems = problems(&[("compression.type", codec)]);
            assert_eq!(problems.is_empty(), built_in, "{codec}");
            let feature = format!("feature `{codec}`");
            assert!(problems.iter().all(|it| it.contains(&feature)));
        }
    }

    #[test]
    fn bootstrap_servers_count_once_each() {
        let config = Config::new("a:1, [::1]:2, A:1,a:1").expect("as Java takes it");
        let servers: Vec<_> = config
            .bootstrap_servers
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(servers, ["a:1", "[::1]:2"]);
        assert_eq!(bootstrap("a:1, [::1]:2,"), [""; 0]);
        assert!(bootstrap(" , ")[0].contains("no broker to start from"));
        let error = Config::builder().build().unwrap_err();
        assert_eq!(error.problems()[0].kind, ProblemKind::Missing);
        assert_eq!(
            bootstrap("a:1,A:1,b,c:0"),
            [
                "bootstrap.servers = \"b\" (builder): the port is missing; write host:port, \
                 brokers usually listen on 9092",
                "bootstrap.servers = \"c:0\" (builder): the port is not a number from 1 to 65535, \
                 which is all that TCP has",
            ]
        );
    }
}
