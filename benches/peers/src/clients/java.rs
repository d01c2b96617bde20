//! The Java producer. Its settings are in `java/Load.java`.
//!
//! It is compiled before it is run, so that its process contains no compiler. The serial collector
//! is the best one for one core. The heap is limited: otherwise its peak would only show how much
//! memory the machine has.

use std::path::Path;
use std::process::Command;

use super::{Program, tool};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/java");

pub fn build(target: &Path) -> Result<(Program, String), String> {
    let version = include_str!("../../java/pom.xml")
        .split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once('<'))
        .map_or("?", |(version, _)| version);
    let dir = target.join(format!("peers-java-{version}"));
    let jars = dir.join("jars");
    if !jars.exists() {
        let partial = dir.join("partial");
        let mut maven = Command::new("mvn");
        maven
            .args(["-q", "-B", "-f"])
            .arg(format!("{SOURCE}/pom.xml"));
        maven.arg("dependency:copy-dependencies");
        maven.arg(format!("-DoutputDirectory={}", partial.display()));
        tool(&mut maven)?;
        std::fs::rename(&partial, &jars).map_err(|e| e.to_string())?;
    }
    let path = format!("{}/*:{}", jars.display(), dir.display());
    let mut javac = Command::new("javac");
    javac
        .args(["-cp", &path, "-d"])
        .arg(&dir)
        .arg(format!("{SOURCE}/Load.java"));
    tool(&mut javac)?;
    let program = [
        "java",
        "-XX:+UseSerialGC",
        "-Xms512m",
        "-Xmx512m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp",
        &path,
        "Load",
    ];
    Ok((program.map(str::to_owned).to_vec(), version.to_owned()))
}
