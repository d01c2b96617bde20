//! Passwords and keys are in nothing that is printed: not at the loudest log level, not in `Debug`, not in
//! errors, and not by the command line.

use std::fs;
use std::path::Path;

use forebay::config::ConfigBuilder;
use forebay::{Placement, SendError};
use forebay_kafka_cluster::Printed;
use kafka_protocol::protocol::StrBytes;

use crate::scripted::{Answer, Scripted, Twist};
use crate::*;

const SECRET: &str = "t0p-s3cret";

/// A text shows this secret: as it is, as bytes of a buffer that is debugged, in hex, or as the base64
/// of something that has it anywhere.
fn shows(text: &str, secret: &str) -> bool {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
    let inner = &secret.as_bytes()[2..secret.len() - 2];
    let numbers: Vec<_> = inner.iter().map(ToString::to_string).collect();
    let hex: String = inner.iter().map(|byte| format!("{byte:02x}")).collect();
    let encoded = (0..3).map(|shift| {
        let bytes = [&[b'x'; 3][..shift], secret.as_bytes()].concat();
        let encoded = BASE64.encode(bytes);
        // Both ends depend on what stands beside it.
        encoded[4..encoded.len() - 4].to_owned()
    });
    let mut forms = vec![
        secret[1..secret.len() - 1].to_owned(),
        numbers.join(", "),
        hex,
    ];
    forms.extend(encoded);
    let lower = text.to_ascii_lowercase();
    forms
        .iter()
        .any(|form| text.contains(form) || lower.contains(form))
}

#[test]
fn a_secret_is_seen_in_each_form() {
    for text in [
        format!("password is {SECRET}"),
        format!("{:?}", SECRET.as_bytes()),
        format!("{:02X?}", SECRET.as_bytes()).replace(", ", ""),
        // "\0alice\0t0p-s3cret", and with a longer user.
        "AGFsaWNlAHQwcC1zM2NyZXQ".to_owned(),
        "AGFsaWNlcwB0MHAtczNjcmV0".to_owned(),
    ] {
        assert!(shows(&text, SECRET), "{text}");
    }
    assert!(!shows("sasl.password is set", SECRET));
}

fn refusing() -> Twist {
    Twist::answering(|_, answer| {
        if let Answer::Login(login) = answer {
            login.error_code = 58;
            login.error_message = Some(StrBytes::from_static_str("wrong user or password"));
        }
    })
}

fn plain(servers: &str) -> ConfigBuilder {
    Config::builder()
        .bootstrap_servers(servers)
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
}

const MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";

/// Logins that are refused, each with its password elsewhere.
fn refused(servers: &str, dir: &Path) -> Vec<ConfigBuilder> {
    fs::write(dir.join("password"), SECRET).unwrap();
    fs::write(
        dir.join("secrets.properties"),
        format!("password={SECRET}\njaas={MODULE} required username=\"a\" password=\"{SECRET}\";"),
    )
    .unwrap();
    let class = "org.apache.kafka.common.config.provider";
    let provided = |value: String| {
        plain(servers)
            .set("config.providers", "dir,file")
            .set(
                "config.providers.dir.class",
                format!("{class}.DirectoryConfigProvider"),
            )
            .set(
                "config.providers.file.class",
                format!("{class}.FileConfigProvider"),
            )
            .set("sasl.username", "alice")
            .set("sasl.password", value)
    };
    let file = dir.join("secrets.properties");
    let (dir, file) = (dir.display(), file.display());
    vec![
        plain(servers)
            .set("sasl.username", "alice")
            .set("sasl.password", SECRET),
        plain(servers).set(
            "sasl.jaas.config",
            format!("{MODULE} required username=\"alice\" password=\"{SECRET}\";"),
        ),
        provided(format!("${{dir:{dir}:password}}")),
        provided(format!("${{file:{file}:password}}")),
    ]
}

