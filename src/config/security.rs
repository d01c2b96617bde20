//! What is configured under `security.`, `ssl.` and `sasl.`, put together and checked for
//! contradictions.

mod assertion;
mod aws;
mod login;
mod oauth;
mod password;
mod texts;
mod tls;

use super::error::ProblemKind;
use super::keys;
use super::origin::Origin;
use super::source::Flat;
use super::values::Values;
use crate::core::security::{SecurityProtocol, TlsSettings};
pub(crate) use login::Login;
pub(super) use texts::LoginTexts;

const PROTOCOL: &str = "security.protocol";

/// Keys of a login that only clients have.
const OF_CLIENTS: [&str; 2] = ["sasl.username", "sasl.password"];

/// How connections are secured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Security {
    /// There if connections are encrypted.
    pub tls: Option<TlsSettings>,
    /// There if brokers ask who this client is.
    pub login: Option<Login>,
    /// The keys of TLS that are set to more than their defaults, but for those of the environment, which
    /// may be a broker's.
    pub tls_keys: Vec<&'static str>,
}

impl Security {
    pub fn protocol(&self) -> SecurityProtocol {
        SecurityProtocol::of(self.tls.is_some(), self.login.is_some())
    }
}

/// Puts it together. What is wrong is added to the problems.
pub(super) fn of(values: &mut Values<'_>, flat: &Flat, texts: LoginTexts) -> Security {
    if !values.sound(&[PROTOCOL]) {
        return Security::default();
    }
    let protocol = values
        .word::<SecurityProtocol>(PROTOCOL)
        .unwrap_or_default();
    let login = match protocol.has_sasl() {
        true => login::of(values, texts),
        false => {
            let keys = [
                "sasl.jaas.config",
                "sasl.username",
                "sasl.password",
                "sasl.oauthbearer.token.endpoint.url",
                "sasl.oauthbearer.client.credentials.client.id",
                "sasl.oauthbearer.client.credentials.client.secret",
            ];
            only_with(values, flat, &keys, "SASL_PLAINTEXT or SASL_SSL");
            None
        }
    };
    let tls = match protocol.has_tls() {
        true => tls::of(values),
        false => {
            let keys = [
                "ssl.truststore.location",
                "ssl.truststore.certificates",
                "ssl.keystore.location",
                "ssl.keystore.key",
                "ssl.keystore.certificate.chain",
            ];
            only_with(values, flat, &keys, "SSL or SASL_SSL");
            None
        }
    };
    Security {
        tls,
        login,
        tls_keys: tls_keys(flat),
    }
}

fn tls_keys(flat: &Flat) -> Vec<&'static str> {
    let is_set = |key: &&&str| {
        let default = keys::find(key)
            .and_then(|it| it.default)
            .unwrap_or_default();
        let setting = flat.get(**key).filter(|it| it.value.trim() != default);
        setting.is_some_and(|it| !matches!(it.origin, Origin::Env(_)))
    };
    tls::KEYS.iter().filter(is_set).copied().collect()
}

/// Whoever sets these means to have what another protocol brings. In the environment some may be a
/// broker's, whose variables have the same names; but brokers have no user and no password.
fn only_with(values: &mut Values<'_>, flat: &Flat, keys: &[&str], protocols: &str) {
    for key in keys {
        let set = flat.get(*key).filter(|it| !it.value.trim().is_empty());
        let Some(setting) = set else { continue };
        if matches!(setting.origin, Origin::Env(_)) && !OF_CLIENTS.contains(key) {
            let protocol = values.shown(PROTOCOL);
            tracing::warn!(key, origin = %setting.origin, protocol, "has no effect with this protocol");
            continue;
        }
        let wrong = format!("has no effect with {}", values.shown(PROTOCOL));
        let advice = format!("set {PROTOCOL} to {protocols}, or take the key out");
        values.report(ProblemKind::Conflict, key, wrong, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_login_in_the_environment_is_not_dropped() {
        let builder = || Config::builder().bootstrap_servers("localhost:9092");
        let login = [
            ("KAFKA_SASL_MECHANISM", "PLAIN"),
            ("KAFKA_SASL_USERNAME", "alice"),
            ("KAFKA_SASL_PASSWORD", "s3cret"),
        ];
        let error = builder().env_vars(login).build().expect_err("no protocol");
        let problems = error.problems();
        assert_eq!(problems.len(), 2, "{error}");
        for (problem, key) in problems.iter().zip(["USERNAME", "PASSWORD"]) {
            let text = problem.to_string();
            let expected = format!("environment variable KAFKA_SASL_{key}): has no effect with");
            assert!(text.contains(&expected), "{text}");
            assert!(text.contains("set security.protocol to SASL_"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
        let with = [("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")];
        let config = builder().env_vars(login).env_vars(with).build();
        assert!(config.expect("a login").security.login.is_some());
        // What a broker's container has.
        let broker = [
            ("KAFKA_SSL_KEYSTORE_LOCATION", "/k"),
            ("KAFKA_SASL_JAAS_CONFIG", "x"),
        ];
        assert!(builder().env_vars(broker).build().is_ok());
    }
}
