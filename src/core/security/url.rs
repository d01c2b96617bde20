//! Addresses of token endpoints.

use std::fmt;
use std::str::FromStr;

use crate::core::endpoint::Endpoint;

/// `http://host:port/path?query`, or the same with `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub is_encrypted: bool,
    pub endpoint: Endpoint,
    /// The host with its port, as it stands in the text.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("it has no http:// or https://")?;
        let (is_encrypted, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err("only http, https and file are spoken".to_owned()),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        if authority.contains('@') {
            return Err("user and password in it are not served; give a client id".to_owned());
        }
        let is_ascii = |c: char| c.is_ascii_graphic();
        if !target.chars().all(is_ascii) {
            return Err("it has characters that have to be percent-encoded".to_owned());
        }
        let has_port = match authority.rsplit_once(']') {
            Some((_, behind)) => behind.starts_with(':'),
            None => authority.contains(':'),
        };
        let full = match has_port {
            true => authority.to_owned(),
            false => format!("{authority}:{port}"),
        };
        let endpoint = full
            .parse::<Endpoint>()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            is_encrypted,
            endpoint,
            authority: authority.to_owned(),
            target: match target.starts_with('/') {
                true => target.to_owned(),
                false => format!("/{target}"),
            },
        })
    }
}

/// Without the query, which may have a key in it.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority)
    }
}

/// The path of a URL of the form `file:/path` or `file:///path`; `None` if it is of another.
pub(crate) fn file_path(text: &str) -> Option<&str> {
    let text = text.trim();
    let (scheme, rest) = text.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return Some(rest);
    };
    Some(rest.strip_prefix("localhost").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, encrypted, host, port, target) in [
            (
                "https://idp.example.com/token",
                true,
                "idp.example.com",
                443,
                "/token",
            ),
            ("http://idp:8080", false, "idp", 8080, "/"),
            ("HTTPS://IDP?realm=a", true, "idp", 443, "/?realm=a"),
            ("http://[::1]:80/a?b#c", false, "::1", 80, "/a?b"),
            ("https://[::1]/a", true, "::1", 443, "/a"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.is_encrypted, encrypted, "{text}");
            assert_eq!(url.endpoint, Endpoint::new(host, port), "{text}");
            assert_eq!(url.target, target, "{text}");
        }
        let url: Url = "https://idp/token?key=s3cret".parse().unwrap();
        assert_eq!(url.to_string(), "https://idp/token");
    }

    #[test]
    fn what_is_no_url_is_said() {
        for (text, expected) in [
            ("", "has no http"),
            ("idp:80", "has no http"),
            ("ftp://idp", "only http, https and file"),
            ("http://", "host is missing"),
            ("http://a:b@idp/", "give a client id"),
            ("http://idp:x/", "port is not a number"),
            ("http://idp/a b", "percent-encoded"),
            ("http://idp/a\r\nX: y", "percent-encoded"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_is_named_in_three_ways() {
        for text in ["file:/run/t", "file:///run/t", "FILE://localhost/run/t"] {
            assert_eq!(file_path(text), Some("/run/t"));
        }
        assert_eq!(file_path("https://idp/t"), None);
        assert_eq!(file_path("/run/t"), None);
    }
}
