//! What a certificate says of itself, out of its bytes.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::core::security::Certificate;
use crate::core::shown::Shown;

/// Characters of a name that are kept. It may come from anybody.
const MOST: usize = 300;
/// Hosts of one certificate that are kept.
const MOST_HOSTS: usize = 20;

/// All that can be read. What cannot is for those who verify it to judge.
pub(super) fn read_all(chain: &[CertificateDer<'_>]) -> Vec<Certificate> {
    chain.iter().filter_map(read).collect()
}

fn read(der: &CertificateDer<'_>) -> Option<Certificate> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let content = certificate.tbs_certificate();
    let not_after = content.validity().not_after;
    let alternative = content.get_extension::<SubjectAltName>().ok().flatten();
    let hosts = alternative.map_or_else(Vec::new, |(_, names)| {
        names.0.iter().filter_map(host).take(MOST_HOSTS).collect()
    });
    let subject = match content.subject().is_empty() {
        false => shown(&content.subject().to_string()),
        true => "no subject".to_owned(),
    };
    Some(Certificate {
        subject,
        issuer: shown(&content.issuer().to_string()),
        hosts,
        until: not_after.to_string(),
        not_after: not_after.to_unix_duration(),
    })
}

/// From when to when it is valid.
pub(super) fn validity(der: &CertificateDer<'_>) -> Option<(UnixTime, UnixTime)> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let [from, until] = [validity.not_before, validity.not_after]
        .map(|it| UnixTime::since_unix_epoch(it.to_unix_duration()));
    Some((from, until))
}

fn host(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(shown(name.as_str())),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
            4 => <[u8; 4]>::try_from(bytes.as_bytes()).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes.as_bytes())
                .ok()
                .map(IpAddr::from),
        }
        .map(|address| address.to_string()),
        _ => None,
    }
}

fn shown(text: &str) -> String {
    Shown { text, most: MOST }.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_is_read() {
        let hosts = ["broker.example.com", "10.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(hosts.to_vec()).expect("names");
        params.not_after = date_time_ymd(2030, 3, 4);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example, Inc.");
        params
            .distinguished_name
            .push(DnType::CommonName, "bro\nker");
        let key = KeyPair::generate().expect("a key");
        let signed = params.self_signed(&key).expect("a certificate");
        let read = read_all(&[signed.der().clone(), CertificateDer::from(vec![1, 2, 3])]);
        let [certificate] = read.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(certificate.hosts, hosts);
        assert_eq!(certificate.until, "2030-03-04T00:00:00Z");
        assert_eq!(certificate.not_after, Duration::from_secs(1_898_812_800));
        assert_eq!(certificate.subject, certificate.issuer);
        assert!(certificate.subject.contains("Example"), "{certificate:?}");
        assert!(!certificate.subject.contains('\n'), "{certificate:?}");
        let day = Duration::from_secs(86_400);
        assert_eq!(certificate.days_left(certificate.not_after - day), 1);
        assert_eq!(certificate.days_left(certificate.not_after + day / 2), -1);
    }
}
