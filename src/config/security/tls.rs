//! TLS: whom to trust, who to be, what to speak. No file is read here.

use std::path::PathBuf;

use super::super::error::ProblemKind;
use super::super::values::Values;
use crate::core::security::{Identity, Secret, Store, StoreFormat, TlsSettings, TlsVersion, Trust};

const TRUST_TYPE: &str = "ssl.truststore.type";
const TRUST_FILE: &str = "ssl.truststore.location";
const TRUST_PASSWORD: &str = "ssl.truststore.password";
const TRUST_PEM: &str = "ssl.truststore.certificates";
const KEY_TYPE: &str = "ssl.keystore.type";
const KEY_FILE: &str = "ssl.keystore.location";
const STORE_PASSWORD: &str = "ssl.keystore.password";
const KEY_PEM: &str = "ssl.keystore.key";
const CHAIN_PEM: &str = "ssl.keystore.certificate.chain";
const KEY_PASSWORD: &str = "ssl.key.password";
const VERSIONS: &str = "ssl.enabled.protocols";
const HOST: &str = "ssl.endpoint.identification.algorithm";

/// All that say how to encrypt.
pub(super) const KEYS: [&str; 14] = [
    TRUST_TYPE,
    TRUST_FILE,
    TRUST_PASSWORD,
    TRUST_PEM,
    KEY_TYPE,
    KEY_FILE,
    STORE_PASSWORD,
    KEY_PEM,
    CHAIN_PEM,
    KEY_PASSWORD,
    VERSIONS,
    HOST,
    "ssl.cipher.suites",
    "ssl.protocol",
];

/// The settings. What is wrong is added to the problems.
pub(super) fn of(values: &mut Values<'_>) -> Option<TlsSettings> {
    if !cfg!(feature = "tls") {
        let wrong = "forebay was built without TLS";
        let advice = "build with one of its cargo features graviola, ring, aws-lc-rs";
        values.report(ProblemKind::FeatureOff, "security.protocol", wrong, advice);
        return None;
    }
    let before = values.problems.len();
    let settings = TlsSettings {
        trust: trust(values),
        identity: identity(values),
        versions: versions(values),
        cipher_suites: values
            .list("ssl.cipher.suites")
            .map(str::to_owned)
            .collect(),
        checks_host: checks_host(values),
    };
    (values.problems.len() == before).then_some(settings)
}

fn conflict(values: &mut Values<'_>, key: &str, wrong: &str, advice: &str) {
    values.report(ProblemKind::Conflict, key, wrong, advice);
}

fn given(values: &Values<'_>, key: &str) -> Option<String> {
    let text = values.text(key).filter(|text| !text.trim().is_empty());
    text.map(str::to_owned)
}

fn is_pem(values: &Values<'_>, key: &str) -> bool {
    values.text(key) == Some("PEM")
}

fn trust(values: &mut Values<'_>) -> Trust {
    let password = values.secret(TRUST_PASSWORD);
    let pem = is_pem(values, TRUST_TYPE);
    if pem && password.is_some() {
        let wrong = "a truststore in PEM has no password";
        conflict(values, TRUST_PASSWORD, wrong, "take the key out");
    }
    match (values.secret(TRUST_PEM), given(values, TRUST_FILE)) {
        (Some(_), Some(_)) => {
            let wrong = format!("{TRUST_FILE} is set, too");
            conflict(values, TRUST_PEM, &wrong, "take one of the two out");
            Trust::System
        }
        (Some(certificates), None) => {
            if !pem {
                let wrong = format!("is in PEM, and {} is not", values.shown(TRUST_TYPE));
                conflict(values, TRUST_PEM, &wrong, &format!("set {TRUST_TYPE}=PEM"));
            }
            Trust::Pem(certificates)
        }
        (None, Some(path)) => Trust::Store(store(path, pem, password)),
        (None, None) => {
            if password.is_some() {
                let wrong = format!("there is no truststore: {TRUST_FILE} is not set");
                conflict(
                    values,
                    TRUST_PASSWORD,
                    &wrong,
                    "set it, or take the password out",
                );
            }
            Trust::System
        }
    }
}

