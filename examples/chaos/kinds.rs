//! The kinds of faults, how many of each are wanted, and how many were done.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};

/// What is sent while faults happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    Records,
    Transactions,
}

/// Where a fault happens. Each place has one fault at a time, independent of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Cluster,
    Connections,
    Clients,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $place:ident $([$only:ident])? $what:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            pub fn place(self) -> Where {
                match self { $(Self::$kind => Where::$place,)* }
            }

            /// What has to be sent for it, if it does not befall everything.
            fn only(self) -> Option<Sending> {
                match self {
                    $($(Self::$kind => Some(Sending::$only),)?)*
                    _ => None,
                }
            }

            pub fn befalls(self, sending: Sending) -> bool {
                self.only().is_none_or(|only| only == sending)
            }

            /// The list for `--help`.
            pub fn list() -> String {
                [$(format!("  {:<14} {}", $name, $what),)*].join("\n")
            }
        }
    };
}

kinds! {
    Kill "kill" Cluster "a broker that leads is killed with SIGKILL and started again",
    Freeze "freeze" Cluster "a broker that leads is stopped for longer than request.timeout.ms, and continued",
    Roll "roll" Cluster "every broker is shut down and started again, one after another",
    Controller "controller" Cluster "the active controller is killed and started again",
    CutOff "cut-off" Cluster "a broker that leads is cut off from the controllers, and goes on answering",
    Passing "passing" Cluster [Records] "a topic is used for a moment; it is deleted, or used again much later",
    Coordinator "coordinator" Cluster [Transactions] "the coordinators of transactional ids move, or the broker of one is killed",
    Elect "elect" Cluster "leaders move back and forth",
    Reassign "reassign" Cluster "partitions lose a replica and get it back",
    Recreate "recreate" Cluster [Records] "a topic is deleted and created again",
    Grow "grow" Cluster [Records] "a topic gets more partitions",
    Split "split" Cluster "max.message.bytes is less than a batch for some seconds",
    Quota "quota" Cluster "the producer is throttled for some seconds",
    MinInsync "min-insync" Cluster "min.insync.replicas cannot be reached for some seconds",
    Cut "cut" Connections "all connections to one broker or to all are reset",
    CutRequest "cut-request" Connections "a connection ends in the middle of a request",
    CutAnswer "cut-answer" Connections "a connection ends in the middle of a response: appended, response lost",
    BlackHole "black-hole" Connections "nothing comes through, in one direction or both, for up to twice request.timeout.ms",
    Late "late" Connections "responses are late, up to request.timeout.ms",
    Slow "slow" Connections "a few thousand bytes per second, or a few hundred",
    Refuse "refuse" Connections "connections are refused",
    Lie "lie" Connections "metadata responses are false",
    End "end" Clients [Records] "another producer is closed, flushed or dropped under load",
    TakeOver "take-over" Clients [Transactions] "a second instance takes a transactional id while the first one sends",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A kind, and how many of it there must be: `kill:100`.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub kind: Kind,
    pub count: Option<u64>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => {
                let count = count.parse().map_err(|e| format!("{count:?}: {e}"))?;
                (name, Some(count))
            }
            None => (text, None),
        };
        let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
        let known = || Kind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        let kind = kind.ok_or_else(|| format!("unknown; known are {}", known().join(", ")))?;
        Ok(Self { kind: *kind, count })
    }
}

/// How many faults are wanted, and how many were done.
pub struct Tally {
    wanted: BTreeMap<Kind, Option<u64>>,
    done: Mutex<BTreeMap<Kind, u64>>,
}

impl Tally {
    /// Of all kinds that befall what is sent, if none is named.
    pub fn new(wanted: &[Wanted], sending: Sending) -> Result<Self, String> {
        let mut wanted: BTreeMap<_, _> = wanted.iter().map(|w| (w.kind, w.count)).collect();
        if let Some(kind) = wanted.keys().find(|kind| !kind.befalls(sending)) {
            return Err(format!("{kind} does not befall {sending:?}"));
        }
        if wanted.is_empty() {
            let all = Kind::ALL.iter().filter(|kind| kind.befalls(sending));
            wanted.extend(all.map(|kind| (*kind, None)));
        }
        let done = Mutex::default();
        Ok(Self { wanted, done })
    }

    pub fn kinds_at(&self, place: Where) -> Vec<Kind> {
        let kinds = self.wanted.keys().copied();
        kinds.filter(|kind| kind.place() == place).collect()
    }

    pub fn count(&self, kind: Kind) {
        *self.done().entry(kind).or_default() += 1;
    }

    /// The number of faults done, of each wanted kind.
    pub fn counts(&self) -> Vec<(Kind, u64)> {
        let done = self.done();
        let of = |kind: &Kind| (*kind, done.get(kind).copied().unwrap_or_default());
        self.wanted.keys().map(of).collect()
    }

    pub fn is_met(&self, kind: Kind) -> bool {
        let done = self.done().get(&kind).copied().unwrap_or_default();
        let wanted = self.wanted.get(&kind).copied().flatten();
        done >= wanted.unwrap_or(1)
    }

    /// Whether each kind was done as often as wanted, by default once.
    pub fn all_met(&self) -> bool {
        self.wanted.keys().all(|kind| self.is_met(*kind))
    }

    fn done(&self) -> MutexGuard<'_, BTreeMap<Kind, u64>> {
        self.done.lock().unwrap_or_else(|e| e.into_inner())
    }
}
