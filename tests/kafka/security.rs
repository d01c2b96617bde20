//! Every way to secure a connection, at a real broker: with records read back.

pub mod authorisation;
#[cfg(feature = "cli")]
mod check;
mod endurance;
mod expiry;
mod lockouts;
mod logins;
mod oauth;
mod rotation;
#[cfg(feature = "cli")]
mod sources;
mod stores;
mod tls;
mod wrong;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use forebay::Config;
use forebay::config::ConfigBuilder;
pub use forebay_kafka_cluster::Signer;
use forebay_kafka_cluster::{self as kafka, Cluster, ClusterOptions, Listener, Load, scaled};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "alice's secret=;";
/// Known to PLAIN alone, with a password that takes pains to write.
pub const OTHER: &str = "bob";
pub const HARD: &str = "bob's \"secret\", ${x} =\\";

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

/// A broker ends each login after two seconds.
const RENEWED: (&str, &str) = ("connections.max.reauth.ms", "2000");

/// A broker with a listener of each sort, and the files that go with it.
pub struct Secured {
    pub cluster: Cluster,
    pub dir: PathBuf,
    pub signer: Signer,
}

/// The one that all tests of this file share. It lasts as long as the process.
pub fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(start)
}

/// A listener whose name says what is special.
fn listener(
    name: &str,
    protocol: &str,
    keys: Option<(&Path, &Path)>,
    more: &[(&str, &str)],
) -> Listener {
    let mut listener = Listener::new(name, protocol);
    if let Some((keystore, truststore)) = keys {
        listener = listener.keys(keystore, truststore);
    }
    if protocol.starts_with("SASL") {
        let jaas = format!(
            "{PLAIN} required user_{USER}=\"{PASSWORD}\" user_{OTHER}=\"{}\";",
            quoted(HARD)
        );
        let scram = format!("{SCRAM} required;");
        listener = listener
            .property(
                "sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            )
            .property("plain.sasl.jaas.config", &jaas.replace('\\', "\\\\"))
            .property("scram-sha-256.sasl.jaas.config", &scram)
            .property("scram-sha-512.sasl.jaas.config", &scram);
    }
    let more = more.iter();
    more.fold(listener, |it, (key, value)| it.property(key, value))
}

/// Brokers that know the user of SCRAM.
fn with_scram(mut options: ClusterOptions) -> ClusterOptions {
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        options.format_args.push("--add-scram".to_owned());
        let user = format!("{mechanism}=[name={USER},password={PASSWORD}]");
        options.format_args.push(user);
    }
    options
}

fn start() -> Secured {
    let dir = tempfile::tempdir().expect("a folder").keep();
    let signer = Signer::new(&dir, "signer");
    let trust = signer.certificate.clone();
    let broker = signer.signs("broker", &["127.0.0.1", "localhost"]);
    let elsewhere = signer.signs("elsewhere", &["broker.example.com"]);
    let expired = signer.signs_until("expired", &["127.0.0.1"], 2021);
    let soon = signer.signs_for(
        "soon",
        &["127.0.0.1"],
        Duration::from_secs(5 * 86_400 + 3_600),
    );
    let keys = Some((broker.as_path(), trust.as_path()));
    let listeners = [
        listener("TLS", "SSL", keys, &[]),
        listener(
            "TLS12",
            "SSL",
            keys,
            &[("ssl.enabled.protocols", "TLSv1.2")],
        ),
        listener("MUTUAL", "SSL", keys, &[("ssl.client.auth", "required")]),
        listener("ELSEWHERE", "SSL", Some((&elsewhere, &trust)), &[]),
        listener("EXPIRED", "SSL", Some((&expired, &trust)), &[]),
        listener(
            "SOON",
            "SSL",
            Some((&soon, &trust)),
            &[("ssl.client.auth", "required")],
        ),
        listener("LOGIN", "SASL_PLAINTEXT", None, &[]),
        listener("LOGINTLS", "SASL_SSL", keys, &[]),
        listener("RENEW", "SASL_SSL", keys, &[RENEWED]),
        listener(
            "ONLYPLAIN",
            "SASL_PLAINTEXT",
            None,
            &[("sasl.enabled.mechanisms", "PLAIN")],
        ),
    ];
    let mut options = ClusterOptions::default().brokers(1);
    for listener in listeners {
        options = options.listener(listener);
    }
    let cluster = Cluster::start(with_scram(options)).expect("a cluster");
    Secured {
        cluster,
        dir,
        signer,
    }
}

impl Secured {
    /// For this listener, with the signer's certificate where there is TLS.
    pub fn config(&self, listener: &str, protocol: &str) -> ConfigBuilder {
        let config = Config::builder()
            .bootstrap_servers(self.cluster.bootstrap_of(listener))
            .set("security.protocol", protocol);
        match protocol.ends_with("SSL") {
            true => config
                .set("ssl.truststore.type", "PEM")
                .set("ssl.truststore.location", self.signer.certificate.display()),
            false => config,
        }
    }

    /// Sends records to a topic of its own, and reads them back.
    pub fn arrives(&self, topic: &str, config: ConfigBuilder) {
        self.sent_in(topic, config, Load::new(topic, scaled(3_000)));
    }

    /// The same with the records of `load`.
    pub fn sent_in(&self, topic: &str, config: ConfigBuilder, load: Load) {
        self.cluster.create_topic(topic, 3, 1, &[]).unwrap();
        let outcomes = load.run(config.build().expect("a configuration"));
        println!("{topic}: {outcomes}");
        outcomes.all_acked_in(&self.cluster.seen(topic));
    }
}

/// As it stands between the quotes of JAAS.
pub fn quoted(password: &str) -> String {
    password.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The first line of each test here.
pub fn skipped(test: &str) -> bool {
    !kafka::require_or_skip(test)
}
