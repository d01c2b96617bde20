//! AWS Signature Version 4, for requests that are signed in their query (presigned URLs).

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::AwsCredentials;
use crate::core::calendar;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Of no body at all.
pub(crate) const NO_PAYLOAD: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A request with the method GET that is to be signed.
pub(crate) struct Presign<'a> {
    pub credentials: &'a AwsCredentials,
    pub region: &'a str,
    pub service: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    /// What the query has of its own.
    pub query: &'a [(&'a str, &'a str)],
    /// Of the body, as the service wants it.
    pub payload_hash: &'a str,
    /// How long the signature is good for.
    pub expires: Duration,
}

impl Presign<'_> {
    /// The whole query, sorted, with the signature at its end. `since_epoch` is the time of the
    /// signature.
    pub fn query(&self, since_epoch: Duration) -> Vec<(String, String)> {
        let time = timestamp(since_epoch);
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let credential = format!("{}/{scope}", self.credentials.access_key_id());
        let expires = self.expires.as_secs().to_string();
        let mut query: Vec<(&str, &str)> = self.query.to_vec();
        query.extend([
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &expires),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        if let Some(token) = self.credentials.session_token() {
            query.push(("X-Amz-Security-Token", token.reveal()));
        }
        query.sort_unstable();
        let canonical = format!(
            "GET\n{}\n{}\nhost:{}\n\nhost\n{}",
            self.path,
            encoded(&query),
            self.host,
            self.payload_hash
        );
        let hash = hex(&Sha256::digest(canonical));
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        let signature = hex(&hmac(&*self.key(day), to_sign.as_bytes()));
        let signature = ("X-Amz-Signature", signature.as_str());
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        query.into_iter().chain([signature]).map(owned).collect()
    }

    /// The key of a day.
    fn key(&self, day: &str) -> Zeroizing<[u8; 32]> {
        let secret = self.credentials.secret_access_key().reveal();
        let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret.as_bytes());
        let mut key = Zeroizing::new(hmac(&first, day.as_bytes()));
        for part in [self.region, self.service, "aws4_request"] {
            key = Zeroizing::new(hmac(&*key, part.as_bytes()));
        }
        key
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // It takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A query as it stands in a URL.
pub(crate) fn encoded(query: &[(impl AsRef<str>, impl AsRef<str>)]) -> String {
    let pairs = query
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name.as_ref()), escaped(value.as_ref())));
    pairs.collect::<Vec<_>>().join("&")
}

/// All but the characters that RFC 3986 leaves as they are.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `20150830T123600Z`
fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = calendar::date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: u64) -> Duration {
        Duration::from_secs(text)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(timestamp(at(seconds)), expected);
        }
    }

    /// "Deriving the signing key" of AWS's documentation of Signature Version 4.
    #[test]
    fn the_key_of_a_day_is_that_of_the_documentation() {
        let credentials = AwsCredentials::new("A", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let presign = Presign {
            credentials: &credentials,
            region: "us-east-1",
            service: "iam",
            host: "",
            path: "/",
            query: &[],
            payload_hash: NO_PAYLOAD,
            expires: Duration::ZERO,
        };
        assert_eq!(
            hex(&*presign.key("20120215")),
            "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"
        );
    }

    /// "Authenticating Requests: Using Query Parameters" of S3's documentation.
    #[test]
    fn a_presigned_url_is_that_of_the_documentation() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let credentials = AwsCredentials::new("AKIAIOSFODNN7EXAMPLE", secret);
        let presign = Presign {
            credentials: &credentials,
            region: "us-east-1",
            service: "s3",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: &[],
            payload_hash: "UNSIGNED-PAYLOAD",
            expires: Duration::from_secs(86_400),
        };
        assert_eq!(
            encoded(&presign.query(at(1_369_353_600))),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}
