//! Handshakes with a server that tells what it saw.

use std::path::Path;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use super::super::*;
use crate::core::security::{Identity, Store, StoreFormat, Trust};

/// A certificate that signs others, and its key.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

fn signer() -> Signer {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    Signer {
        issuer,
        certificate,
    }
}

impl Signer {
    /// A certificate for these names, and its key.
    fn signs(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let signed = params.signed_by(&key, &self.issuer);
        (signed.expect("a certificate"), key)
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings {
            trust: Trust::Pem(self.certificate.pem().into()),
            identity: None,
            versions: vec![TlsVersion::V1_2, TlsVersion::V1_3],
            cipher_suites: Vec::new(),
            checks_host: true,
        }
    }
}

/// What a server saw of a connection.
#[derive(Debug, PartialEq)]
struct Seen {
    name: Option<String>,
    resumed: bool,
    client: Option<CertificateDer<'static>>,
}

/// Listens at an address, with a certificate for these names.
async fn serve(
    signer: &Signer,
    (at, names): (&str, &[&str]),
    version: TlsVersion,
    asks_who: bool,
) -> (u16, UnboundedReceiver<Seen>) {
    let provider = provider::choose(&[]).expect("a provider");
    let version = match version {
        TlsVersion::V1_2 => &TLS12,
        TlsVersion::V1_3 => &TLS13,
    };
    let (certificate, key) = signer.signs(names);
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("a version");
    let mut roots = RootCertStore::empty();
    roots.add(signer.certificate.der().clone()).expect("a root");
    let config = match asks_who {
        true => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
        false => config.with_no_client_auth(),
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = config.with_single_cert(vec![certificate.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("a configuration")));
    let listener = TcpListener::bind((at, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (tell, seen) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (_, tls) = stream.get_ref();
            let _ = tell.send(Seen {
                name: tls.server_name().map(str::to_owned),
                resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
                client: tls.peer_certificates().map(|it| it[0].clone().into_owned()),
            });
            let _ = stream.write_all(b"x").await;
            let _ = stream.shutdown().await;
        }
    });
    (port, seen)
}

/// Shakes hands, and reads what the server sends, tickets included.
async fn meet(tls: &Arc<Tls>, host: &str, at: &str, port: u16) -> Result<(), NetError> {
    let stream = TcpStream::connect((at, port)).await.expect("it listens");
    let mut stream = tls
        .connect(stream, &Endpoint::new(host, port), &Observer::default())
        .await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("it closes");
    assert_eq!(bytes, b"x");
    Ok(())
}

#[tokio::test]
async fn a_second_connection_resumes_the_session_of_the_first() {
    let signer = signer();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let names = &["localhost"][..];
        let (port, mut seen) = serve(&signer, ("127.0.0.1", names), version, false).await;
        let tls = Arc::new(Tls::new(signer.settings()).expect("settings"));
        for resumed in [false, true, true] {
            meet(&tls, "localhost", "127.0.0.1", port)
                .await
                .expect("trusted");
            let seen = seen.recv().await.expect("a connection");
            assert_eq!(seen.resumed, resumed, "{version:?}");
        }
    }
}

/// The name that a certificate is for is asked for, without a dot at its end. Addresses are not names.
#[tokio::test]
async fn the_host_that_was_connected_to_is_named_and_checked() {
    let signer = signer();
    for (at, host, named) in [
        ("127.0.0.1", "localhost", Some("localhost")),
        ("127.0.0.1", "localhost.", Some("localhost")),
        ("127.0.0.1", "LocalHost", Some("localhost")),
        ("127.0.0.1", "127.0.0.1", None),
        ("::1", "::1", None),
        ("::1", "::1%lo", None),
        ("::1", "0:0:0:0:0:0:0:1", None),
    ] {
        let names = &["localhost", "127.0.0.1", "::1"][..];
        if at == "::1" && TcpListener::bind("[::1]:0").await.is_err() {
            continue; // There is no IPv6 here.
        }
        let (port, mut seen) = serve(&signer, (at, names), TlsVersion::V1_3, false).await;
        let tls = Arc::new(Tls::new(signer.settings()).expect("settings"));
        meet(&tls, host, at, port).await.expect(host);
        let seen = seen.recv().await.expect("a connection");
        let name = seen.name.map(|name| name.to_ascii_lowercase());
        assert_eq!(name.as_deref(), named, "{host}");
    }
    let names = &["localhost"][..];
    let (port, _seen) = serve(&signer, ("127.0.0.1", names), TlsVersion::V1_3, false).await;
    let tls = Arc::new(Tls::new(signer.settings()).expect("settings"));
    for (host, expected) in [
        ("127.0.0.1", "it is for localhost, and not for 127.0.0.1"),
        (
            "other.example.",
            "it is for localhost, and not for other.example.",
        ),
        (
            "no_name_at all",
            "no certificate can be for such a host name",
        ),
    ] {
        let error = meet(&tls, host, "127.0.0.1", port).await.expect_err(host);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.security().is_some_and(|(_, certain)| certain));
    }
}

