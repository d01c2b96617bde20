//! What a client asserts of itself to a token endpoint (`sasl.oauthbearer.assertion.`).

use std::path::PathBuf;
use std::time::Duration;

use super::super::values::Values;
use super::texts::{LoginTexts, PASSPHRASE, Wrong, wrong};
use crate::core::security::assertion::{Algorithm, Assertion, MadeAssertion};

const FILE: &str = "sasl.oauthbearer.assertion.file";
const KEY_FILE: &str = "sasl.oauthbearer.assertion.private.key.file";
const TEMPLATE: &str = "sasl.oauthbearer.assertion.template.file";
const ALGORITHM: &str = "sasl.oauthbearer.assertion.algorithm";
const ISSUER: &str = "sasl.oauthbearer.assertion.claim.iss";

/// The claims that settings have.
const CLAIMS: [(&str, &str); 3] = [
    ("aud", "sasl.oauthbearer.assertion.claim.aud"),
    ("iss", ISSUER),
    ("sub", "sasl.oauthbearer.assertion.claim.sub"),
];

/// What is configured, but for the passphrase.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AssertionKeys {
    file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    template_file: Option<PathBuf>,
    algorithm: Algorithm,
    claims: Vec<(&'static str, String)>,
    expires_in: Duration,
    valid_since: Duration,
    has_id: bool,
    /// Whether settings say that a client is known by an assertion and not by a secret.
    pub is_for_clients: bool,
}

/// What is configured.
pub(super) fn of(values: &Values<'_>) -> AssertionKeys {
    let given = |key| values.text(key).map(str::trim).filter(|it| !it.is_empty());
    let path = |key| given(key).map(PathBuf::from);
    let seconds = |key| Duration::from_secs(values.sized(key));
    let claims = CLAIMS
        .iter()
        .filter_map(|(claim, key)| Some((*claim, given(key)?.to_owned())));
    let file = path(FILE);
    let keys = AssertionKeys {
        is_for_clients: file.is_some() || given(ISSUER).is_some(),
        file,
        key_file: path(KEY_FILE),
        template_file: path(TEMPLATE),
        algorithm: match given(ALGORITHM) {
            Some("ES256") => Algorithm::Es256,
            _ => Algorithm::Rs256,
        },
        claims: claims.collect(),
        expires_in: seconds("sasl.oauthbearer.assertion.claim.exp.seconds"),
        valid_since: seconds("sasl.oauthbearer.assertion.claim.nbf.seconds"),
        has_id: values.flag("sasl.oauthbearer.assertion.claim.jti.include"),
    };
    if keys.file.is_some() && (keys.key_file.is_some() || !keys.claims.is_empty()) {
        tracing::warn!("{FILE} is set, and other keys of an assertion have no effect");
    }
    keys
}

impl AssertionKeys {
    /// With what the texts say now.
    pub fn assertion(&self, texts: &LoginTexts) -> Result<Assertion, Wrong> {
        if let Some(path) = &self.file {
            return Ok(Assertion::File(path.clone()));
        }
        let Some(key_file) = self.key_file.clone() else {
            let missing = "is not given, which an assertion is signed with";
            let advice = format!("set it to a file with the key in PEM, or set {FILE}");
            return Err(wrong(KEY_FILE, missing, advice));
        };
        if !cfg!(feature = "tls") {
            let off = "forebay was built without TLS, whose cryptography signs assertions";
            let advice =
                format!("build with its feature graviola, ring or aws-lc-rs, or set {FILE}");
            return Err(wrong(KEY_FILE, off, advice));
        }
        Ok(Assertion::Made(Box::new(MadeAssertion {
            algorithm: self.algorithm,
            key_file,
            passphrase: texts.filled(PASSPHRASE)?,
            template_file: self.template_file.clone(),
            claims: self.claims.clone(),
            expires_in: self.expires_in,
            valid_since: self.valid_since,
            has_id: self.has_id,
        })))
    }
}
