//! What answers mean for a producer, and what to change.

use std::collections::BTreeMap;
use std::time::Duration;

use super::line::{By, Found, Shown, Verdict};
use crate::config::{Acks, Config};
use crate::core::broker_error::BrokerError;
use crate::core::security::Certificate;
use crate::core::shown;
use crate::core::wire::describe_configs::TopicConfigs;
use crate::core::wire::metadata::PartitionInfo;
use crate::core::wire::{Api, InitProducerIdResponse, MetadataResponse, TopicMetadata, Versions};

/// Days before its end from which on a certificate is warned of.
const SOON: i64 = 30;

/// Partitions, brokers and the like that are listed by number.
const MOST_LISTED: usize = 10;

const UNKNOWN_TOPIC: i16 = 3;
const TOPIC_DENIED: i16 = 29;
const CLUSTER_DENIED: i16 = 31;
const LOADING: i16 = 14;

/// The bits of what may be done, by Kafka's numbers (`AclOperation`).
const OPERATIONS: [(i32, &str); 10] = [
    (2, "All"),
    (3, "Read"),
    (WRITE, "Write"),
    (5, "Create"),
    (6, "Delete"),
    (7, "Alter"),
    (8, "Describe"),
    (10, "DescribeConfigs"),
    (11, "AlterConfigs"),
    (12, "IdempotentWrite"),
];
const ALL: i32 = 2;
const WRITE: i32 = 4;

/// The configuration of a topic that bounds what is sent to it.
pub(super) const LARGEST: &str = "max.message.bytes";
pub(super) const LEAST_IN_SYNC: &str = "min.insync.replicas";

fn listed<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter();
    let first: Vec<_> = all
        .by_ref()
        .take(MOST_LISTED)
        .map(|it| it.to_string())
        .collect();
    match all.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Adds the certificates that were shown, and what is to be said of them. An error that is there already
/// says what is wrong with the broker's.
pub(super) fn certificates(
    found: &mut Found,
    (broker, own): (&[Certificate], &[Certificate]),
    fits_host: Result<(), &str>,
    now: Duration,
) {
    let accepted = found.verdict == Verdict::Ok;
    let shown = |by| {
        move |it: &Certificate| Shown {
            by,
            days_left: it.days_left(now),
            certificate: it.clone(),
        }
    };
    found.certificates = broker.iter().map(shown(By::Broker)).collect();
    found.certificates.extend(own.iter().map(shown(By::Client)));
    if let (Err(host), true) = (fits_host, accepted) {
        found.note(
            Verdict::Warning,
            format!(
                "the broker's certificate is not for {host}, and that is not checked \
                 (ssl.endpoint.identification.algorithm is empty)"
            ),
        );
    }
    let broker = if accepted { broker } else { &[] };
    let of_broker = broker.iter().map(|it| ("the broker", it));
    let of_client = own.iter().map(|it| ("this client", it));
    for (whose, certificate) in of_broker.chain(of_client) {
        let Certificate { subject, until, .. } = certificate;
        let left = certificate.days_left(now);
        let advice = match left {
            SOON.. => continue,
            0.. => "replace it before then",
            _ => "replace it",
        };
        let ends = if left < 0 { "expired at" } else { "expires at" };
        let text = format!("the certificate {subject} of {whose} {ends} {until}: {advice}");
        found.note(Verdict::Warning, text);
    }
}

/// Which of the requests that a producer sends the broker has in a version that is known here.
pub(super) fn versions(versions: &Versions, idempotent: bool) -> Found {
    let mut needed = vec![Api::Produce, Api::Metadata];
    needed.extend(idempotent.then_some(Api::InitProducerId));
    let mut chosen = Vec::new();
    let mut missing = Vec::new();
    for api in needed {
        match versions.best(api) {
            Ok(best) => {
                let (oldest, newest) = versions.range(api).unwrap_or((best, best));
                chosen.push(format!("{api} {best} of {oldest} to {newest}"));
            }
            Err(error) => missing.push(match api {
                Api::InitProducerId => format!(
                    "{error}; without it there is no idempotence: set enable.idempotence=false"
                ),
                _ => format!("{error}; is this a Kafka broker, of 0.11 or newer?"),
            }),
        }
    }
    let mut found = Found::ok(chosen.join(", "));
    for text in missing {
        found.note(Verdict::Failed, text);
    }
    found
}

