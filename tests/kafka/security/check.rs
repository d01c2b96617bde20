//! `forebay check` at real brokers: what it says when all is well, and when something is not.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use forebay_kafka_cluster::{Cluster, ClusterOptions};
use krafka::admin::AclOperation;
use serde_json::Value;

use super::{PASSWORD, Signer, USER, listener, skipped};

type Settings = Vec<(&'static str, String)>;
/// A name, the settings, more arguments, the exit status, and what is said.
type Case<'a> = (&'a str, Settings, &'a [&'a str], i32, &'a [&'a str]);

/// Two brokers that refuse what no rule allows, and files for their clients.
struct Guarded {
    cluster: Cluster,
    dir: tempfile::TempDir,
    signer: Signer,
}

fn guarded() -> Guarded {
    let dir = tempfile::tempdir().expect("a folder");
    let signer = Signer::new(dir.path(), "signer");
    let trust = signer.certificate.clone();
    let broker = signer.signs("broker", &["127.0.0.1", "localhost"]);
    let day = Duration::from_secs(86_400);
    let soon = signer.signs_for("soon", &["127.0.0.1"], 5 * day + day / 2);
    let elsewhere = signer.signs("elsewhere", &["broker.example.com"]);
    let expired = signer.signs_until("expired", &["127.0.0.1"], 2021);
    let class = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let required = [("ssl.client.auth", "required")];
    let mut options = ClusterOptions::default()
        .brokers(2)
        .property("authorizer.class.name", class)
        .property("super.users", "User:ANONYMOUS");
    for (name, protocol, keys, more) in [
        ("LOGINTLS", "SASL_SSL", &broker, &[][..]),
        ("MUTUAL", "SSL", &broker, &required),
        ("SOON", "SSL", &soon, &[]),
        ("ELSEWHERE", "SSL", &elsewhere, &[]),
        ("EXPIRED", "SSL", &expired, &[]),
    ] {
        options = options.listener(listener(name, protocol, Some((keys, &trust)), more));
    }
    options.format_args.push("--add-scram".to_owned());
    let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
    options.format_args.push(user);
    let cluster = Cluster::start(options).expect("a cluster");
    for topic in ["open", "closed"] {
        cluster.create_topic(topic, 4, 2, &[]).expect("a topic");
    }
    for (operation, topic) in [
        (AclOperation::Write, "open"),
        (AclOperation::DescribeConfigs, "open"),
        (AclOperation::Read, "closed"),
    ] {
        let user = format!("User:{USER}");
        cluster.allow(&user, operation, topic).expect("a rule");
    }
    Guarded {
        cluster,
        dir,
        signer,
    }
}

impl Guarded {
    fn settings(&self, listener: &str, protocol: &str) -> Settings {
        let trust = self.signer.certificate.display().to_string();
        let mut settings = vec![
            ("bootstrap.servers", self.cluster.bootstrap_of(listener)),
            ("security.protocol", protocol.to_owned()),
        ];
        if protocol.ends_with("SSL") {
            settings.push(("ssl.truststore.type", "PEM".to_owned()));
            settings.push(("ssl.truststore.location", trust));
        }
        if protocol.starts_with("SASL") {
            settings.push(("sasl.mechanism", "SCRAM-SHA-512".to_owned()));
            settings.push(("sasl.username", USER.to_owned()));
            settings.push(("sasl.password", PASSWORD.to_owned()));
        }
        settings
    }

    fn check(&self, settings: &Settings, args: &[&str]) -> (Option<i32>, String) {
        let mut text = String::new();
        for (key, value) in settings {
            writeln!(text, "{key}={}", value.replace('\\', "\\\\")).expect("written");
        }
        let file = self.dir.path().join("client.properties");
        std::fs::write(&file, text).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .arg("check")
            .arg("--config")
            .arg(file)
            .args(args)
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        for text in [&text, &errors] {
            assert!(!text.contains(PASSWORD), "{text}");
        }
        (output.status.code(), text + &errors)
    }
}

/// Overrides a setting.
fn with(mut settings: Settings, key: &'static str, value: &str) -> Settings {
    settings.retain(|(it, _)| *it != key);
    settings.push((key, value.to_owned()));
    settings
}

