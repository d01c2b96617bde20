//! Signatures with a client's private key, for what it asserts to a token endpoint.

use std::sync::Arc;

use rustls::SignatureScheme;

use super::{material, provider};
use crate::core::security::assertion::{Algorithm, fixed};
use crate::core::security::{KeyMaterialError, Secret};

const PASSPHRASE: &str = "sasl.oauthbearer.assertion.private.key.passphrase";

/// Signs with a key in PEM. `from` says where it is from.
pub(in super::super) fn sign(
    algorithm: Algorithm,
    (pem, passphrase): (&str, Option<&Secret>),
    from: &Arc<str>,
    message: &[u8],
) -> Result<Vec<u8>, KeyMaterialError> {
    let unusable = |why: String| KeyMaterialError::Unusable {
        from: Arc::clone(from),
        why: why.into(),
    };
    let key = material::pem_key(pem, (passphrase, PASSPHRASE), from)?;
    let provider = provider::choose(&[])?;
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|error| unusable(format!("the key cannot be used: {error}")))?;
    let scheme = match algorithm {
        Algorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        Algorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
    };
    let signer = key.choose_scheme(&[scheme]).ok_or_else(|| {
        let (name, key) = (algorithm.name(), algorithm.key());
        unusable(format!(
            "it is not {key}, which sasl.oauthbearer.assertion.algorithm={name} needs"
        ))
    })?;
    let signature = signer.sign(message);
    let signature = signature.map_err(|error| unusable(format!("it does not sign: {error}")))?;
    match algorithm {
        Algorithm::Rs256 => Ok(signature),
        Algorithm::Es256 => match fixed(&signature) {
            Some(fixed) => Ok(fixed.to_vec()),
            None => Err(unusable("it signs in a form that is not known".to_owned())),
        },
    }
}
