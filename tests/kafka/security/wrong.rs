//! What is said of wrong settings, and how soon.

use std::time::{Duration, Instant};

use forebay::config::ConfigBuilder;
use forebay::{Producer, Record};
use forebay_kafka_cluster::Printed;

use super::stores::{STORE_PASSWORD, as_jks, encrypted, keystore, run, truststore};
use super::{PASSWORD, Secured, USER, secured, skipped};

/// Nothing takes longer where the broker answers.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// What the first record's error is, or that of the start, and after how long.
pub(super) async fn error(config: ConfigBuilder) -> (String, Duration) {
    let begin = Instant::now();
    let config = match config.build() {
        Ok(config) => config,
        Err(error) => return (error.to_string(), begin.elapsed()),
    };
    let producer = match Producer::start(config) {
        Ok(producer) => producer,
        Err(error) => return (error.to_string(), begin.elapsed()),
    };
    let sent = producer.send(Record::to("wrong").value("1")).await;
    let took = begin.elapsed();
    let error = sent
        .err()
        .map_or_else(|| "it was sent".to_owned(), |it| it.to_string());
    producer
        .close(Duration::from_secs(5))
        .await
        .expect("closed in time");
    (error, took)
}

pub(super) type Case = (&'static str, ConfigBuilder, &'static [&'static str]);

fn login(secured: &Secured, listener: &str, user: &str, password: &str) -> ConfigBuilder {
    let protocol = match listener {
        "LOGINTLS" => "SASL_SSL",
        _ => "SASL_PLAINTEXT",
    };
    let config = secured.config(listener, protocol);
    config
        .set("sasl.mechanism", "SCRAM-SHA-512")
        .set("sasl.username", user)
        .set("sasl.password", password)
}

fn cases(secured: &Secured) -> Vec<Case> {
    let stranger = super::Signer::new(&secured.dir, "stranger");
    let stranger_key = stranger.signs("stranger-client", &["client"]);
    let own = secured.signer.signs("own-client", &["client"]);
    let tls = |listener| secured.config(listener, "SSL");
    let plain = |it: ConfigBuilder| it.set("sasl.mechanism", "PLAIN");
    let pem_key = |it: ConfigBuilder, file: &std::path::Path| {
        it.set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.location", file.display())
    };
    vec![
        (
            "SCRAM, wrong password",
            login(secured, "LOGIN", USER, "other"),
            &[
                "127.0.0.1",
                "\"alice\"",
                "SCRAM-SHA-512",
                "invalid credentials",
            ],
        ),
        (
            "SCRAM over TLS, wrong password",
            login(secured, "LOGINTLS", USER, "other"),
            &["\"alice\"", "invalid credentials"],
        ),
        (
            "SCRAM, unknown user",
            login(secured, "LOGIN", "bob", PASSWORD),
            &["\"bob\"", "check user and password"],
        ),
        (
            "PLAIN, wrong password",
            plain(login(secured, "LOGIN", USER, "other")),
            &["\"alice\"", "PLAIN", "Invalid username or password"],
        ),
        (
            "a mechanism that the listener has not",
            login(secured, "ONLYPLAIN", USER, PASSWORD),
            &["the listener has only PLAIN", "sasl.mechanism"],
        ),
        (
            "login at a listener without logins",
            secured
                .config("PLAINTEXT", "SASL_PLAINTEXT")
                .set("sasl.mechanism", "PLAIN")
                .set("sasl.username", USER)
                .set("sasl.password", PASSWORD),
            &["has a listener without logins", "security.protocol"],
        ),
        (
            "no login at a listener with logins",
            secured.config("LOGIN", "PLAINTEXT"),
            &[
                "does the listener ask for SASL?",
                "security.protocol is PLAINTEXT",
            ],
        ),
        (
            "TLS without a login at a listener with both",
            secured.config("LOGINTLS", "SSL"),
            &[
                "does the listener ask for SASL?",
                "security.protocol is SSL",
            ],
        ),
        (
            "plain text at a TLS listener",
            secured.config("TLS", "PLAINTEXT"),
            &["TLS"],
        ),
        (
            "TLS at a listener in plain text",
            secured.config("PLAINTEXT", "SSL"),
            &["is the listener PLAINTEXT"],
        ),
        (
            "another signer is trusted",
            tls("TLS").set("ssl.truststore.location", stranger.certificate.display()),
            &[
                "certificate of 127.0.0.1",
                "none of the trusted certificates has signed it",
            ],
        ),
        (
            "the system's signers are trusted",
            forebay::Config::builder()
                .bootstrap_servers(secured.cluster.bootstrap_of("TLS"))
                .set("security.protocol", "SSL"),
            &["ssl.truststore.location"],
        ),
        (
            "an expired certificate",
            tls("EXPIRED"),
            &["it expired", "days ago"],
        ),
        (
            "a certificate for another host",
            tls("ELSEWHERE"),
            &["it is for", "broker.example.com", "not for 127.0.0.1"],
        ),
        (
            "no certificate where one is asked for",
            tls("MUTUAL"),
            &["ssl.keystore.location"],
        ),
        (
            "a certificate of a signer that the broker does not know",
            pem_key(tls("MUTUAL"), &stranger_key),
            &["refuses the TLS connection"],
        ),
        (
            "no common version",
            tls("TLS12").set("ssl.enabled.protocols", "TLSv1.3"),
            &["ssl.enabled.protocols"],
        ),
        (
            "a truststore that is not there",
            tls("TLS").set("ssl.truststore.location", "/no/such.pem"),
            &["ssl.truststore.location (/no/such.pem) cannot be read"],
        ),
        (
            "PEM named JKS",
            tls("TLS")
                .set("ssl.truststore.type", "JKS")
                .set("ssl.truststore.password", "x"),
            &["is PEM", "set ssl.truststore.type=PEM"],
        ),
        (
            "a keystore without a key",
            pem_key(tls("MUTUAL"), &secured.signer.certificate),
            &["has no private key"],
        ),
        (
            "a key and another's certificate",
            tls("MUTUAL")
                .set("ssl.keystore.type", "PEM")
                .set("ssl.keystore.key", std::fs::read_to_string(&own).unwrap())
                .set(
                    "ssl.keystore.certificate.chain",
                    std::fs::read_to_string(&stranger_key).unwrap(),
                ),
            &["the key is not that of its certificate"],
        ),
    ]
}

fn stores(secured: &Secured) -> Vec<Case> {
    let mutual = || secured.config("MUTUAL", "SSL");
    let keys = keystore(secured, "wrong-client");
    let jks = as_jks(secured, &keys, "wrong-client.jks");
    let trust = truststore(secured, "wrong-trust.p12", "PKCS12");
    let store = |form: &str, file: &std::path::Path, password: &str| {
        mutual()
            .set("ssl.keystore.type", form)
            .set("ssl.keystore.location", file.display())
            .set("ssl.keystore.password", password)
    };
    let trusting = |file: &std::path::Path, password: &str| {
        mutual()
            .set("ssl.truststore.type", "PKCS12")
            .set("ssl.truststore.location", file.display())
            .set("ssl.truststore.password", password)
    };
    let pem = |file: &std::path::Path, password: &str| {
        mutual()
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.location", file.display())
            .set("ssl.key.password", password)
    };
    let signer = secured.signer.certificate.display().to_string();
    let password = format!("pass:{STORE_PASSWORD}");
    let args = [
        "pkcs12",
        "-export",
        "-nokeys",
        "-in",
        &signer,
        "-out",
        "nokeys.p12",
        "-passout",
        &password,
    ];
    run(&secured.dir, "openssl", &args);
    let nokeys = secured.dir.join("nokeys.p12");
    let pbes2 = encrypted(secured, "wrong-pbes2", &[]);
    let pbes1 = encrypted(secured, "wrong-pbes1", &["-v1", "PBE-SHA1-3DES"]);
    let traditional = secured.dir.join("traditional.pem");
    let key = traditional.display().to_string();
    let args = [
        "genrsa",
        "-aes256",
        "-traditional",
        "-passout",
        &password,
        "-out",
        &key,
        "2048",
    ];
    run(&secured.dir, "openssl", &args);
    let der = secured.dir.join("signer.der");
    run(
        &secured.dir,
        "openssl",
        &[
            "x509",
            "-in",
            &signer,
            "-outform",
            "DER",
            "-out",
            "signer.der",
        ],
    );
    vec![
        (
            "wrong password of a keystore in PKCS12",
            store("PKCS12", &keys, "other"),
            &[
                "ssl.keystore.location",
                "does not open with ssl.keystore.password",
                "is wrong",
            ],
        ),
        (
            "wrong password of a keystore in JKS",
            store("JKS", &jks, "other"),
            &[
                "ssl.keystore.location",
                "does not open with ssl.keystore.password",
                "is wrong",
            ],
        ),
        (
            "wrong password of a key in JKS",
            store("JKS", &jks, STORE_PASSWORD).set("ssl.key.password", "other"),
            &[
                "does not open with ssl.key.password",
                "the key has another password",
            ],
        ),
        (
            "wrong password of a truststore",
            trusting(&trust, "other"),
            &[
                "ssl.truststore.location",
                "ssl.truststore.password: the password is wrong",
            ],
        ),
        (
            "a truststore without its password",
            mutual()
                .set("ssl.truststore.type", "PKCS12")
                .set("ssl.truststore.location", trust.display()),
            &["ssl.truststore.password: it is not set"],
        ),
        (
            "a truststore by openssl, which marks nothing as trusted",
            trusting(&nokeys, STORE_PASSWORD),
            &["has no trusted certificate", "keytool -importcert"],
        ),
        (
            "a truststore for a keystore",
            store("PKCS12", &trust, STORE_PASSWORD),
            &["has no private key", "it may be a truststore"],
        ),
        (
            "PKCS12 named PEM",
            mutual()
                .set("ssl.keystore.type", "PEM")
                .set("ssl.keystore.location", keys.display()),
            &["is PKCS12", "set ssl.keystore.type=PKCS12"],
        ),
        (
            "a certificate in DER",
            trusting(&der, "x"),
            &["is DER", "JKS, PKCS12 and PEM are served"],
        ),
        (
            "wrong password of a key in PEM",
            pem(&pbes2, "other"),
            &["does not open with ssl.key.password: the password is wrong"],
        ),
        (
            "a key in PEM that is encrypted, and no password",
            mutual()
                .set("ssl.keystore.type", "PEM")
                .set("ssl.keystore.location", pbes2.display()),
            &["ssl.key.password: the private key is encrypted; set it"],
        ),
        (
            "a key in PEM by PBES1",
            pem(&pbes1, STORE_PASSWORD),
            &["encrypted by PBES1", "openssl pkcs8 -topk8 -v2 aes256"],
        ),
        (
            "a key in PEM that is encrypted the old way",
            pem(&traditional, STORE_PASSWORD),
            &["openssl pkcs8 -topk8 -v2 aes256"],
        ),
    ]
}

#[tokio::test]
async fn wrong_settings_are_told_soon_and_in_plain_words() {
    if skipped("wrong_settings_are_told_soon_and_in_plain_words") {
        return;
    }
    let secured = secured();
    secured.cluster.create_topic("wrong", 1, 1, &[]).unwrap();
    let mut amiss = Vec::new();
    for (name, config, expected) in cases(secured).into_iter().chain(stores(secured)) {
        let (error, took) = error(config).await;
        println!("| {name} | {error} | {} ms |", took.as_millis());
        if took > SOON || expected.iter().any(|it| !error.contains(it)) {
            amiss.push(format!("{name}: {took:?}: {error}"));
        }
        for secret in [PASSWORD, STORE_PASSWORD, "BEGIN PRIVATE"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
    assert!(amiss.is_empty(), "{amiss:#?}");
}

#[test]
fn no_secret_is_printed_of_a_login_that_fails() {
    if skipped("no_secret_is_printed_of_a_login_that_fails") {
        return;
    }
    const SECRET: &str = "t0p-s3cret";
    let secured = secured();
    let printed = Printed::default();
    // The runtime shares this thread, and with it what it prints to.
    let _printing = printed.keep_log(tracing::Level::TRACE);
    let mut shown = String::new();
    actix::System::new().block_on(async {
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            let config = login(secured, "LOGIN", USER, SECRET);
            let config = config.set("sasl.mechanism", mechanism);
            shown += &format!("{config:?}");
            let config = config.build().unwrap();
            shown += &format!("{config:?}");
            let producer = Producer::builder()
                .placement(forebay::Placement::CurrentArbiter)
                .start(config)
                .unwrap();
            let error = producer
                .send(Record::to("wrong").value("1"))
                .await
                .unwrap_err();
            shown += &format!("{error} {error:?} {:?}", producer.figures().await);
            producer
                .close(Duration::from_secs(5))
                .await
                .expect("closed in time");
        }
    });
    let printed = printed.text();
    assert!(printed.contains("does not let"), "{printed}");
    for text in [&printed, &shown] {
        assert!(!text.contains(SECRET), "{text}");
        // As bytes in a debugged buffer, and as base64.
        assert!(!text.contains("116, 48, 112"), "{text}");
        assert!(!text.contains("dDBwLX"), "{text}");
    }
}
