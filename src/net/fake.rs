//! Fake brokers for the tests of this module. Each does only what its test needs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
use kafka_protocol::messages::{
    ApiVersionsResponse, MetadataResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ConnectOptions, Endpoint, Login, Observer, Security};
use crate::core::security::{Credentials, LoginSettings, LoginSource, Mechanism};

pub fn options() -> ConnectOptions {
    ConnectOptions {
        client_id: "test".to_owned(),
        setup_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(5),
        send_buffer: None,
        receive_buffer: None,
        security: Security::default(),
        names_addressee: true,
        observer: Observer::default(),
    }
}

thread_local! {
    static NAMES: RefCell<HashMap<String, Vec<SocketAddr>>> = RefCell::default();
}

/// From now on this name has these addresses, on this thread.
pub fn resolve(host: &str, addresses: Vec<SocketAddr>) {
    NAMES.with_borrow_mut(|names| names.insert(host.to_owned(), addresses));
}

/// The addresses of a name, if a test has given it any.
pub fn look_up(endpoint: &Endpoint) -> Option<Vec<SocketAddr>> {
    NAMES.with_borrow(|names| names.get(&endpoint.host).cloned())
}

/// A port that is closed.
pub fn closed_port() -> Endpoint {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    Endpoint::new("127.0.0.1", listener.local_addr().expect("bound").port())
}

/// Listens, and runs `script` for one connection after the other. `script` gets the number of the
/// connection.
pub async fn listen<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Endpoint
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            script(number, stream).await;
            number += 1;
        }
    });
    Endpoint::new("127.0.0.1", port)
}

/// Listens, responds to the first request of each connection with `bytes`, and closes it.
pub async fn saying(bytes: Vec<u8>) -> Endpoint {
    listen(move |_, mut stream| {
        let bytes = bytes.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(&bytes).await.expect("an open connection");
        }
    })
    .await
}

pub struct Request {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
    /// The rest of the header, and the body.
    pub rest: Vec<u8>,
}

/// The next request, or `None` if the client closed the connection.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let length = stream.read_i32().await.ok()?;
    let mut body = vec![0; usize::try_from(length).expect("a length")];
    stream.read_exact(&mut body).await.expect("a whole request");
    let mut body = &body[..];
    Some(Request {
        api_key: body.get_i16(),
        version: body.get_i16(),
        correlation_id: body.get_i32(),
        rest: body.to_vec(),
    })
}

/// A frame with a correlation id. `body` includes the rest of the response header.
pub fn frame(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(4 + body.len()).expect("a small body");
    [
        &length.to_be_bytes()[..],
        &correlation_id.to_be_bytes(),
        body,
    ]
    .concat()
}

/// A response with a flexible header.
pub fn flexible(correlation_id: i32, version: i16, answer: &impl Encodable) -> Vec<u8> {
    // The header's tags come first.
    let mut body = BytesMut::from(&[0][..]);
    answer.encode(&mut body, version).expect("a valid answer");
    frame(correlation_id, &body)
}

/// The body of an ApiVersions response: Produce, Fetch, ListOffsets, Metadata, ApiVersions, InitProducerId
/// up to v4, and what a login and transactions need.
pub fn versions_body(version: i16) -> Vec<u8> {
    versions_with(version, 0)
}

/// The same in a cluster with this level of transactions.
pub fn versions_with(version: i16, transaction_version: i16) -> Vec<u8> {
    let keys = [
        (0, 3, 11),
        (1, 4, 17),
        (2, 1, 10),
        (3, 0, 13),
        (18, 0, 4),
        (22, 0, 4),
        (17, 0, 1),
        (36, 0, 2),
        (10, 0, 6),
        (26, 0, 5),
    ];
    let keys = keys.map(|(key, min, max)| {
        ApiVersion::default()
            .with_api_key(key)
            .with_min_version(min)
            .with_max_version(max)
    });
    let mut answer = ApiVersionsResponse::default().with_api_keys(keys.to_vec());
    if version >= 3 && transaction_version > 0 {
        let feature = FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str("transaction.version"))
            .with_max_version_level(transaction_version);
        answer = answer
            .with_finalized_features_epoch(1)
            .with_finalized_features(vec![feature]);
    }
    let mut body = BytesMut::new();
    // Version 5 has the form of version 4.
    answer
        .encode(&mut body, version.min(4))
        .expect("a valid answer");
    body.to_vec()
}

/// Responds to the handshake.
pub async fn shake_hands(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    shake_hands_at(stream, 0).await;
}

/// The same in a cluster with this level of transactions.
pub async fn shake_hands_at(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    transaction_version: i16,
) {
    let request = read_request(stream).await.expect("a handshake");
    let versions = versions_with(request.version, transaction_version);
    let answer = frame(request.correlation_id, &versions);
    stream.write_all(&answer).await.expect("an open connection");
}

/// Who logs in at the brokers of these tests.
pub fn login() -> Login {
    login_by(|| Ok("alice"))
}

/// The same, with a user who is asked for each time.
pub fn login_by(user: impl Fn() -> Result<&'static str, String> + Send + Sync + 'static) -> Login {
    struct By<F>(F);

    impl<F> fmt::Debug for By<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("By")
        }
    }

    impl<F: Fn() -> Result<&'static str, String> + Send + Sync> LoginSource for By<F> {
        fn read(&self) -> Result<LoginSettings, String> {
            Ok(LoginSettings::Password(Credentials {
                user: (self.0)()?.into(),
                password: "secret".into(),
            }))
        }
    }

    Login::new(Mechanism::Plain, Arc::new(By(user)), None)
}

