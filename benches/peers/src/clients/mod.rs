//! The clients. Each has a file with its settings and quirks.

mod confluent;
mod forebay;
mod forebay_lane;
mod forebay_transactions;
mod franz_go;
mod java;
mod kacrab;
mod krafka;
#[cfg(feature = "librdkafka")]
mod librdkafka;

use std::path::Path;

use crate::job::Job;

/// The command that starts a client's process. The words of the job follow.
pub type Program = Vec<String>;

pub struct Peer {
    /// The name for `--clients`.
    pub name: &'static str,
    /// The title in the tables.
    pub title: &'static str,
    /// The least milliseconds of warm-up.
    pub warm_up: u64,
    /// Whether it is measured with encrypted connections, too.
    pub tls: bool,
    /// Whether it is measured with transactions, too.
    pub transactions: bool,
    /// Whether it is measured with tasks that await, too.
    pub tasks: bool,
    kind: Kind,
}

enum Kind {
    /// Part of this program.
    Rust {
        drive: fn(&Job),
        /// The crate in `Cargo.lock`.
        package: &'static str,
    },
    /// Built into a folder before the measurements. Returns the program and the client's version,
    /// or why it cannot be built.
    Other(fn(&Path) -> Result<(Program, String), String>),
    /// A Rust client that is not in this build.
    #[cfg(not(feature = "librdkafka"))]
    LeftOut(&'static str),
}

const fn rust(
    name: &'static str,
    title: &'static str,
    package: &'static str,
    drive: fn(&Job),
) -> Peer {
    Peer {
        name,
        title,
        warm_up: 0,
        tls: false,
        transactions: false,
        tasks: false,
        kind: Kind::Rust { drive, package },
    }
}

impl Peer {
    const fn with_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    const fn with_transactions(self) -> Self {
        Self {
            transactions: true,
            ..self
        }
    }

    const fn with_tasks(self) -> Self {
        Self {
            tasks: true,
            ..self
        }
    }
}

pub const PEERS: &[Peer] = &[
    rust("forebay", "forebay", "forebay", forebay::drive)
        .with_tls()
        .with_transactions()
        .with_tasks(),
    rust(
        "forebay-one-by-one",
        "forebay, one by one",
        "forebay",
        forebay::drive_one_by_one,
    )
    .with_tls()
    .with_transactions(),
    rust(
        "forebay-lane",
        "forebay, a lane",
        "forebay",
        forebay_lane::drive,
    )
    .with_tls()
    .with_transactions(),
    Peer {
        name: "franz-go",
        title: "franz-go",
        warm_up: 0,
        tls: true,
        transactions: true,
        tasks: true,
        kind: Kind::Other(franz_go::build),
    },
    #[cfg(feature = "librdkafka")]
    rust(
        "librdkafka",
        "librdkafka (rdkafka)",
        "rdkafka-sys",
        librdkafka::drive,
    )
    .with_tls(),
    #[cfg(not(feature = "librdkafka"))]
    Peer {
        name: "librdkafka",
        title: "librdkafka (rdkafka)",
        warm_up: 0,
        tls: false,
        transactions: false,
        tasks: false,
        kind: Kind::LeftOut("built without the feature librdkafka, which needs a C compiler"),
    },
    Peer {
        name: "java",
        title: "Java",
        // Time to compile its hot path.
        warm_up: 5000,
        tls: true,
        transactions: true,
        tasks: false,
        kind: Kind::Other(java::build),
    },
    rust(
        "confluent-kafka",
        "confluent-kafka",
        "confluent-kafka",
        confluent::drive,
    ),
    rust("kacrab", "kacrab", "kacrab", kacrab::drive),
    rust("krafka", "krafka", "krafka", krafka::drive),
];

impl Peer {
    pub fn named(name: &str) -> Option<&'static Self> {
        PEERS.iter().find(|peer| peer.name == name)
    }

    /// The command that starts its process, and its version.
    pub fn prepare(&self, target: &Path) -> Result<(Program, String), String> {
        match &self.kind {
            Kind::Rust { package, .. } => {
                let this = std::env::current_exe().map_err(|e| e.to_string())?;
                let program = vec![
                    this.display().to_string(),
                    "client".into(),
                    self.name.into(),
                ];
                Ok((program, locked(package)))
            }
            Kind::Other(build) => build(target),
            #[cfg(not(feature = "librdkafka"))]
            Kind::LeftOut(why) => Err((*why).into()),
        }
    }

    /// Runs the load, in the client's own process.
    pub fn drive(&self, job: &Job) {
        match &self.kind {
            Kind::Rust { drive, .. } => drive(job),
            _ => unreachable!("{} is a program of its own", self.name),
        }
    }
}

/// The version of a crate that this program is built with.
fn locked(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let version = lock
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split_once('"'));
    // After a plus comes the version of the C library that the crate wraps.
    let version = version.and_then(|(version, _)| version.rsplit('+').next());
    version.unwrap_or("?").to_owned()
}

/// Runs a build tool to its end.
fn tool(command: &mut std::process::Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let out = command.output().map_err(|e| format!("{name}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = [out.stdout, out.stderr].concat();
    Err(format!("{name}: {}", String::from_utf8_lossy(&said)))
}
