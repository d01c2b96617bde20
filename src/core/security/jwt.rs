//! JSON Web Tokens (RFC 7519): what one says of itself, and those that nobody signs.
//!
//! Whether a token is genuine is for brokers to find out. Here it is only asked when it expires.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// The longest token that is looked into.
const LONGEST: usize = 1 << 20;

/// What a token says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `exp`, since the epoch.
    pub expires: Option<Duration>,
    /// Whose it is.
    pub subject: Option<Arc<str>>,
}

impl Claims {
    /// The claims of a token; `None` if it is no JWT. `subject` is the name of the claim that says whose
    /// it is.
    pub fn of(token: &str, subject: &str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let payload = Zeroizing::new(BASE64.decode(payload.trim_end_matches('=')).ok()?);
        let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
        let seconds = |claim: &Value| {
            let seconds = claim.as_f64()?;
            Duration::try_from_secs_f64(seconds.max(0.0)).ok()
        };
        let text = |claim: &Value| claim.as_str().filter(|it| !it.is_empty()).map(Arc::from);
        Some(Self {
            expires: claims.get("exp").and_then(seconds),
            subject: claims.get(subject).and_then(text),
        })
    }
}

/// A token that nobody signs, with these claims.
pub(crate) fn unsigned(claims: &Map<String, Value>) -> String {
    let mut header = Map::new();
    header.insert("alg".to_owned(), "none".into());
    let part = |map: &Map<String, Value>| BASE64.encode(Value::Object(map.clone()).to_string());
    format!("{}.{}.", part(&header), part(claims))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn token(claims: Value) -> String {
        let Value::Object(claims) = claims else {
            panic!("claims are an object");
        };
        unsigned(&claims)
    }

    #[test]
    fn a_token_says_whose_it_is_and_when_it_expires() {
        let claims = Claims::of(
            &token(json!({"sub": "alice", "exp": 1_700_000_000.5})),
            "sub",
        );
        let expected = Claims {
            expires: Some(Duration::from_millis(1_700_000_000_500)),
            subject: Some("alice".into()),
        };
        assert_eq!(claims, Some(expected));
        let other = Claims::of(&token(json!({"azp": "app", "exp": "soon"})), "azp");
        let expected = Claims {
            expires: None,
            subject: Some("app".into()),
        };
        assert_eq!(other, Some(expected));
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for text in ["", "opaque", "a.b", "a.b.c", "a.e30.c.d", "..", "a.W10.c"] {
            assert_eq!(Claims::of(text, "sub"), None, "{text}");
        }
        let nothing = Claims {
            expires: None,
            subject: None,
        };
        assert_eq!(Claims::of("a.e30.c", "sub"), Some(nothing.clone()));
        let huge = token(json!({"exp": 1e300, "sub": ""}));
        assert_eq!(Claims::of(&huge, "sub"), Some(nothing));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>(), json in any::<String>()) {
            let _ = Claims::of(&text, "sub");
            let _ = Claims::of(&format!("x.{}.y", BASE64.encode(json)), "sub");
        }
    }
}
