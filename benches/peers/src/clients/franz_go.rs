//! franz-go. Its settings are in `go/main.go`.

use std::path::Path;
use std::process::Command;

use super::{Program, tool};

pub fn build(target: &Path) -> Result<(Program, String), String> {
    let program = target.join("peers-franz-go");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/go");
    tool(
        Command::new("go")
            .current_dir(source)
            .arg("build")
            .arg("-o")
            .arg(&program)
            .arg("."),
    )?;
    let version = include_str!("../../go/go.mod")
        .split_once("github.com/twmb/franz-go v")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    Ok((
        vec![program.display().to_string()],
        version.unwrap_or("?").to_owned(),
    ))
}
