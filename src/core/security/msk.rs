//! Logins at Amazon MSK by IAM: what a broker is shown is a request that is signed.
//!
//! There are two forms of it, and MSK takes both: the mechanism AWS_MSK_IAM, which signs for the broker
//! that is connected to, as Amazon's library for Java has it; and a token for OAUTHBEARER, which is
//! good for all brokers of a region.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::sigv4::{self, NO_PAYLOAD, Presign};
use super::{AwsCredentials, Token};

const SERVICE: &str = "kafka-cluster";
const ACTION: (&str, &str) = ("Action", "kafka-cluster:Connect");
const VERSION: &str = "2020_10_22";
/// How long a signature is good for: what Amazon's own libraries ask for.
const EXPIRES: Duration = Duration::from_secs(900);

/// What this client is, for Amazon's logs.
const USER_AGENT: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// Ends of host names of AWS, behind the region.
const SUFFIXES: [&str; 4] = [
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
];

/// The region of a broker, which its host name tells; `None` for a private name.
pub(crate) fn region_of(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let name = SUFFIXES
        .iter()
        .find_map(|suffix| host.strip_suffix(suffix))?;
    let (_, region) = name.rsplit_once('.')?;
    (!region.is_empty()).then_some(region)
}

/// The one message of the mechanism AWS_MSK_IAM.
pub(crate) fn message(
    credentials: &AwsCredentials,
    region: &str,
    host: &str,
    since_epoch: Duration,
) -> Zeroizing<Vec<u8>> {
    let query = presign(credentials, region, host).query(since_epoch);
    let mut fields = Map::new();
    for (name, value) in query {
        fields.insert(name.to_ascii_lowercase(), value.into());
    }
    for (name, value) in [
        ("version", VERSION),
        ("host", host),
        ("user-agent", USER_AGENT),
    ] {
        fields.insert(name.to_owned(), value.into());
    }
    Zeroizing::new(Value::Object(fields).to_string().into_bytes())
}

/// A token for OAUTHBEARER: a signed URL.
pub(crate) fn token(credentials: &AwsCredentials, region: &str, since_epoch: Duration) -> Token {
    let host = format!("kafka.{region}.amazonaws.com");
    let query = presign(credentials, region, &host).query(since_epoch);
    let agent = sigv4::escaped(USER_AGENT);
    let url = format!(
        "https://{host}/?{}&User-Agent={agent}",
        sigv4::encoded(&query)
    );
    Token::new(BASE64.encode(Zeroizing::new(url).as_bytes()))
        .expires_in(EXPIRES)
        .principal(&**credentials.access_key_id())
}

fn presign<'a>(credentials: &'a AwsCredentials, region: &'a str, host: &'a str) -> Presign<'a> {
    Presign {
        credentials,
        region,
        service: SERVICE,
        host,
        path: "/",
        query: &[ACTION],
        payload_hash: NO_PAYLOAD,
        expires: EXPIRES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const HOST: &str = "b-1.demo.abc123.c2.kafka.us-west-2.amazonaws.com";
    /// 2026-11-29T00:27:45Z
    const TIME: Duration = Duration::from_secs(1_795_912_065);

    fn with_session() -> AwsCredentials {
        AwsCredentials::new("AKIDEXAMPLE", KEY).with_session_token("tok/en+=x")
    }

    /// What Amazon's library for Java (aws-msk-iam-auth 2.3.2) made at that time.
    #[test]
    fn the_message_is_that_of_amazons_library() {
        let said = |credentials: &AwsCredentials, time| {
            let message = message(credentials, "us-west-2", HOST, time);
            let mut fields: Map<String, Value> = serde_json::from_slice(&message).unwrap();
            assert_eq!(fields.remove("user-agent"), Some(USER_AGENT.into()));
            Value::Object(fields)
        };
        let mut expected = serde_json::json!({
            "x-amz-date": "20261129T002745Z",
            "x-amz-signedheaders": "host",
            "x-amz-signature": "6701417f2f9fe97f0c14c59495badf12581cefab3e53b49b6558f7edc90cd79b",
            "host": HOST,
            "action": "kafka-cluster:Connect",
            "x-amz-expires": "900",
            "x-amz-security-token": "tok/en+=x",
            "version": "2020_10_22",
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": "AKIDEXAMPLE/20261129/us-west-2/kafka-cluster/aws4_request",
        });
        assert_eq!(said(&with_session(), TIME), expected);
        let fields = expected.as_object_mut().unwrap();
        fields.remove("x-amz-security-token");
        fields.insert("x-amz-date".to_owned(), "20261129T002748Z".into());
        let signature = "f493323a9852ecf9069e0263e62270e13e2e0d159a27877b111b5440b4e2bd0a";
        fields.insert("x-amz-signature".to_owned(), signature.into());
        let without = AwsCredentials::new("AKIDEXAMPLE", KEY);
        assert_eq!(said(&without, TIME + Duration::from_secs(3)), expected);
    }

    /// What Amazon's library for Python (aws-msk-iam-sasl-signer-python 1.0.2) made, with its parameters
    /// sorted.
    #[test]
    fn the_token_is_that_of_amazons_library() {
        let token = token(&with_session(), "us-west-2", TIME + Duration::from_secs(7));
        let url = BASE64.decode(token.value().reveal()).unwrap();
        let expected = format!(
            "https://kafka.us-west-2.amazonaws.com/?Action=kafka-cluster%3AConnect\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20261129%2Fus-west-2%2Fkafka-cluster%2Faws4_request\
             &X-Amz-Date=20261129T002752Z&X-Amz-Expires=900&X-Amz-Security-Token=tok%2Fen%2B%3Dx\
             &X-Amz-SignedHeaders=host\
             &X-Amz-Signature=af46701a47bf1178512d970126e0e929f7625543daa904f9f0ba22bd2e77efce\
             &User-Agent=forebay%2F{}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(String::from_utf8(url).unwrap(), expected);
        assert_eq!(token.lifetime(), Some(EXPIRES));
        assert_eq!(&*token.user(), "AKIDEXAMPLE");
    }

    #[test]
    fn a_host_of_amazon_tells_its_region() {
        for (host, region) in [
            (HOST, Some("us-west-2")),
            (
                "boot-x.c1.kafka-serverless.eu-central-1.amazonaws.com.",
                Some("eu-central-1"),
            ),
            (
                "b-1.x.kafka.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("kafka.internal.example.com", None),
            ("amazonaws.com", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
