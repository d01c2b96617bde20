//! A signer of certificates, and what it signed, as files in PEM.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Signs certificates, and writes them into a folder.
pub struct Signer {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The file with its own certificate.
    pub certificate: PathBuf,
}

impl Signer {
    /// Makes its own certificate, `name.pem`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let own = params.self_signed(&key).expect("a certificate");
        let certificate = dir.join(format!("{name}.pem"));
        fs::write(&certificate, own.pem()).expect("a file");
        Self {
            dir: dir.to_owned(),
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A key and a certificate for these names, in one file.
    pub fn signs(&self, file: &str, names: &[&str]) -> PathBuf {
        self.signs_until(file, names, 2090)
    }

    /// The same until the first day of a year.
    pub fn signs_until(&self, file: &str, names: &[&str], year: i32) -> PathBuf {
        let until = date_time_ymd(year, 1, 1);
        let since_1970 = until - date_time_ymd(1970, 1, 1);
        self.signs_to(file, names, since_1970.unsigned_abs())
    }

    /// A certificate that ends so long from now.
    pub fn signs_for(&self, file: &str, names: &[&str], time: Duration) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.signs_to(file, names, now.expect("a clock") + time)
    }

    fn signs_to(&self, file: &str, names: &[&str], until: Duration) -> PathBuf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + until;
        params.distinguished_name.push(DnType::CommonName, file);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = self.dir.join(format!("{file}.pem"));
        let text = format!("{}{}", key.serialize_pem(), signed.pem());
        fs::write(&path, text).expect("a file");
        path
    }
}
