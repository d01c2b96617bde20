//! Logins by OAUTHBEARER, with tokens of a real token server and without one.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use forebay::config::ConfigBuilder;
use forebay::{Producer, Record, Token, TokenSource};
use forebay_kafka_cluster::{
    Cluster, ClusterOptions, Listener, Load, TokenServer, TokenServerOptions,
};

use super::wrong::{Case, SOON, error};
use super::{RENEWED, Secured, Signer, listener, skipped};

const MODULE: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
const HANDLERS: &str = "org.apache.kafka.common.security.oauthbearer";
const SECRET: &str = "t0p-s3cret";
/// Less than the shortest time that Kafka's client keeps a token: then its share alone counts.
const SHORT: Duration = Duration::from_secs(6);

/// A broker whose listeners ask for tokens, and who gives them.
struct Tokens {
    secured: Secured,
    server: TokenServer,
    /// Its tokens are good for a few seconds, and it is reached through TLS.
    short: TokenServer,
}

fn tokens() -> &'static Tokens {
    static TOKENS: OnceLock<Tokens> = OnceLock::new();
    TOKENS.get_or_init(start)
}

fn start() -> Tokens {
    let dir = tempfile::tempdir().expect("a folder").keep();
    let signer = Signer::new(&dir, "token-signer");
    let own = signer.signs("token-broker", &["127.0.0.1", "localhost"]);
    let keystore = dir.join("token-server.p12");
    let made = Command::new("openssl")
        .args(["pkcs12", "-export", "-passout", "pass:changeit", "-in"])
        .arg(&own)
        .arg("-out")
        .arg(&keystore)
        .status();
    assert!(made.expect("openssl").success());
    let server = TokenServer::start(&TokenServerOptions::default()).expect("a token server");
    let short = TokenServer::start(&TokenServerOptions {
        lifetime: Some(SHORT),
        keystore: Some((&keystore, "changeit")),
    });
    let short = short.expect("a token server");

    let signed = [SIGNED];
    let renewed = [SIGNED, RENEWED];
    let keys = Some((own.as_path(), signer.certificate.as_path()));
    let mut options = trusting(ClusterOptions::default().brokers(1), &server);
    for listener in [
        takes_tokens("TOKENS", "SASL_PLAINTEXT", None, &signed),
        takes_tokens("TOKENSTLS", "SASL_SSL", keys, &signed),
        takes_tokens("RENEWED", "SASL_SSL", keys, &renewed),
        takes_tokens("UNSIGNED", "SASL_PLAINTEXT", None, &[]),
    ] {
        options = options.listener(listener);
    }
    Tokens {
        secured: Secured {
            cluster: Cluster::start(options).expect("a cluster"),
            dir,
            signer,
        },
        server,
        short,
    }
}

/// Brokers look into the signature of each token.
pub const SIGNED: (&str, &str) = (
    "oauthbearer.sasl.server.callback.handler.class",
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
);

/// A listener that takes tokens and nothing else.
pub fn takes_tokens(
    name: &str,
    protocol: &str,
    keys: Option<(&Path, &Path)>,
    more: &[(&str, &str)],
) -> Listener {
    let jaas = format!("{MODULE} required unsecuredLoginStringClaim_sub=\"broker\";");
    let tokens = [
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("oauthbearer.sasl.jaas.config", jaas.as_str()),
    ];
    listener(name, protocol, keys, &[&tokens[..], more].concat())
}

/// Brokers that take this server's tokens.
pub fn trusting(options: ClusterOptions, server: &TokenServer) -> ClusterOptions {
    let mut options = options
        .property("sasl.oauthbearer.jwks.endpoint.url", server.jwks_url())
        .property("sasl.oauthbearer.expected.audience", "kafka")
        .property("sasl.oauthbearer.clock.skew.seconds", "0");
    let allowed = "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=";
    options
        .java_args
        .push(format!("{allowed}{}", server.jwks_url()));
    options
}

/// With client credentials at a token server.
pub fn by_token(config: ConfigBuilder, url: &str) -> ConfigBuilder {
    config
        .set("sasl.mechanism", "OAUTHBEARER")
        .set("sasl.oauthbearer.token.endpoint.url", url)
        .set("sasl.oauthbearer.client.credentials.client.id", "app")
        .set("sasl.oauthbearer.client.credentials.client.secret", SECRET)
        .set("sasl.oauthbearer.scope", "kafka")
}

impl Tokens {
    fn config(&self, listener: &str) -> ConfigBuilder {
        let protocol = match listener {
            "TOKENSTLS" | "RENEWED" => "SASL_SSL",
            _ => "SASL_PLAINTEXT",
        };
        self.secured
            .config(listener, protocol)
            .set("sasl.mechanism", "OAUTHBEARER")
    }

