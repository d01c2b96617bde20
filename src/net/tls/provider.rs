//! Who does the cryptography. Nothing is installed for the process: that is the application's to do.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::core::security::KeyMaterialError;

/// The process's default where the application has set one, else that of a feature; with these cipher
/// suites, or with all where none is named.
pub(in super::super) fn choose(suites: &[String]) -> Result<Arc<CryptoProvider>, KeyMaterialError> {
    let provider = match CryptoProvider::get_default() {
        Some(provider) => Arc::clone(provider),
        None => Arc::new(built_in()?),
    };
    only(provider, suites)
}

/// That of the features, those that have to be asked for first.
fn built_in() -> Result<CryptoProvider, KeyMaterialError> {
    #[cfg(feature = "aws-lc-rs")]
    return Ok(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Ok(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    return graviola();
}

#[cfg(all(
    not(any(feature = "aws-lc-rs", feature = "ring")),
    feature = "graviola",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn graviola() -> Result<CryptoProvider, KeyMaterialError> {
    if graviola::util::is_cpu_supported() {
        return Ok(rustls_graviola::default_provider());
    }
    Err(KeyMaterialError::NoProvider {
        why: "this processor lacks instructions that the feature graviola needs (on x86-64: AES, \
         PCLMULQDQ, AVX2, BMI1, ADX); build with the feature ring or aws-lc-rs, or install a \
         rustls CryptoProvider for the process"
            .into(),
    })
}

#[cfg(all(
    not(any(feature = "aws-lc-rs", feature = "ring")),
    not(all(
        feature = "graviola",
        any(target_arch = "x86_64", target_arch = "aarch64")
    ))
))]
fn graviola() -> Result<CryptoProvider, KeyMaterialError> {
    Err(KeyMaterialError::NoProvider {
        why: "this build of forebay has no cryptography for TLS: build with the feature ring or \
         aws-lc-rs (or graviola, on x86-64 and aarch64), or install a rustls CryptoProvider for \
         the process"
            .into(),
    })
}

fn only(
    provider: Arc<CryptoProvider>,
    suites: &[String],
) -> Result<Arc<CryptoProvider>, KeyMaterialError> {
    if suites.is_empty() {
        return Ok(provider);
    }
    let known = &provider.cipher_suites;
    let names: Vec<String> = known.iter().map(|suite| iana(suite.suite())).collect();
    let (kept, lost): (Vec<&String>, Vec<_>) = suites.iter().partition(|it| names.contains(it));
    if kept.is_empty() {
        return Err(KeyMaterialError::Unusable {
            from: "ssl.cipher.suites".into(),
            why: format!("none of them is there; there are {}", names.join(", ")).into(),
        });
    }
    if !lost.is_empty() {
        tracing::warn!(
            ?lost,
            "cipher suites that are not there, and are not offered"
        );
    }
    // In the order of the list, which is that of preference.
    let cipher_suites = kept.into_iter().filter_map(|name| {
        let at = names.iter().position(|it| it == name)?;
        known.get(at).copied()
    });
    Ok(Arc::new(CryptoProvider {
        cipher_suites: cipher_suites.collect(),
        ..(*provider).clone()
    }))
}

/// IANA's name, which is Java's too.
pub(super) fn iana(suite: rustls::CipherSuite) -> String {
    format!("{suite:?}").replace("TLS13_", "TLS_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_go_by_ianas_names() {
        let all = choose(&[]).expect("a provider");
        assert!(all.cipher_suites.len() >= 9, "{all:?}");
        let two = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_AES_128_GCM_SHA256",
            "X",
        ];
        let two: Vec<_> = two.map(str::to_owned).into();
        let provider = choose(&two).expect("two of them");
        let names: Vec<_> = provider
            .cipher_suites
            .iter()
            .map(|it| iana(it.suite()))
            .collect();
        assert_eq!(names, two[..2]);
        let error = choose(&["TLS_RSA_WITH_AES_128_CBC_SHA".to_owned()]);
        let error = error.expect_err("none").to_string();
        assert!(error.contains("there are TLS_"), "{error}");
    }
}
