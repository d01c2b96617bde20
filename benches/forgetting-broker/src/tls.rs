//! TLS for the broker, as cheap as it can be and the same for every client.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::PrivateKeyDer;

/// A configuration with a certificate of its own for 127.0.0.1, and this certificate in PEM. TLS 1.3
/// with AES-128-GCM is all that it knows.
pub fn self_signed() -> (Arc<ServerConfig>, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let mut provider = default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a key of the certificate");
    (Arc::new(config), cert.pem())
}
