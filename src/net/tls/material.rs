//! Certificates and keys out of PEM, PKCS12 and JKS. It reads files, and takes its time with
//! encrypted ones.

use std::fs;
use std::sync::Arc;

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::Kdf;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::der::{Reader, SliceReader};
use zeroize::Zeroizing;

use super::contents::{Contents, Place, form};
use super::pem;
#[cfg(feature = "keystores")]
use super::stores;
use crate::core::security::{Identity, KeyMaterialError, Secret, Store, StoreFormat, Trust};

/// A certificate with those that it is signed by, and its key.
pub(super) struct KeyAndChain {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// Where they are from.
    pub from: Arc<str>,
}

const KEY_PASSWORD: &str = "ssl.key.password";
const OPENSSL: &str = "convert it: openssl pkcs8 -topk8 -v2 aes256 -in OLD.pem -out NEW.pem";

/// The bytes of the files that the settings name, to see whether they changed.
pub(super) fn files(trust: &Trust, identity: Option<&Identity>) -> Result<Files, KeyMaterialError> {
    let trust = match trust {
        Trust::Store(store) => Some(read(store, "ssl.truststore.location")?),
        Trust::System | Trust::Pem(_) => None,
    };
    let identity = match identity {
        Some(Identity::Store(store, _)) => Some(read(store, "ssl.keystore.location")?),
        Some(Identity::Pem { .. }) | None => None,
    };
    Ok(Files { trust, identity })
}

/// The bytes of files.
pub(super) struct Files {
    pub trust: Option<Zeroizing<Vec<u8>>>,
    pub identity: Option<Zeroizing<Vec<u8>>>,
}

fn read(store: &Store, key: &str) -> Result<Zeroizing<Vec<u8>>, KeyMaterialError> {
    let bytes = fs::read(&store.path).map_err(|error| KeyMaterialError::Unreadable {
        from: named(store, key),
        why: error.to_string().into(),
    })?;
    Ok(Zeroizing::new(bytes))
}

fn named(store: &Store, key: &str) -> Arc<str> {
    format!("{key} ({})", store.path.display()).into()
}

