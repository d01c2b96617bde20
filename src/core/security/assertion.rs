//! What a client asserts of itself to a token endpoint, signed with its private key (RFC 7523).

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Map, Value};

use super::Secret;

/// An assertion, as it is configured (`sasl.oauthbearer.assertion.`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Assertion {
    /// A file with a ready one.
    File(PathBuf),
    /// It is made anew for each token.
    Made(Box<MadeAssertion>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MadeAssertion {
    pub algorithm: Algorithm,
    pub key_file: PathBuf,
    pub passphrase: Option<Secret>,
    /// A file with header and claims in JSON.
    pub template_file: Option<PathBuf>,
    /// `aud`, `iss` and `sub`, as far as they are set.
    pub claims: Vec<(&'static str, String)>,
    pub expires_in: Duration,
    pub valid_since: Duration,
    /// Whether it has a number of its own (`jti`).
    pub has_id: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// What the key has to be.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rs256 => "an RSA key",
            Self::Es256 => "a key on the curve P-256",
        }
    }
}

impl MadeAssertion {
    /// What is to be signed: header and claims. Of what stands in several places the later counts: the
    /// settings, then the template, then what is of this moment. `template` is the text of its file.
    pub fn to_sign(
        &self,
        template: Option<&str>,
        since_epoch: Duration,
        id: impl FnOnce() -> String,
    ) -> Result<String, String> {
        let mut header = Map::new();
        let mut claims = Map::new();
        for (name, value) in &self.claims {
            claims.insert((*name).to_owned(), value.as_str().into());
        }
        if let Some(template) = template {
            let mut template: Map<String, Value> =
                serde_json::from_str(template).map_err(|error| format!("is no JSON: {error}"))?;
            for (part, into) in [("header", &mut header), ("payload", &mut claims)] {
                match template.remove(part) {
                    None | Some(Value::Null) => {}
                    Some(Value::Object(fields)) => into.extend(fields),
                    Some(_) => return Err(format!("has a {part} that is no JSON object")),
                }
            }
        }
        header.insert("alg".to_owned(), self.algorithm.name().into());
        header.insert("typ".to_owned(), "JWT".into());
        let now = since_epoch.as_secs();
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), (now + self.expires_in.as_secs()).into());
        let since = now.saturating_sub(self.valid_since.as_secs());
        claims.insert("nbf".to_owned(), since.into());
        if self.has_id {
            claims.insert("jti".to_owned(), id().into());
        }
        let part = |map| BASE64.encode(Value::Object(map).to_string());
        Ok(format!("{}.{}", part(header), part(claims)))
    }
}

/// A signature behind what it is for.
pub(crate) fn signed(to_sign: &str, signature: &[u8]) -> Secret {
    format!("{to_sign}.{}", BASE64.encode(signature)).into()
}

/// An ECDSA signature of P-256 as JWTs have it, both numbers in 32 bytes, out of ASN.1. `None` if it is
/// no such signature.
pub(crate) fn fixed(der: &[u8]) -> Option<[u8; 64]> {
    let body = der.strip_prefix(&[0x30])?;
    let (&length, body) = body.split_first()?;
    // Longer than 127 bytes none of these is.
    (usize::from(length) == body.len() && length < 0x80).then_some(())?;
    let mut fixed = [0; 64];
    let mut rest = body;
    for half in fixed.chunks_exact_mut(32) {
        let (&length, tail) = rest.strip_prefix(&[0x02])?.split_first()?;
        let (number, tail) = tail.split_at_checked(length.into())?;
        // A zero is before a number that would be negative.
        let number = match number {
            [0, rest @ ..] => rest,
            number => number,
        };
        let free = 32usize.checked_sub(number.len())?;
        half.get_mut(free..)?.copy_from_slice(number);
        rest = tail;
    }
    rest.is_empty().then_some(fixed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_millis(1_000_000_900);

    fn made() -> MadeAssertion {
        MadeAssertion {
            algorithm: Algorithm::Rs256,
            key_file: PathBuf::new(),
            passphrase: None,
            template_file: None,
            claims: vec![("iss", "app".to_owned()), ("aud", "idp".to_owned())],
            expires_in: Duration::from_secs(300),
            valid_since: Duration::from_secs(60),
            has_id: false,
        }
    }

    fn parts(made: &MadeAssertion, template: Option<&str>) -> (Value, Value) {
        let text = made.to_sign(template, NOW, || "7".to_owned()).expect("one");
        let (header, claims) = text.split_once('.').expect("two parts");
        let part = |text| serde_json::from_slice(&BASE64.decode(text).unwrap()).unwrap();
        (part(header), part(claims))
    }

    #[test]
    fn header_and_claims_are_those_of_javas_client() {
        let (header, claims) = parts(&made(), None);
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
        let expected =
            json!({"iss": "app", "aud": "idp", "iat": 1000000, "exp": 1000300, "nbf": 999940});
        assert_eq!(claims, expected);
    }

    #[test]
    fn a_template_adds_and_overrides_but_for_what_is_of_the_moment() {
        let template = r#"{"header": {"kid": "k1", "alg": "none"},
                           "payload": {"aud": ["a", "b"], "sub": "s", "exp": 1, "jti": "x"}}"#;
        let made = MadeAssertion {
            has_id: true,
            algorithm: Algorithm::Es256,
            ..made()
        };
        let (header, claims) = parts(&made, Some(template));
        assert_eq!(header, json!({"alg": "ES256", "typ": "JWT", "kid": "k1"}));
        let expected = json!({
            "iss": "app", "aud": ["a", "b"], "sub": "s", "jti": "7",
            "iat": 1000000, "exp": 1000300, "nbf": 999940,
        });
        assert_eq!(claims, expected);
        parts(&made, Some("{}"));
        for (template, expected) in [("", "is no JSON"), ("{\"header\": 7}", "a header that is")] {
            let error = made.to_sign(Some(template), NOW, String::new).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_signature_in_asn1_becomes_two_numbers() {
        let mut expected = [0; 64];
        (expected[31], expected[32]) = (5, 0x80);
        let mut der = vec![0x30, 3 + 2 + 33, 0x02, 1, 5, 0x02, 33, 0, 0x80];
        der.extend([0; 31]);
        assert_eq!(fixed(&der), Some(expected));
        for broken in [&der[..der.len() - 1], &[], &[0x30, 0], &[0x30, 2, 2, 9]] {
            assert_eq!(fixed(broken), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = fixed(&bytes);
            let _ = made().to_sign(std::str::from_utf8(&bytes).ok(), NOW, String::new);
        }
    }
}
