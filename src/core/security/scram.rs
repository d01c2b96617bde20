//! The mechanisms SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): the password is proved by both
//! sides, and never sent.
//!
//! As in Kafka's own client no SASLprep is applied, and there is no channel binding.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use super::{Credentials, LoginRefusal, Mechanism, Secret};
use crate::core::shown::Shown;

/// The fewest iterations that are accepted, which is Kafka's bound too. With fewer a broker could have
/// the password guessed from the proof.
const MIN_ITERATIONS: u32 = 4096;
/// The most that are accepted. More would keep a processor busy for seconds.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The longest message of a broker that is looked at.
const MOST_BYTES: usize = 16 << 10;

/// GS2 header without channel binding and without another user to act for, and its base64.
const GS2: &str = "n,,";
const GS2_BASE64: &str = "biws";

/// A login whose first message was made.
pub(crate) struct Started {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// The first message without the GS2 header.
    first_bare: String,
}

/// A login that proves its password. What is left is to have the broker prove that it knows it, too.
pub(crate) struct Proved {
    server_signature: Zeroizing<Vec<u8>>,
    /// The message with the proof.
    pub message: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha512,
}

/// Begins a login. `None` if the mechanism is not a SCRAM. `nonce` has to be different and not to be
/// guessed each time; it must have no comma.
pub(crate) fn start(
    mechanism: Mechanism,
    credentials: &Credentials,
    nonce: String,
) -> Option<(Started, Vec<u8>)> {
    let hash = match mechanism {
        Mechanism::ScramSha256 => Hash::Sha256,
        Mechanism::ScramSha512 => Hash::Sha512,
        Mechanism::Plain | Mechanism::OauthBearer | Mechanism::AwsMskIam => return None,
    };
    // Only the name is escaped. A password has no place in these messages.
    let user = credentials.user.replace('=', "=3D").replace(',', "=2C");
    let first_bare = format!("n={user},r={nonce}");
    let message = format!("{GS2}{first_bare}").into_bytes();
    let started = Started {
        hash,
        password: credentials.password.clone(),
        nonce,
        first_bare,
    };
    Some((started, message))
}

impl Started {
    /// Answers the broker's first message. This takes some milliseconds, or a second where the broker
    /// asks for a million iterations.
    pub fn prove(self, server_first: &[u8]) -> Result<Proved, LoginRefusal> {
        let text = text(server_first)?;
        refused(text)?;
        let mut fields = text.split(',');
        let nonce = field(
            fields.next(),
            "r=",
            "the first message of the broker has no nonce",
        )?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(broken("the broker's nonce does not continue ours"));
        }
        let salt = field(
            fields.next(),
            "s=",
            "the first message of the broker has no salt",
        )?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or_else(|| broken("the broker's salt is not base64"))?;
        let iterations = field(
            fields.next(),
            "i=",
            "the first message of the broker has no count",
        )?;
        let iterations = match iterations.parse::<u32>() {
            Ok(count) if (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&count) => count,
            _ => {
                let what = format!(
                    "the broker asks for {} iterations, and {MIN_ITERATIONS} to {MAX_ITERATIONS} \
                     are accepted; create the user's credentials anew",
                    shown(iterations)
                );
                return Err(LoginRefusal::Exchange { what: what.into() });
            }
        };
        let without_proof = format!("c={GS2_BASE64},r={nonce}");
        let auth_message = format!("{},{text},{without_proof}", self.first_bare);
        let (proof, server_signature) = self.hash.sign(
            self.password.reveal(),
            &salt,
            iterations,
            auth_message.as_bytes(),
        );
        let proof = Zeroizing::new(BASE64.encode(&*proof));
        let message = [&without_proof, ",p=", &proof].concat().into_bytes();
        Ok(Proved {
            server_signature,
            message: Zeroizing::new(message),
        })
    }
}

impl Proved {
    /// Looks whether the broker's last message proves that it knows the password.
    pub fn verify(&self, server_final: &[u8]) -> Result<(), LoginRefusal> {
        let text = text(server_final)?;
        refused(text)?;
        let signature = field(
            text.split(',').next(),
            "v=",
            "the last message of the broker has no signature",
        )?;
        let signature = BASE64.decode(signature).unwrap_or_default();
        // It is another one for each login, so that nobody learns anything from how long this takes.
        match signature == **self.server_signature {
            true => Ok(()),
            false => Err(LoginRefusal::BrokerNotProven),
        }
    }
}

type Bytes = Zeroizing<Vec<u8>>;

