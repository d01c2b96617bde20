//! Security is configured alike from every source that a configuration has.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use super::{PASSWORD, Secured, USER, secured, skipped};

const RECORDS: usize = 200;

fn settings(secured: &Secured) -> Vec<(&'static str, String)> {
    vec![
        (
            "bootstrap.servers",
            secured.cluster.bootstrap_of("LOGINTLS"),
        ),
        ("security.protocol", "SASL_SSL".to_owned()),
        ("ssl.truststore.type", "PEM".to_owned()),
        (
            "ssl.truststore.location",
            secured.signer.certificate.display().to_string(),
        ),
        ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
        ("sasl.username", USER.to_owned()),
        ("sasl.password", PASSWORD.to_owned()),
    ]
}

fn forebay(command: &str) -> Command {
    let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
    forebay.arg(command);
    forebay
}

fn produce(lines: &Path) -> Command {
    let mut forebay = forebay("produce");
    forebay.arg("--file").arg(lines);
    forebay
}

fn perf() -> Command {
    let mut forebay = forebay("perf");
    let records = RECORDS.to_string();
    forebay.args(["--num-records", &records, "--record-size", "10"]);
    forebay.args(["--throughput", "-1"]);
    forebay
}

/// How a command is told of the settings.
type Told = fn(&mut Command, &[(&'static str, String)], &Path);

fn by_properties(command: &mut Command, settings: &[(&'static str, String)], dir: &Path) {
    let mut text = String::new();
    for (key, value) in settings {
        writeln!(text, "{key}={value}").unwrap();
    }
    let file = dir.join("sources.properties");
    std::fs::write(&file, text).unwrap();
    command.arg("--config").arg(file);
}

fn by_toml(command: &mut Command, settings: &[(&'static str, String)], dir: &Path) {
    let mut text = String::new();
    for (key, value) in settings {
        writeln!(text, "{key} = {value:?}").unwrap();
    }
    let file = dir.join("sources.toml");
    std::fs::write(&file, text).unwrap();
    command.arg("--producer.config").arg(file);
}

fn by_environment(command: &mut Command, settings: &[(&'static str, String)], _: &Path) {
    for (key, value) in settings {
        let name = format!("KAFKA_{}", key.to_uppercase().replace('.', "_"));
        command.env(name, value);
    }
}

fn by_property(command: &mut Command, settings: &[(&'static str, String)], _: &Path) {
    for (key, value) in settings {
        command.arg("--property").arg(format!("{key}={value}"));
    }
}

fn by_props(command: &mut Command, settings: &[(&'static str, String)], _: &Path) {
    let props = settings.iter().map(|(key, value)| format!("{key}={value}"));
    command.arg("--producer-props").args(props);
}

fn shown(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn tls_and_a_login_are_taken_from_every_source() {
    if skipped("tls_and_a_login_are_taken_from_every_source") {
        return;
    }
    let secured = secured();
    let lines = secured.dir.join("lines");
    let text: String = (0..RECORDS).map(|i| format!("{i}\n")).collect();
    std::fs::write(&lines, text).unwrap();
    let cases: [(&str, Command, Told); 6] = [
        ("produce-properties", produce(&lines), by_properties),
        ("perf-toml", perf(), by_toml),
        ("produce-environment", produce(&lines), by_environment),
        ("perf-environment", perf(), by_environment),
        ("produce-property", produce(&lines), by_property),
        ("perf-props", perf(), by_props),
    ];
    let settings = settings(secured);
    for (topic, mut command, tell) in cases {
        secured.cluster.create_topic(topic, 1, 1, &[]).unwrap();
        command.args(["--topic", topic]);
        tell(&mut command, &settings, &secured.dir);
        let output = command.output().expect("it runs");
        let text = shown(&output);
        assert!(output.status.success(), "{topic}: {text}");
        assert!(!text.contains(PASSWORD), "{topic}: {text}");
        assert_eq!(secured.cluster.seen(topic).records(), RECORDS, "{topic}");
        println!("{topic}: {RECORDS} records");
    }
    // The fourth source, and the one that all others end in.
    let builder = settings
        .iter()
        .fold(forebay::Config::builder(), |it, (key, value)| {
            it.set(*key, value.as_str())
        });
    secured.arrives("sources-builder", builder);
}
