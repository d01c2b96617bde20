//! Makes what a client asserts of itself to a token endpoint. It reads files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

#[cfg(feature = "tls")]
use super::tls::sign;
#[cfg(feature = "tls")]
use crate::core::security::assertion::signed;
use crate::core::security::assertion::{Assertion, MadeAssertion};
use crate::core::security::{Secret, TokenError};

const FILE: &str = "sasl.oauthbearer.assertion.file";
const KEY_FILE: &str = "sasl.oauthbearer.assertion.private.key.file";
const TEMPLATE: &str = "sasl.oauthbearer.assertion.template.file";

fn settings(text: impl Into<Arc<str>>) -> TokenError {
    TokenError::Settings(text.into())
}

fn read(key: &str, path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let read = std::fs::read_to_string(path);
    let unreadable = |error| {
        settings(format!(
            "{key} ({}) cannot be read: {error}",
            path.display()
        ))
    };
    read.map(Zeroizing::new).map_err(unreadable)
}

/// The assertion for a token that is asked for now. This may wait for files.
pub(super) fn make(assertion: &Assertion, since_epoch: Duration) -> Result<Secret, TokenError> {
    match assertion {
        Assertion::File(path) => {
            let text = read(FILE, path)?;
            match text.trim() {
                "" => Err(settings(format!("{FILE} ({}) is empty", path.display()))),
                text => Ok(text.into()),
            }
        }
        Assertion::Made(made) => sign_anew(made, since_epoch),
    }
}

fn sign_anew(made: &MadeAssertion, since_epoch: Duration) -> Result<Secret, TokenError> {
    let template = match &made.template_file {
        Some(path) => Some(read(TEMPLATE, path)?),
        None => None,
    };
    let text = template.as_ref().map(|it| it.as_str());
    let to_sign = made.to_sign(text, since_epoch, || {
        // As Java's, which has a UUID of version 4.
        uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .to_string()
    });
    let to_sign = to_sign.map_err(|wrong| {
        let path = made.template_file.as_deref().unwrap_or(Path::new(""));
        settings(format!("{TEMPLATE} ({}) {wrong}", path.display()))
    })?;
    let key = read(KEY_FILE, &made.key_file)?;
    #[cfg(feature = "tls")]
    {
        let from = format!("{KEY_FILE} ({})", made.key_file.display()).into();
        let key = (key.as_str(), made.passphrase.as_ref());
        let signature = sign(made.algorithm, key, &from, to_sign.as_bytes());
        let signature = signature.map_err(|error| settings(error.to_string()))?;
        Ok(signed(&to_sign, &signature))
    }
    #[cfg(not(feature = "tls"))]
    {
        let _ = (key, to_sign);
        Err(settings(
            "forebay was built without TLS, whose cryptography signs assertions",
        ))
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

    use super::*;
    use crate::core::security::assertion::Algorithm;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn openssl(args: &[&str]) -> bool {
        let done = Command::new("openssl").args(args).output();
        done.is_ok_and(|it| it.status.success())
    }

    fn made(algorithm: Algorithm, key_file: PathBuf) -> MadeAssertion {
        MadeAssertion {
            algorithm,
            key_file,
            passphrase: None,
            template_file: None,
            claims: vec![("iss", "app".to_owned())],
            expires_in: Duration::from_secs(300),
            valid_since: Duration::ZERO,
            has_id: true,
        }
    }

    fn path(path: &Path) -> &str {
        path.to_str().expect("a name in UTF-8")
    }

    /// The two numbers of an ECDSA signature in ASN.1, as openssl has it.
    fn asn1(fixed: &[u8]) -> Vec<u8> {
        let number = |half: &[u8]| {
            let half: Vec<u8> = half.iter().copied().skip_while(|byte| *byte == 0).collect();
            let sign = if half[0] >= 0x80 { &[0][..] } else { &[] };
            [&[2, (sign.len() + half.len()) as u8], sign, &half].concat()
        };
        let body = [number(&fixed[..32]), number(&fixed[32..])].concat();
        [&[0x30, body.len() as u8][..], &body].concat()
    }

    #[test]
    fn openssl_accepts_the_signatures() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str| dir.path().join(name);
        let rsa = &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ][..];
        let p256 = &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        for (name, algorithm, generate) in [
            ("rsa", Algorithm::Rs256, rsa),
            ("ec", Algorithm::Es256, p256),
        ] {
            let (key, public) = (file(name), file("public"));
            if !openssl(&[generate, &["-out", path(&key)]].concat()) {
                assert!(std::env::var_os("CI").is_none(), "openssl has to be there");
                return;
            }
            assert!(openssl(&[
                "pkey",
                "-in",
                path(&key),
                "-pubout",
                "-out",
                path(&public)
            ]));
            let encrypted = file("encrypted");
            let encrypt = [
                "pkcs8",
                "-topk8",
                "-v2",
                "aes256",
                "-passout",
                "pass:s3cret",
                "-in",
            ];
            let out = [path(&key), "-out", path(&encrypted)];
            assert!(openssl(&[&encrypt[..], &out].concat()));
            for (key, passphrase) in [(key, None), (encrypted, Some(Secret::from("s3cret")))] {
                let made = MadeAssertion {
                    passphrase,
                    ..made(algorithm, key)
                };
                let text = make(&Assertion::Made(Box::new(made)), NOW).expect("signed");
                let (signed, signature) = text.reveal().rsplit_once('.').expect("three parts");
                let mut signature = BASE64.decode(signature).expect("base64");
                if algorithm == Algorithm::Es256 {
                    assert_eq!(signature.len(), 64);
                    signature = asn1(&signature);
                }
                std::fs::write(file("signed"), signed).expect("written");
                std::fs::write(file("signature"), signature).expect("written");
                let verify = ["dgst", "-sha256", "-verify", path(&public), "-signature"];
                let what = [
                    path(&file("signature")).to_owned(),
                    path(&file("signed")).to_owned(),
                ];
                assert!(
                    openssl(&[&verify[..], &[&what[0], &what[1]]].concat()),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_with_files_is_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let key = rcgen::KeyPair::generate()
            .expect("a key of P-256")
            .serialize_pem();
        let key = file("key", &key);
        let with = |change: fn(&mut MadeAssertion), key: &Path| {
            let mut made = made(Algorithm::Es256, key.to_owned());
            change(&mut made);
            Assertion::Made(Box::new(made))
        };
        let no = |_: &mut MadeAssertion| {};
        let no_file = Path::new("/no/such");
        for (assertion, expected) in [
            (
                Assertion::File(no_file.into()),
                "assertion.file (/no/such) cannot be read",
            ),
            (Assertion::File(file("empty", "\n")), "is empty"),
            (
                with(no, no_file),
                "private.key.file (/no/such) cannot be read",
            ),
            (with(no, &file("none", "nothing")), "has no private key"),
            (
                with(|it| it.algorithm = Algorithm::Rs256, &key),
                "it is not an RSA key, which sasl.oauthbearer.assertion.algorithm=RS256 needs",
            ),
            (
                with(|it| it.template_file = Some("/no/template".into()), &key),
                "template.file (/no/template) cannot be read",
            ),
        ] {
            let error = make(&assertion, NOW).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let template = file("template", "[]");
        let mut made = made(Algorithm::Es256, key);
        made.template_file = Some(template);
        let error = make(&Assertion::Made(Box::new(made)), NOW).expect_err("no object");
        assert!(
            error.to_string().contains("template) is no JSON"),
            "{error}"
        );
    }
}