impl Hash {
    /// The client's proof and the server's signature.
    fn sign(self, password: &str, salt: &[u8], iterations: u32, message: &[u8]) -> (Bytes, Bytes) {
        let salted = match self {
            Hash::Sha256 => {
                let mut out = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, &mut out);
                out
            }
            Hash::Sha512 => {
                let mut out = Zeroizing::new(vec![0; 64]);
                pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, iterations, &mut out);
                out
            }
        };
        let client_key = self.hmac(&salted, b"Client Key");
        let stored_key = self.digest(&client_key);
        let client_signature = self.hmac(&stored_key, message);
        let pairs = client_key.iter().zip(client_signature.iter());
        let proof = Zeroizing::new(pairs.map(|(key, signature)| key ^ signature).collect());
        let server_key = self.hmac(&salted, b"Server Key");
        (proof, self.hmac(&server_key, message))
    }

    fn digest(self, bytes: &[u8]) -> Bytes {
        Zeroizing::new(match self {
            Hash::Sha256 => Sha256::digest(bytes).to_vec(),
            Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Bytes {
        fn with<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            // A key of any length is taken.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
                return Vec::new();
            };
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        Zeroizing::new(match self {
            Hash::Sha256 => with::<Hmac<Sha256>>(key, message),
            Hash::Sha512 => with::<Hmac<Sha512>>(key, message),
        })
    }
}

/// Whether a broker that sends these two messages to a login with this nonce has proved itself.
#[cfg(feature = "internals")]
pub fn exchange(nonce: &str, first: &[u8], last: &[u8]) -> Result<(), LoginRefusal> {
    let credentials = Credentials {
        user: "alice".into(),
        password: "secret".into(),
    };
    let Some((started, _)) = start(Mechanism::ScramSha256, &credentials, nonce.to_owned()) else {
        return Ok(());
    };
    started.prove(first)?.verify(last)
}

fn text(message: &[u8]) -> Result<&str, LoginRefusal> {
    if message.len() > MOST_BYTES {
        return Err(broken(
            "a message of the broker is longer than any login has",
        ));
    }
    std::str::from_utf8(message).map_err(|_| broken("a message of the broker is not UTF-8"))
}

fn refused(text: &str) -> Result<(), LoginRefusal> {
    match text.strip_prefix("e=") {
        Some(error) => {
            let error = error.split(',').next().unwrap_or_default();
            let words: Arc<str> = format!("the broker answered {}", shown(error)).into();
            Err(LoginRefusal::Credentials { words })
        }
        None => Ok(()),
    }
}

fn field<'a>(
    field: Option<&'a str>,
    name: &str,
    missing: &'static str,
) -> Result<&'a str, LoginRefusal> {
    let value = field.and_then(|field| field.strip_prefix(name));
    value.ok_or_else(|| broken(missing))
}

fn shown(text: &str) -> Shown<'_> {
    Shown { text, most: 200 }
}

fn broken(what: &str) -> LoginRefusal {
    LoginRefusal::Exchange { what: what.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.into(),
            password: password.into(),
        }
    }

    fn pencil(nonce: &str) -> (Started, Vec<u8>) {
        let credentials = credentials("user", "pencil");
        start(Mechanism::ScramSha256, &credentials, nonce.to_owned()).expect("a SCRAM")
    }

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc() {
        let (started, first) = pencil(NONCE);
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proved = started.prove(FIRST.as_bytes()).expect("a proof");
        assert_eq!(
            std::str::from_utf8(&proved.message),
            Ok(
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            )
        );
        let good = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proved.verify(good), Ok(()));
        let other = b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proved.verify(other), Err(LoginRefusal::BrokerNotProven));
        assert_eq!(proved.verify(b"v="), Err(LoginRefusal::BrokerNotProven));
        assert!(proved.verify(b"").is_err());
    }

    #[test]
    fn names_are_escaped() {
        let credentials = credentials("a=b,c", "p");
        let (_, first) =
            start(Mechanism::ScramSha512, &credentials, "x".to_owned()).expect("a SCRAM");
        assert_eq!(first, b"n,,n=a=3Db=2Cc,r=x");
    }

    #[test]
    fn iterations_have_bounds() {
        for (count, fine) in [
            ("4095", false),
            ("4096", true),
            ("1000001", false),
            ("-1", false),
            ("99999999999999999999", false),
        ] {
            let (started, _) = pencil(NONCE);
            let message = FIRST.replace("4096", count);
            let proved = started.prove(message.as_bytes());
            assert_eq!(proved.is_ok(), fine, "{count}");
            if let Err(error) = proved {
                assert!(error.to_string().contains("4096 to 1000000"), "{error}");
            }
        }
    }

    #[test]
    fn what_a_broker_must_not_say_is_refused() {
        for (message, expected) in [
            ("", "no nonce"),
            ("r=other,s=AA==,i=4096", "does not continue"),
            ("r=rOprNGfwEbeRWgbNEkqO,s=AA==,i=4096", "does not continue"),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=?,i=4096", "not base64"),
            ("r=rOprNGfwEbeRWgbNEkqO1,i=4096", "no salt"),
            ("r=rOprNGfwEbeRWgbNEkqO1,s=AA==", "no count"),
            ("e=unknown-user", "unknown-user"),
        ] {
            let (started, _) = pencil(NONCE);
            let Err(error) = started.prove(message.as_bytes()) else {
                panic!("{message} was accepted");
            };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let (started, _) = pencil(NONCE);
            prop_assert!(started.prove(&bytes).is_err());
        }
    }
}
