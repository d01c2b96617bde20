//! Turns what is configured of security into what connections are made with.

use std::sync::Arc;

use crate::config::Config;
use crate::core::security::{AwsCredentialSource, KeyMaterialError, LoginSettings, TokenSource};
use crate::net::{Login, Security, TokenGetter};
#[cfg(feature = "tls")]
use crate::net::{OwnTls, Tls};

/// What the application gives in code, in place of settings.
#[derive(Default)]
pub(crate) struct InCode {
    #[cfg(feature = "tls")]
    pub tls: Option<OwnTls>,
    pub tokens: Option<Arc<dyn TokenSource>>,
    pub aws: Option<Arc<dyn AwsCredentialSource>>,
}

/// Reads certificates and keys.
pub(crate) fn prepare(config: &Config, own: InCode) -> Result<Security, KeyMaterialError> {
    let settings = config.security.tls.as_ref();
    let shows_key = settings.is_some_and(|it| it.identity.is_some());
    #[cfg(feature = "tls")]
    let shows_key = shows_key || own.tls.is_some();
    let login = login(config, own.tokens, own.aws)?;
    Ok(Security {
        #[cfg(feature = "tls")]
        tls: tls(config, own.tls)?.map(Arc::new),
        principal: principal(login.as_ref(), shows_key),
        login,
    })
}

/// Whom brokers take this client for, unless they have rules of their own. Of a client that shows a
/// certificate or a token only they know.
fn principal(login: Option<&Login>, shows_key: bool) -> Option<Arc<str>> {
    let user: Arc<str> = match (login, shows_key) {
        (Some(login), _) => match login.source.read().ok()? {
            LoginSettings::Password(credentials) => credentials.user,
            LoginSettings::Bearer(_) | LoginSettings::Aws(_) => return None,
        },
        (None, true) => return None,
        (None, false) => "ANONYMOUS".into(),
    };
    Some(format!("User:{user}").into())
}

#[cfg(feature = "tls")]
fn tls(config: &Config, own: Option<OwnTls>) -> Result<Option<Tls>, KeyMaterialError> {
    let protocol = config.security_protocol();
    match (own, &config.security.tls) {
        (Some(_), None) => Err(KeyMaterialError::Unusable {
            from: "the TLS configuration that is given in code".into(),
            why: format!("security.protocol ({protocol}) has no TLS; set SSL or SASL_SSL").into(),
        }),
        (Some(_), Some(_)) if !config.security.tls_keys.is_empty() => {
            let keys = config.security.tls_keys.join(", ");
            Err(KeyMaterialError::Unusable {
                from: "the TLS configuration that is given in code".into(),
                why: format!("{keys} would have no effect; take the keys out, or it").into(),
            })
        }
        (Some(own), Some(_)) => Ok(Some(Tls::own(own))),
        (None, Some(settings)) => Tls::new(settings.clone()).map(Some),
        (None, None) => Ok(None),
    }
}

fn login(
    config: &Config,
    own: Option<Arc<dyn TokenSource>>,
    aws: Option<Arc<dyn AwsCredentialSource>>,
) -> Result<Option<Login>, KeyMaterialError> {
    let Some(login) = &config.security.login else {
        return Ok(None);
    };
    let getter = match login.bearer() {
        None => None,
        Some(bearer) => Some(TokenGetter {
            rules: bearer.refresh.clone(),
            #[cfg(feature = "tls")]
            tls: match &bearer.endpoint_tls {
                Some(settings) if own.is_none() => Some(Arc::new(Tls::new(settings.clone())?)),
                _ => None,
            },
            own,
        }),
    };
    let source = Arc::new(login.clone());
    let mut login = Login::new(login.mechanism, source, getter);
    login.aws = aws;
    Ok(Some(login))
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn keys_beside_a_configuration_in_code_are_not_passed_over() {
        let refused = |key: &str, value: &str, from_env: bool| {
            let builder = Config::builder()
                .bootstrap_servers("broker:9093")
                .set("security.protocol", "SSL");
            let builder = match from_env {
                true => builder.env_vars([(key, value)]),
                false => builder.set(key, value),
            };
            let own = InCode {
                tls: Some(Arc::new(|| Err("not asked".into()))),
                ..InCode::default()
            };
            let prepared = prepare(&builder.build().expect("a configuration"), own);
            prepared.err().map(|error| error.to_string())
        };
        let text = refused("ssl.truststore.location", "/ca.jks", false).expect("both");
        assert!(
            text.contains("ssl.truststore.location would have no effect"),
            "{text}"
        );
        assert!(refused("ssl.enabled.protocols", "TLSv1.3", false).is_some());
        // A broker's, and an empty place of a template.
        assert_eq!(
            refused("KAFKA_SSL_TRUSTSTORE_LOCATION", "/ca.jks", true),
            None
        );
        assert_eq!(refused("ssl.truststore.location", "", false), None);
    }
}
