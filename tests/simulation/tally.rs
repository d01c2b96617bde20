//! What is counted: faults that were injected, and what was found.

use std::fmt;
use std::ops::AddAssign;

use forebay_model_cluster::Conditions;

/// An enum whose variants are counted, each with a label.
macro_rules! counted {
    ($(#[$doc:meta])* $name:ident: $($variant:ident $label:literal,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            pub const COUNT: usize = Self::ALL.len();

            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

counted! {
    /// What goes wrong.
    Fault:
    Cut "connections cut",
    AnswerLost "answers lost after the work was done",
    AnswerLate "answers late",
    ErrorBefore "error answers instead of an append",
    ErrorAfter "error answers after an append",
    Kill "brokers killed",
    KillForgetful "brokers killed, their unreplicated tail lost",
    Freeze "brokers frozen",
    LeaderMove "leaders moved",
    SlowReplicas "spells of slow replication",
    SlowNetwork "spells of slow network",
    TopicUnknown "spells of topics unknown to brokers",
    MetadataStale "metadata answers with stale leaders",
    MetadataEmpty "metadata answers without brokers or topics",
    MetadataHostile "metadata answers with nonsense",
    NoProducerIds "spells without producer ids",
    Throttle "answers that throttle",
    Panic "panics in actors",
    Creep "times the clock crept on during a message",
    Stall "stalls of the whole runtime",
    CutOff "brokers cut off from the controller",
    CutOffForGood "brokers cut off while all others work",
    Outage "outages of all brokers",
    Growth "partitions added",
    Delete "topics deleted, and created anew",
    Passing "topics used for a moment",
    Pause "pauses in which topics are forgotten",
    Silence "silences in which brokers forget producers",
    Retire "parts retired by hand, and restarted",
}

counted! {
    /// What goes wrong with coordinators, and with transactions.
    Trouble:
    CoordinatorMove "coordinators moved",
    EndLost "spells in which answers of EndTxn are lost",
    CoordinatorError "error answers of coordinators",
    NoCoordinators "spells without coordinators",
    MarkersLate "spells of late markers",
    MarkerAgain "markers delivered twice",
    MarkersBlocked "partitions no marker can be written to for a while",
    SlowLoading "spells of slow loading of coordinators",
    TimedOut "transactions that took too long",
    Rebalance "generations of a group",
    Upgrade "upgrades of the protocol",
    TakenOver "transactional ids taken by another instance",
    Second "second instances that go on",
    MarkerSkipped "markers never written, though the end is complete",
    MarkerStray "markers so late that they ended the next transaction, in protocol 1",
    Reopened "transactions that a late request began, in protocol 1",
}

counted! {
    /// Why a record may be unknown.
    Excuse:
    NotSought "unknown is told at once",
    OutOfTime "the time to look for it ran out while things were wrong",
    NoFence "no fence could come",
    NoRead "nobody may read the topic",
    TooMuch "more would have to be read than may be",
    Deleted "the topic was deleted",
    Closed "the producer was closed first",
    GivenUp "a part of the producer was given up",
}

counted! {
    /// What must not be.
    Invariant:
    Lost "lost: acked and absent",
    Duplicated "duplicated: in the log twice",
    Reordered "reordered: not in the order of sending",
    Phantom "phantom: said to be not written, and present",
    Misrouted "misrouted: in another log than its own",
    Unresolved "unresolved: without an outcome in time",
    Unconfirmed "unconfirmed: unknown, though it could be known",
    Leaked "leaked: memory that did not come back",
    Strange "strange: held, though nobody asked for it",
    Stuck "stuck: does not go on though everything works again",
}

impl Invariant {
    pub fn is_broken_by(self, wrong: &str) -> bool {
        is_labelled(wrong, self.label())
    }
}

/// What is wrong begins with the label, or with its first word.
pub(super) fn is_labelled(wrong: &str, label: &str) -> bool {
    let (word, _) = label.split_once(':').unwrap_or_default();
    wrong
        .split_once(':')
        .is_some_and(|(first, _)| first == word)
}

/// Sums over seeds.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub seeds: u64,
    pub accepted: u64,
    pub refused: u64,
    pub acked: u64,
    pub not_written: u64,
    pub unknown: u64,
    /// Seeds in which what is in doubt is looked for.
    pub resolving: u64,
    /// Batches in doubt that were found in a log, and that were ruled out.
    pub found: u64,
    pub absent: u64,
    /// By [`Excuse`].
    pub excuses: [u64; Excuse::COUNT],
    /// By [`Trouble`].
    pub troubles: [u64; Trouble::COUNT],
    pub events: u64,
    /// Of virtual time.
    pub seconds: u64,
    pub faults: [u64; Fault::COUNT],
    pub broken: [u64; Invariant::COUNT],
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.acked += other.acked;
        self.not_written += other.not_written;
        self.unknown += other.unknown;
        self.resolving += other.resolving;
        self.found += other.found;
        self.absent += other.absent;
        for (mine, theirs) in self.excuses.iter_mut().zip(other.excuses) {
            *mine += theirs;
        }
        for (mine, theirs) in self.troubles.iter_mut().zip(other.troubles) {
            *mine += theirs;
        }
        self.events += other.events;
        self.seconds += other.seconds;
        for (mine, theirs) in self.faults.iter_mut().zip(other.faults) {
            *mine += theirs;
        }
        for (mine, theirs) in self.broken.iter_mut().zip(other.broken) {
            *mine += theirs;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} s of virtual time, {} events",
            self.seeds, self.seconds, self.events
        )?;
        writeln!(
            f,
            "records: {} accepted, of these {} acked, {} NotWritten, {} Unknown; {} refused",
            self.accepted, self.acked, self.not_written, self.unknown, self.refused
        )?;
        writeln!(f, "faults:")?;
        for fault in Fault::ALL {
            writeln!(
                f,
                "  {:>12} {}",
                self.faults[*fault as usize],
                fault.label()
            )?;
        }
        writeln!(
            f,
            "{} seeds resolve: {} batches in doubt were found, {} were not there",
            self.resolving, self.found, self.absent
        )?;
        writeln!(f, "of coordinators:")?;
        for trouble in Trouble::ALL {
            let times = self.troubles[*trouble as usize];
            if times > 0 {
                writeln!(f, "  {times:>12} {}", trouble.label())?;
            }
        }
        writeln!(f, "unknown:")?;
        for excuse in Excuse::ALL {
            let times = self.excuses[*excuse as usize];
            writeln!(f, "  {times:>12} {}", excuse.label())?;
        }
        writeln!(f, "invariants:")?;
        for invariant in Invariant::ALL {
            writeln!(
                f,
                "  {:>12} {}",
                self.broken[*invariant as usize],
                invariant.label()
            )?;
        }
        Ok(())
    }
}

/// How a spell begins or ends.
pub(crate) type Turn = fn(&mut Conditions);

impl Trouble {
    /// The trouble that coordinators have for a while: for how many milliseconds at most, how it begins, and
    /// how it ends.
    pub fn spell(self) -> Option<(u64, Turn, Turn)> {
        Some(match self {
            Self::EndLost => (1_000, |w| w.ends_lost = 600, |w| w.ends_lost = 0),
            Self::NoCoordinators => (
                1_500,
                |w| w.no_coordinators = true,
                |w| w.no_coordinators = false,
            ),
            Self::MarkersLate => (
                2_000,
                |w| w.markers = 1_500,
                |w| w.markers = Conditions::FAIR.markers,
            ),
            Self::SlowLoading => (
                2_000,
                |w| w.loading = 1_000,
                |w| w.loading = Conditions::FAIR.loading,
            ),
            _ => return None,
        })
    }
}
