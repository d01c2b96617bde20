//! The settings that say who logs in, as they were before providers filled them in.

use std::collections::BTreeMap;

use super::super::error::ProblemKind;
use super::super::jaas::{self, LoginModule};
use super::super::providers::Providers;
use super::super::source::Flat;
use super::super::values::Values;
use crate::core::security::{Mechanism, Secret};

pub(super) const MECHANISM: &str = "sasl.mechanism";
pub(super) const JAAS: &str = "sasl.jaas.config";
pub(super) const USER: &str = "sasl.username";
pub(super) const PASSWORD: &str = "sasl.password";
pub(super) const CLIENT_ID: &str = "sasl.oauthbearer.client.credentials.client.id";
pub(super) const CLIENT_SECRET: &str = "sasl.oauthbearer.client.credentials.client.secret";
pub(super) const PASSPHRASE: &str = "sasl.oauthbearer.assertion.private.key.passphrase";

/// The settings that say who logs in. They are read anew for each login.
pub(super) const TEXTS: [&str; 6] = [JAAS, USER, PASSWORD, CLIENT_ID, CLIENT_SECRET, PASSPHRASE];

/// The settings that say who logs in.
#[derive(Clone, PartialEq, Eq, Default)]
pub(in super::super) struct LoginTexts {
    given: BTreeMap<&'static str, Secret>,
    providers: Providers,
}

/// What is wrong with a login, in words that show no value.
pub(super) struct Wrong {
    pub key: &'static str,
    pub wrong: String,
    pub advice: String,
}

pub(super) fn wrong(
    key: &'static str,
    wrong: impl Into<String>,
    advice: impl Into<String>,
) -> Wrong {
    Wrong {
        key,
        wrong: wrong.into(),
        advice: advice.into(),
    }
}

impl LoginTexts {
    pub fn of(flat: &Flat, providers: &Providers) -> Self {
        let given = TEXTS.iter().filter_map(|key| {
            let setting = flat.get(*key).filter(|it| !it.value.trim().is_empty())?;
            Some((*key, Secret::from(setting.value.as_str())))
        });
        Self {
            given: given.collect(),
            providers: providers.clone(),
        }
    }

    pub(super) fn is_given(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// The value of one of these keys, with what the providers have now.
    pub(super) fn filled(&self, key: &'static str) -> Result<Option<Secret>, Wrong> {
        let Some(text) = self.given.get(key) else {
            return Ok(None);
        };
        let filled = self.providers.filled(text.reveal());
        let filled = filled.map_err(|error| wrong(key, error, "mend it"))?;
        Ok(Some(Secret::from(filled.into_owned())))
    }

    /// The login module of `sasl.jaas.config`.
    pub(super) fn module(&self) -> Result<Option<LoginModule>, Wrong> {
        let Some(text) = self.filled(JAAS)? else {
            return Ok(None);
        };
        let module = jaas::parse(text.reveal());
        module
            .map(Some)
            .map_err(|it| wrong(JAAS, it.wrong, it.advice))
    }
}

/// Demands that a login module is the one of the mechanism. Builds of Kafka's client inside other
/// products have its classes under another package.
pub(super) fn check_class(
    module: &LoginModule,
    expected: &str,
    mechanism: Mechanism,
) -> Result<(), Wrong> {
    if module.class.ends_with(expected) {
        return Ok(());
    }
    let other = format!("its login module is not the one of {MECHANISM}={mechanism}");
    let advice = format!("use {expected}, or another mechanism");
    Err(wrong(JAAS, other, advice))
}

/// Adds it to the problems.
pub(super) fn report(values: &mut Values<'_>, it: Wrong) {
    let kind = match values.is_set(it.key) {
        true => ProblemKind::WrongValue,
        false => ProblemKind::Missing,
    };
    values.report(kind, it.key, it.wrong, it.advice);
}
