//! TLS: the client configuration that connections are made with, and the handshake.

mod certificate;
mod contents;
mod fault;
mod material;
mod pem;
pub(super) mod provider;
#[cfg(feature = "http")]
mod signing;
#[cfg(feature = "keystores")]
mod stores;
mod verifier;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::HandshakeKind;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::blocking::off_the_arbiter;
use super::observer::Certificates;
use super::{Endpoint, NetError, Observer, Seen};
use crate::core::security::{
    Certificate, KeyMaterialError, SecurityError, TlsSettings, TlsVersion,
};
pub(super) use fault::while_reading;
use material::{Files, Trusted};
#[cfg(feature = "http")]
pub(super) use signing::sign;
use verifier::{ChainOnly, OrTrusted, Witness};

/// What the application gives in place of the settings: the configuration for the next connection.
pub(crate) type OwnTls = Arc<dyn Fn() -> Result<Arc<ClientConfig>, AnyError> + Send + Sync>;

/// An error of the application's.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Makes TLS connections. Files are looked at for each, so that certificates can be changed while
/// it runs.
pub struct Tls {
    from: Source,
}

enum Source {
    Own(OwnTls),
    Settings(Box<FromSettings>),
}

struct FromSettings {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    /// Connections are made side by side, on threads that may wait for files.
    in_force: Mutex<InForce>,
}

/// What connections are made with, until files say otherwise.
struct InForce {
    kit: Kit,
    /// Of the files that it was made of.
    digest: [u8; 32],
    /// What was wrong when they were looked at last.
    trouble: Option<KeyMaterialError>,
    /// How often they have begun to be looked at.
    begun: u64,
    /// Which of these is the last whose outcome is known.
    last: u64,
}

/// What the files had.
struct Look {
    files: Result<Files, KeyMaterialError>,
    number: u64,
}

/// What a connection is made with.
#[derive(Clone)]
struct Kit {
    config: Arc<ClientConfig>,
    /// Who judges brokers' certificates; not known of the application's own configuration.
    verifier: Option<Arc<dyn ServerCertVerifier>>,
    /// This client's certificate with those that it is signed by, if they are known.
    own: Arc<[Certificate]>,
}

impl Tls {
    /// The application's own configuration.
    pub(crate) fn own(config: OwnTls) -> Self {
        let from = Source::Own(config);
        Self { from }
    }

    /// Reads the files. This may take some hundred milliseconds, where they are encrypted.
    pub(crate) fn new(settings: TlsSettings) -> Result<Self, KeyMaterialError> {
        let provider = provider::choose(&settings.cipher_suites)?;
        let files = material::files(&settings.trust, settings.identity.as_ref())?;
        let kit = kit(&settings, &provider, &files)?;
        let in_force = InForce {
            kit,
            digest: digest(&files),
            trouble: None,
            begun: 0,
            last: 0,
        };
        let from = FromSettings {
            settings,
            provider,
            in_force: Mutex::new(in_force),
        };
        Ok(Self {
            from: Source::Settings(Box::new(from)),
        })
    }

    /// What the next connection is made with. This may wait for files.
    fn kit(&self) -> Result<Kit, AnyError> {
        match &self.from {
            Source::Own(own) => Ok(Kit {
                config: own()?,
                verifier: None,
                own: Arc::new([]),
            }),
            Source::Settings(from) => Ok(from.kit()),
        }
    }

