//! What a token endpoint is asked (RFC 6749), and what its answers mean.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::bearer::{Grant, TokenEndpoint};
use super::{Secret, Token, TokenError};
use crate::core::shown::Shown;

/// Characters of a server's words that are kept.
const LONGEST_WORDS: usize = 300;

/// A POST.
pub(crate) struct GrantRequest {
    /// The header `Authorization`, if there is one.
    pub authorization: Option<Secret>,
    /// A form.
    pub form: Zeroizing<String>,
    /// What an answer may repeat, and nobody may see.
    secrets: Vec<Secret>,
    client_id: Option<Arc<str>>,
}

/// What was answered.
pub(crate) struct GrantAnswer<'a> {
    pub status: u16,
    /// The header `Location`.
    pub location: Option<&'a str>,
    pub body: &'a [u8],
}

/// What to ask. `assertion` is there where the grant has one.
pub(crate) fn request(endpoint: &TokenEndpoint, assertion: Option<&Secret>) -> GrantRequest {
    let mut form = Form::default();
    let asserted = assertion.map_or("", |it| it.reveal());
    let with_assertion = |client_id: Option<&String>| GrantRequest {
        authorization: None,
        form: Zeroizing::default(),
        secrets: assertion.cloned().into_iter().collect(),
        client_id: client_id.map(|id| id.as_str().into()),
    };
    let mut request = match &endpoint.grant {
        Grant::ClientSecret {
            id,
            secret,
            is_url_encoded,
        } => {
            let pair = match is_url_encoded {
                true => format!("{}:{}", &**encoded(id), &**encoded(secret.reveal())),
                false => format!("{id}:{}", secret.reveal()),
            };
            let pair = Zeroizing::new(pair);
            form.add("grant_type", "client_credentials");
            GrantRequest {
                authorization: Some(format!("Basic {}", BASE64.encode(pair.as_bytes())).into()),
                form: Zeroizing::default(),
                secrets: vec![secret.clone()],
                client_id: Some(id.as_str().into()),
            }
        }
        Grant::ClientAssertion { id, .. } => {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            form.add("client_assertion_type", kind);
            form.add("client_assertion", asserted);
            form.add("grant_type", "client_credentials");
            if let Some(id) = id {
                form.add("client_id", id);
            }
            with_assertion(id.as_ref())
        }
        Grant::JwtBearer(_) => {
            form.add("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
            form.add("assertion", asserted);
            with_assertion(None)
        }
    };
    if let Some(scope) = &endpoint.scope {
        form.add("scope", scope);
    }
    request.form = form.0;
    request
}

impl GrantRequest {
    /// The token that was answered with.
    pub fn token(
        &self,
        endpoint: &Arc<str>,
        answer: &GrantAnswer<'_>,
    ) -> Result<Token, TokenError> {
        let unusable = |why: &str| TokenError::Unusable {
            endpoint: Arc::clone(endpoint),
            why: why.into(),
        };
        if !matches!(answer.status, 200 | 201) {
            return Err(TokenError::Refused {
                endpoint: Arc::clone(endpoint),
                status: answer.status,
                words: self.words(answer).into(),
            });
        }
        let fields: Map<String, Value> = serde_json::from_slice(answer.body)
            .map_err(|_| unusable("it is no JSON; is that the URL of the token endpoint?"))?;
        let text = |name: &str| {
            let text = fields.get(name)?.as_str()?.trim();
            (!text.is_empty()).then_some(text)
        };
        let token = text("access_token")
            .or_else(|| text("id_token"))
            .ok_or_else(|| unusable("its JSON has neither access_token nor id_token"))?;
        let mut token = Token::new(token);
        let is_jwt = super::jwt::Claims::of(token.value().reveal(), "sub")
            .is_some_and(|claims| claims.expires.is_some());
        // What the token says of itself is what brokers go by.
        if let (false, Some(lifetime)) = (is_jwt, lifetime(&fields)) {
            token = token.expires_in(lifetime);
        }
        if let Some(id) = &self.client_id {
            token = token.or_principal(id);
        }
        Ok(token)
    }

    /// The server's words. A page of HTML is none.
    fn words(&self, answer: &GrantAnswer<'_>) -> String {
        if let (300..400, Some(location)) = (answer.status, answer.location) {
            return format!("redirects to {}", shown(location));
        }
        let text = String::from_utf8_lossy(answer.body);
        let said = match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(fields) => {
                let field = |name: &str| fields.get(name).and_then(Value::as_str);
                // RFC 6749; others; and those of some servers of their own.
                let pairs = [
                    ("error", "error_description"),
                    ("errorCode", "errorSummary"),
                    ("error", "message"),
                ];
                let found = pairs.iter().find_map(|(code, words)| {
                    let code = field(code)?;
                    Some(match field(words) {
                        Some(words) => format!("{code} - {words}"),
                        None => code.to_owned(),
                    })
                });
                found.unwrap_or_else(|| text.into_owned())
            }
            Err(_) if text.trim_start().starts_with('<') => "a page of HTML".to_owned(),
            Err(_) => text.trim().to_owned(),
        };
        let mut said = said;
        for secret in &self.secrets {
            said = said.replace(secret.reveal(), "***");
        }
        match said.as_str() {
            "" => "nothing else".to_owned(),
            said => shown(said),
        }
    }
}

fn shown(text: &str) -> String {
    let most = LONGEST_WORDS;
    Shown { text, most }.to_string()
}