#[test]
fn a_check_says_where_it_ends_and_why() {
    if skipped("a_check_says_where_it_ends_and_why") {
        return;
    }
    let guarded = guarded();
    let login = || guarded.settings("LOGINTLS", "SASL_SSL");
    let tls = |name| guarded.settings(name, "SSL");
    let own = guarded.signer.signs("client", &["client"]);
    let closed_port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").to_string()
    };
    let mutual = with(tls("MUTUAL"), "ssl.keystore.type", "PEM");
    let mutual = with(mutual, "ssl.keystore.location", &own.display().to_string());
    let cases: Vec<Case> = vec![
        (
            "all is well",
            login(),
            &["--topic", "open"],
            0,
            &[
                "TLSv1.3, TLS_",
                "CN=broker, signed by CN=signer",
                "SCRAM-SHA-512 as \"alice\"",
                "open, 4 partitions",
                "User:alice may write to open (Write, Describe, DescribeConfigs)",
                "User:alice may be idempotent",
                "max.message.bytes=1048588, min.insync.replicas=",
                "a producer can send with this",
            ],
        ),
        (
            "a topic that may only be read",
            login(),
            &["--topic", "closed"],
            7,
            &[
                "User:alice may not write to closed, but only: Read, Describe",
                "--operation Write --topic closed",
            ],
        ),
        (
            "a topic that is not there, or hidden",
            login(),
            &["--topic", "nowhere"],
            7,
            &["User:alice may not even see nowhere"],
        ),
        (
            "a wrong password",
            with(login(), "sasl.password", "wrong"),
            &[],
            5,
            &["login        FAILED", "check user and password"],
        ),
        (
            "no mechanism",
            with(tls("SOON"), "security.protocol", "SASL_SSL"),
            &[],
            2,
            &["sasl"],
        ),
        (
            "a client with a certificate and without rights",
            mutual,
            &["--topic", "open"],
            7,
            &[
                "User:CN=client may not even see open",
                "client's: CN=client",
            ],
        ),
        (
            "no certificate where one is asked for",
            tls("MUTUAL"),
            &[],
            4,
            &["TLS          FAILED", "ssl.keystore.location"],
        ),
        (
            "a certificate that expires soon",
            with(tls("SOON"), "enable.idempotence", "false"),
            &[],
            0,
            &[
                "WARNING",
                "5 days left",
                "replace it before then",
                "2 warnings",
            ],
        ),
        (
            "a certificate for another host",
            tls("ELSEWHERE"),
            &[],
            4,
            &["CN=elsewhere", "for broker.example.com", "FAILED"],
        ),
        (
            "an expired certificate",
            tls("EXPIRED"),
            &[],
            4,
            &["CN=expired", "until 2021-01-01T00:00:00Z", "FAILED"],
        ),
        (
            "a truststore that is not there",
            with(tls("SOON"), "ssl.truststore.location", "/no/such.pem"),
            &[],
            4,
            &["/no/such.pem"],
        ),
        (
            "plain text at a listener with TLS",
            with(tls("SOON"), "security.protocol", "PLAINTEXT"),
            &[],
            2,
            &["ssl.truststore.location"],
        ),
        (
            "nobody listens",
            with(login(), "bootstrap.servers", &closed_port),
            &[],
            3,
            &["connect      FAILED", "is a broker listening there?"],
        ),
        (
            "no such host",
            with(login(), "bootstrap.servers", "no-such-host.invalid:9092"),
            &[],
            3,
            &["resolve      FAILED"],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, settings, args, status, phrases) in cases {
        let (code, text) = guarded.check(&settings, args);
        println!("--- {name}: status {code:?}\n{text}");
        let missing = phrases.iter().filter(|it| !text.contains(**it));
        wrong.extend(missing.map(|it| format!("{name}: {it}")));
        if code != Some(status) {
            wrong.push(format!("{name}: status {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        guarded.cluster.seen("open").records(),
        0,
        "it writes nothing"
    );
    a_broker_that_is_down(&guarded);
}

/// What a program reads; and then the second broker is gone.
fn a_broker_that_is_down(guarded: &Guarded) {
    let login = guarded.settings("LOGINTLS", "SASL_SSL");
    let (code, text) = guarded.check(&login, &["--json", "--topic", "open"]);
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |step: &'static str| lines.iter().filter(move |line| line["step"] == step);
    assert_eq!(of("login").count(), 2);
    let tls = of("tls").next().expect("a handshake");
    assert_eq!(tls["verdict"], "ok");
    assert_eq!(tls["certificates"][0]["by"], "broker");
    assert_eq!(tls["certificates"][0]["subject"], "CN=broker");
    assert!(tls["certificates"][0]["days_left"].as_i64() > Some(10_000));

    guarded.cluster.broker(2).kill().expect("killed");
    // The other still names it: alone it has no say.
    let first = login[0].1.split(',').next().expect("a broker").to_owned();
    let login = with(login, "bootstrap.servers", &first);
    let (code, text) = guarded.check(&login, &["--topic", "open"]);
    println!("--- a broker is down: status {code:?}\n{text}");
    assert_eq!(code, Some(3), "{text}");
    for phrase in [
        "topic        ok",
        "connect      FAILED",
        "is a broker listening there?",
        "correct advertised.listeners",
    ] {
        assert!(text.contains(phrase), "{phrase}: {text}");
    }
}
