//! What fuzzers call: bytes as a broker or a user may give them, and bytes read as sequences of
//! operations. Each checks what must hold whatever comes. The targets beside this call them, and so
//! does `tests/faults/fuzzing.rs`, on stable Rust.

mod operations;
mod security;
mod spool;
mod transactions;

pub use operations::{budget, ledger, stage};
pub use security::{jaas, key_material, login, providers, scram};
pub use spool::spool;
pub use transactions::{logged_batches, transaction_response};

use bytes::{Bytes, BytesMut};

use forebay::Config;
use forebay::internals::net::{Endpoint, split_frame};
use forebay::internals::wire::{
    self, Api, ClusterView, InitProducerIdResponse, MetadataResponse, ProduceResponse,
    TransactionProtocol, Versions, VersionsResponse,
};

/// A function that a fuzzer feeds.
pub type Target = fn(&[u8]);

/// Every target, with the name of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 16] = [
    ("produce_response", produce_response),
    ("metadata_response", metadata_response),
    ("handshake_response", handshake_response),
    ("frames", frames),
    ("configuration", configuration),
    ("ledger", ledger),
    ("budget", budget),
    ("stage", stage),
    ("login", login),
    ("scram", scram),
    ("jaas", jaas),
    ("providers", providers),
    ("key_material", key_material),
    ("transaction_response", transaction_response),
    ("logged_batches", logged_batches),
    ("spool", spool),
];

/// The first byte chooses a version that is spoken; what follows is the frame.
fn versioned(api: Api, data: &[u8]) -> Option<(i16, Bytes)> {
    let (first, frame) = data.split_first()?;
    let (min, max) = api.ours();
    let version = min + i16::from(*first) % (max - min + 1);
    let (_, body) = wire::split_response(api, version, Bytes::copy_from_slice(frame)).ok()?;
    Some((version, body))
}

/// No answer holds more than its bytes can say.
fn bounded(what: &str, entries: usize, least: usize, body: &Bytes) {
    assert!(
        entries * least <= body.len(),
        "{entries} {what} in {} bytes",
        body.len()
    );
}

/// The answer to a produce request.
pub fn produce_response(data: &[u8]) {
    let Some((version, body)) = versioned(Api::Produce, data) else {
        return;
    };
    if let Ok(answer) = ProduceResponse::decode(version, &body) {
        bounded("partitions", answer.partitions.len(), 22, &body);
        bounded("nodes", answer.nodes.len(), 10, &body);
        let errors = answer.partitions.iter().map(|it| it.record_errors.len());
        bounded("record errors", errors.sum(), 6, &body);
    }
}

/// The answer to a metadata request.
pub fn metadata_response(data: &[u8]) {
    let Some((version, body)) = versioned(Api::Metadata, data) else {
        return;
    };
    if let Ok(answer) = MetadataResponse::decode(version, &body) {
        bounded("nodes", answer.nodes.len(), 10, &body);
        bounded("topics", answer.topics.len(), 9, &body);
        let partitions = answer.topics.iter().map(|it| it.partitions.len());
        bounded("partitions", partitions.sum(), 18, &body);
        let mut view = ClusterView::default();
        let again = answer.clone();
        let changes = view.apply(answer);
        for topic in &changes.topics {
            for leader in &topic.leaders {
                let known = leader
                    .node
                    .is_none_or(|node| view.nodes().by_id.contains_key(&node));
                assert!(known, "a leader nobody knows");
            }
        }
        assert!(!view.apply(again).nodes, "the same brokers are no news");
    }
}

/// The answers that come before the first batch: what a broker speaks, and who we are.
pub fn handshake_response(data: &[u8]) {
    if let Some((version, body)) = versioned(Api::InitProducerId, data) {
        let _ = InitProducerIdResponse::decode(version, &body);
    }
    let Some((version, body)) = versioned(Api::Versions, data) else {
        return;
    };
    if let Ok(VersionsResponse::Versions(versions)) = Versions::decode(version, &body) {
        speaks_what_both_do(&versions);
    }
}

fn speaks_what_both_do(versions: &Versions) {
    for api in [
        Api::Produce,
        Api::Metadata,
        Api::Versions,
        Api::InitProducerId,
        Api::EndTxn,
        Api::TxnOffsetCommit,
    ] {
        let protocols = [TransactionProtocol::V1, TransactionProtocol::V2];
        let within = protocols.map(|it| (it.versions(api), versions.best_in(it, api)));
        for ((min, max), best) in within.into_iter().chain([(api.ours(), versions.best(api))]) {
            let Ok(best) = best else { continue };
            assert!((min..=max).contains(&best));
            let theirs = versions.range(api);
            assert!(theirs.is_some_and(|(min, max)| (min..=max).contains(&best)));
        }
    }
    let second = versions.transaction_version() >= 2;
    assert_eq!(
        second,
        versions.transaction_protocol() == TransactionProtocol::V2
    );
}

/// A stream of bytes torn anywhere: each chunk has its length in a byte before it.
pub fn frames(mut data: &[u8]) {
    let endpoint = Endpoint::new("broker", 9092);
    let (mut buffer, mut came, mut left) = (BytesMut::new(), 0, 0);
    while let Some((length, rest)) = data.split_first() {
        let (chunk, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        data = rest;
        buffer.extend_from_slice(chunk);
        came += chunk.len();
        loop {
            match split_frame(&mut buffer, &endpoint) {
                Ok(Some(frame)) => left += 4 + frame.len(),
                Ok(None) => break,
                Err(error) => return assert!(!error.to_string().is_empty()),
            }
        }
        assert_eq!(came, left + buffer.len(), "every byte is somewhere");
    }
}

/// Text of a configuration: TOML, or `.properties` if the first byte is odd.
pub fn configuration(data: &[u8]) {
    let Some((first, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let read = match first % 2 {
        0 => Config::from_toml(&text),
        _ => Config::from_properties(&text),
    };
    match read {
        Ok(config) => {
            assert!(!config.bootstrap_servers.is_empty());
            assert!(config.batch_size <= config.buffer_memory);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