/// `expires_in`, which some servers put between quotes.
fn lifetime(fields: &Map<String, Value>) -> Option<Duration> {
    let seconds = match fields.get("expires_in")? {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// `application/x-www-form-urlencoded`
#[derive(Default)]
struct Form(Zeroizing<String>);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        let value = encoded(value);
        // Reserved at once: a buffer that grows leaves copies of secrets behind.
        let length = self.0.len() + name.len() + value.len() + 2;
        let mut form = Zeroizing::new(String::with_capacity(length));
        form.push_str(&self.0);
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.push_str(&value);
        self.0 = form;
    }
}

/// As Java's `URLEncoder` does it.
fn encoded(text: &str) -> Zeroizing<String> {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let mut out = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'.' | b'-' | b'*' | b'_' => out.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            byte => out.extend([
                '%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::assertion::Assertion;
    use super::*;

    fn endpoint(is_url_encoded: bool) -> TokenEndpoint {
        TokenEndpoint {
            url: "https://idp/token".parse().unwrap(),
            grant: Grant::ClientSecret {
                id: "app:1".to_owned(),
                secret: "s3cret/ä".into(),
                is_url_encoded,
            },
            scope: Some("read write".to_owned()),
            connect_timeout: Duration::ZERO,
            read_timeout: Duration::ZERO,
        }
    }

    fn answer(status: u16, body: &str) -> Result<Token, TokenError> {
        let answer = GrantAnswer {
            status,
            location: Some("https://elsewhere/"),
            body: body.as_bytes(),
        };
        request(&endpoint(false), None).token(&"https://idp/token".into(), &answer)
    }

    #[test]
    fn client_credentials_are_asked_with_as_java_does() {
        let asked = request(&endpoint(false), None);
        assert_eq!(
            &**asked.form,
            "grant_type=client_credentials&scope=read+write"
        );
        let header = asked.authorization.expect("a header");
        let pair = BASE64.encode("app:1:s3cret/ä");
        assert_eq!(header.reveal(), format!("Basic {pair}"));
        let header = request(&endpoint(true), None)
            .authorization
            .expect("a header");
        let pair = BASE64.encode("app%3A1:s3cret%2F%C3%A4");
        assert_eq!(header.reveal(), format!("Basic {pair}"));
    }

    #[test]
    fn assertions_are_asked_with_as_java_does() {
        let assertion = Assertion::File("/a".into());
        let asked = |grant| {
            let endpoint = TokenEndpoint {
                grant,
                ..endpoint(false)
            };
            request(&endpoint, Some(&"a.b-_.c".into()))
        };
        let grant = Grant::ClientAssertion {
            id: Some("app 1".to_owned()),
            assertion: assertion.clone(),
        };
        let client = asked(grant);
        assert!(client.authorization.is_none());
        assert_eq!(
            &**client.form,
            "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion=a.b-_.c&grant_type=client_credentials&client_id=app+1\
             &scope=read+write"
        );
        let bearer = asked(Grant::JwtBearer(assertion));
        assert_eq!(
            &**bearer.form,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=a.b-_.c\
             &scope=read+write"
        );
        let answer = GrantAnswer {
            status: 400,
            location: None,
            body: b"a.b-_.c is wrong",
        };
        let error = bearer.token(&"https://idp".into(), &answer).unwrap_err();
        assert!(error.to_string().ends_with("400: *** is wrong"), "{error}");
    }

    #[test]
    fn a_token_is_taken_from_the_answer() {
        let token = answer(200, r#"{"access_token":" opaque ","expires_in":60}"#).unwrap();
        assert_eq!(token.value().reveal(), "opaque");
        assert_eq!(token.lifetime(), Some(Duration::from_secs(60)));
        assert_eq!(&*token.user(), "app:1");
        let token = answer(201, r#"{"id_token":"t","expires_in":"60"}"#).unwrap();
        assert_eq!(token.lifetime(), Some(Duration::from_secs(60)));
        let claims = Map::from_iter([
            ("exp".to_owned(), 100.into()),
            ("sub".to_owned(), "a".into()),
        ]);
        let jwt = super::super::jwt::unsigned(&claims);
        let token = answer(
            200,
            &format!(r#"{{"access_token":"{jwt}","expires_in":60}}"#),
        );
        let token = token.unwrap().completed("sub", Duration::from_secs(70));
        assert_eq!(token.lifetime(), Some(Duration::from_secs(30)));
        for lifetime in ["-1", "1e300", "\"soon\"", "null"] {
            let body = format!(r#"{{"access_token":"t","expires_in":{lifetime}}}"#);
            assert_eq!(answer(200, &body).unwrap().lifetime(), None, "{lifetime}");
        }
    }

    #[test]
    fn what_is_answered_instead_is_said_without_the_secret() {
        for (status, body, expected) in [
            (200, "<html>", "is no JSON"),
            (200, "[]", "is no JSON"),
            (200, "{}", "neither access_token"),
            (200, r#"{"access_token":""}"#, "neither access_token"),
            (200, r#"{"access_token":7}"#, "neither access_token"),
            (
                401,
                r#"{"error":"invalid_client","error_description":"no s3cret/ä"}"#,
                "answers 401: invalid_client - no ***; check client id and secret",
            ),
            (
                400,
                r#"{"error":"invalid_scope"}"#,
                "invalid_scope; check sasl.oauthbearer.scope",
            ),
            (
                403,
                r#"{"errorCode":"E1","errorSummary":"no"}"#,
                "403: E1 - no",
            ),
            (
                404,
                "<html><body>",
                "404: a page of HTML; check sasl.oauthbearer.token",
            ),
            (302, "", "302: redirects to https://elsewhere/; set"),
            (500, "", "500: nothing else"),
            (503, "a\nb", "503: a\\nb"),
        ] {
            let error = answer(status, body).expect_err(body);
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("https://idp/token"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
            assert_eq!(error.is_transient(), status >= 500, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(status in any::<u16>(), body in any::<String>()) {
            let _ = answer(status, &body);
        }
    }
}
