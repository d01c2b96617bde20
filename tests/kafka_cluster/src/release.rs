//! Which Kafka is run, and what it needs.

use std::fmt;
use std::path::PathBuf;

const POM: &str = include_str!("../pom.xml");

/// A release of Apache Kafka, such as `2.8.2`: any from 0.11 on that Maven has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    version: String,
    /// The first two numbers of it.
    line: (u16, u16),
}

impl Default for Release {
    /// `FOREBAY_KAFKA`, or else the release that `pom.xml` names.
    fn default() -> Self {
        match std::env::var("FOREBAY_KAFKA") {
            Ok(version) => Self::of(&version),
            Err(_) => Self::usual(),
        }
    }
}

impl Release {
    pub fn of(version: &str) -> Self {
        let mut numbers = version.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            panic!("{version:?} is no release of Kafka; one is 2.8.2");
        };
        Self {
            version: version.to_owned(),
            line: (major, minor),
        }
    }

    fn usual() -> Self {
        let version = POM
            .split_once("<kafka.version>")
            .and_then(|(_, rest)| rest.split_once('<'))
            .map(|(version, _)| version);
        Self::of(version.expect("pom.xml names a release"))
    }

    /// Whether it is this one, such as `(2, 8)`, or a later one.
    pub fn is_from(&self, line: (u16, u16)) -> bool {
        self.line >= line
    }

    /// Whether its brokers need ZooKeeper. Releases from 3.3 on are run without.
    pub fn has_zookeeper(&self) -> bool {
        !self.is_from((3, 3))
    }

    /// The release whose consumer reads what this one's brokers have. The one of Kafka 4 asks for
    /// brokers of 2.1.
    pub(super) fn reader(&self) -> Self {
        match self.is_from((2, 1)) {
            true => Self::default(),
            false => Self::of("2.8.2"),
        }
    }

    /// A version of Metadata that its brokers know.
    pub(super) fn metadata_version(&self) -> i16 {
        if self.has_zookeeper() { 4 } else { 12 }
    }

    pub(super) fn libs_dir(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            PathBuf::from,
        );
        target.join(format!("kafka-libs-{self}"))
    }

    /// What Maven is told, so that it fetches this one.
    pub(super) fn maven_args(&self) -> Vec<String> {
        let mut args = vec![format!("-Dkafka.version={self}")];
        if !self.has_zookeeper() {
            args.push("-Pkraft".into());
            return args;
        }
        let of_2_4 = self.is_from((2, 4));
        args.push("-Pzookeeper".into());
        args.push(format!(
            "-Dscala.version={}",
            if of_2_4 { "2.13" } else { "2.12" }
        ));
        // Java 14 prints addresses in another way, which clients from 3.4.11 to 3.5.7 trip over
        // (ZOOKEEPER-3779).
        args.push(format!(
            "-Dzookeeper.version={}",
            if of_2_4 { "3.5.9" } else { "3.4.10" }
        ));
        args
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}
