//! Each way of getting in, for a while: half a million records, a broker that is killed in the middle and
//! comes back, logins that end every two seconds, certificates that change under load. By hand:
//!
//! ```text
//! cargo test --release --features cli,zstd --test kafka every_way_in_endures -- --ignored --nocapture
//! ```
//!
//! `FOREBAY_LOG=forebay::net::renewal=debug` shows each login that was renewed.

use std::fs;
use std::path::Path;
use std::time::Instant;

use forebay::config::ConfigBuilder;
use forebay_kafka_cluster::{
    self as kafka, Cluster, ClusterOptions, Load, TokenServer, TokenServerOptions, scaled,
};

use crate::kills::a_broker_is_down_for_a_while;

use super::logins::by;
use super::oauth::{SIGNED, by_token, takes_tokens, trusting};
use super::{RENEWED, Secured, Signer, listener, skipped, with_scram};

const PARTITIONS: i32 = 12;
const PER_SECOND: u64 = 35_000;

/// The old file is there until the new one is.
fn replace(dir: &Path, name: &str, with: &Path) {
    let fresh = dir.join("fresh");
    fs::copy(with, &fresh).unwrap();
    fs::rename(fresh, dir.join(name)).unwrap();
}

/// The files that listeners with TLS have change later.
fn start(server: &TokenServer) -> Secured {
    let dir = tempfile::tempdir().expect("a folder").keep();
    let signer = Signer::new(&dir, "signer");
    let broker = signer.signs("broker", &["127.0.0.1"]);
    let old_client = signer.signs("old-client", &["client"]);
    for (name, with) in [
        ("tls-broker.pem", &broker),
        ("mutual-trust.pem", &signer.certificate),
        ("client.pem", &old_client),
        ("trust.pem", &signer.certificate),
    ] {
        replace(&dir, name, with);
    }

    let trust = signer.certificate.as_path();
    let fixed = Some((broker.as_path(), trust));
    let (tls, mutual) = (dir.join("tls-broker.pem"), dir.join("mutual-trust.pem"));
    let (tls, mutual) = (
        Some((tls.as_path(), trust)),
        Some((broker.as_path(), mutual.as_path())),
    );
    let tokens = [SIGNED, RENEWED];
    let mut options = trusting(with_scram(ClusterOptions::default()), server);
    for listener in [
        listener("TLS", "SSL", tls, &[]),
        listener("MUTUAL", "SSL", mutual, &[("ssl.client.auth", "required")]),
        listener("LOGIN", "SASL_PLAINTEXT", None, &[RENEWED]),
        listener("LOGINTLS", "SASL_SSL", fixed, &[RENEWED]),
        takes_tokens("TOKENS", "SASL_PLAINTEXT", None, &tokens),
        takes_tokens("TOKENSTLS", "SASL_SSL", fixed, &tokens),
    ] {
        options = options.listener(listener);
    }
    Secured {
        cluster: Cluster::start(options).expect("a cluster"),
        dir,
        signer,
    }
}

/// `while_down` changes what is to change under load.
fn endures(secured: &Secured, topic: &str, config: ConfigBuilder, while_down: impl FnOnce()) {
    let cluster = &secured.cluster;
    cluster.create_topic(topic, PARTITIONS, 3, &[]).unwrap();
    let records = scaled(500_000);
    let load = Load::new(topic, records).per_second(PER_SECOND);
    let running = load.start(config.build().expect("a configuration"));
    running.wait_for(records / 5);
    let killed = Instant::now();
    a_broker_is_down_for_a_while(cluster, topic, while_down);
    // Else it would lead nothing, and nobody had to get in there.
    cluster.elect_leaders(topic).unwrap();
    println!("{topic}: a broker was away for {:.1?}", killed.elapsed());
    running.wait_for(records / 10);
    let outcomes = running.finish();
    let seen = cluster.seen(topic);
    let acked = outcomes.acked.iter().map(|(counter, _)| *counter);
    println!(
        "{topic}: {} lost, {} doubled, {} reordered; {outcomes}",
        seen.lost(acked).len(),
        seen.duplicated().len(),
        seen.reordered(|_| 0).len(),
    );
    outcomes.all_acked_in(&seen);
}

#[test]
#[ignore = "takes minutes: half a million records for each way, by hand"]
fn every_way_in_endures() {
    if skipped("every_way_in_endures") {
        return;
    }
    let _turn = kafka::one_at_a_time();
    let server = TokenServer::start(&TokenServerOptions::default()).expect("a token server");
    let secured = start(&server);
    let (dir, signer) = (&secured.dir, &secured.signer);
    let new = Signer::new(dir, "new-signer");

    // The broker comes back with a certificate of a signer whom the producer did not know before.
    let trust = dir.join("trust.pem");
    let config = secured.config("TLS", "SSL");
    let config = config.set("ssl.truststore.location", trust.display());
    endures(&secured, "ssl", config, || {
        let own = new.signs("new-broker", &["127.0.0.1"]);
        let both = [&signer.certificate, &new.certificate];
        let both = both.map(|file| fs::read_to_string(file).unwrap()).concat();
        let file = dir.join("both.pem");
        fs::write(&file, both).unwrap();
        replace(dir, "trust.pem", &file);
        replace(dir, "tls-broker.pem", &own);
    });

    // The broker that comes back lets in nobody but the producer's new certificate.
    let client = dir.join("client.pem");
    let config = secured
        .config("MUTUAL", "SSL")
        .set("ssl.keystore.type", "PEM")
        .set("ssl.keystore.location", client.display());
    endures(&secured, "mutual", config, || {
        let own = new.signs("new-client", &["client"]);
        replace(dir, "client.pem", &own);
        replace(dir, "mutual-trust.pem", &new.certificate);
    });

    for (listener, protocol, mechanism) in [
        ("LOGIN", "SASL_PLAINTEXT", "PLAIN"),
        ("LOGIN", "SASL_PLAINTEXT", "SCRAM-SHA-256"),
        ("LOGIN", "SASL_PLAINTEXT", "SCRAM-SHA-512"),
        ("LOGINTLS", "SASL_SSL", "SCRAM-SHA-512"),
    ] {
        let config = by(secured.config(listener, protocol), mechanism);
        endures(&secured, &format!("{protocol}-{mechanism}"), config, || ());
    }
    for (listener, protocol) in [("TOKENS", "SASL_PLAINTEXT"), ("TOKENSTLS", "SASL_SSL")] {
        let config = by_token(secured.config(listener, protocol), &server.token_url());
        endures(&secured, &format!("{protocol}-OAUTHBEARER"), config, || ());
    }
}