/// Whom to trust.
pub(super) struct Trusted {
    pub roots: RootCertStore,
    /// The same, as they stand in a store of the configuration.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// The certificates that are trusted.
pub(super) fn trusted(trust: &Trust, files: &Files) -> Result<Trusted, KeyMaterialError> {
    let (from, certificates) = match (trust, &files.trust) {
        (Trust::Pem(text), _) => {
            let from: Arc<str> = "ssl.truststore.certificates".into();
            let certificates = pem_certificates(text.reveal(), &from)?;
            (from, certificates)
        }
        (Trust::Store(store), Some(bytes)) => {
            let place = Place {
                from: named(store, "ssl.truststore.location"),
                type_key: "ssl.truststore.type",
                password_key: "ssl.truststore.password",
            };
            let certificates = match pem_text(store.format, bytes, &place)? {
                Some(text) => pem_certificates(text, &place.from)?,
                None => java(bytes, store.password.as_ref(), None, &place)?.trusted,
            };
            if certificates.is_empty() {
                return Err(KeyMaterialError::Missing {
                    from: place.from,
                    what: "trusted certificate".into(),
                    advice:
                        "import one: keytool -importcert -file CA.pem -keystore STORE -alias ca \
                             (a PKCS12 made by openssl marks none as trusted)"
                            .into(),
                });
            }
            (place.from, certificates)
        }
        (Trust::System, _) | (Trust::Store(_), None) => {
            let (roots, certificates) = (system()?, Vec::new());
            return Ok(Trusted {
                roots,
                certificates,
            });
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| KeyMaterialError::Unusable {
                from: Arc::clone(&from),
                why: format!("a certificate cannot be understood: {error}").into(),
            })?;
    }
    Ok(Trusted {
        roots,
        certificates,
    })
}

/// Those that the system trusts, or where it has none, those of the feature `webpki-roots`.
fn system() -> Result<RootCertStore, KeyMaterialError> {
    let found = rustls_native_certs::load_native_certs();
    system_or_built_in(found.certs, found.errors.first())
}

fn system_or_built_in(
    certificates: Vec<CertificateDer<'static>>,
    error: Option<&rustls_native_certs::Error>,
) -> Result<RootCertStore, KeyMaterialError> {
    let mut roots = RootCertStore::empty();
    // Stores of systems have certificates that nobody understands. They are passed over.
    roots.add_parsable_certificates(certificates);
    #[cfg(feature = "webpki-roots")]
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if roots.is_empty() {
        let why = error.map_or_else(String::new, |error| format!(": {error}"));
        return Err(KeyMaterialError::Unusable {
            from: "the certificates that this system trusts".into(),
            why: format!(
                "there are none{why}; set ssl.truststore.location, install ca-certificates, or \
                 build with the feature webpki-roots"
            )
            .into(),
        });
    }
    Ok(roots)
}

/// Who this client is.
pub(super) fn key_and_chain(
    identity: &Identity,
    files: &Files,
) -> Result<KeyAndChain, KeyMaterialError> {
    let (from, key, chain) = match (identity, &files.identity) {
        (
            Identity::Pem {
                key,
                chain,
                key_password,
            },
            _,
        ) => {
            let from: Arc<str> = "ssl.keystore.key".into();
            let key = pem_key(key.reveal(), (key_password.as_ref(), KEY_PASSWORD), &from)?;
            let chain = pem_certificates(chain.reveal(), &"ssl.keystore.certificate.chain".into())?;
            (from, key, chain)
        }
        (Identity::Store(store, key_password), Some(bytes)) => {
            let place = Place {
                from: named(store, "ssl.keystore.location"),
                type_key: "ssl.keystore.type",
                password_key: "ssl.keystore.password",
            };
            let (key, chain) = match pem_text(store.format, bytes, &place)? {
                Some(text) => {
                    let key = pem_key(text, (key_password.as_ref(), KEY_PASSWORD), &place.from)?;
                    (key, pem_certificates(text, &place.from)?)
                }
                None => {
                    let contents = java(
                        bytes,
                        store.password.as_ref(),
                        key_password.as_ref().or(store.password.as_ref()),
                        &place,
                    )?;
                    contents.key.ok_or_else(|| KeyMaterialError::Missing {
                        from: Arc::clone(&place.from),
                        what: "private key with its certificate".into(),
                        advice: "it may be a truststore".into(),
                    })?
                }
            };
            (place.from, key, chain)
        }
        (Identity::Store(store, _), None) => {
            return Err(KeyMaterialError::Unreadable {
                from: named(store, "ssl.keystore.location"),
                why: "it was not read".into(),
            });
        }
    };
    if chain.is_empty() {
        return Err(KeyMaterialError::Missing {
            from,
            what: "certificate of the key".into(),
            advice: "put it there, with those that it is signed by behind it".into(),
        });
    }
    Ok(KeyAndChain { chain, key, from })
}

/// The text of a file that is said to be PEM; `None` for one of Java's.
fn pem_text<'a>(
    format: StoreFormat,
    bytes: &'a [u8],
    place: &Place,
) -> Result<Option<&'a str>, KeyMaterialError> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.contains("-----BEGIN "));
    match (format, text) {
        (StoreFormat::Pem, Some(text)) => Ok(Some(text)),
        (StoreFormat::Java, None) => Ok(None),
        (StoreFormat::Java, Some(_)) => Err(KeyMaterialError::OtherForm {
            from: Arc::clone(&place.from),
            found: "PEM".into(),
            advice: format!("set {}=PEM", place.type_key).into(),
        }),
        (StoreFormat::Pem, None) => Err(KeyMaterialError::OtherForm {
            from: Arc::clone(&place.from),
            found: form(bytes).into(),
            advice: match form(bytes) {
                "JKS" | "PKCS12" => format!("set {}={}", place.type_key, form(bytes)),
                _ => "PEM has a line -----BEGIN CERTIFICATE-----".to_owned(),
            }
            .into(),
        }),
    }
}

#[cfg(feature = "keystores")]
fn java(
    bytes: &[u8],
    password: Option<&Secret>,
    key_password: Option<&Secret>,
    place: &Place,
) -> Result<Contents, KeyMaterialError> {
    stores::open(bytes, password, key_password, place)
}

#[cfg(not(feature = "keystores"))]
fn java(
    bytes: &[u8],
    _: Option<&Secret>,
    _: Option<&Secret>,
    place: &Place,
) -> Result<Contents, KeyMaterialError> {
    Err(KeyMaterialError::OtherForm {
        from: Arc::clone(&place.from),
        found: form(bytes).into(),
        advice: format!(
            "build forebay with its feature keystores, or make it PEM and set {}=PEM",
            place.type_key
        )
        .into(),
    })
}

