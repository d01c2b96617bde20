//! Builds the producer's configuration from the command line.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};
use forebay::config::ConfigBuilder;
use forebay::{Config, ConfigError, SendError, check_topic_name};

/// Where the cluster is, and how to produce to it.
#[derive(clap::Args)]
pub struct Settings {
    /// Brokers to ask first for all the others.
    #[arg(long, value_name = "HOST:PORT,...")]
    bootstrap_server: Option<String>,
    /// A configuration in Kafka's key names: .toml or .properties. KAFKA_... variables of the
    /// environment override it, and the other options override both.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One configuration key, such as linger.ms=20. May be given again.
    #[arg(long, value_name = "KEY=VALUE", value_parser = KeyValue)]
    property: Vec<(String, String)>,
}

impl Settings {
    pub fn config(&self) -> Result<Config, ConfigError> {
        self.config_with(&[])
    }

    /// With these keys, which override all others.
    pub fn config_with(&self, keys: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let keys = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let properties: Vec<_> = self.property.iter().cloned().chain(keys).collect();
        build(
            self.config.as_ref(),
            self.bootstrap_server.as_deref(),
            &properties,
            Config::builder(),
        )
    }
}

/// Builds the configuration from a file. The environment overrides it, and the command line
/// overrides both.
pub fn build(
    file: Option<&PathBuf>,
    bootstrap_server: Option<&str>,
    properties: &[(String, String)],
    defaults: ConfigBuilder,
) -> Result<Config, ConfigError> {
    let mut builder = match file {
        Some(file) => defaults.file(file),
        None => defaults,
    };
    builder = builder.env();
    if let Some(servers) = bootstrap_server {
        builder = builder.bootstrap_servers(servers);
    }
    for (key, value) in properties {
        builder = builder.set(key, value);
    }
    builder.build()
}

/// Reads `key=value`. What is not of this form is not shown, since it may have a password in it.
#[derive(Clone)]
pub struct KeyValue;

impl TypedValueParser for KeyValue {
    type Value = (String, String);

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let pair = value.to_str().ok_or_else(|| "it is not UTF-8".to_owned());
        pair.and_then(key_value).map_err(|wrong| {
            let option = arg.map_or_else(String::new, |arg| format!("{arg}: "));
            command
                .clone()
                .error(ErrorKind::ValueValidation, format!("{option}{wrong}"))
        })
    }
}

/// Parses `key=value`. The value may contain more `=`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err(String::from("write it as key=value")),
    }
}

/// A topic's name as an argument.
pub fn topic_name(text: &str) -> Result<String, SendError> {
    check_topic_name(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(key_value("client.id=a=b"), pair("client.id", "a=b"));
        assert_eq!(key_value("client.id="), pair("client.id", ""));
        assert!(key_value("client.id").is_err());
        assert!(key_value("=5").is_err());
    }

    #[test]
    fn later_sources_override() {
        let properties = [("bootstrap.servers".to_owned(), "two:2".to_owned())];
        let defaults = Config::builder().properties("linger.ms=7\nbootstrap.servers=zero:1");
        let config = build(None, Some("one:1"), &properties, defaults).expect("a configuration");
        assert_eq!(config.bootstrap_servers.len(), 1);
        assert_eq!(config.bootstrap_servers[0].to_string(), "two:2");
        assert_eq!(config.linger.as_millis(), 7);
    }
}
