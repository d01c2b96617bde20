//! The ZooKeeper of brokers that need one: a child process, which nobody hurts.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::watchdog::Watchdog;
use super::{Error, Libs, Result, poll};

const READY_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Zookeeper {
    child: Child,
    port: u16,
    watchdog: Arc<Watchdog>,
}

impl Zookeeper {
    /// Starts it and waits until it listens.
    pub fn start(libs: &Libs, dir: &Path, port: u16, watchdog: Arc<Watchdog>) -> Result<Self> {
        let dir = dir.join("zookeeper");
        fs::create_dir(&dir).map_err(Error::at(dir.display()))?;
        let properties = dir.join("zookeeper.properties");
        let data = dir.join("data");
        let text = format!(
            "\
dataDir={}
clientPortAddress=127.0.0.1
clientPort={port}
maxClientCnxns=0
admin.enableServer=false
",
            data.display()
        );
        fs::write(&properties, text).map_err(Error::at(properties.display()))?;
        let log = File::create(dir.join("zookeeper.log")).map_err(Error::at("ZooKeeper's log"))?;
        let child = libs
            .java()
            .args(["-Xmx128m", "-XX:+UseSerialGC"])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(properties)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(Error::at("start ZooKeeper"))?;
        watchdog.watch(child.id());
        let started = Self {
            child,
            port,
            watchdog,
        };
        poll("ZooKeeper to listen", READY_LIMIT, || {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            Ok(connected.map(|_| ()).map_err(|e| e.to_string()))
        })?;
        Ok(started)
    }

    /// The value for `zookeeper.connect`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Zookeeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.watchdog.forget(self.child.id());
    }
}