fn store(path: String, pem: bool, password: Option<Secret>) -> Store {
    Store {
        path: PathBuf::from(path),
        format: if pem {
            StoreFormat::Pem
        } else {
            StoreFormat::Java
        },
        password,
    }
}

fn identity(values: &mut Values<'_>) -> Option<Identity> {
    let password = values.secret(STORE_PASSWORD);
    let key_password = values.secret(KEY_PASSWORD);
    let key = values.secret(KEY_PEM);
    let pem = is_pem(values, KEY_TYPE);
    if pem && password.is_some() {
        let wrong = "a keystore in PEM has no password, only its key may have one";
        conflict(
            values,
            STORE_PASSWORD,
            wrong,
            "set ssl.key.password instead",
        );
    }
    match (key, values.secret(CHAIN_PEM), given(values, KEY_FILE)) {
        (None, None, None) => {
            for (name, set) in [(STORE_PASSWORD, &password), (KEY_PASSWORD, &key_password)] {
                if set.is_some() {
                    let wrong = format!("there is no keystore: {KEY_FILE} is not set");
                    conflict(values, name, &wrong, "set it, or take the password out");
                }
            }
            None
        }
        (None, None, Some(path)) => {
            if !pem && password.is_none() {
                let wrong = "a keystore is set, and its password is not";
                let advice = format!("set it, or {KEY_TYPE}=PEM if the file is PEM");
                values.report(ProblemKind::Missing, STORE_PASSWORD, wrong, advice);
            }
            Some(Identity::Store(store(path, pem, password), key_password))
        }
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            let wrong = "a key or a certificate chain is set, too";
            conflict(values, KEY_FILE, wrong, "take one of the two out");
            None
        }
        (Some(key), Some(chain), None) => {
            if !pem {
                let wrong = format!("is in PEM, and {} is not", values.shown(KEY_TYPE));
                conflict(values, CHAIN_PEM, &wrong, &format!("set {KEY_TYPE}=PEM"));
            }
            Some(Identity::Pem {
                key,
                chain,
                key_password,
            })
        }
        (key, _, None) => {
            let (has, lacks) = match key {
                Some(_) => (KEY_PEM, CHAIN_PEM),
                None => (CHAIN_PEM, KEY_PEM),
            };
            conflict(values, has, &format!("{lacks} is not set"), "set both");
            None
        }
    }
}

fn versions(values: &mut Values<'_>) -> Vec<TlsVersion> {
    let version = |word: &str| match word {
        "TLSv1.2" => Some(TlsVersion::V1_2),
        "TLSv1.3" => Some(TlsVersion::V1_3),
        _ => None,
    };
    let names: Vec<String> = values.list(VERSIONS).map(str::to_owned).collect();
    let mut versions: Vec<_> = names.iter().filter_map(|name| version(name)).collect();
    if versions.len() < names.len() || versions.is_empty() {
        let wrong = "only TLSv1.2 and TLSv1.3 are spoken: older ones are broken";
        let advice = "write one or both, and update brokers that have neither";
        values.report(ProblemKind::WrongValue, VERSIONS, wrong, advice);
    }
    // In Java, this is what the context was made for, and it has no newer version.
    if values.text("ssl.protocol") == Some("TLSv1.2") {
        versions.retain(|version| *version == TlsVersion::V1_2);
        if versions.is_empty() {
            let wrong = format!("leaves none of {}", values.shown(VERSIONS));
            conflict(values, "ssl.protocol", &wrong, "take it out");
        }
    }
    versions
}

