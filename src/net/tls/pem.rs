//! Splits PEM into its sections.
//!
//! Inline in a configuration its lines may be joined by spaces, or by nothing, which Java takes and
//! most readers of PEM do not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// A section, such as a certificate.
pub(super) struct Section<'a> {
    /// `CERTIFICATE`, `PRIVATE KEY`.
    pub label: &'a str,
    pub der: Zeroizing<Vec<u8>>,
    /// Whether it is encrypted in the way of before PKCS#8, which a header says.
    pub is_encrypted_the_old_way: bool,
}

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// All sections. The error says what is wrong.
pub(super) fn sections(text: &str) -> Result<Vec<Section<'_>>, String> {
    let mut sections = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once(BEGIN) {
        let (label, begun) = begun
            .split_once(DASHES)
            .ok_or("a BEGIN line of PEM does not end")?;
        let (body, ended) = begun
            .split_once(END)
            .ok_or_else(|| format!("the section {label} of PEM has no END line"))?;
        let after = ended
            .strip_prefix(label)
            .and_then(|it| it.strip_prefix(DASHES));
        rest = after.ok_or_else(|| format!("the section {label} of PEM has another END line"))?;
        // Headers have a colon, which base64 has not.
        let lines = body.split(['\n', '\r']);
        // Reserved at once: text that grows leaves its beginning behind.
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        let lines = lines.filter(|line| !line.contains(':'));
        base64.extend(lines.flat_map(|line| line.chars().filter(|c| !c.is_whitespace())));
        let der = BASE64
            .decode(base64.as_bytes())
            .map_err(|_| format!("the section {label} of PEM is not base64"))?;
        sections.push(Section {
            label,
            der: Zeroizing::new(der),
            is_encrypted_the_old_way: body.contains("ENCRYPTED"),
        });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, Vec<u8>, bool)>, String> {
        let sections = sections(text)?.into_iter();
        Ok(sections
            .map(|it| {
                (
                    it.label.to_owned(),
                    it.der.to_vec(),
                    it.is_encrypted_the_old_way,
                )
            })
            .collect())
    }

    #[test]
    fn lines_may_be_joined() {
        let one = ("CERTIFICATE".to_owned(), b"hello".to_vec(), false);
        for text in [
            "-----BEGIN CERTIFICATE-----\naGVs\nbG8=\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\r\naGVs\r\nbG8=\r\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE----- aGVs bG8= -----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----aGVsbG8=-----END CERTIFICATE-----",
            "Bag Attributes\n x: y\n-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(read(text), Ok(vec![one.clone()]), "{text}");
            assert_eq!(
                read(&[text, text].concat()),
                Ok(vec![one.clone(), one.clone()])
            );
        }
    }

    #[test]
    fn what_is_no_pem_is_said() {
        assert_eq!(read(""), Ok(Vec::new()));
        for (text, expected) in [
            ("-----BEGIN X", "does not end"),
            ("-----BEGIN X-----aaaa", "has no END line"),
            ("-----BEGIN X-----aaaa-----END Y-----", "another END line"),
            ("-----BEGIN X-----a-----END X-----", "is not base64"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_key_that_is_encrypted_the_old_way_is_seen() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                    DEK-Info: AES-256-CBC,00\n\naGVsbG8=\n-----END RSA PRIVATE KEY-----";
        assert!(read(text).unwrap()[0].2);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(-----(BEGIN|END) (A|B)-----|[ -~\n]{0,9}){0,6}") {
            let _ = sections(&text);
        }
    }
}