    /// Shakes hands over a connection that stands. Without a deadline: the caller has one.
    pub(super) async fn connect(
        self: &Arc<Self>,
        stream: TcpStream,
        endpoint: &Endpoint,
        observer: &Observer,
    ) -> Result<TlsStream<TcpStream>, NetError> {
        let wrong = |why: Arc<str>| {
            NetError::from(SecurityError::Tls {
                broker: endpoint.clone(),
                why,
            })
        };
        let name = server_name(&endpoint.host).ok_or_else(|| {
            let why = "no certificate can be for such a host name; mend the broker's \
                       advertised.listeners";
            wrong(why.into())
        })?;
        let tls = Arc::clone(self);
        let kit = off_the_arbiter(endpoint, "preparing TLS to", move || tls.kit()).await?;
        let Kit {
            mut config,
            verifier,
            own,
        } = kit.map_err(|error| {
            wrong(format!("the application gives no configuration for it: {error}").into())
        })?;
        let witness = verifier.filter(|_| observer.sees_refused);
        let witness = witness.map(|verifier| Arc::new(Witness::new(verifier)));
        if let Some(witness) = &witness {
            let mut watched = (*config).clone();
            let verifier: Arc<Witness> = Arc::clone(witness);
            watched.dangerous().set_certificate_verifier(verifier);
            config = Arc::new(watched);
        }
        let certificates = |chain: &[CertificateDer<'_>]| {
            Seen::Certificates(Certificates {
                broker: certificate::read_all(chain),
                fits: verifier::is_for(chain, &name),
                own: Arc::clone(&own),
            })
        };
        let connecting = TlsConnector::from(config).connect(name.clone(), stream);
        match connecting.await {
            Ok(stream) => {
                let session = stream.get_ref().1;
                let version = session.protocol_version();
                let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
                tracing::debug!(%endpoint, ?version, resumed, "TLS is up");
                let chain = session.peer_certificates().unwrap_or_default();
                observer.tell(endpoint, || certificates(chain));
                observer.tell(endpoint, || encrypted(session));
                Ok(stream)
            }
            Err(error) => {
                if let Some(chain) = witness.as_ref().and_then(|witness| witness.chain()) {
                    observer.tell(endpoint, || certificates(chain));
                }
                Err(fault::while_connecting(endpoint, error))
            }
        }
    }
}

/// What both sides agreed on.
fn encrypted(session: &rustls::ClientConnection) -> Seen {
    let version = session.protocol_version();
    let suite = session.negotiated_cipher_suite();
    Seen::Encrypted {
        // `TLSv1_3` as everybody else writes it.
        version: version.map_or_else(String::new, |it| format!("{it:?}").replace('_', ".")),
        cipher_suite: suite.map_or_else(String::new, |it| provider::iana(it.suite())),
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl FromSettings {
    fn kit(&self) -> Kit {
        let look = self.look();
        self.put_in_force(look)
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Look {
        let settings = &self.settings;
        let number = {
            let mut in_force = self.in_force();
            in_force.begun += 1;
            in_force.begun
        };
        let files = material::files(&settings.trust, settings.identity.as_ref());
        Look { files, number }
    }

    /// Unless somebody has looked later, and is done already: these files may be older.
    fn put_in_force(&self, Look { files, number }: Look) -> Kit {
        let Self {
            settings, provider, ..
        } = self;
        let mut in_force = self.in_force();
        if number < in_force.last {
            return in_force.kit.clone();
        }
        in_force.last = number;
        let renewed = files.and_then(|files| {
            let digest = digest(&files);
            if digest == in_force.digest {
                return Ok(None);
            }
            let kit = kit(settings, provider, &files)?;
            Ok(Some((kit, digest)))
        });
        match renewed {
            Ok(None) => in_force.trouble = None,
            Ok(Some((kit, digest))) => {
                tracing::info!("certificates or keys changed; new connections use them");
                in_force.kit = kit;
                in_force.digest = digest;
                in_force.trouble = None;
            }
            Err(error) => {
                if in_force.trouble.as_ref() != Some(&error) {
                    tracing::warn!(%error, "what was read before stays in force");
                }
                in_force.trouble = Some(error);
            }
        }
        in_force.kit.clone()
    }
}

/// The number of trusted certificates, and that of a chain with its key, in bytes that stand for a file.
#[cfg(feature = "internals")]
pub fn open_bytes(
    bytes: &[u8],
    is_pem: bool,
    password: &str,
) -> [Result<usize, KeyMaterialError>; 2] {
    material::open_bytes(bytes, is_pem, password)
}

fn digest(Files { trust, identity }: &Files) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in [trust, identity] {
        let bytes = file.as_ref().map_or(&[][..], |file| file);
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
    digest.finalize().into()
}

fn kit(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    files: &Files,
) -> Result<Kit, KeyMaterialError> {
    let versions: Vec<_> = settings
        .versions
        .iter()
        .map(|version| match version {
            TlsVersion::V1_2 => &TLS12,
            TlsVersion::V1_3 => &TLS13,
        })
        .collect();
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions)
        .map_err(|error| KeyMaterialError::Unusable {
            from: "ssl.cipher.suites with ssl.enabled.protocols".into(),
            why: error.to_string().into(),
        })?;
    let verifier = verifier(settings, provider, files)?;
    // What is dangerous is a verifier that does not verify.
    let config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier));
    let verifier = Some(verifier);
    let Some(identity) = &settings.identity else {
        return Ok(Kit {
            config: Arc::new(config.with_no_client_auth()),
            verifier,
            own: Arc::new([]),
        });
    };
    let material::KeyAndChain { chain, key, from } = material::key_and_chain(identity, files)?;
    let own = certificate::read_all(&chain).into();
    let config = config.with_client_auth_cert(chain, key);
    let config = config.map_err(|error| KeyMaterialError::Unusable {
        why: match error {
            rustls::Error::InconsistentKeys(_) => "the key is not that of its certificate; put \
                                                   the key's own certificate first in the chain"
                .into(),
            error => format!("the key or its certificate cannot be used: {error}").into(),
        },
        from,
    })?;
    Ok(Kit {
        config: Arc::new(config),
        verifier,
        own,
    })
}