fn checks_host(values: &mut Values<'_>) -> bool {
    let Some(word) = values.text(HOST).map(str::trim) else {
        return true;
    };
    if word.is_empty() {
        tracing::warn!(
            origin = %values.origin(HOST),
            "{HOST} is empty: whoever has a certificate of a trusted signer can pose as a broker"
        );
        return false;
    }
    if word.eq_ignore_ascii_case("https") {
        return true;
    }
    let wrong = "not a way to check a host that is served";
    let advice = "write https, or nothing to have no host checked";
    values.report(ProblemKind::WrongValue, HOST, wrong, advice);
    true
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::super::super::Config;
    use super::*;

    fn settings(settings: &[(&str, &str)]) -> Result<TlsSettings, String> {
        let mut builder = Config::builder()
            .bootstrap_servers("localhost:9092")
            .set("security.protocol", "SSL");
        for (key, value) in settings {
            builder = builder.set(*key, value);
        }
        let config = builder.build().map_err(|error| error.to_string())?;
        Ok(config.security.tls.expect("TLS"))
    }

    #[test]
    fn nothing_but_the_protocol_is_needed() {
        assert_eq!(
            settings(&[]),
            Ok(TlsSettings {
                trust: Trust::System,
                identity: None,
                versions: vec![TlsVersion::V1_2, TlsVersion::V1_3],
                cipher_suites: Vec::new(),
                checks_host: true,
            })
        );
    }

    #[test]
    fn javas_keys_are_read() {
        let tls = settings(&[
            ("ssl.truststore.location", "/trust.p12"),
            ("ssl.truststore.password", "s3cret"),
            ("ssl.truststore.type", "pkcs12"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", "/me.pem"),
            ("ssl.key.password", "s3cret"),
            ("ssl.protocol", "TLSv1.2"),
            ("ssl.cipher.suites", "TLS_AES_128_GCM_SHA256, X"),
            ("ssl.endpoint.identification.algorithm", ""),
        ]);
        let tls = tls.expect("settings");
        let password = || Some(Secret::from("s3cret"));
        let store = |path: &str, format, password| Store {
            path: path.into(),
            format,
            password,
        };
        let trust = store("/trust.p12", StoreFormat::Java, password());
        assert_eq!(tls.trust, Trust::Store(trust));
        let keys = store("/me.pem", StoreFormat::Pem, None);
        assert_eq!(tls.identity, Some(Identity::Store(keys, password())));
        assert_eq!(tls.versions, [TlsVersion::V1_2]);
        assert_eq!(tls.cipher_suites, ["TLS_AES_128_GCM_SHA256", "X"]);
        assert!(!tls.checks_host);
        assert!(!format!("{tls:?}").contains("s3cret"));
    }

    #[test]
    fn what_excludes_each_other_is_said() {
        for (given, expected) in [
            (
                &[("ssl.truststore.certificates", "x")][..],
                "set ssl.truststore.type=PEM",
            ),
            (
                &[("ssl.truststore.password", "s3cret")],
                "there is no truststore",
            ),
            (
                &[("ssl.keystore.password", "s3cret")],
                "there is no keystore",
            ),
            (&[("ssl.key.password", "s3cret")], "there is no keystore"),
            (&[("ssl.keystore.location", "/x")], "its password is not"),
            (
                &[("ssl.keystore.key", "s3cret")],
                "ssl.keystore.certificate.chain is not set",
            ),
            (
                &[("ssl.keystore.certificate.chain", "x")],
                "ssl.keystore.key is not set",
            ),
            (
                &[
                    ("ssl.truststore.certificates", "x"),
                    ("ssl.truststore.location", "/x"),
                ],
                "take one of the two out",
            ),
            (
                &[
                    ("ssl.truststore.type", "PEM"),
                    ("ssl.truststore.location", "/x"),
                    ("ssl.truststore.password", "s3cret"),
                ],
                "a truststore in PEM has no password",
            ),
            (
                &[
                    ("ssl.keystore.type", "PEM"),
                    ("ssl.keystore.location", "/x"),
                    ("ssl.keystore.password", "s3cret"),
                ],
                "set ssl.key.password instead",
            ),
            (
                &[
                    ("ssl.keystore.key", "s3cret"),
                    ("ssl.keystore.location", "/x"),
                ],
                "take one of the two out",
            ),
            (
                &[("ssl.enabled.protocols", "TLSv1.1,TLSv1.2")],
                "older ones are broken",
            ),
            (&[("ssl.enabled.protocols", "")], "older ones are broken"),
            (
                &[
                    ("ssl.enabled.protocols", "TLSv1.3"),
                    ("ssl.protocol", "TLSv1.2"),
                ],
                "leaves none of ssl.enabled.protocols",
            ),
            (
                &[("ssl.endpoint.identification.algorithm", "LDAPS")],
                "write https, or nothing",
            ),
            (&[("ssl.engine.factory.class", "a.B")], "in code"),
        ] {
            let error = settings(given).expect_err(expected);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
