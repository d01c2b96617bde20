//! Java's stores: JKS and PKCS12, told apart by the file itself as Java does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jks::KeyStoreError;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::contents::{Contents, Place, form};
use crate::core::security::{KeyMaterialError, Secret};

/// Opens a store. Without `key_password` its keys are passed over. Without a password nothing says
/// whether the file is whole; Java takes truststores so.
pub(super) fn open(
    bytes: &[u8],
    password: Option<&Secret>,
    key_password: Option<&Secret>,
    place: &Place,
) -> Result<Contents, KeyMaterialError> {
    match form(bytes) {
        "JKS" => jks(bytes, password, key_password, place),
        "PKCS12" => pkcs12(bytes, password, place),
        found => Err(KeyMaterialError::OtherForm {
            from: Arc::clone(&place.from),
            found: found.into(),
            advice: "JKS, PKCS12 and PEM are served".into(),
        }),
    }
}

fn wrong(place: &Place, key: &'static str, why: &str) -> KeyMaterialError {
    KeyMaterialError::Password {
        from: Arc::clone(&place.from),
        key: key.into(),
        why: why.into(),
    }
}

fn unusable(place: &Place, why: String) -> KeyMaterialError {
    KeyMaterialError::Unusable {
        from: Arc::clone(&place.from),
        why: why.into(),
    }
}

fn jks(
    bytes: &[u8],
    password: Option<&Secret>,
    key_password: Option<&Secret>,
    place: &Place,
) -> Result<Contents, KeyMaterialError> {
    if !jks_is_whole(bytes) {
        let why = "JKS that is damaged: a length in it leads beyond its end, or a date beyond any";
        return Err(unusable(place, why.into()));
    }
    let mut store = jks::KeyStore::new();
    match store.load(bytes, password.map_or(&[], |it| it.reveal().as_bytes())) {
        Ok(()) => {}
        // That is checked last.
        Err(KeyStoreError::InvalidDigest) if password.is_none() => {}
        Err(KeyStoreError::InvalidDigest) => {
            let why = "the password is wrong, or the file damaged";
            return Err(wrong(place, place.password_key, why));
        }
        Err(error) => {
            let why = format!("JKS that cannot be understood: {error}");
            return Err(unusable(place, why));
        }
    }
    let mut contents = Contents::default();
    // In order of their names, so that the same key is taken each time.
    let mut aliases = store.aliases();
    aliases.sort();
    for alias in aliases {
        if let Ok(entry) = store.get_trusted_certificate_entry(&alias) {
            contents.trusted.push(entry.certificate.content.into());
        } else if let Some(password) = key_password
            && store.is_private_key_entry(&alias)
            && contents.key.is_none()
        {
            // The reader counts on the form of what is encrypted.
            let read = || store.get_private_key_entry(&alias, password.reveal().as_bytes());
            let entry = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
                Err(KeyStoreError::Other(
                    "it has another form than a key".to_owned(),
                ))
            });
            let entry = entry.map_err(|error| match error {
                KeyStoreError::InvalidDigest => {
                    wrong(place, "ssl.key.password", "the key has another password")
                }
                error => unusable(place, format!("its key cannot be decrypted: {error}")),
            })?;
            let chain = entry.certificate_chain.into_iter();
            let chain = chain
                .map(|certificate| certificate.content.into())
                .collect();
            contents.key = Some((PrivateKeyDer::Pkcs8(entry.private_key.into()), chain));
        }
    }
    Ok(contents)
}

/// Whether the lengths in a file lead to its end. The reader would take memory for whatever they say, and
/// adds dates to a clock.
fn jks_is_whole(bytes: &[u8]) -> bool {
    let mut walk = Walk(bytes);
    walk.entries().is_some()
}

/// What is left of a file.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(
            number
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }

    /// Passes over a length of so many bytes, and what it counts.
    fn pass(&mut self, bytes: usize) -> Option<()> {
        let length = usize::try_from(self.number(bytes)?).ok()?;
        self.0 = self.0.get(length..)?;
        Some(())
    }

    fn entries(&mut self) -> Option<()> {
        const LAST_DATE: u64 = 253_402_300_799_999; // in the year 9999
        let (_magic, version) = (self.number(4)?, self.number(4)?);
        for _ in 0..self.number(4)? {
            let tag = self.number(4)?;
            self.pass(2)?; // its name
            self.number(8).filter(|date| *date <= LAST_DATE)?;
            let certificates = match tag {
                1 => {
                    self.pass(4)?; // the key
                    self.number(4)?
                }
                _ => 1,
            };
            // Each takes some bytes at least, so the loop ends with the file.
            for _ in 0..certificates {
                if version == 2 {
                    self.pass(2)?; // its type
                }
                self.pass(4)?;
            }
        }
        Some(())
    }
}

