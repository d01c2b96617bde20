//! A listener for each way to secure connections, and the files that go with it.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use forebay_kafka_cluster::{Cluster, ClusterOptions, Listener, Signer};
use krafka::admin::AclOperation;

/// May do everything.
const ALICE: (&str, &str) = ("alice", "alice-secret");
/// May write to one topic.
const BOB: (&str, &str) = ("bob", "bob-secret");
/// The client that shows a certificate. It may do everything, too.
const CLIENT: &str = "client";

const AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
const MODULES: &str = "org.apache.kafka.common.security";

/// Where the certificates and the configurations are.
pub struct Secured {
    folder: PathBuf,
    /// The certificate of who signed all others.
    signer: PathBuf,
    broker: PathBuf,
    client: PathBuf,
}

/// A configuration for clients.
struct Client {
    file: &'static str,
    about: &'static str,
    listener: &'static str,
    settings: Vec<(&'static str, String)>,
}

impl Secured {
    pub fn new(folder: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let signer = Signer::new(&folder, "signer");
        Ok(Self {
            broker: signer.signs("broker", &["127.0.0.1", "localhost"]),
            client: signer.signs(CLIENT, &[CLIENT]),
            signer: signer.certificate,
            folder,
        })
    }

    pub fn listeners(&self, mut options: ClusterOptions) -> ClusterOptions {
        let plain = [ALICE, BOB].map(|(user, password)| format!("user_{user}=\"{password}\""));
        let logins = [
            (
                "PLAIN",
                "PLAIN",
                format!("plain.PlainLoginModule required {}", plain.join(" ")),
            ),
            (
                "SCRAM",
                "SCRAM-SHA-512",
                "scram.ScramLoginModule required".to_owned(),
            ),
            (
                "TOKENS",
                "OAUTHBEARER",
                "oauthbearer.OAuthBearerLoginModule required \
                 unsecuredLoginStringClaim_sub=\"broker\""
                    .to_owned(),
            ),
        ];
        let tls = |name, protocol| Listener::new(name, protocol).keys(&self.broker, &self.signer);
        options = options
            .listener(tls("TLS", "SSL"))
            .listener(tls("MUTUAL", "SSL").property("ssl.client.auth", "required"));
        for (name, mechanism, module) in logins {
            let jaas = format!("{}.sasl.jaas.config", mechanism.to_lowercase());
            let listener = tls(name, "SASL_SSL")
                .property("sasl.enabled.mechanisms", mechanism)
                .property(&jaas, &format!("{MODULES}.{module};"));
            options = options.listener(listener);
        }
        for (user, password) in [ALICE, BOB] {
            options.format_args.push("--add-scram".to_owned());
            let user = format!("SCRAM-SHA-512=[name={user},password={password}]");
            options.format_args.push(user);
        }
        let (alice, _) = ALICE;
        let everything = format!("User:ANONYMOUS;User:{alice};User:CN={CLIENT}");
        options
            .property("authorizer.class.name", AUTHORIZER)
            .property("super.users", everything)
    }

    fn clients(&self) -> Vec<Client> {
        let user = |mechanism: &str, (user, password): (&str, &str)| {
            vec![
                ("sasl.mechanism", mechanism.to_owned()),
                ("sasl.username", user.to_owned()),
                ("sasl.password", password.to_owned()),
            ]
        };
        let client = |file, about, listener, settings| Client {
            file,
            about,
            listener,
            settings,
        };
        let token = format!(
            "{MODULES}.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"{}\";",
            ALICE.0
        );
        let own = vec![
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", self.client.display().to_string()),
        ];
        let tokens = vec![
            ("sasl.mechanism", "OAUTHBEARER".to_owned()),
            ("sasl.jaas.config", token),
        ];
        vec![
            client("plaintext", "in plain text, as nobody", "PLAINTEXT", vec![]),
            client("tls", "over TLS, as nobody", "TLS", vec![]),
            client("mutual", "over TLS, with a certificate", "MUTUAL", own),
            client("plain", "as alice, by PLAIN", "PLAIN", user("PLAIN", ALICE)),
            client(
                "scram",
                "as alice, by SCRAM",
                "SCRAM",
                user("SCRAM-SHA-512", ALICE),
            ),
            client(
                "tokens",
                "as alice, by a token that nobody signed",
                "TOKENS",
                tokens,
            ),
            client(
                "bob",
                "as bob, by SCRAM",
                "SCRAM",
                user("SCRAM-SHA-512", BOB),
            ),
        ]
    }

    /// Writes the configurations, lets bob write to the first topic, and says what to do with it.
    pub fn write(&self, cluster: &Cluster, topics: &[(String, i32)]) -> Result<(), Box<dyn Error>> {
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        let (first, last) = match names.as_slice() {
            [] => return Err("there is no topic".into()),
            [first, .., last] => (*first, *last),
            [only] => (*only, *only),
        };
        let (bob, _) = BOB;
        cluster.allow(&format!("User:{bob}"), AclOperation::Write, first)?;
        eprintln!("\nconfigurations, which Java's clients take, too:");
        for client in self.clients() {
            let path = self.folder.join(format!("{}.properties", client.file));
            let text = self.text(cluster, &client);
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            eprintln!("  {}: {}", path.display(), client.about);
        }
        let config = |name: &str| {
            self.folder
                .join(format!("{name}.properties"))
                .display()
                .to_string()
        };
        let forebay = "cargo run -q --features cli --";
        eprintln!(
            "\ntry, for instance:\n  \
             {forebay} check --config {scram} --topic {first}\n  \
             echo hello | {forebay} produce --config {mutual} --topic {first}\n  \
             {forebay} check --config {bobs} --topic {last}   # bob may write to {first} alone\n",
            scram = config("scram"),
            mutual = config("mutual"),
            bobs = config("bob"),
        );
        Ok(())
    }

    fn text(&self, cluster: &Cluster, client: &Client) -> String {
        let protocol = match client.listener {
            "PLAINTEXT" => "PLAINTEXT",
            "TLS" | "MUTUAL" => "SSL",
            _ => "SASL_SSL",
        };
        let mut settings = vec![
            ("bootstrap.servers", cluster.bootstrap_of(client.listener)),
            ("security.protocol", protocol.to_owned()),
        ];
        if protocol != "PLAINTEXT" {
            settings.push(("ssl.truststore.type", "PEM".to_owned()));
            settings.push(("ssl.truststore.location", self.signer.display().to_string()));
        }
        settings.extend(client.settings.iter().cloned());
        let mut text = format!("# {}\n", client.about);
        for (key, value) in settings {
            let _ = writeln!(text, "{key}={value}");
        }
        text
    }
}
