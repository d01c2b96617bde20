//! Nothing outlives the test process, however it ends.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use super::{Error, Result};

/// Reads lines of process ids. When the pipe closes, because the cluster was
/// dropped or its process died, it kills what the last line names and removes
/// the data, unless it was told `keep`. Process exit drops no statics, so a shared cluster ends this way
/// too.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=
keep=
while read -r line; do [ "$line" = keep ] && keep=1 || pids=$line; done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
[ -z "$keep" ] || exit 0
rm -rf "$0" || { sleep 1; rm -rf "$0"; }
"#;

pub struct Watchdog(Mutex<Inner>);

struct Inner {
    shell: Child,
    pipe: Option<ChildStdin>,
    pids: BTreeSet<u32>,
}

impl Watchdog {
    pub fn start(dir: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal is for the test process alone.
            .process_group(0)
            .spawn()
            .map_err(Error::at("start the watchdog"))?;
        let pipe = shell.stdin.take();
        Ok(Self(Mutex::new(Inner {
            shell,
            pipe,
            pids: BTreeSet::new(),
        })))
    }

    pub fn watch(&self, pid: u32) {
        let mut inner = self.lock();
        inner.pids.insert(pid);
        inner.report();
    }

    /// Must follow at once when a process has been reaped: the system may give
    /// its id to another.
    pub fn forget(&self, pid: u32) {
        let mut inner = self.lock();
        inner.pids.remove(&pid);
        inner.report();
    }

    pub fn keep_files(&self) {
        let mut inner = self.lock();
        if let Some(pipe) = &mut inner.pipe {
            let _ = writeln!(pipe, "keep");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Inner {
    fn report(&mut self) {
        let pids: Vec<String> = self.pids.iter().map(u32::to_string).collect();
        if let Some(pipe) = &mut self.pipe {
            let _ = writeln!(pipe, "{}", pids.join(" "));
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let mut inner = self.lock();
        inner.pipe = None;
        let _ = inner.shell.wait();
    }
}
