//! franz-go's kfake.

use std::time::{Duration, Instant};

use forebay::{Record, SendError, Unconfirmed};
use forebay_kafka_cluster::Signer;

use crate::judge::Judge;
use crate::{CODECS, agree, built_in, close, plain_agrees, send_all, start};

#[tokio::test]
async fn records_are_as_they_were_whatever_its_age() {
    let topics = format!("{},plain", CODECS.join(","));
    for version in ["0.11.0", "1.1", "2.1", "2.8", "3.3", "3.9", "4.1", ""] {
        let args = ["-topics", &topics, "-as-version", version];
        let args = &args[..if version.is_empty() { 2 } else { 4 }];
        let Some(mut judge) = Judge::kfake(args) else {
            return;
        };
        let began = Instant::now();
        for codec in built_in() {
            let producer = start(&judge.bootstrap, &[("compression.type", codec)]);
            if codec == "zstd" && ["0.11.0", "1.1"].contains(&version) {
                let receipt = producer.send(Record::to("zstd").value("1")).await;
                let Err(Unconfirmed::NotWritten(why)) = receipt.expect("accepted").await else {
                    panic!("no broker of this age knows zstd");
                };
                assert!(
                    why.to_string()
                        .contains("too old for compression.type=zstd"),
                    "{why}"
                );
            } else {
                let sent = send_all(&producer, codec, || judge.shuffle()).await;
                agree(&sent, judge.dump(codec));
            }
            close(producer).await;
        }
        plain_agrees(&mut judge).await;
        println!("as {version:?}: {:.1?}", began.elapsed());
    }
}

#[tokio::test]
async fn whoever_may_logs_in_encrypted_or_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let signer = Signer::new(dir.path(), "signer");
    let identity = signer.signs("broker", &["127.0.0.1", "localhost"]);
    let (identity, trusted) = (
        identity.display().to_string(),
        signer.certificate.display().to_string(),
    );
    let topics = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,allowed,denied";
    let plain = ["-topics", topics, "-logins"];
    let encrypted = ["-topics", topics, "-logins", "-tls", &identity];
    for (protocol, args) in [("SASL_PLAINTEXT", &plain[..]), ("SASL_SSL", &encrypted)] {
        let Some(mut judge) = Judge::kfake(args) else {
            return;
        };
        let settings = |mechanism, user, password| {
            let mut settings = vec![
                ("security.protocol", protocol),
                ("sasl.mechanism", mechanism),
                ("sasl.username", user),
                ("sasl.password", password),
            ];
            if protocol == "SASL_SSL" {
                settings.push(("ssl.truststore.type", "PEM"));
                settings.push(("ssl.truststore.location", &trusted));
            }
            settings
        };
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let producer = start(&judge.bootstrap, &settings(mechanism, "alice", "secret"));
            let sent = send_all(&producer, mechanism, || judge.shuffle()).await;
            agree(&sent, judge.dump(mechanism));
            close(producer).await;

            let producer = start(&judge.bootstrap, &settings(mechanism, "alice", "wrong"));
            let began = Instant::now();
            let refused = producer.send(Record::to(mechanism).value("1")).await;
            let Err(SendError::Security(why)) = refused else {
                panic!("{mechanism}: {refused:?}");
            };
            println!(
                "{protocol} {mechanism}, after {:.1?}: {why}",
                began.elapsed()
            );
            assert!(began.elapsed() < Duration::from_secs(15));
            close(producer).await;
        }
        let producer = start(&judge.bootstrap, &settings("PLAIN", "carol", "secret"));
        let began = Instant::now();
        let denied = producer.send(Record::to("denied").value("1")).await;
        let denied = denied.expect_err("carol may not").to_string();
        println!("denied, after {:.1?}: {denied}", began.elapsed());
        assert!(denied.contains("TOPIC_AUTHORIZATION_FAILED"), "{denied}");
        close(producer).await;
    }
}