/// What makes no configuration, with a secret in it.
fn broken(servers: &str, dir: &Path) -> Vec<ConfigBuilder> {
    let jaas = |text: String| plain(servers).set("sasl.jaas.config", text);
    let tls = || {
        Config::builder()
            .bootstrap_servers(servers)
            .set("security.protocol", "SSL")
    };
    let (_, key) = keys(dir);
    vec![
        jaas(format!(
            "{MODULE} required username=\"alice\" password={SECRET}"
        )),
        jaas(format!(
            "{MODULE} required username=\"alice\" password=\"{SECRET}"
        )),
        jaas(format!(
            "{MODULE} required username=\"alice\" password={SECRET};{SECRET}"
        )),
        jaas(format!("{MODULE} {SECRET} username=\"alice\"")),
        jaas(format!(
            "{SECRET} required username=\"alice\" password=\"x\";"
        )),
        plain(servers)
            .set("sasl.username", "alice")
            .set("sasl.pasword", SECRET),
        plain(servers).toml(&format!("sasl.password = {SECRET}\nsasl.username = 'a'")),
        plain(servers).properties(&format!("sasl.password=\\u00{SECRET}")),
        plain(servers).set("sasl.password", SECRET),
        Config::builder()
            .bootstrap_servers(servers)
            .set("sasl.username", "alice")
            .set("sasl.password", SECRET),
        tls()
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.key", &key),
        tls().set("ssl.keystore.key", &key),
        tls()
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.location", "/no/such.pem")
            .set("ssl.keystore.password", SECRET),
        tls()
            .set("ssl.truststore.type", "PEM")
            .set("ssl.truststore.location", "/no/such.pem")
            .set("ssl.truststore.password", SECRET),
        tls().set("sasl.oauthbearer.client.credentials.client.secret", SECRET),
    ]
}

/// A certificate and its key, in PEM. The key is in a file, too.
fn keys(dir: &Path) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["client".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    fs::write(dir.join("key.pem"), format!("{key}{certificate}")).unwrap();
    (certificate, key)
}

/// A part of a key in PEM that nothing else has.
fn middle(key: &str) -> String {
    let line = key.lines().nth(1).expect("a line of base64");
    line[line.len() / 2 - 12..line.len() / 2 + 12].to_owned()
}

/// What is configured for TLS and cannot be used, or is not accepted by whoever is there.
fn keys_that_fail(servers: &str, dir: &Path) -> (Vec<ConfigBuilder>, String) {
    let (certificate, _) = keys(dir);
    let (other, key) = keys(dir);
    let tls = || {
        Config::builder()
            .bootstrap_servers(servers)
            .set("security.protocol", "SSL")
            .set("ssl.truststore.type", "PEM")
            .set("ssl.truststore.certificates", &other)
            .set("ssl.keystore.type", "PEM")
    };
    let inline = |key: &str, certificate: &str| {
        tls()
            .set("ssl.keystore.key", key)
            .set("ssl.keystore.certificate.chain", certificate)
    };
    let file = dir.join("key.pem");
    let cut: String = key.lines().take(2).collect::<Vec<_>>().join("\n");
    let failing = vec![
        inline(&key, &certificate),
        inline(&key, &other),
        inline(&key, &other).set("ssl.key.password", SECRET),
        inline(&key.replace("PRIVATE", "ENCRYPTED PRIVATE"), &other)
            .set("ssl.key.password", SECRET),
        inline(&cut, &other),
        inline(&key.replace('M', "?"), &other),
        inline(&certificate, &key),
        tls().set("ssl.keystore.location", file.display()),
        tls()
            .set("ssl.keystore.location", file.display())
            .set("ssl.key.password", SECRET),
        tls()
            .set("ssl.keystore.location", file.display())
            .set("ssl.keystore.type", "PKCS12")
            .set("ssl.keystore.password", SECRET),
        tls()
            .set("ssl.keystore.location", file.display())
            .set("ssl.keystore.type", "JKS")
            .set("ssl.keystore.password", SECRET),
    ];
    (failing, middle(&key))
}

/// Sends one record, and prints whatever there is to print meanwhile.
async fn show(config: ConfigBuilder, printed: &Printed) {
    printed.add(format!("{config:?}"));
    let config = match config.set("max.block.ms", 2_000).build() {
        Ok(config) => config,
        Err(error) => return printed.add(format!("{error} {error:?} {:?}", error.problems())),
    };
    printed.add(format!("{config:?} {:?}", config.clone()));
    let builder = Producer::builder().placement(Placement::CurrentArbiter);
    printed.add(format!("{builder:?}"));
    let producer = match builder.start(config) {
        Ok(producer) => producer,
        Err(error) => return printed.add(format!("{error} {error:?}")),
    };
    let refused = within(producer.send(to("x"))).await.expect_err("refused");
    printed.add(format!("{refused} {refused:?}"));
    if let SendError::Security(error) = &refused {
        printed.add(format!("{error} {error:?}"));
    }
    printed.add(format!("{producer:?} {:?}", producer.figures().await));
    close(producer).await;
}