/// Who judges brokers' certificates.
fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    files: &Files,
) -> Result<Arc<dyn ServerCertVerifier>, KeyMaterialError> {
    let Trusted {
        roots,
        certificates,
    } = material::trusted(&settings.trust, files)?;
    let roots = Arc::new(roots);
    let by_signer: Arc<dyn ServerCertVerifier> = match settings.checks_host {
        false => Arc::new(ChainOnly::new(roots, provider)),
        true => WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| KeyMaterialError::Unusable {
                from: "the trusted certificates".into(),
                why: error.to_string().into(),
            })?,
    };
    Ok(Arc::new(OrTrusted {
        certificates,
        checks_host: settings.checks_host,
        by_signer,
    }))
}

/// The name that a certificate has to be for: without the dot that ends a full name, or a scope.
fn server_name(host: &str) -> Option<ServerName<'static>> {
    let address = host.split('%').next().unwrap_or(host);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Some(ServerName::from(address));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(name.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    mod handshakes;

    use std::io;
    use std::net::TcpListener;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::RootCertStore;
    use rustls::pki_types::UnixTime;
    use rustls::server::Acceptor;
    use tokio::io::AsyncWriteExt;

    use super::super::fake::{listen, options, read_request, resolve, shake_hands, tls};
    use super::*;
    use crate::core::dial::Learned;
    use crate::core::security::{Store, StoreFormat, Trust};

    /// The name that the next connection asks for.
    fn name_asked_for(listener: TcpListener) -> Option<String> {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut acceptor = Acceptor::default();
        loop {
            acceptor.read_tls(&mut stream).expect("a hello");
            if let Some(accepted) = acceptor.accept().expect("a hello") {
                return accepted.client_hello().server_name().map(str::to_owned);
            }
        }
    }

    /// Proxies of clouds find the broker by it: the name that metadata give, and not what it leads to.
    #[tokio::test]
    async fn a_broker_is_asked_for_by_the_name_that_it_advertises() {
        let provider = provider::choose(&[]).expect("a provider");
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let config = Arc::new(config);
        let tls = Tls::own(Arc::new(move || Ok(Arc::clone(&config))));
        let mut options = options();
        options.security.tls = Some(Arc::new(tls));
        for (host, asked) in [
            ("b2-pkc.example.com", Some("b2-pkc.example.com")),
            ("b2-pkc.example.com.", Some("b2-pkc.example.com")),
            ("127.0.0.1", None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("bound");
            resolve(host, vec![address]);
            let mut learned = Learned::default();
            let hello = tokio::task::spawn_blocking(|| name_asked_for(listener));
            let endpoint = Endpoint::new(host, address.port());
            let connected = super::super::connect(&endpoint, None, &options, &mut learned);
            assert!(connected.await.is_err(), "it only looks at the name");
            assert_eq!(hello.await.expect("a name").as_deref(), asked);
        }
    }

    fn judged(
        trusted: &rcgen::Certificate,
        shown: &rcgen::Certificate,
        (host, checks_host, year): (&str, bool, u64),
    ) -> Result<(), rustls::Error> {
        let settings = TlsSettings {
            trust: Trust::Pem(trusted.pem().into()),
            identity: None,
            versions: vec![TlsVersion::V1_3],
            cipher_suites: Vec::new(),
            checks_host,
        };
        let provider = provider::choose(&[]).expect("a provider");
        let files = material::files(&settings.trust, None).expect("no files");
        let verifier = verifier(&settings, &provider, &files).expect("a verifier");
        let name = server_name(host).expect("a name");
        let now = Duration::from_secs((year - 1970) * 31_557_600);
        let now = UnixTime::since_unix_epoch(now);
        let judged = verifier.verify_server_cert(shown.der(), &[], &name, &[], now);
        judged.map(drop)
    }

    fn as_openssl_makes_it() -> rcgen::Certificate {
        let mut params = CertificateParams::new(["broker".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate")
    }

    #[test]
    fn a_certificate_that_is_trusted_itself_is_accepted_in_its_time_and_for_its_host() {
        use rustls::CertificateError as Wrong;

        let (own, other) = (as_openssl_makes_it(), as_openssl_makes_it());
        let judged = |shown, host, checks_host, year| {
            let judged = judged(&own, shown, (host, checks_host, year));
            judged.map_err(|error| match error {
                rustls::Error::InvalidCertificate(wrong) => wrong,
                other => panic!("{other}"),
            })
        };
        assert_eq!(judged(&own, "broker", true, 2026), Ok(()));
        assert_eq!(judged(&own, "elsewhere", false, 2026), Ok(()));
        assert!(matches!(
            judged(&own, "elsewhere", true, 2026),
            Err(Wrong::NotValidForNameContext { .. })
        ));
        for (year, checks_host) in [(2032, true), (2032, false)] {
            let late = judged(&own, "broker", checks_host, year);
            assert!(matches!(late, Err(Wrong::ExpiredContext { .. })));
        }
        let early = judged(&own, "broker", true, 2018);
        assert!(matches!(early, Err(Wrong::NotValidYetContext { .. })));
        // Of the same name, and with another key.
        let another = judged(&other, "broker", true, 2026).expect_err("a stranger");
        assert!(
            format!("{another:?}").contains("CaUsedAsEndEntity"),
            "{another:?}"
        );
        let error = fault::while_connecting(
            &Endpoint::new("broker", 9093),
            io::Error::other(rustls::Error::InvalidCertificate(another)),
        );
        assert!(error.to_string().contains("(CA:TRUE)"), "{error}");
    }

    /// A handshake with it, which checks that the broker has its key.
    #[tokio::test]
    async fn a_broker_may_show_a_certificate_that_is_trusted_itself() {
        let signer = tls::Signer::new();
        let acceptor = signer.acceptor_of_its_own();
        let endpoint = listen(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let mut stream = acceptor.accept(stream).await.expect("a handshake");
                shake_hands(&mut stream).await;
                stream.flush().await.expect("open");
                assert!(read_request(&mut stream).await.is_none());
            }
        });
        let (endpoint, options) = (endpoint.await, tls::options(signer.trusted()));
        let mut learned = Learned::default();
        let connected = super::super::connect(&endpoint, None, &options, &mut learned).await;
        connected.expect("a broker");
    }

    /// One connection looks at the files, another does so when they have changed, and is done first.
    #[test]
    fn what_was_read_later_stays_in_force() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("trust.pem");
        let put = || {
            let own = as_openssl_makes_it();
            std::fs::write(&path, own.pem()).expect("a file");
        };
        put();
        let settings = TlsSettings {
            trust: Trust::Store(Store {
                path: path.clone(),
                format: StoreFormat::Pem,
                password: None,
            }),
            ..tls::Signer::new().trusted()
        };
        let tls = Tls::new(settings).expect("sound settings");
        let Source::Settings(from) = &tls.from else {
            panic!("of settings");
        };
        let early = from.look();
        put();
        let late = from.look();
        let new = from.put_in_force(late).config;
        let still = from.put_in_force(early).config;
        assert!(Arc::ptr_eq(&new, &still), "the files are older");
        let again = from.look();
        assert!(Arc::ptr_eq(&new, &from.put_in_force(again).config));
    }

    #[tokio::test]
    async fn an_application_may_have_no_configuration_at_the_moment() {
        let tls = Tls::own(Arc::new(|| Err("the agent is away".into())));
        let mut options = options();
        options.security.tls = Some(Arc::new(tls));
        let endpoint = listen(|_, stream| async move { drop(stream) }).await;
        let mut learned = Learned::default();
        let connected = super::super::connect(&endpoint, None, &options, &mut learned).await;
        let error = connected.err().expect("nothing to connect with");
        assert!(error.security().is_some());
        assert!(
            error.to_string().contains("for it: the agent is away"),
            "{error}"
        );
    }
}