/// What the broker says of its cluster. `expected`: what others said, and who did.
pub(super) fn cluster(
    metadata: &MetadataResponse,
    expected: Option<(Option<&str>, &str)>,
) -> Found {
    if metadata.error_code != 0 {
        let error = BrokerError::new(metadata.error_code);
        return Found::failed(format!("the broker does not tell: {error}"));
    }
    let shown = |text: &str| shown::Shown { text, most: 100 }.to_string();
    let name = |id: Option<&str>| id.map_or_else(|| "one without an id".to_owned(), shown);
    let id = metadata.cluster_id.as_deref();
    let nodes = metadata.nodes.iter();
    let nodes = nodes.map(|node| format!("{} at {}:{}", node.id, shown(&node.host), node.port));
    let count = metadata.nodes.len();
    let brokers = if count == 1 { "broker" } else { "brokers" };
    let mut found = match count {
        0 => Found::failed("the broker names no broker, not even itself; see its log"),
        _ => Found::ok(format!(
            "{}, {count} {brokers}: {}",
            name(id),
            listed(nodes)
        )),
    };
    if let Some((other, who)) = expected
        && other != id
    {
        let other = name(other);
        found.note(
            Verdict::Failed,
            format!("{who} belongs to another cluster, {other}; correct bootstrap.servers"),
        );
    }
    if !metadata.throttle.is_zero() {
        let text = format!(
            "a quota holds this client back for {:?}; records will wait",
            metadata.throttle
        );
        found.note(Verdict::Warning, text);
    }
    found
}

/// Whether there is the topic, and somebody to take its records.
pub(super) fn topic(topic: &TopicMetadata, metadata: &MetadataResponse, who: &str) -> Found {
    let name = &topic.name;
    match topic.error_code {
        0 => {}
        UNKNOWN_TOPIC => {
            return Found::failed(format!(
                "{name} is not there; create it (a producer that sends to it does, if brokers have \
                 auto.create.topics.enable=true and let it)"
            ));
        }
        TOPIC_DENIED => {
            return Found::failed(format!(
                "{who} may not even see {name}, or it is not there (TOPIC_AUTHORIZATION_FAILED); {}",
                grant(who, name)
            ));
        }
        code => {
            let error = BrokerError::new(code);
            return Found::failed(format!("{name} cannot be used: {error}"));
        }
    }
    let mut led: BTreeMap<i32, usize> = BTreeMap::new();
    let known = |leader| metadata.nodes.iter().any(|node| node.id == leader);
    let (with, without): (Vec<&PartitionInfo>, Vec<&PartitionInfo>) =
        topic.partitions.iter().partition(|it| known(it.leader));
    for partition in with {
        *led.entry(partition.leader).or_default() += 1;
    }
    let leaders = led
        .iter()
        .map(|(leader, count)| format!("{count} led by broker {leader}"));
    let count = topic.partitions.len();
    let partitions = if count == 1 {
        "partition"
    } else {
        "partitions"
    };
    let mut found = match count {
        0 => Found::failed(format!("{name} has no partition")),
        _ => Found::ok(format!("{name}, {count} {partitions}: {}", listed(leaders))),
    };
    if !without.is_empty() {
        let numbers = listed(without.iter().map(|it| it.partition));
        found.note(
            Verdict::Failed,
            format!("no leader: {numbers}; records for them wait. Which brokers are down?"),
        );
    }
    found
}