/// A SaslHandshake response.
pub fn mechanisms(correlation_id: i32, error_code: i16, enabled: &[&'static str]) -> Vec<u8> {
    let names = enabled.iter().map(|name| StrBytes::from_static_str(name));
    let answer = SaslHandshakeResponse::default()
        .with_error_code(error_code)
        .with_mechanisms(names.collect());
    let mut body = BytesMut::new();
    answer.encode(&mut body, 1).expect("a valid answer");
    frame(correlation_id, &body)
}

/// A SaslAuthenticate v2 response.
pub fn logged_in(correlation_id: i32, error: (i16, &'static str), lifetime: i64) -> Vec<u8> {
    let answer = SaslAuthenticateResponse::default()
        .with_error_code(error.0)
        .with_error_message(Some(StrBytes::from_static_str(error.1)))
        .with_session_lifetime_ms(lifetime);
    flexible(correlation_id, 2, &answer)
}

/// A SaslAuthenticate v2 response with a message of the mechanism.
pub fn sasl_message(correlation_id: i32, message: &[u8], lifetime: i64) -> Vec<u8> {
    let answer = SaslAuthenticateResponse::default()
        .with_auth_bytes(message.to_vec().into())
        .with_session_lifetime_ms(lifetime);
    flexible(correlation_id, 2, &answer)
}

/// An InitProducerId v4 response with this producer id.
pub fn producer_id(correlation_id: i32, id: i64) -> Vec<u8> {
    // Header tags, throttle, error code, id, epoch, tags.
    let body = [&[0; 7][..], &id.to_be_bytes(), &[0, 0, 0]].concat();
    frame(correlation_id, &body)
}

/// A Metadata response in the version of the request.
pub fn metadata(request: &Request, answer: &MetadataResponse) -> Vec<u8> {
    flexible(request.correlation_id, request.version, answer)
}

/// Certificates of brokers and clients of these tests, all of one signer.
#[cfg(feature = "tls")]
pub mod tls {
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    use super::super::tls::Tls;
    use super::*;
    use crate::core::security::{TlsSettings, TlsVersion, Trust};

    /// Who signs.
    pub struct Signer(CertifiedIssuer<'static, KeyPair>);

    impl Signer {
        /// With a name, as `openssl req -x509` makes one for a broker.
        pub fn new() -> Self {
            let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            Self(CertifiedIssuer::self_signed(params, key).expect("a signer"))
        }

        /// A key, and its certificate for 127.0.0.1.
        pub fn signs(&self) -> (PrivateKeyDer<'static>, CertificateDer<'static>) {
            let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &self.0).expect("a certificate");
            (
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                certificate.der().clone(),
            )
        }

        /// A client that trusts this signer.
        pub fn trusted(&self) -> TlsSettings {
            TlsSettings {
                trust: Trust::Pem(self.0.pem().into()),
                identity: None,
                versions: vec![TlsVersion::V1_2, TlsVersion::V1_3],
                cipher_suites: Vec::new(),
                checks_host: true,
            }
        }

        /// What a broker with a certificate of this signer accepts connections by.
        pub fn acceptor(&self, asks_for_certificate: bool) -> TlsAcceptor {
            self.accepting(self.signs(), asks_for_certificate)
        }

        /// The same with the signer's own certificate.
        pub fn acceptor_of_its_own(&self) -> TlsAcceptor {
            let key = PrivateKeyDer::Pkcs8(self.0.key().serialize_der().into());
            self.accepting((key, self.0.der().clone()), false)
        }

        fn accepting(
            &self,
            (key, certificate): (PrivateKeyDer<'static>, CertificateDer<'static>),
            asks_for_certificate: bool,
        ) -> TlsAcceptor {
            let provider = super::super::tls::provider::choose(&[]).expect("a provider");
            let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("versions");
            let config = match asks_for_certificate {
                false => config.with_no_client_auth(),
                true => {
                    let mut roots = RootCertStore::empty();
                    roots.add(self.0.der().clone()).expect("a certificate");
                    let verifier =
                        WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                    config.with_client_cert_verifier(verifier.build().expect("a verifier"))
                }
            };
            let config = config.with_single_cert(vec![certificate], key);
            TlsAcceptor::from(Arc::new(config.expect("a configuration")))
        }
    }

    pub fn options(settings: TlsSettings) -> ConnectOptions {
        let mut options = super::options();
        let tls = Tls::new(settings).expect("sound settings");
        options.security.tls = Some(Arc::new(tls));
        options
    }

    /// Listens as [`listen`](super::listen) does, over TLS. At the end of a script the connection ends
    /// without a word of TLS, as a process that is killed leaves it.
    pub async fn listen<F>(
        signer: &Signer,
        script: impl Fn(usize, TlsStream<TcpStream>) -> F + Send + Sync + Clone + 'static,
    ) -> Endpoint
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = signer.acceptor(false);
        super::listen(move |number, stream| {
            let (acceptor, script) = (acceptor.clone(), script.clone());
            async move {
                let stream = acceptor.accept(stream).await.expect("a handshake");
                script(number, stream).await;
            }
        })
        .await
    }
}
