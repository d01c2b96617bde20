//! What a failed handshake means, and what to change.

use std::io;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::super::{Endpoint, NetError};
use crate::core::security::SecurityError;

/// The error of a handshake that failed.
pub(super) fn while_connecting(endpoint: &Endpoint, error: io::Error) -> NetError {
    match of_io(&error) {
        // Another protocol, or nonsense.
        Some(Error::InvalidMessage(_)) => {
            return NetError::SpeaksNoTls {
                endpoint: endpoint.clone(),
            };
        }
        Some(fault) => return security(endpoint, fault).into(),
        None => {}
    }
    // Brokers read the beginning of TLS as the length of an enormous request, and close.
    let closed = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::BrokenPipe,
    ];
    match closed.contains(&error.kind()) {
        true => NetError::ClosedInTlsHandshake {
            endpoint: endpoint.clone(),
        },
        false => NetError::io(endpoint, "the TLS handshake with", error),
    }
}

/// The error of a read. In TLS 1.3 a broker refuses a client's certificate only after the handshake,
/// as the client sees it. What else is wrong then is wrong with the connection, and not with its
/// security.
pub(in super::super) fn while_reading(endpoint: &Endpoint, error: io::Error) -> NetError {
    match of_io(&error) {
        Some(fault @ (Error::AlertReceived(_) | Error::InvalidCertificate(_))) => {
            security(endpoint, fault).into()
        }
        _ => NetError::io(endpoint, "reading from", error),
    }
}

fn of_io(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

/// What an error of rustls means.
fn security(endpoint: &Endpoint, error: &Error) -> SecurityError {
    let broker = endpoint.clone();
    match error {
        Error::InvalidCertificate(wrong) => SecurityError::BrokerCertificate {
            why: certificate(wrong, endpoint),
            broker,
        },
        Error::AlertReceived(alert) => SecurityError::RefusedByBroker {
            why: refusal(*alert),
            broker,
        },
        Error::PeerIncompatible(what) => SecurityError::Tls {
            broker,
            why: format!(
                "no common version or cipher suite ({what:?}); check ssl.enabled.protocols and \
                 ssl.cipher.suites here and at the broker"
            )
            .into(),
        },
        other => SecurityError::Tls {
            broker,
            why: other.to_string().into(),
        },
    }
}

fn certificate(wrong: &CertificateError, endpoint: &Endpoint) -> Arc<str> {
    use CertificateError as It;
    match wrong {
        It::UnknownIssuer => "none of the trusted certificates has signed it; put that of its \
                              signer into ssl.truststore.location"
            .into(),
        It::Expired => "it has expired; the broker needs a new one".into(),
        It::ExpiredContext { time, not_after } => format!(
            "it expired {} ago; the broker needs a new one",
            span(*not_after, *time)
        )
        .into(),
        It::NotValidYet => "it is not valid yet; check the clocks".into(),
        It::NotValidYetContext { time, not_before } => format!(
            "it is valid only in {}; check the clocks",
            span(*time, *not_before)
        )
        .into(),
        It::NotValidForName => format!("it is not for {}", endpoint.host).into(),
        It::NotValidForNameContext { presented, .. } => {
            // rustls gives them as they are debugged: `DnsName("broker.example.com")`.
            let name = |shown: &String| {
                let inside = shown.split_once('(').map_or(shown.as_str(), |(_, it)| it);
                inside.trim_matches([')', '"']).to_owned()
            };
            let names: Vec<_> = presented.iter().take(10).map(name).collect();
            let names = match names.is_empty() {
                true => "no name at all (a common name does not count)".to_owned(),
                false => names.join(", "),
            };
            format!(
                "it is for {names}, and not for {}; connect by such a name, or have the broker's \
                 subject alternative names name it",
                endpoint.host
            )
            .into()
        }
        It::Revoked => "it is revoked; the broker needs a new one".into(),
        It::InvalidPurpose | It::InvalidPurposeContext { .. } => {
            "it is not meant for servers; the broker needs one with extended key usage serverAuth"
                .into()
        }
        It::BadSignature => "its signature is wrong; a certificate of the same name that is \
                             trusted has not signed it"
            .into(),
        // What webpki says of it has no name of rustls.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is one of a signer (CA:TRUE), and not itself among the trusted ones; put it into \
             ssl.truststore.location, or give the broker one for its host"
                .into()
        }
        other => format!("{other}").into(),
    }
}

fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    match seconds {
        0..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn refusal(alert: AlertDescription) -> Arc<str> {
    use AlertDescription as It;
    let advice = match alert {
        It::CertificateRequired => {
            "it asks for a certificate of this client; set ssl.keystore.location"
        }
        // What versions before 1.3 say of a missing certificate, too.
        It::BadCertificate | It::HandshakeFailure => {
            "does it ask for a certificate of this client (ssl.keystore.location), or have other \
             cipher suites?"
        }
        It::UnknownCA => "its truststore has no certificate that has signed this client's",
        It::CertificateExpired => "this client's certificate has expired",
        It::CertificateRevoked => "this client's certificate is revoked",
        It::CertificateUnknown | It::UnsupportedCertificate | It::AccessDenied => {
            "it does not accept this client's certificate"
        }
        It::ProtocolVersion => "it has none of the versions in ssl.enabled.protocols",
        It::UnrecognisedName => "it does not know the host that was connected to",
        _ => "see its log",
    };
    format!("alert {alert:?}: {advice}").into()
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    fn broker() -> Endpoint {
        Endpoint::new("broker", 9093)
    }

    fn io(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn nonsense_in_a_handshake_is_a_doubt() {
        let nonsense = io(Error::InvalidMessage(InvalidMessage::InvalidContentType));
        let error = while_connecting(&broker(), nonsense);
        let (error, certain) = error.security().expect("one of security");
        assert!(!certain);
        let words = "broker:9093 does not answer in TLS; is the listener PLAINTEXT";
        assert!(error.to_string().starts_with(words), "{error}");
    }

    #[test]
    fn on_a_connection_that_stands_only_alerts_and_certificates_are_of_security() {
        let alert = Error::AlertReceived(AlertDescription::BadCertificate);
        let certificate = Error::InvalidCertificate(CertificateError::Revoked);
        for (error, is_security) in [
            (alert, true),
            (certificate, true),
            (Error::DecryptError, false),
            (
                Error::InvalidMessage(InvalidMessage::MessageTooLarge),
                false,
            ),
        ] {
            let error = while_reading(&broker(), io(error));
            assert_eq!(error.security().is_some(), is_security, "{error}");
        }
    }
}