fn pkcs12(
    bytes: &[u8],
    password: Option<&Secret>,
    place: &Place,
) -> Result<Contents, KeyMaterialError> {
    let text = password.map_or("", Secret::reveal);
    let store = KeyStore::from_pkcs12(bytes, text, Pkcs12ImportPolicy::Strict);
    let store = store.map_err(|error| match error {
        _ if password.is_none() => {
            let why = "it is not set, and the file does not open without one";
            wrong(place, place.password_key, why)
        }
        p12_keystore::error::Error::MacError(_) => {
            wrong(place, place.password_key, "the password is wrong")
        }
        error => unusable(place, format!("PKCS12 that cannot be opened: {error}")),
    })?;
    let mut contents = Contents::default();
    for (_, entry) in store.entries() {
        match entry {
            KeyStoreEntry::Certificate(certificate) => {
                contents
                    .trusted
                    .push(CertificateDer::from(certificate.as_der().to_vec()));
            }
            KeyStoreEntry::PrivateKeyChain(chain) if contents.key.is_none() => {
                let key = PrivateKeyDer::Pkcs8(chain.key().as_der().to_vec().into());
                let certificates = chain.certs().iter();
                let certificates = certificates.map(|it| it.as_der().to_vec().into()).collect();
                contents.key = Some((key, certificates));
            }
            _ => {}
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use jks::{Certificate as JksCertificate, PrivateKeyEntry, TrustedCertificateEntry};
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn place() -> Place {
        Place {
            from: "store".into(),
            type_key: "ssl.truststore.type",
            password_key: "ssl.truststore.password",
        }
    }

    fn certificate() -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["host".to_owned()]).expect("a name");
        let der = params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec();
        (key, der)
    }

    fn written_as_jks() -> (Vec<u8>, Vec<u8>) {
        let (key, der) = certificate();
        let certificate = JksCertificate {
            cert_type: "X509".to_owned(),
            content: der.clone(),
        };
        let trusted = TrustedCertificateEntry {
            creation_time: SystemTime::UNIX_EPOCH,
            certificate: certificate.clone(),
        };
        let private = PrivateKeyEntry {
            creation_time: SystemTime::UNIX_EPOCH,
            private_key: key.serialize_der(),
            certificate_chain: vec![certificate],
        };
        let (mut store, mut file) = (jks::KeyStore::new(), Vec::new());
        store
            .set_trusted_certificate_entry("ca", trusted)
            .expect("it");
        store
            .set_private_key_entry("key", private, b"another")
            .expect("it");
        store.store(&mut file, b"changeit").expect("written");
        (file, der)
    }

    #[test]
    fn a_truststore_in_jks_opens_without_a_password() {
        let (file, der) = written_as_jks();
        let right = Secret::from("changeit");
        for password in [None, Some(&right)] {
            let contents = open(&file, password, None, &place()).expect("certificates");
            assert_eq!(contents.trusted, [CertificateDer::from(der.clone())]);
            assert!(contents.key.is_none(), "nobody asked for it");
        }
        let wrong = open(&file, Some(&"other".into()), None, &place());
        let wrong = wrong.err().expect("a wrong password").to_string();
        assert!(wrong.contains("the password is wrong"), "{wrong}");
        let keys = open(&file, Some(&right), Some(&"another".into()), &place());
        assert!(keys.expect("a key").key.is_some());
        assert!(open(&file[..file.len() / 2], None, None, &place()).is_err());
    }

    #[test]
    fn a_truststore_in_pkcs12_opens_without_a_password_where_it_has_none() {
        let (_, der) = certificate();
        let entry = p12_keystore::Certificate::from_der(&der).expect("a certificate");
        let mut store = KeyStore::new();
        store.add_entry("ca", KeyStoreEntry::Certificate(entry));
        let without = store.writer("").write().expect("written");
        let contents = open(&without, None, None, &place()).expect("certificates");
        assert_eq!(contents.trusted, [CertificateDer::from(der)]);
        let with = store.writer("changeit").write().expect("written");
        let error = open(&with, None, None, &place()).err().expect("encrypted");
        let expected = "store does not open with ssl.truststore.password: it is not set, and";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