fn unusable(from: &Arc<str>, why: impl Into<Arc<str>>) -> KeyMaterialError {
    let from = Arc::clone(from);
    let why = why.into();
    KeyMaterialError::Unusable { from, why }
}

fn pem_certificates(
    text: &str,
    from: &Arc<str>,
) -> Result<Vec<CertificateDer<'static>>, KeyMaterialError> {
    let sections = pem::sections(text).map_err(|why| unusable(from, why))?;
    let certificates = sections
        .into_iter()
        .filter(|section| {
            matches!(
                section.label,
                "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE"
            )
        })
        .map(|section| CertificateDer::from(first_of(&section.der).to_vec()));
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(KeyMaterialError::Missing {
            from: Arc::clone(from),
            what: "certificate".into(),
            advice: "it stands between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
                .into(),
        });
    }
    Ok(certificates)
}

/// The certificate itself: openssl puts what it is trusted for behind a `TRUSTED CERTIFICATE`.
fn first_of(der: &[u8]) -> &[u8] {
    let first = SliceReader::new(der).and_then(|mut reader| reader.tlv_bytes());
    first.unwrap_or(der)
}

/// The one private key of a text. The password comes with the key of the configuration that has it.
pub(super) fn pem_key(
    text: &str,
    password: (Option<&Secret>, &'static str),
    from: &Arc<str>,
) -> Result<PrivateKeyDer<'static>, KeyMaterialError> {
    let sections = pem::sections(text).map_err(|why| unusable(from, why))?;
    let mut keys = sections
        .into_iter()
        .filter(|it| it.label.ends_with("PRIVATE KEY"));
    let Some(mut section) = keys.next() else {
        return Err(KeyMaterialError::Missing {
            from: Arc::clone(from),
            what: "private key".into(),
            advice: "put it there in PEM, or take the key's settings out if brokers ask for none"
                .into(),
        });
    };
    if keys.next().is_some() {
        return Err(unusable(from, "there are two private keys; leave one"));
    }
    if section.is_encrypted_the_old_way && section.label != "ENCRYPTED PRIVATE KEY" {
        let why = format!("the private key is encrypted in a way that is not served; {OPENSSL}");
        return Err(unusable(from, why));
    }
    // Moved, so that no copy of a key stays behind.
    let der = std::mem::take(&mut *section.der);
    match section.label {
        "PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(der.into())),
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(der.into())),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(der.into())),
        "ENCRYPTED PRIVATE KEY" => decrypted(&der, password, from),
        other => Err(unusable(
            from,
            format!("keys of the sort {other} are not served; {OPENSSL}"),
        )),
    }
}

fn decrypted(
    der: &[u8],
    (password, key): (Option<&Secret>, &'static str),
    from: &Arc<str>,
) -> Result<PrivateKeyDer<'static>, KeyMaterialError> {
    let wrong = |why: &str| KeyMaterialError::Password {
        from: Arc::clone(from),
        key: key.into(),
        why: why.into(),
    };
    let password = password.ok_or_else(|| wrong("the private key is encrypted; set it"))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| {
        let why =
            format!("the private key is encrypted by PBES1, or not at all as PKCS#8; {OPENSSL}");
        unusable(from, why)
    })?;
    if info.encryption_algorithm.pbes2().is_none() {
        let why = format!("the private key is encrypted by PBES1, which is broken; {OPENSSL}");
        return Err(unusable(from, why));
    }
    if !is_bounded(&info) {
        let why =
            format!("the private key is damaged, or takes too long to be decrypted; {OPENSSL}");
        return Err(unusable(from, why));
    }
    match info.decrypt(password.reveal()) {
        Ok(key) => {
            let key = PrivatePkcs8KeyDer::from(key.as_bytes().to_vec());
            Ok(PrivateKeyDer::Pkcs8(key))
        }
        Err(pkcs8::Error::EncryptedPrivateKey(error))
            if error != pkcs8::pkcs5::Error::DecryptFailed =>
        {
            let why = format!("the private key cannot be decrypted ({error}); {OPENSSL}");
            Err(unusable(from, why))
        }
        Err(_) => Err(wrong("the password is wrong")),
    }
}

