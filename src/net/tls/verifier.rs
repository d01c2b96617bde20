//! Who judges brokers' certificates: one that checks who signed them and not whom they are for, one
//! that accepts those that are trusted themselves, and one that keeps what another judges.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate;

/// The methods of a verifier that leaves signatures to the one in this field.
macro_rules! signatures_are_judged_by {
    ($judge:ident) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let judge = &self.$judge;
            judge.verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let judge = &self.$judge;
            judge.verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.$judge.supported_verify_schemes()
        }
    };
}

/// For `ssl.endpoint.identification.algorithm` without a value.
#[derive(Debug)]
pub(super) struct ChainOnly {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainOnly {
    pub fn new(roots: Arc<RootCertStore>, provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { roots, algorithms }
    }
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts a certificate that is trusted itself, as Java does, whoever has signed it. `openssl req -x509`
/// marks its certificates as those of signers, which are not accepted from a host otherwise. It has to
/// be valid now and for the host all the same.
#[derive(Debug)]
pub(super) struct OrTrusted {
    pub certificates: Vec<CertificateDer<'static>>,
    pub checks_host: bool,
    /// Judges all others.
    pub by_signer: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for OrTrusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.certificates.iter().any(|it| it == end_entity) {
            let judge = &self.by_signer;
            return judge.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        }
        check_valid(end_entity, now)?;
        if self.checks_host {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_are_judged_by!(by_signer);
}

fn check_valid(certificate: &CertificateDer<'_>, time: UnixTime) -> Result<(), Error> {
    let (not_before, not_after) =
        certificate::validity(certificate).ok_or(CertificateError::BadEncoding)?;
    if time < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if time > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    Ok(())
}

/// Keeps the certificates of one connection, whatever the other verifier says of them.
#[derive(Debug)]
pub(super) struct Witness {
    verifier: Arc<dyn ServerCertVerifier>,
    chain: OnceLock<Vec<CertificateDer<'static>>>,
}

impl Witness {
    pub fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let chain = OnceLock::new();
        Self { verifier, chain }
    }

    pub fn chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.chain.get().map(Vec::as_slice)
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|it| it.clone().into_owned()).collect();
        // There is one handshake, so nothing was there before.
        let _ = self.chain.set(chain);
        let verifier = &self.verifier;
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    signatures_are_judged_by!(verifier);
}

/// Whether the first certificate is for this host.
pub(super) fn is_for(chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> bool {
    let first = chain.first().map(ParsedCertificate::try_from);
    first.is_some_and(|it| it.is_ok_and(|it| verify_server_name(&it, name).is_ok()))
}