    /// With client credentials at a token server.
    fn with(&self, listener: &str, url: &str) -> ConfigBuilder {
        by_token(self.config(listener), url)
    }

    /// The same at the one that is reached through TLS.
    fn with_short(&self, listener: &str) -> ConfigBuilder {
        let trust = self.secured.signer.certificate.display();
        let jaas = format!(
            "{MODULE} required ssl.truststore.type=PEM ssl.truststore.location=\"{trust}\";"
        );
        self.with(listener, &self.short.token_url())
            .set("sasl.jaas.config", jaas)
    }
}

#[test]
fn records_arrive_with_tokens_of_a_server() {
    if skipped("records_arrive_with_tokens_of_a_server") {
        return;
    }
    let tokens = tokens();
    let url = tokens.server.token_url();
    for listener in ["TOKENS", "TOKENSTLS"] {
        let config = tokens.with(listener, &url);
        tokens.secured.arrives(&format!("oauth-{listener}"), config);
    }
    let jaas = format!(
        "{MODULE} required clientId=\"app\" clientSecret=\"{SECRET}\" scope=\"kafka\" \
         extension_trace=\"forebay\";"
    );
    let config = tokens
        .config("TOKENS")
        .set("sasl.oauthbearer.token.endpoint.url", url)
        .set(
            "sasl.login.callback.handler.class",
            format!("{HANDLERS}.secured.OAuthBearerLoginCallbackHandler"),
        )
        .set("sasl.jaas.config", jaas);
    tokens.secured.arrives("oauth-jaas", config);
    let file = tokens.secured.dir.join("token");
    std::fs::write(&file, tokens.server.token("kafka").unwrap()).unwrap();
    let config = tokens.config("TOKENS").set(
        "sasl.oauthbearer.token.endpoint.url",
        format!("file://{}", file.display()),
    );
    tokens.secured.arrives("oauth-file", config);
}

/// A key, made by openssl.
fn key(tokens: &Tokens, name: &str, of: [&str; 2]) -> PathBuf {
    let file = tokens.secured.dir.join(name);
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", of[0], "-pkeyopt", of[1], "-out"])
        .arg(&file)
        .output();
    assert!(made.expect("openssl").status.success());
    file
}

/// With an assertion in place of a secret, or as the grant itself. The token server takes an assertion of
/// two minutes at most.
fn asserted(tokens: &Tokens, key: &Path) -> ConfigBuilder {
    let url = tokens.server.token_url();
    tokens
        .config("TOKENS")
        .set("sasl.oauthbearer.token.endpoint.url", &url)
        .set("sasl.oauthbearer.scope", "kafka")
        .set("sasl.oauthbearer.assertion.private.key.file", key.display())
        .set("sasl.oauthbearer.assertion.claim.iss", "app")
        .set("sasl.oauthbearer.assertion.claim.sub", "app")
        .set("sasl.oauthbearer.assertion.claim.aud", url)
        .set("sasl.oauthbearer.assertion.claim.jti.include", true)
        .set("sasl.oauthbearer.assertion.claim.exp.seconds", 60)
        .set("sasl.oauthbearer.assertion.claim.nbf.seconds", 0)
}

#[test]
fn records_arrive_with_tokens_for_assertions() {
    if skipped("records_arrive_with_tokens_for_assertions") {
        return;
    }
    let tokens = tokens();
    let rsa = key(tokens, "rsa.pem", ["RSA", "rsa_keygen_bits:2048"]);
    let template = tokens.secured.dir.join("template.json");
    std::fs::write(
        &template,
        r#"{"header": {"kid": "k1"}, "payload": {"scope": "kafka"}}"#,
    )
    .unwrap();
    let client = asserted(tokens, &rsa)
        .set("sasl.oauthbearer.client.credentials.client.id", "app")
        .set(
            "sasl.oauthbearer.assertion.template.file",
            template.display(),
        );
    tokens.secured.arrives("oauth-private-key", client);
    let bearer = asserted(tokens, &rsa).set(
        "sasl.oauthbearer.jwt.retriever.class",
        format!("{HANDLERS}.JwtBearerJwtRetriever"),
    );
    tokens.secured.arrives("oauth-jwt-bearer", bearer);
}