/// Whether this client may write to the topic, as the broker says it without a record being sent.
pub(super) fn write(topic: &TopicMetadata, who: &str) -> Found {
    let name = &topic.name;
    let Some(bits) = topic.operations else {
        let text = format!("this broker does not tell what {who} may do with {name}");
        return Found::of(Verdict::Unknown, text);
    };
    let may = |operation: i32| bits & (1 << operation) != 0;
    let allowed = OPERATIONS.iter().filter(|(bit, _)| may(*bit));
    let allowed: Vec<_> = allowed.map(|(_, name)| *name).collect();
    let allowed = match allowed.as_slice() {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    match may(WRITE) || may(ALL) {
        true => Found::ok(format!("{who} may write to {name} ({allowed})")),
        false => Found::failed(format!(
            "{who} may not write to {name}, but only: {allowed}; {}",
            grant(who, name)
        )),
    }
}

fn grant(who: &str, topic: &str) -> String {
    format!(
        "allow it: kafka-acls.sh --add --allow-principal '{who}' --operation Write --topic {topic}"
    )
}

/// Whether a broker is about to be able to give producer ids, as one that has just started.
pub(super) fn is_loading(answer: &InitProducerIdResponse) -> bool {
    answer.error_code == LOADING
}

/// Whether this client may have a producer id, which idempotence needs.
pub(super) fn producer_id(answer: &InitProducerIdResponse, who: &str) -> Found {
    match answer.error_code {
        0 => Found::ok(format!("{who} may be idempotent")),
        CLUSTER_DENIED => Found::failed(format!(
            "{who} may not be idempotent (CLUSTER_AUTHORIZATION_FAILED); allow it: kafka-acls.sh \
             --add --allow-principal '{who}' --operation IdempotentWrite --cluster (since Kafka \
             2.8, Write on any topic is enough), or set enable.idempotence=false"
        )),
        code => Found::failed(format!(
            "the broker gives no producer id: {}; if that stays, see its log, or set \
             enable.idempotence=false",
            BrokerError::new(code)
        )),
    }
}

/// Whether what this producer sends fits the topic.
pub(super) fn limits(topic: &TopicMetadata, configs: &TopicConfigs, config: &Config) -> Found {
    let name = &topic.name;
    if configs.error_code == TOPIC_DENIED {
        let text = format!("it takes DescribeConfigs to see how {name} is configured");
        return Found::of(Verdict::Unknown, text);
    }
    if configs.error_code != 0 {
        let error = BrokerError::new(configs.error_code);
        let text = format!("the broker does not tell how {name} is configured: {error}");
        return Found::of(Verdict::Unknown, text);
    }
    let (largest, least) = (configs.number(LARGEST), configs.number(LEAST_IN_SYNC));
    let told = [(LARGEST, largest), (LEAST_IN_SYNC, least)];
    let told = told
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", (*value)?)));
    let mut found = Found::ok(format!("{name} has {}", listed(told)));
    if let Some(largest) = largest {
        let most = u64::try_from(config.max_request_size).unwrap_or(u64::MAX);
        if most > largest {
            found.note(
                Verdict::Warning,
                format!(
                    "records of more than {largest} bytes are refused, and max.request.size \
                     ({most}) lets them through; lower it, or raise {LARGEST}"
                ),
            );
        }
        let batch = u64::try_from(config.batch_size).unwrap_or(u64::MAX);
        if batch > largest {
            found.note(
                Verdict::Warning,
                format!(
                    "batches of more than {largest} bytes are refused, split and sent again; \
                     lower batch.size ({batch}), or raise {LARGEST}"
                ),
            );
        }
    }
    let least = least.filter(|_| config.acks == Acks::All);
    if let Some(least) = least.and_then(|it| usize::try_from(it).ok()) {
        let too_few = topic.partitions.iter().filter(|it| it.in_sync < least);
        let too_few: Vec<_> = too_few.map(|it| it.partition).collect();
        if !too_few.is_empty() {
            let numbers = listed(&too_few);
            found.note(
                Verdict::Failed,
                format!(
                    "fewer replicas in sync than {LEAST_IN_SYNC}: partition {numbers}; their \
                     records are refused (NOT_ENOUGH_REPLICAS) until more brokers are back"
                ),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::core::wire::{Node, VersionsResponse};

    fn partition(partition: i32, leader: i32, in_sync: usize) -> PartitionInfo {
        PartitionInfo {
            error_code: 0,
            partition,
            leader,
            leader_epoch: 1,
            replicas: 3,
            in_sync,
        }
    }

    fn orders(error_code: i16, partitions: Vec<PartitionInfo>) -> TopicMetadata {
        TopicMetadata {
            error_code,
            name: "orders".to_owned(),
            id: Uuid::nil(),
            partitions,
            operations: None,
        }
    }

    fn metadata(nodes: i32) -> MetadataResponse {
        let node = |id| Node {
            id,
            host: "broker".to_owned(),
            port: 9092,
            rack: None,
        };
        MetadataResponse {
            throttle: Duration::ZERO,
            nodes: (0..nodes).map(node).collect(),
            cluster_id: Some("one".to_owned()),
            controller_id: 0,
            topics: Vec::new(),
            error_code: 0,
        }
    }

    fn told(found: &Found) -> (Verdict, String) {
        (
            found.verdict,
            format!("{}; {}", found.text, found.notes.join("; ")),
        )
    }

    #[track_caller]
    fn says(found: &Found, verdict: Verdict, phrases: &[&str]) {
        let (got, text) = told(found);
        assert_eq!(got, verdict, "{text}");
        for phrase in phrases {
            assert!(text.contains(phrase), "{text}");
        }
    }

    #[test]
    fn a_broker_without_what_a_producer_needs_is_of_no_use() {
        let versions_of = |keys: &[(i16, i16, i16)]| {
            let mut body = vec![0, 0];
            body.extend((keys.len() as i32).to_be_bytes());
            body.extend(
                keys.iter()
                    .flat_map(|it| [it.0, it.1, it.2])
                    .flat_map(i16::to_be_bytes),
            );
            match Versions::decode(0, &body.into()) {
                Ok(VersionsResponse::Versions(versions)) => versions,
                other => panic!("{other:?}"),
            }
        };
        let all = versions_of(&[(0, 3, 9), (3, 0, 9), (22, 0, 1)]);
        says(
            &versions(&all, true),
            Verdict::Ok,
            &["Produce 9 of 3 to 9, Metadata 9 of 0 to 9, InitProducerId 1 of 0 to 1"],
        );
        let some = versions_of(&[(0, 0, 2), (3, 0, 9)]);
        says(
            &versions(&some, false),
            Verdict::Failed,
            &["no common version of Produce"],
        );
        says(
            &versions(&some, true),
            Verdict::Failed,
            &["set enable.idempotence=false"],
        );
    }

    #[test]
    fn partitions_without_a_leader_are_named() {
        let all = vec![partition(0, 0, 3), partition(1, 1, 3), partition(2, 0, 3)];
        let whole = topic(&orders(0, all), &metadata(2), "User:a");
        says(
            &whole,
            Verdict::Ok,
            &["orders, 3 partitions: 2 led by broker 0, 1 led by broker 1"],
        );
        // The last is led by a broker that nobody knows.
        let some = vec![partition(0, 0, 3), partition(1, -1, 3), partition(2, 7, 3)];
        let broken = topic(&orders(0, some), &metadata(2), "User:a");
        says(&broken, Verdict::Failed, &["no leader: 1, 2;"]);
        says(
            &topic(&orders(0, vec![]), &metadata(1), "User:a"),
            Verdict::Failed,
            &["no partition"],
        );
        says(
            &topic(&orders(3, vec![]), &metadata(1), "User:a"),
            Verdict::Failed,
            &["create it"],
        );
        says(
            &topic(&orders(29, vec![]), &metadata(1), "User:a"),
            Verdict::Failed,
            &[
                "User:a may not even see orders",
                "--operation Write --topic orders",
            ],
        );
        says(
            &topic(&orders(17, vec![]), &metadata(1), "User:a"),
            Verdict::Failed,
            &["INVALID_TOPIC_EXCEPTION (17)"],
        );
    }

    #[test]
    fn the_bit_of_writing_decides() {
        for (operations, verdict, phrase) in [
            (None, Verdict::Unknown, "does not tell"),
            (Some(1 << 4), Verdict::Ok, "(Write)"),
            (Some(1 << 2), Verdict::Ok, "(All)"),
            (
                Some((1 << 3) | (1 << 8)),
                Verdict::Failed,
                "but only: Read, Describe;",
            ),
            (Some(0), Verdict::Failed, "but only: nothing;"),
        ] {
            let topic = TopicMetadata {
                operations,
                ..orders(0, vec![])
            };
            says(&write(&topic, "User:a"), verdict, &[phrase]);
        }
    }

    #[test]
    fn brokers_of_two_clusters_are_told_apart() {
        says(
            &cluster(&metadata(1), None),
            Verdict::Ok,
            &["one, 1 broker: 0 at broker:9092"],
        );
        says(
            &cluster(&metadata(1), Some((Some("one"), "a:1"))),
            Verdict::Ok,
            &[],
        );
        let other = cluster(&metadata(1), Some((Some("two"), "a:1")));
        says(
            &other,
            Verdict::Failed,
            &["a:1 belongs to another cluster, two"],
        );
        says(
            &cluster(&metadata(0), None),
            Verdict::Failed,
            &["names no broker"],
        );
        let throttled = MetadataResponse {
            throttle: Duration::from_millis(120),
            ..metadata(1)
        };
        says(&cluster(&throttled, None), Verdict::Warning, &["for 120ms"]);
    }

    #[test]
    fn a_producer_id_that_is_denied_says_what_to_allow() {
        let answer = |error_code| InitProducerIdResponse {
            throttle: Duration::ZERO,
            error_code,
            producer_id: 1,
            epoch: 0,
        };
        says(
            &producer_id(&answer(0), "User:a"),
            Verdict::Ok,
            &["may be idempotent"],
        );
        says(
            &producer_id(&answer(31), "User:a"),
            Verdict::Failed,
            &[
                "--operation IdempotentWrite --cluster",
                "enable.idempotence=false",
            ],
        );
        says(
            &producer_id(&answer(16), "User:a"),
            Verdict::Failed,
            &["NOT_COORDINATOR (16)"],
        );
    }

    #[test]
    fn what_does_not_fit_the_topic_is_warned_of() {
        let configs = |error_code, largest: &str| TopicConfigs {
            error_code,
            values: vec![
                (LARGEST.to_owned(), Some(largest.to_owned())),
                (LEAST_IN_SYNC.to_owned(), Some("2".to_owned())),
            ],
        };
        let config = Config::new("localhost:9092").expect("a configuration");
        let judge = |topic: &TopicMetadata, configs| limits(topic, &configs, &config);
        let whole = orders(0, vec![partition(0, 0, 2)]);
        says(
            &judge(&whole, configs(0, "1048588")),
            Verdict::Ok,
            &["max.message.bytes=1048588"],
        );
        says(
            &judge(&whole, configs(29, "0")),
            Verdict::Unknown,
            &["it takes DescribeConfigs"],
        );
        says(
            &judge(&whole, configs(0, "10000")),
            Verdict::Warning,
            &["max.request.size (1048576)", "lower batch.size (16384)"],
        );
        let short = orders(0, vec![partition(0, 0, 2), partition(7, 0, 1)]);
        says(
            &judge(&short, configs(0, "1048588")),
            Verdict::Failed,
            &["partition 7;", "NOT_ENOUGH_REPLICAS"],
        );
    }

    #[test]
    fn certificates_are_warned_of_a_month_ahead() {
        const DAY: Duration = Duration::from_secs(86_400);
        let now = DAY * 1000;
        let ends = |subject: &str, not_after| Certificate {
            subject: subject.to_owned(),
            issuer: "CN=signer".to_owned(),
            hosts: vec!["broker".to_owned()],
            until: "then".to_owned(),
            not_after,
        };
        let chain = [
            ends("CN=fresh", now + 30 * DAY),
            ends("CN=stale", now + 29 * DAY),
        ];
        let own = [ends("CN=gone", now - DAY / 2)];
        let mut found = Found::ok("TLSv1.3");
        certificates(&mut found, (&chain, &own), Err("other"), now);
        says(
            &found,
            Verdict::Warning,
            &[
                "CN=stale of the broker expires at then",
                "CN=gone of this client expired at then: replace it",
                "not for other, and that is not checked",
            ],
        );
        assert!(!told(&found).1.contains("fresh"));
        let shown: Vec<_> = found.certificates.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "broker's: CN=fresh, signed by CN=signer; until then, 30 days left; for broker",
                "broker's: CN=stale, signed by CN=signer; until then, 29 days left; for broker",
                "client's: CN=gone, signed by CN=signer; until then, expired less than a day ago; \
                 for broker",
            ]
        );
        // What is wrong with the broker's was said already.
        let mut found = Found::failed("it expired");
        certificates(&mut found, (&chain, &[]), Err("other"), now);
        says(&found, Verdict::Failed, &["it expired"]);
        assert_eq!((found.notes.len(), found.certificates.len()), (0, 2));
    }
}
