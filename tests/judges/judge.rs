//! A cluster of somebody else's, as a child process that also reads its logs.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use forebay_kafka_cluster::Consumed;

const WHEEL: &str = "confluent-kafka==2.16.1";

pub struct Judge {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    pub bootstrap: String,
}

type Ready = Result<PathBuf, String>;

impl Judge {
    /// franz-go's kfake. `None`: there is no Go.
    pub fn kfake(args: &[&str]) -> Option<Self> {
        static READY: OnceLock<Ready> = OnceLock::new();
        let program = found("kfake", READY.get_or_init(build_kfake))?;
        Some(Self::start(Command::new(program).args(args)))
    }

    /// librdkafka's mock cluster. `None`: there is no Python.
    pub fn librdkafka() -> Option<Self> {
        static READY: OnceLock<Ready> = OnceLock::new();
        let python = found("librdkafka", READY.get_or_init(install_wheel))?;
        let script = source().join("librdkafka.py");
        Some(Self::start(Command::new(python).arg(script)))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a judge starts");
        let commands = child.stdin.take().expect("a pipe");
        let answers = child.stdout.take().expect("a pipe");
        let mut answers = BufReader::new(answers).lines();
        let bootstrap = answers.next().expect("addresses").expect("text");
        Self {
            child,
            commands,
            answers,
            bootstrap,
        }
    }

    /// Says something, and returns the lines of the answer.
    fn ask(&mut self, command: &str) -> Vec<String> {
        writeln!(self.commands, "{command}").expect("it listens");
        let lines = self.answers.by_ref().map(|line| line.expect("text"));
        let answer: Vec<_> = lines.take_while(|line| line != ".").collect();
        let ended = self.child.try_wait().expect("a child");
        assert_eq!(ended, None, "it ended");
        answer
    }

    pub fn dump(&mut self, topic: &str) -> Vec<Consumed> {
        let lines = self.ask(&format!("dump {topic}"));
        let parsed = lines.iter().map(|line| Consumed::parse(line));
        parsed.collect::<Option<_>>().expect("lines of records")
    }

    /// Gives every partition another leader.
    pub fn shuffle(&mut self) {
        self.ask("shuffle");
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judges"))
}

fn built() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    target.join("judges")
}

fn found(judge: &str, ready: &Ready) -> Option<PathBuf> {
    match ready {
        Ok(program) => Some(program.clone()),
        Err(why) => {
            // Not `eprintln!`: the test harness would swallow it.
            let line = format!("SKIPPED ({judge}): {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            None
        }
    }
}

/// A missing program is a reason to skip. One that fails is a failure.
fn is_there(program: &str, version: &str) -> Result<(), String> {
    let version = Command::new(program).arg(version).output();
    version.map(|_| ()).map_err(|e| format!("{program}: {e}"))
}

fn run(command: &mut Command) {
    let out = command.output().expect("it runs");
    assert!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn build_kfake() -> Ready {
    is_there("go", "version")?;
    let program = built().join("kfake");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(".");
    run(go.current_dir(source().join("kfake")));
    Ok(program)
}

fn install_wheel() -> Ready {
    is_there("python3", "--version")?;
    let venv = built().join(WHEEL.replace("==", "-"));
    let python = venv.join("bin/python");
    let installed = venv.join("installed");
    if !installed.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "-q", WHEEL]));
        std::fs::write(&installed, WHEEL).expect("a mark");
    }
    Ok(python)
}
