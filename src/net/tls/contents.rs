//! What a store has, and what there is to say of where it is.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a store has, whatever its form.
#[derive(Default)]
pub(super) struct Contents {
    /// Trusted certificates.
    pub trusted: Vec<CertificateDer<'static>>,
    pub key: Option<(PrivateKeyDer<'static>, Vec<CertificateDer<'static>>)>,
}

/// A store's keys in the configuration, and where it is.
pub(super) struct Place {
    pub from: Arc<str>,
    pub type_key: &'static str,
    #[cfg_attr(
        not(feature = "keystores"),
        expect(dead_code, reason = "PEM has no such password")
    )]
    pub password_key: &'static str,
}

/// What a file is that is not PEM.
pub(super) fn form(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty",
        [0xfe, 0xed, 0xfe, 0xed, ..] => "JKS",
        [0xce, 0xce, 0xce, 0xce, ..] => "JCEKS",
        // A sequence that begins with version 3; a certificate begins with another sequence.
        [0x30, rest @ ..] => match behind_length(rest) {
            [0x02, 0x01, 0x03, ..] => "PKCS12",
            _ => "DER",
        },
        _ => "neither PEM nor JKS nor PKCS12",
    }
}

/// What is behind a length of DER: one byte, or as many as the first says.
fn behind_length(bytes: &[u8]) -> &[u8] {
    match bytes {
        [long @ 0x80..=0x84, rest @ ..] => rest.get(usize::from(long & 0x0f)..).unwrap_or(&[]),
        [_, rest @ ..] => rest,
        [] => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_recognised_whatever_its_size() {
        let version = [2, 1, 3, 0x30];
        for length in [
            &[0x70][..],
            &[0x80],
            &[0x81, 0xc8],
            &[0x82, 0x10, 0],
            &[0x83, 1, 0, 0],
            &[0x84, 1, 0, 0, 0],
        ] {
            let bytes = [&[0x30], length, &version].concat();
            assert_eq!(form(&bytes), "PKCS12", "{bytes:?}");
            let certificate = [&[0x30], length, &[0x30, 0x82]].concat();
            assert_eq!(form(&certificate), "DER");
        }
        for cut in [&[0x30][..], &[0x30, 0x84, 1], &[0x30, 0x85, 0, 0, 0, 0, 0]] {
            assert_eq!(form(cut), "DER");
        }
        assert_eq!(form(&[]), "empty");
        assert_eq!(form(&[0xfe, 0xed, 0xfe, 0xed, 0]), "JKS");
    }
}
