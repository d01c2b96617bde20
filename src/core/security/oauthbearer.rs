//! The mechanism OAUTHBEARER (RFC 7628): a token, and what goes with it.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Secret;
use crate::core::shown::Shown;

/// What parts the fields of a message. Alone it is the answer to a refusal.
pub(crate) const SEPARATOR: u8 = 1;

/// Characters of a broker's words that are kept.
const LONGEST_WORDS: usize = 300;

/// The first message. The error says what is wrong with the token or an extension.
pub(crate) fn message(
    token: &Secret,
    extensions: &[(String, String)],
) -> Result<Zeroizing<Vec<u8>>, String> {
    let token = token.reveal();
    check(token)?;
    let others = extensions.iter().map(|(k, v)| k.len() + v.len() + 2);
    // Reserved at once: a buffer that grows leaves copies of the token behind.
    let length = 20 + token.len() + others.sum::<usize>();
    let mut message = Zeroizing::new(Vec::with_capacity(length));
    message.extend_from_slice(b"n,,\x01auth=Bearer ");
    message.extend_from_slice(token.as_bytes());
    for (name, value) in extensions {
        check_extension(name, value)?;
        message.push(SEPARATOR);
        message.extend_from_slice(name.as_bytes());
        message.push(b'=');
        message.extend_from_slice(value.as_bytes());
    }
    message.extend_from_slice(&[SEPARATOR, SEPARATOR]);
    Ok(message)
}

/// A token is of the characters that RFC 6750 has for it.
fn check(token: &str) -> Result<(), String> {
    let bare = token.trim_end_matches('=');
    if bare.is_empty() {
        return Err("the token is empty".to_owned());
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_~+/.".contains(c);
    match bare.chars().all(is_part) {
        true => Ok(()),
        false => Err("the token has characters that no bearer token has".to_owned()),
    }
}

/// As Java checks them, before any broker is asked.
pub(crate) fn check_extension(name: &str, value: &str) -> Result<(), String> {
    let shown = Shown {
        text: name,
        most: 50,
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(format!(
            "the extension {shown} has not letters alone in its name"
        ));
    }
    if name == "auth" {
        return Err("the extension auth stands for the token itself".to_owned());
    }
    let is_part = |c: char| matches!(c, '!'..='~' | ' ' | '\t' | '\r' | '\n');
    match !value.is_empty() && value.chars().all(is_part) {
        true => Ok(()),
        false => Err(format!("the extension {shown} is empty or not ASCII")),
    }
}

/// The broker's words of a refusal: what stands in its JSON, or the text itself.
pub(crate) fn words(said: &str) -> String {
    let shown = |text: &str| {
        let most = LONGEST_WORDS;
        Shown { text, most }.to_string()
    };
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(said) else {
        return shown(said.trim());
    };
    let fields = fields.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    shown(&fields.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(token: &str, extensions: &[(&str, &str)]) -> Result<Vec<u8>, String> {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let extensions: Vec<_> = extensions.iter().map(owned).collect();
        message(&token.into(), &extensions).map(|it| it.to_vec())
    }

    #[test]
    fn the_message_is_that_of_javas_client() {
        assert_eq!(
            said("abc.def-_~+/==", &[]).unwrap(),
            b"n,,\x01auth=Bearer abc.def-_~+/==\x01\x01"
        );
        assert_eq!(
            said("t", &[("logicalCluster", "lkc-1"), ("traceId", "a b")]).unwrap(),
            b"n,,\x01auth=Bearer t\x01logicalCluster=lkc-1\x01traceId=a b\x01\x01"
        );
    }

    #[test]
    fn what_a_broker_could_not_read_is_not_sent() {
        for (token, extensions, expected) in [
            ("", &[][..], "is empty"),
            ("==", &[], "is empty"),
            ("a b", &[], "no bearer token has"),
            ("a\x01b", &[], "no bearer token has"),
            ("a=b", &[], "no bearer token has"),
            ("t", &[("auth", "x")], "stands for the token"),
            ("t", &[("a_b", "x")], "letters alone"),
            ("t", &[("", "x")], "letters alone"),
            ("t", &[("a", "")], "is empty"),
            ("t", &[("a", "x\x01y")], "not ASCII"),
        ] {
            let error = said(token, extensions).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        assert_eq!(
            words("{\"status\":\"invalid_token\"}"),
            "status=invalid_token"
        );
        let more = "{\"status\":\"insufficient_scope\",\"scope\":\"produce\"}";
        assert_eq!(words(more), "scope=produce, status=insufficient_scope");
        assert_eq!(words(" no\nJSON "), "no\\nJSON");
    }
}