/// Whether decrypting takes some seconds and 256 MiB at most. openssl's own defaults are far below. A
/// cost of 0, which is no power of two, would make the reader panic.
fn is_bounded(info: &EncryptedPrivateKeyInfoRef<'_>) -> bool {
    const MOST_ITERATIONS: u32 = 10_000_000;
    const MOST_BYTES: u64 = 256 << 20;
    let derives = info.encryption_algorithm.pbes2().map(|it| &it.kdf);
    match derives {
        Some(Kdf::Pbkdf2(it)) => it.iteration_count <= MOST_ITERATIONS,
        Some(Kdf::Scrypt(it)) => {
            let bytes = it
                .cost_parameter
                .saturating_mul(128 * u64::from(it.block_size));
            let most = MOST_BYTES / u64::from(it.parallelization.max(1));
            it.cost_parameter.is_power_of_two() && bytes <= most
        }
        _ => false,
    }
}

/// Opens bytes as a file would be, for a fuzzer.
#[cfg(feature = "internals")]
pub(super) fn open_bytes(
    bytes: &[u8],
    is_pem: bool,
    password: &str,
) -> [Result<usize, KeyMaterialError>; 2] {
    let format = if is_pem {
        StoreFormat::Pem
    } else {
        StoreFormat::Java
    };
    let store = Store {
        path: "fuzzed".into(),
        format,
        password: Some(password.into()),
    };
    let bytes = || Some(Zeroizing::new(bytes.to_vec()));
    let files = Files {
        trust: bytes(),
        identity: bytes(),
    };
    let identity = Identity::Store(store.clone(), Some(password.into()));
    let trusted = trusted(&Trust::Store(store), &files).map(|it| it.certificates.len());
    let own = key_and_chain(&identity, &files).map(|it| it.chain.len());
    [trusted, own]
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use rcgen::generate_simple_self_signed;

    use super::*;

    #[test]
    fn what_a_certificate_is_trusted_for_is_passed_over() {
        let own = generate_simple_self_signed(["host".to_owned()]).expect("a certificate");
        let der = own.cert.der();
        let trusted = BASE64.encode([&**der, &[0x30, 2, 5, 0]].concat());
        let label = "TRUSTED CERTIFICATE-----";
        let text = format!("-----BEGIN {label}\n{trusted}\n-----END {label}\n");
        let read = pem_certificates(&text, &"it".into()).expect("a certificate");
        assert_eq!(read, std::slice::from_ref(der));
    }

    #[test]
    fn a_key_that_is_encrypted_at_no_cost_is_refused() {
        let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n\
             MIHjME4GCSqGSIb3DQEFDTBBMCAGCSsGAQQB2kcECzATBAjW2LrQoAd5gQIBAAIB\n\
             CAIBATAdBglghkgBZQMEASoEEBp1jLzhriS16bczXFVYhtoEgZAZwQLSKJYStjTS\n\
             fBFiDDJikp5BiwNzuBRqwAsFzpbXuF8zjaRapKJ2UtFKkc3rZo6Tcb72VnblYO9p\n\
             b7nJJffSnrYktcCi/AMHcJcvnsfijLrldAZ3ZGiHl6w38rU8fu9fY46DKtnD3GKg\n\
             MvpNUel+8K8hcvC0EkrxZofWRsHuXP2GH3U7g2Qh7CiX9m0fla8=\n\
             -----END ENCRYPTED PRIVATE KEY-----";
        let password = Secret::from("secret");
        let key = pem_key(text, (Some(&password), KEY_PASSWORD), &"it".into());
        let error = key.expect_err("damaged").to_string();
        assert!(error.contains("the private key is damaged"), "{error}");
    }

    #[test]
    fn the_systems_certificates_come_first() {
        let own = generate_simple_self_signed(["host".to_owned()]).expect("a certificate");
        let roots = system_or_built_in(vec![own.cert.der().clone()], None);
        assert_eq!(roots.expect("the system's").len(), 1);
        let none = system_or_built_in(Vec::new(), None);
        match cfg!(feature = "webpki-roots") {
            true => assert!(none.expect("built in").len() > 50),
            false => {
                let error = none.expect_err("there are none").to_string();
                assert!(error.contains("ca-certificates"), "{error}");
            }
        }
    }
}
