//! Gathers the sources of a configuration, and makes it.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::{ConfigError, Problem, ProblemKind};
use super::origin::Origin;
use super::providers::Providers;
use super::security::{LoginTexts, Security};
use super::source::{Flat, Read, Setting};
use super::values::Values;
use super::{Config, conflicts, env as variables, properties, security, toml_text};
use crate::core::acks::Acks;
use crate::core::compress::Compression;

impl Config {
    /// The defaults, with these bootstrap servers: `host:port`, separated by commas.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], as from every function here: everything that is wrong at once.
    pub fn new(bootstrap_servers: &str) -> Result<Self, ConfigError> {
        Self::builder().bootstrap_servers(bootstrap_servers).build()
    }

    /// A configuration from several sources.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The defaults and what a file (`.toml` or `.properties`) sets. The environment is not looked
    /// at; for that, see [`ConfigBuilder::env`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::builder().file(path).build()
    }

    /// The defaults and what a text in TOML sets.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::builder().toml(text).build()
    }

    /// The defaults and what a text in the format of Java's `.properties` sets.
    pub fn from_properties(text: &str) -> Result<Self, ConfigError> {
        Self::builder().properties(text).build()
    }
}

/// Gathers the sources of a [`Config`].
///
/// In whatever order they are given, what is set in code overrides the environment, the
/// environment overrides files and texts, and these override the defaults. Among files and texts
/// the later one overrides.
///
/// Problems of every source are kept until [`build`](Self::build), which tells them all.
///
/// ```
/// use std::time::Duration;
/// use forebay::Config;
///
/// let config = Config::builder()
///     .set("linger.ms", 20)
///     .env_vars([("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"), ("KAFKA_LINGER_MS", "10")])
///     .properties("linger.ms = 5\nbatch.size = 65536")
///     .build()?;
/// assert_eq!(config.linger, Duration::from_millis(20));
/// assert_eq!(config.batch_size, 65_536);
/// # Ok::<(), forebay::ConfigError>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct ConfigBuilder {
    texts: Flat,
    env: Flat,
    code: Flat,
    problems: Vec<Problem>,
}

impl ConfigBuilder {
    /// A file in TOML (`.toml`) or Java's format (`.properties`), in UTF-8. It is read at once.
    pub fn file(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let name: Arc<str> = path.display().to_string().into();
        let read = match path.extension().and_then(|it| it.to_str()) {
            Some("toml") => toml_text::read,
            Some("properties") => properties::read,
            _ => return self.unreadable(name, "neither .toml nor .properties", "rename it"),
        };
        match fs::read_to_string(path) {
            Ok(text) => {
                // A password may be in it.
                let text = Zeroizing::new(text);
                self.take(read(&text, &name));
                self
            }
            Err(error) => self.unreadable(name, &error.to_string(), "check path, rights, UTF-8"),
        }
    }

    fn unreadable(mut self, name: Arc<str>, wrong: &str, advice: &str) -> Self {
        let origin = Origin::Text { name, line: 0 };
        let problem = Problem::new(ProblemKind::Unreadable, &origin, wrong);
        self.problems.push(problem.advice(advice));
        self
    }

    /// Text in TOML. `linger.ms = 5`, `"linger.ms" = 5` and `[linger]` over `ms = 5` are the same;
    /// a list may be an array of strings.
    pub fn toml(mut self, text: &str) -> Self {
        self.take(toml_text::read(text, &"TOML".into()));
        self
    }

    /// Text in the format of Java's `.properties`.
    pub fn properties(mut self, text: &str) -> Self {
        self.take(properties::read(text, &"properties".into()));
        self
    }

    /// The environment variables of the process, named as in Kafka's container images:
    /// `KAFKA_LINGER_MS` is `linger.ms`. Those that are no key of a producer are ignored, because
    /// brokers use the same prefix.
    pub fn env(self) -> Self {
        self.env_vars(env::vars_os())
    }

    /// Like [`env`](Self::env), with these variables in place of those of the process.
    pub fn env_vars<N, V>(mut self, vars: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let vars = vars.into_iter();
        let read = variables::read(vars.map(|(name, value)| (name.into(), value.into())));
        self.env.extend(read.flat);
        self.problems.extend(read.problems);
        self
    }

    /// Sets one key. A later call for the same key replaces this one.
    pub fn set(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        let setting = Setting {
            value: value.to_string(),
            origin: Origin::Builder,
        };
        self.code.insert(key.into(), setting);
        self
    }

    /// `bootstrap.servers`, separated by commas.
    pub fn bootstrap_servers(self, servers: impl ToString) -> Self {
        self.set("bootstrap.servers", servers)
    }

    /// `client.id`.
    pub fn client_id(self, id: impl ToString) -> Self {
        self.set("client.id", id)
    }

    /// `acks`.
    pub fn acks(self, acks: Acks) -> Self {
        self.set("acks", acks)
    }

    /// `enable.idempotence`.
    pub fn idempotence(self, on: bool) -> Self {
        self.set("enable.idempotence", on)
    }

    /// `linger.ms`; a part of a millisecond counts as a whole one.
    pub fn linger(self, linger: Duration) -> Self {
        self.set("linger.ms", millis(linger))
    }

    /// `delivery.timeout.ms`; a part of a millisecond counts as a whole one.
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.set("delivery.timeout.ms", millis(timeout))
    }

    /// `compression.type`, and the level of that codec.
    pub fn compression(self, compression: Compression) -> Self {
        let builder = self.set("compression.type", compression.name());
        match level_of(compression) {
            Some((key, level)) => builder.set(key, level),
            None => builder,
        }
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with everything that is wrong, in whatever source.
    pub fn build(self) -> Result<Config, ConfigError> {
        let mut flat = self.texts;
        flat.extend(self.env);
        flat.extend(self.code);
        let mut problems = self.problems;
        let providers = Providers::of(&flat, &mut problems);
        let login = LoginTexts::of(&flat, &providers);
        providers.fill_in(&mut flat, &mut problems);
        let mut values = Values::of(&flat);
        for key in problems.iter().filter_map(|it| it.key.as_deref()) {
            values.distrust(key);
        }
        let mut servers = Vec::new();
        let mut secured = Security::default();
        // What an unreadable text would have set is not known: the checks across keys would
        // complain about values that nobody chose.
        if problems.iter().all(|it| it.key.is_some()) {
            servers = conflicts::bootstrap_servers(&mut values);
            conflicts::find(&mut values);
            secured = security::of(&mut values, &flat, login);
        }
        problems.append(&mut values.problems);
        match ConfigError::of(problems) {
            Some(error) => Err(error),
            None => Ok(Config::of(&values, servers, secured)),
        }
    }

    fn take(&mut self, read: Read) {
        self.texts.extend(read.flat);
        self.problems.extend(read.problems);
    }
}

/// Without values: a password may be among them.
impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder")
            .field("texts", &self.texts.keys())
            .field("env", &self.env.keys())
            .field("code", &self.code.keys())
            .field("problems", &self.problems)
            .finish()
    }
}

pub(super) fn millis(time: Duration) -> u128 {
    time.as_nanos().div_ceil(1_000_000)
}

/// The level, and the key that sets it.
fn level_of(compression: Compression) -> Option<(&'static str, i32)> {
    match compression {
        Compression::None | Compression::Snappy => None,
        Compression::Gzip { level } => Some(("compression.gzip.level", level)),
        Compression::Lz4 { level } => Some(("compression.lz4.level", level)),
        Compression::Zstd { level } => Some(("compression.zstd.level", level)),
    }
}