#[test]
fn records_arrive_with_tokens_that_nobody_signs() {
    if skipped("records_arrive_with_tokens_that_nobody_signs") {
        return;
    }
    let tokens = tokens();
    let jaas = format!("{MODULE} required unsecuredLoginStringClaim_sub=\"alice\";");
    let config = tokens.config("UNSIGNED").set("sasl.jaas.config", jaas);
    tokens.secured.arrives("oauth-unsigned", config);
}

/// The broker ends a login after two seconds, and tokens expire after six. Where this machine is too busy
/// to renew one in the last tenth of its time the broker closes the connection, and batches are sent again.
#[test]
fn tokens_are_refreshed_while_records_flow() {
    if skipped("tokens_are_refreshed_while_records_flow") {
        return;
    }
    let tokens = tokens();
    let config = tokens.with_short("RENEWED").set("metadata.max.age.ms", 700);
    let load = Load::new("oauth-refreshed", 60_000).per_second(4_000);
    tokens.secured.sent_in("oauth-refreshed", config, load);
}

/// Gives tokens out of the application, and fails at times.
struct Own {
    server: &'static TokenServer,
    asked: AtomicU32,
}

impl TokenSource for Own {
    fn token(&self) -> Result<Token, Box<dyn Error + Send + Sync>> {
        match self.asked.fetch_add(1, Relaxed) {
            0 => Err("not yet".into()),
            _ => Ok(Token::new(
                self.server.token("kafka").map_err(|it| it.to_string())?,
            )),
        }
    }
}

#[tokio::test]
async fn an_application_may_have_its_own_tokens() {
    if skipped("an_application_may_have_its_own_tokens") {
        return;
    }
    let tokens = tokens();
    let cluster = &tokens.secured.cluster;
    cluster.create_topic("oauth-own", 1, 1, &[]).unwrap();
    let own = Own {
        server: &tokens.server,
        asked: AtomicU32::new(0),
    };
    let producer = Producer::builder()
        .token_source(own)
        .start(tokens.config("TOKENS").build().unwrap())
        .unwrap();
    let receipt = producer.send(Record::to("oauth-own").value("1")).await;
    receipt.expect("a login").await.expect("it is written");
    producer.close(SOON).await.expect("closed in time");
}

/// A server that says this to each request, after a while.
fn saying(answer: &'static str, after: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            std::thread::sleep(after);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}/token")
}

