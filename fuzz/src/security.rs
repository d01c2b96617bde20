//! Logins, and whatever stands in files and texts of those who log in.

use forebay::Config;
use forebay::internals::security::{
    AuthenticateResponse, HandshakeResponse, open_key_material, scram_exchange,
};
use forebay::internals::wire::Api;

use super::versioned;

/// Words of a broker are cut, and so are errors with them.
const MOST_WORDS: usize = 4096;

/// The answers to a login's requests.
pub fn login(data: &[u8]) {
    if let Some((_, body)) = versioned(Api::SaslHandshake, data)
        && let Ok(answer) = HandshakeResponse::decode(&body)
    {
        assert!(
            answer.enabled.len() <= 32,
            "{} mechanisms",
            answer.enabled.len()
        );
        assert!(answer.enabled.iter().all(|it| it.len() <= MOST_WORDS));
    }
    if let Some((version, body)) = versioned(Api::SaslAuthenticate, data)
        && let Ok(answer) = AuthenticateResponse::decode(version, &body)
    {
        assert!(answer.message.len() <= body.len());
        assert!(answer.error_message.is_none_or(|it| it.len() <= MOST_WORDS));
        assert!(answer.lifetime.is_none_or(|it| !it.is_zero()));
    }
}

/// A broker's two messages of SCRAM, with a line between them. Of a count of iterations only those are
/// tried that take no time.
pub fn scram(data: &[u8]) {
    let mut messages = data.splitn(2, |byte| *byte == b'\n');
    let (first, last) = (
        messages.next().unwrap_or(data),
        messages.next().unwrap_or(&[]),
    );
    let text = String::from_utf8_lossy(first);
    let counts = text.split(",i=").skip(1);
    let mut counts = counts.map(|it| it.split(',').next().and_then(|it| it.parse().ok()));
    if counts.any(|count| count.is_some_and(|count: u32| (4_097..=1_000_000).contains(&count))) {
        return;
    }
    if let Err(error) = scram_exchange("nonce", first, last) {
        assert!(error.to_string().len() <= MOST_WORDS, "{error}");
    }
}

const MARK: &str = "0nly-in-the-passw0rd";

fn with(keys: [(&str, &str); 3]) -> Result<Config, forebay::ConfigError> {
    let config = Config::builder()
        .bootstrap_servers("localhost:9092")
        .set("security.protocol", "SASL_PLAINTEXT");
    let keys = keys.into_iter();
    let config = keys.fold(config, |config, (key, value)| config.set(key, value));
    config.build()
}

/// What `sasl.jaas.config` is: as it comes, and as what follows a password.
pub fn jaas(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let behind = format!("{module} required username=\"a\" password=\"{MARK}\" {text}");
    let inside = format!("{module} required username=\"a\" password={MARK}{text};");
    for jaas in [&*text, &behind, &inside] {
        let keys = [
            ("sasl.mechanism", "PLAIN"),
            ("sasl.jaas.config", jaas),
            ("linger.ms", "5"),
        ];
        let shown = match with(keys) {
            Ok(config) => format!("{config:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains(MARK), "{shown}");
        assert!(shown.len() <= 2 * MOST_WORDS);
    }
}

/// A value with references to providers. None may read a file.
pub fn providers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let class =
        |name: &str| format!("org.apache.kafka.common.config.provider.{name}ConfigProvider");
    let builder = Config::builder()
        .bootstrap_servers("localhost:9092")
        .set("config.providers", "file,dir,env")
        .set("config.providers.file.class", class("File"))
        .set(
            "config.providers.file.param.allowed.paths",
            "/no/such/folder",
        )
        .set("config.providers.dir.class", class("Directory"))
        .set(
            "config.providers.dir.param.allowed.paths",
            "/no/such/folder",
        )
        .set("config.providers.env.class", class("EnvVar"))
        .set("client.id", &text);
    match builder.build() {
        // Only a variable can be there.
        Ok(config) => assert!(config.client_id == text || text.contains("${env:")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A file of certificates and keys: PEM, PKCS12 or JKS, with the password "secret".
pub fn key_material(data: &[u8]) {
    for is_pem in [false, true] {
        for opened in open_key_material(data, is_pem, "secret") {
            match opened {
                // A certificate takes more than a hundred bytes.
                Ok(count) => assert!(100 * count <= data.len()),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.is_empty() && text.len() <= MOST_WORDS, "{text}");
                }
            }
        }
    }
}