/// A folder as Kubernetes has it: `..data` is a link to the present one, and is replaced.
fn point(dir: &Path, to: &str) {
    let (fresh, data) = (dir.join("..fresh"), dir.join("..data"));
    std::os::unix::fs::symlink(dir.join(to), &fresh).expect("a link");
    std::fs::rename(fresh, data).expect("replaced");
}

#[cfg(unix)]
#[tokio::test]
async fn a_client_shows_the_certificate_that_its_file_has_then() {
    let signer = signer();
    let dir = tempfile::tempdir().expect("a folder");
    let mut shown = Vec::new();
    for version in ["first", "second"] {
        let (certificate, key) = signer.signs(&["client"]);
        std::fs::create_dir(dir.path().join(version)).expect("a folder");
        let text = format!("{}{}", key.serialize_pem(), certificate.pem());
        std::fs::write(dir.path().join(version).join("client.pem"), text).expect("a file");
        shown.push(certificate.der().clone());
    }
    let (first, _) = signer.signs(&["client"]);
    for (version, text) in [("keyless", first.pem()), ("empty", String::new())] {
        std::fs::create_dir(dir.path().join(version)).expect("a folder");
        std::fs::write(dir.path().join(version).join("client.pem"), text).expect("a file");
    }
    point(dir.path(), "first");
    let settings = TlsSettings {
        identity: Some(Identity::Store(
            Store {
                path: dir.path().join("..data/client.pem"),
                format: StoreFormat::Pem,
                password: None,
            },
            None,
        )),
        ..signer.settings()
    };
    let tls = Arc::new(Tls::new(settings).expect("settings"));
    let names = &["localhost"][..];
    let (port, mut seen) = serve(&signer, ("127.0.0.1", names), TlsVersion::V1_3, true).await;
    for (to, expected) in [
        ("first", 0),
        ("keyless", 0),
        ("empty", 0),
        ("second", 1),
        ("gone", 1),
        ("first", 0),
    ] {
        point(dir.path(), to);
        meet(&tls, "localhost", "127.0.0.1", port).await.expect(to);
        let seen = seen.recv().await.expect("a connection");
        assert_eq!(seen.client.as_ref(), Some(&shown[expected]), "{to}");
    }
}

/// Whatever a server sends in place of its part of the handshake: an error comes, and soon.
#[tokio::test]
async fn no_bytes_of_a_server_hurt() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let signer = signer();
    let tls = Arc::new(Tls::new(signer.settings()).expect("settings"));
    // A true server's first flight, which follows from the client's, and so is never right twice.
    let (port, _seen) = serve(
        &signer,
        ("127.0.0.1", &["localhost"]),
        TlsVersion::V1_2,
        false,
    )
    .await;
    let flight = Arc::new(Mutex::new(Vec::new()));
    let relay = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let relay_port = relay.local_addr().expect("bound").port();
    let (record, cases) = (Arc::clone(&flight), Arc::new(AtomicUsize::new(0)));
    let case = Arc::clone(&cases);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = relay.accept().await {
            let mut hello = vec![0; 4096];
            let length = client.read(&mut hello).await.unwrap_or(0);
            let bytes = match case.load(Ordering::Relaxed) {
                0 => {
                    let server = TcpStream::connect(("127.0.0.1", port)).await;
                    let mut server = server.expect("it listens");
                    server.write_all(&hello[..length]).await.expect("open");
                    let mut bytes = vec![0; 4096];
                    let length = server.read(&mut bytes).await.expect("an answer");
                    bytes.truncate(length);
                    record.lock().expect("no panic").clone_from(&bytes);
                    bytes
                }
                case => changed(&record.lock().expect("no panic"), case),
            };
            let _ = client.write_all(&bytes).await;
            let _ = client.shutdown().await;
        }
    });
    for case in 0..600 {
        cases.store(case, Ordering::Relaxed);
        let stream = TcpStream::connect(("127.0.0.1", relay_port)).await;
        let endpoint = Endpoint::new("localhost", relay_port);
        let observer = Observer::default();
        let connecting = tls.connect(stream.expect("it listens"), &endpoint, &observer);
        let limit = std::time::Duration::from_secs(5);
        let refused = tokio::time::timeout(limit, connecting).await.expect("soon");
        let error = refused.err().map_or_else(String::new, |it| it.to_string());
        assert!(!error.is_empty() && error.len() < 2_000, "{case}: {error}");
    }
}

/// The case with this number: cut off, with a byte changed, with another length, or random.
fn changed(flight: &[u8], case: usize) -> Vec<u8> {
    let mut bytes = flight.to_vec();
    let at = case.wrapping_mul(2_654_435_761) % bytes.len();
    match case % 5 {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << (case % 8),
        2 => bytes[3..5].copy_from_slice(&(case as u16).wrapping_mul(977).to_be_bytes()),
        3 => bytes[6..9].copy_from_slice(&[0xff; 3]),
        _ => bytes.iter_mut().for_each(|byte| *byte = rand::random()),
    }
    bytes
}