#[test]
fn nothing_that_is_printed_has_a_secret_in_it() {
    let printed = Printed::default();
    // The runtime shares this thread, and with it what it prints to.
    let _printing = printed.keep_log(tracing::Level::TRACE);
    let dir = tempfile::tempdir().unwrap();
    let part = actix::System::new().block_on(async {
        let broker = Scripted::start(12, refusing()).await;
        let servers = broker.servers();
        for config in refused(&servers, dir.path()) {
            show(config, &printed).await;
        }
        for config in broken(&servers, dir.path()) {
            let before = printed.text().len();
            show(config, &printed).await;
            let said = printed.text()[before..].to_owned();
            assert!(said.contains("Problem {"), "it is a configuration: {said}");
        }
        let (failing, part) = keys_that_fail(&servers, dir.path());
        for config in failing {
            show(config, &printed).await;
        }
        part
    });
    let text = printed.text();
    for expected in [
        "does not let \"alice\" log in by PLAIN: wrong user or password",
        "the key is not that of its certificate",
        "ssl.key.password",
        "WARN",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
    for secret in [SECRET, &part] {
        let lines = text.lines().filter(|line| shows(line, secret));
        assert_eq!(lines.collect::<Vec<_>>(), [""; 0]);
    }
}

/// Each way of the command line to fail, as loud as it can be.
#[cfg(feature = "cli")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_prints_no_secret() {
    let broker = Scripted::start(12, refusing()).await;
    let dir = tempfile::tempdir().unwrap();
    let jaas = format!("{MODULE} required username=\"alice\" password=\"{SECRET}\";");
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        let servers = broker.servers();
        let common = match name.ends_with("toml") {
            true => format!(
                "bootstrap.servers = \"{servers}\"\nsecurity.protocol = \"SASL_PLAINTEXT\"\n\
                 sasl.mechanism = \"PLAIN\"\nmax.block.ms = 2000\n"
            ),
            false => format!(
                "bootstrap.servers={servers}\nsecurity.protocol=SASL_PLAINTEXT\n\
                 sasl.mechanism=PLAIN\nmax.block.ms=2000\n"
            ),
        };
        fs::write(&path, common + &text).unwrap();
        path.display().to_string()
    };
    let keys = file(
        "keys.toml",
        format!("sasl.username = \"alice\"\nsasl.password = \"{SECRET}\"\n"),
    );
    let java = file("java.properties", format!("sasl.jaas.config={jaas}\n"));
    let open = file(
        "open.properties",
        format!("sasl.jaas.config={}\n", jaas.trim_end_matches(';')),
    );
    let odd = file("odd.toml", format!("sasl.password = {SECRET}\n"));
    let bare = file("bare.toml", "sasl.username = \"alice\"\n".to_owned());
    let property = format!("sasl.password={SECRET}");
    let colon = format!("sasl.password:{SECRET}");
    let nameless = format!("={SECRET}");
    let produce = ["produce", "--topic", "t", "--config"];
    let mut printed = String::new();
    let mut failed = |args: &[&str], said: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KAFKA_") {
                command.env_remove(name);
            }
        }
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
        let output = command.args(args).stdin(std::process::Stdio::null());
        let output = output.output().expect("the command runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!output.status.success(), "{args:?}: {text}");
        assert!(text.contains(said), "{args:?}: {text}");
        printed += &text;
    };
    let refusal = "does not let \"alice\" log in";
    let perf = [
        "perf",
        "--topic",
        "t",
        "--num-records",
        "1",
        "--record-size",
        "1",
        "--throughput",
        "-1",
    ];
    for config in [&keys, &java] {
        failed(
            &[&perf[..], &["--producer.config", config]].concat(),
            refusal,
        );
    }
    failed(&[&produce[..], &[&open]].concat(), "semicolon");
    failed(&[&produce[..], &[&odd]].concat(), "not TOML");
    failed(
        &[
            &perf[..],
            &["--producer.config", &bare, "--producer-props", &property],
        ]
        .concat(),
        refusal,
    );
    for wrong in [&colon, &nameless] {
        failed(
            &[&produce[..], &[&bare, "--property", wrong]].concat(),
            "write it as key=value",
        );
    }
    let lines = printed.lines().filter(|line| shows(line, SECRET));
    assert_eq!(lines.collect::<Vec<_>>(), [""; 0]);
}
