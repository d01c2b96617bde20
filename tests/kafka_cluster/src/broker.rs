//! One broker: a child process and what can be done to it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::metadata::{self, View};
use super::relays::hosts_file;
use super::watchdog::Watchdog;
use super::{Error, Libs, Result, poll};

const READY_LIMIT: Duration = Duration::from_secs(60);
const TERMINATE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Frozen,
    Down,
}

pub struct Broker {
    id: i32,
    dir: PathBuf,
    /// Each listener's port, by the listener's name.
    ports: BTreeMap<String, u16>,
    /// Its heap, and what else its options say.
    java_args: Vec<String>,
    libs: Libs,
    watchdog: Arc<Watchdog>,
    process: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    child: Option<Child>,
    frozen: bool,
}

impl Broker {
    pub(super) fn new(
        id: i32,
        dir: PathBuf,
        ports: BTreeMap<String, u16>,
        java_args: Vec<String>,
        libs: Libs,
        watchdog: Arc<Watchdog>,
    ) -> Self {
        Self {
            id,
            dir,
            ports,
            java_args,
            libs,
            watchdog,
            process: Mutex::default(),
        }
    }

    pub fn id(&self) -> i32 {
        self.id
    }

    /// Where its PLAINTEXT listener is reached.
    pub fn address(&self) -> SocketAddr {
        let port = self.port("PLAINTEXT").expect("every broker has it");
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub fn port(&self, listener: &str) -> Option<u16> {
        self.ports.get(listener).copied()
    }

    /// What it says about the cluster.
    pub(super) fn view(&self, topics: &[&str]) -> Result<View> {
        let version = self.libs.release().metadata_version();
        metadata::ask(self.address(), version, topics)
    }

    pub fn pid(&self) -> Option<u32> {
        self.lock().child.as_ref().map(Child::id)
    }

    pub fn state(&self) -> State {
        let process = self.lock();
        match (&process.child, process.frozen) {
            (None, _) => State::Down,
            (Some(_), true) => State::Frozen,
            (Some(_), false) => State::Running,
        }
    }

    /// Where its partitions lie, each in a directory `topic-partition`.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.dir)
    }

    /// A crash: SIGKILL. Returns when the process is gone.
    pub fn kill(&self) -> Result<()> {
        self.lock().kill(&self.watchdog)
    }

    /// A controlled shutdown: SIGTERM, leaders move first. Returns when the
    /// process is gone; one that takes too long is killed, and that is an error.
    pub fn terminate(&self) -> Result<()> {
        let mut process = self.lock();
        process.thaw()?;
        if process.child.is_none() {
            return Ok(());
        }
        process.signal(Signal::TERM)?;
        let what = format!("broker {} to shut down", self.id);
        let gone = poll(what, TERMINATE_LIMIT, || {
            Ok(match process.has_ended()? {
                true => Ok(()),
                false => Err("still there".into()),
            })
        });
        process.kill(&self.watchdog)?;
        gone.map_err(|e| self.with_log(e))
    }

    /// A broker that hangs with its sockets open: SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        let mut process = self.lock();
        process.signal(Signal::STOP)?;
        process.frozen = true;
        Ok(())
    }

    /// Ends a [`freeze`](Self::freeze): SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.lock().thaw()
    }

    /// Starts the broker again on the same ports and data; one that still runs
    /// is shut down first. Does not wait until it answers.
    pub fn restart(&self) -> Result<()> {
        self.terminate()?;
        self.start()
    }

    pub(super) fn start(&self) -> Result<()> {
        let mut process = self.lock();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(Error::at("open a broker's log"))?;
        let errors = log.try_clone().map_err(Error::at("share a broker's log"))?;
        let mut java = self.libs.java();
        let hosts = hosts_file(&self.dir);
        if hosts.exists() {
            java.arg(format!("-Djdk.net.hosts.file={}", hosts.display()));
        }
        let child = java
            .args(&self.java_args)
            // Three brokers on a small machine: G1's threads cost more than
            // they give.
            .arg("-XX:+UseSerialGC")
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            .arg("kafka.Kafka")
            .arg(properties_file(&self.dir))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::at("start a broker"))?;
        self.watchdog.watch(child.id());
        *process = Process {
            child: Some(child),
            frozen: false,
        };
        Ok(())
    }

    /// Waits until the broker is admitted to the cluster and answers clients.
    ///
    /// After a crash that takes at least as long as the controller holds on to
    /// the old session (`broker.session.timeout.ms`).
    pub fn wait_ready(&self) -> Result<()> {
        poll(format!("broker {} to answer", self.id), READY_LIMIT, || {
            let mut process = self.lock();
            if process.has_ended()? {
                process.kill(&self.watchdog)?;
                return Err(Error::new(format!("broker {} has ended", self.id)));
            }
            drop(process);
            Ok(match self.view(&[]) {
                Ok(view) if view.brokers.contains(&self.id) => Ok(()),
                Ok(view) => Err(format!("it knows only {:?}", view.brokers)),
                Err(e) => Err(e.to_string()),
            })
        })
        .map_err(|e| self.with_log(e))
    }

    /// The end of what the broker has logged.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 80;
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    pub(super) fn with_log(&self, error: Error) -> Error {
        let log = self.log_tail();
        Error::new(format!("{error}\n--- log of broker {}\n{log}", self.id))
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("broker.log")
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

impl Process {
    fn signal(&mut self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref();
        let pid = child.and_then(|child| Pid::from_raw(child.id().cast_signed()));
        let pid = pid.ok_or_else(|| Error::new("the broker is down"))?;
        kill_process(pid, signal).map_err(Error::at("signal a broker"))
    }

    fn thaw(&mut self) -> Result<()> {
        if std::mem::take(&mut self.frozen) {
            self.signal(Signal::CONT)?;
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Result<bool> {
        match &mut self.child {
            None => Ok(true),
            Some(child) => Ok(child
                .try_wait()
                .map_err(Error::at("look after a broker"))?
                .is_some()),
        }
    }

    fn kill(&mut self, watchdog: &Watchdog) -> Result<()> {
        // SIGKILL works on a stopped process too.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().map_err(Error::at("reap a broker"))?;
            watchdog.forget(child.id());
        }
        self.frozen = false;
        Ok(())
    }
}

pub(super) fn data_dir(broker_dir: &Path) -> PathBuf {
    broker_dir.join("data")
}

pub(super) fn properties_file(broker_dir: &Path) -> PathBuf {
    broker_dir.join("server.properties")
}