fn cases(tokens: &Tokens) -> Vec<Case> {
    let at_once = Duration::ZERO;
    let url = tokens.server.token_url();
    let from = |url: &str| tokens.with("TOKENS", url);
    let refused = saying(
        "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n\
         {\"error\":\"invalid_client\",\"error_description\":\"t0p-s3cret is the wrong one\"}",
        at_once,
    );
    let garbage = saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        at_once,
    );
    let broken = saying("SSH-2.0-OpenSSH_9.6\r\n", at_once);
    let busy = saying("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", at_once);
    let slow = saying("HTTP/1.1 200 OK\r\n", Duration::from_secs(60));
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let file = |name: &str, token: String| {
        let file = tokens.secured.dir.join(name);
        std::fs::write(&file, token).unwrap();
        let url = format!("file://{}", file.display());
        tokens
            .config("TOKENS")
            .set("sasl.oauthbearer.token.endpoint.url", url)
    };
    let other = tokens
        .server
        .token("kafka")
        .unwrap()
        .replacen("eyJ", "eyK", 1);
    let unsigned = format!("{MODULE} required unsecuredLoginStringClaim_sub=\"alice\";");
    let p256 = key(tokens, "wrong-ec.pem", ["EC", "ec_paramgen_curve:P-256"]);
    let assertion: Vec<Case> = vec![
        (
            "OAUTHBEARER, a key of another sort for an assertion",
            asserted(tokens, &p256),
            &["it is not an RSA key, which sasl.oauthbearer.assertion.algorithm=RS256 needs"][..],
        ),
        (
            "OAUTHBEARER, a key for an assertion that is not there",
            asserted(tokens, Path::new("/no/such")),
            &["sasl.oauthbearer.assertion.private.key.file (/no/such) cannot be read"][..],
        ),
    ];
    let secrets: Vec<Case> = vec![
        (
            "OAUTHBEARER, another client secret",
            from(&refused),
            &["answers 401: invalid_client - *** is the wrong one; check client id and secret"],
        ),
        (
            "OAUTHBEARER, another path of the token endpoint",
            from(&url.replace("default/token", "x")),
            &["answers 405", "check sasl.oauthbearer.token.endpoint.url"],
        ),
        (
            "OAUTHBEARER, a token endpoint that is not there",
            from(&format!("http://{closed}/")),
            &["cannot be connected to", "refused"],
        ),
        (
            "OAUTHBEARER, a token endpoint without a name in DNS",
            from("http://idp.invalid/"),
            &["cannot be resolved"],
        ),
        (
            "OAUTHBEARER, a token endpoint that is slow",
            from(&slow).set("sasl.login.read.timeout.ms", 700),
            &["does not answer within 700ms; raise sasl.login.read.timeout.ms?"],
        ),
        (
            "OAUTHBEARER, a token endpoint that is busy",
            from(&busy),
            &["answers 503"],
        ),
        (
            "OAUTHBEARER, a web page for a token endpoint",
            from(&garbage),
            &["answers without a token: it is no JSON; is that the URL of the token endpoint?"],
        ),
        (
            "OAUTHBEARER, something else for a token endpoint",
            from(&broken),
            &["does not answer in HTTP"],
        ),
        (
            "OAUTHBEARER, https for http",
            from(&url.replace("http:", "https:")).set("sasl.login.connect.timeout.ms", 1500),
            &["does not finish the TLS handshake within 1.5s; is it http?"],
        ),
        (
            "OAUTHBEARER, http for https",
            from(&tokens.short.token_url().replace("https:", "http:")),
            &["is it https?"],
        ),
        (
            "OAUTHBEARER, a token endpoint of an unknown signer",
            from(&tokens.short.token_url()),
            &[
                "is not trusted: none of the trusted certificates has signed it",
                "in sasl.jaas.config",
            ],
        ),
        (
            "OAUTHBEARER, another scope, and with it another audience",
            from(&url).set("sasl.oauthbearer.scope", "other"),
            &[
                "does not let \"app\" log in by OAUTHBEARER: status=invalid_token; check the token's",
            ],
        ),
        (
            "OAUTHBEARER, a token file that is not there",
            tokens
                .config("TOKENS")
                .set("sasl.oauthbearer.token.endpoint.url", "file:///no/such"),
            &["sasl.oauthbearer.token.endpoint.url (/no/such) cannot be read: No such file"],
        ),
        (
            "OAUTHBEARER, a token file that is empty",
            file("empty", "\n".into()),
            &["is empty"],
        ),
        (
            "OAUTHBEARER, a token that was changed",
            file("changed", other),
            &["invalid_token"],
        ),
        (
            "OAUTHBEARER, a token that is none",
            file("none", "no token".into()),
            &["the token has characters that no bearer token has"],
        ),
        (
            "OAUTHBEARER, a token that nobody signs",
            tokens.config("TOKENS").set("sasl.jaas.config", unsigned),
            &["does not let \"alice\" log in by OAUTHBEARER: status=invalid_token"],
        ),
        (
            "OAUTHBEARER, nothing that gives tokens",
            tokens.config("TOKENS"),
            &[
                "sasl.oauthbearer.token.endpoint.url (default): is not set, and there is no token source",
            ],
        ),
        (
            "OAUTHBEARER, no client id",
            tokens
                .config("TOKENS")
                .set("sasl.oauthbearer.token.endpoint.url", url),
            &["client.id (default): is not given"],
        ),
    ];
    secrets.into_iter().chain(assertion).collect()
}

#[tokio::test]
async fn wrong_settings_of_tokens_are_told_soon_and_in_plain_words() {
    if skipped("wrong_settings_of_tokens_are_told_soon_and_in_plain_words") {
        return;
    }
    let tokens = tokens();
    let Secured { cluster, dir, .. } = &tokens.secured;
    cluster.create_topic("wrong", 1, 1, &[]).unwrap();
    let file = dir.join("expired");
    let url = format!("file://{}", file.display());
    let expired = tokens
        .config("TOKENS")
        .set("sasl.oauthbearer.token.endpoint.url", url);
    let expired: Case = (
        "OAUTHBEARER, a token that has expired",
        expired,
        &["invalid_token"],
    );
    std::fs::write(&file, expired_token().await).unwrap();
    let mut amiss = Vec::new();
    for (name, config, expected) in cases(tokens).into_iter().chain([expired]) {
        let (error, took) = error(config).await;
        println!("| {name} | {error} | {} ms |", took.as_millis());
        if took > SOON || expected.iter().any(|it| !error.contains(it)) {
            amiss.push(format!("{name}: {took:?}: {error}"));
        }
        assert!(!error.contains(SECRET), "{error}");
    }
    assert!(amiss.is_empty(), "{amiss:#?}");
}

async fn expired_token() -> String {
    let server = TokenServer::start(&TokenServerOptions {
        lifetime: Some(Duration::from_secs(1)),
        ..TokenServerOptions::default()
    });
    let token = server.expect("a token server").token("kafka").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    token
}
