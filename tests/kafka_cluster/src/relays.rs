//! What the controllers say to each other passes relays, so that a broker can be cut off from them.
//!
//! A controller is known by a host name, which each broker looks up in a file of its own
//! (`jdk.net.hosts.file`). It finds its own controller at 127.0.0.1, and every other at an address that
//! is its alone. A relay listens there, and so knows whose connections it carries, and to whom. Brokers
//! are combined with controllers here, so that whoever is cut off is so in both roles. Such addresses
//! need no setting up on Linux.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::{Error, Result};

/// The host name of a broker's controller.
pub(super) fn controller_host(id: i32) -> String {
    format!("controller-{id}")
}

pub(super) fn hosts_file(broker_dir: &Path) -> PathBuf {
    broker_dir.join("hosts")
}

/// Where a broker finds the controllers of others.
fn elsewhere(id: i32) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, id as u8)
}

/// Writes what a broker knows of host names.
pub(super) fn write_hosts(broker_dir: &Path, id: i32, all: &[i32]) -> Result<()> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut text = format!("127.0.0.1 localhost {}\n", name.trim());
    for other in all {
        let at = if *other == id {
            Ipv4Addr::LOCALHOST
        } else {
            elsewhere(id)
        };
        let _ = writeln!(text, "{at} {}", controller_host(*other));
    }
    let file = hosts_file(broker_dir);
    fs::write(&file, text).map_err(Error::at(file.display()))
}

/// The relays of a cluster, on a thread of their own.
pub(super) struct Relays {
    /// The brokers that are cut off.
    cut: watch::Sender<Vec<i32>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relays {
    /// Starts one from each broker to each other's controller: `all` has their ids and ports.
    pub fn start(all: &[(i32, u16)]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::at("start a runtime"))?;
        let (cut, cuts) = watch::channel(Vec::new());
        let mut relays = Vec::new();
        for (from, _) in all {
            for (to, port) in all.iter().filter(|(to, _)| to != from) {
                let at = SocketAddr::from((elsewhere(*from), *port));
                let listener = runtime.block_on(TcpListener::bind(at));
                let listener = listener.map_err(Error::at(format!("listen at {at}")))?;
                relays.push(([*from, *to], listener, *port));
            }
        }
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("relays".into())
            .spawn(move || {
                runtime.block_on(async {
                    for (between, listener, port) in relays {
                        tokio::spawn(relay(between, listener, port, cuts.clone()));
                    }
                    let _ = stopped.await;
                });
            })
            .map_err(Error::at("start the relays"))?;
        Ok(Self {
            cut,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Ends the connections of a broker with the controllers of all others, and refuses new ones, or
    /// lets them through again.
    pub fn set(&self, broker: i32, is_cut_off: bool) {
        self.cut.send_modify(|cut| {
            cut.retain(|other| *other != broker);
            cut.extend(is_cut_off.then_some(broker));
        });
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn relay(between: [i32; 2], from: TcpListener, port: u16, cuts: watch::Receiver<Vec<i32>>) {
    let is_cut = move |cut: &Vec<i32>| between.iter().any(|end| cut.contains(end));
    loop {
        let Ok((mut near, _)) = from.accept().await else {
            continue;
        };
        let mut cuts = cuts.clone();
        if is_cut(&cuts.borrow()) {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
                return;
            };
            let _ = [near.set_nodelay(true), far.set_nodelay(true)];
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = cuts.wait_for(is_cut) => {}
            }
        });
    }
}
