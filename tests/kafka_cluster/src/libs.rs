//! Kafka's jars, fetched once by Maven, and the Java that runs them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Error, Release, Result};

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

/// Whether this machine can run Kafka: a JDK 17 or newer, and Maven unless the
/// jars have been fetched already.
pub fn available() -> std::result::Result<(), String> {
    static ANSWER: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    ANSWER
        .get_or_init(|| {
            let major = java_major()?;
            if major < 17 {
                return Err(format!("java is version {major}, Kafka 4 needs 17"));
            }
            // The read-back programs are run from source.
            text_of(Command::new(jdk("javac")).arg("-version"))
                .map_err(|e| format!("javac: {e}"))?;
            if !Release::default().libs_dir().exists() {
                let mut maven = Command::new("mvn");
                text_of(maven.arg("-version")).map_err(|e| format!("mvn: {e}"))?;
            }
            Ok(())
        })
        .clone()
}

fn java_major() -> std::result::Result<u32, String> {
    // The first line is like `openjdk version "17.0.15" 2025-04-15`.
    let text =
        text_of(Command::new(jdk("java")).arg("-version")).map_err(|e| format!("java: {e}"))?;
    text.split('"')
        .nth(1)
        .and_then(|version| version.split(['.', '-']).next()?.parse().ok())
        .ok_or_else(|| format!("java -version said {text:?}"))
}

fn text_of(command: &mut Command) -> std::result::Result<String, String> {
    let out = command.output().map_err(|e| e.to_string())?;
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if out.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

fn jdk(program: &str) -> PathBuf {
    match std::env::var_os("JAVA_HOME") {
        Some(home) => Path::new(&home).join("bin").join(program),
        None => program.into(),
    }
}

/// The jars on disk.
#[derive(Clone, Debug)]
pub struct Libs {
    release: Release,
    dir: PathBuf,
}

impl Libs {
    /// Fetches the jars unless an earlier run has. Test binaries that come
    /// here together wait for the first; the directory appears only when it is
    /// complete.
    pub fn get(release: Release) -> Result<Self> {
        let dir = release.libs_dir();
        cached(&dir, "pom.xml", &release.maven_args())?;
        Ok(Self { release, dir })
    }

    pub fn release(&self) -> &Release {
        &self.release
    }

    /// `java` with Kafka on its class path.
    pub fn java(&self) -> Command {
        let mut command = Command::new(jdk("java"));
        command.arg("-cp").arg(self.dir.join("*"));
        if self.release.has_zookeeper() {
            command.arg(format!(
                "-Dlog4j.configuration=file:{SOURCES}/log4j.properties"
            ));
        }
        command
    }

    /// Runs one of Kafka's own tools and returns what it printed. The names
    /// are Java classes, such as `org.apache.kafka.tools.TopicCommand`.
    pub fn tool(&self, class: &str, args: &[&str], limit: Duration) -> Result<String> {
        let out = self.run(class, args, limit, to_end)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// Runs a single-file Java program that lies in this crate.
    pub fn program(&self, file: &str, args: &[&str], limit: Duration) -> Result<Vec<u8>> {
        self.read_program(file, args, limit, to_end)
    }

    /// The same, for more than fits in memory: `read` takes what it writes to its standard output,
    /// up to the end.
    pub fn read_program<T: Send>(
        &self,
        file: &str,
        args: &[&str],
        limit: Duration,
        read: impl FnOnce(ChildStdout) -> T + Send,
    ) -> Result<T> {
        self.run(&format!("{SOURCES}/{file}"), args, limit, read)
    }

    fn run<T: Send>(
        &self,
        main: &str,
        args: &[&str],
        limit: Duration,
        read: impl FnOnce(ChildStdout) -> T + Send,
    ) -> Result<T> {
        let mut command = self.java();
        command
            .arg("-XX:+UseSerialGC")
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg(main)
            .args(args);
        output_within(command, limit, read).map_err(Error::at(main))
    }
}

/// `java` with a token server on its class path.
pub(super) fn java_of_token_server() -> Result<Command> {
    let dir = Release::default().libs_dir();
    let dir = dir.with_file_name("token-server-libs-2.1.10");
    cached(&dir, "token-server.xml", &[])?;
    let mut command = Command::new(jdk("java"));
    command.arg("-cp").arg(dir.join("*"));
    Ok(command)
}

/// Fetches what a pom names, unless it is there.
fn cached(dir: &Path, pom: &str, args: &[String]) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let parent = dir.parent().expect("the cache lies in a directory");
    fs::create_dir_all(parent).map_err(Error::at(parent.display()))?;
    let lock = parent.join("kafka-libs.lock");
    let lock = File::create(&lock).map_err(Error::at(lock.display()))?;
    lock.lock().map_err(Error::at("lock the jar cache"))?;
    match dir.exists() {
        true => Ok(()),
        false => fetch(dir, pom, args),
    }
}

fn fetch(dir: &Path, pom: &str, args: &[String]) -> Result<()> {
    let partial = dir.with_file_name("kafka-libs.partial");
    let mut maven = Command::new("mvn");
    maven
        .args(["-q", "-B", "-f"])
        .arg(format!("{SOURCES}/{pom}"))
        .args(args)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", partial.display()));
    text_of(&mut maven).map_err(Error::at(format!("fetch {} with Maven", dir.display())))?;
    fs::rename(&partial, dir).map_err(Error::at("keep the fetched jars"))
}

/// What `read` made of a command's standard output; an error if the command failed or took longer
/// than `limit`.
fn output_within<T: Send>(
    mut command: Command,
    limit: Duration,
    read: impl FnOnce(ChildStdout) -> T + Send,
) -> Result<T> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::at("start"))?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let (stdout, stderr) = pipes.ok_or_else(|| Error::new("a child without pipes"))?;
    // On threads, so that a full pipe stops nobody.
    std::thread::scope(|scope| {
        let stdout = scope.spawn(move || read(stdout));
        let stderr = scope.spawn(move || to_end(stderr));
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(Error::at("wait"))? {
                break Some(status);
            }
            if Instant::now() >= end {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = stderr.join().unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let out = stdout.join().map_err(|_| Error::new("reading panicked"))?;
        match status {
            Some(status) if status.success() => Ok(out),
            Some(status) => Err(Error::new(format!("{status}\n{said}"))),
            None => Err(Error::new(format!("not done after {limit:?}\n{said}"))),
        }
    })
}

fn to_end(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    bytes
}
