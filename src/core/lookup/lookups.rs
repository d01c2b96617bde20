//! All looks into logs of one producer: which leader is asked what, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::answer::Follows;
use super::marker::{MarkerNews, MarkerScan, Witness};
use super::scan::{Absence, Fence, Scan, Sought, Verdict};
use crate::core::backoff::Backoff;
use crate::core::figures::LookupFigures;
use crate::core::record::TopicPartition;
use crate::core::spool::Seen;

/// Bytes that are read at a time.
const PIECE: i32 = 1 << 20;

/// How long a leader is waited for that has nothing to tell yet. Others that have a log there wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

/// So often it is not believed that a log does not reach from what is sought to its end.
const DISBELIEVED: u32 = 10;

/// What a partition wants to know of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Where it ends.
    End,
    Look(Look),
    /// The marker that ends the transaction of this batch.
    Marker(Witness),
}

/// What is to be looked up in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub floor: i64,
    /// Without one the look only finds what is there.
    pub fence: Option<Fence>,
    pub sought: Vec<Sought>,
    /// The producer whose batches are all told.
    pub survey: Option<i64>,
}

/// What a look has found.
#[derive(Debug)]
pub struct Looked {
    pub verdicts: Vec<(u64, Verdict)>,
    /// Where the fence was seen.
    pub fenced_at: Option<i64>,
    /// The batches of the producer that was surveyed.
    pub surveyed: Vec<Seen>,
    /// Why there may have been more of them.
    pub hole: Option<Absence>,
}

/// The log of a partition, and who leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub partition: TopicPartition,
    pub topic_id: Uuid,
    pub node: i32,
    pub leader_epoch: i32,
}

/// What a leader is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub log: Log,
    pub ask: Ask,
    /// Tells late answers apart.
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    End,
    Read {
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    },
}

/// What a leader answers.
#[derive(Debug)]
pub enum Told<'a> {
    End(i64),
    Read {
        records: &'a [u8],
        log_start: i64,
    },
    /// Nothing, or a refusal, and why.
    Failed {
        follows: Follows,
        why: Arc<str>,
    },
}

/// What the partition is told then.
#[derive(Debug)]
pub enum News {
    End(i64),
    Looked(Look, Looked),
    /// It cannot be looked.
    Unreadable(Look, Arc<str>),
    /// What has come of the look for a marker.
    Marker(MarkerNews),
    /// It could not yet, and goes on.
    Trouble {
        why: Arc<str>,
        /// It may be another broker that leads by now.
        refresh: bool,
    },
    Nothing,
}

impl News {
    /// Whether the partition knows now what it wanted to, or never will.
    pub fn is_last(&self) -> bool {
        use MarkerNews::{Found, NotYet, Trouble, Unknown};
        match self {
            Self::End(_) | Self::Looked(..) | Self::Unreadable(..) => true,
            Self::Marker(Found(_) | Unknown(_)) => true,
            Self::Marker(NotYet { .. } | Trouble(_)) => false,
            Self::Trouble { .. } | Self::Nothing => false,
        }
    }
}

/// Invariant: each leader is asked one thing at a time, so that one that hangs holds up its own partitions
/// alone.
#[derive(Debug)]
pub struct Lookups {
    entries: BTreeMap<TopicPartition, Entry>,
    /// Leaders that have been asked and have not answered.
    busy: BTreeSet<i32>,
    number: u64,
    backoff: Backoff,
    longest: Duration,
    /// Bytes that one look reads at most.
    most: u64,
    told: LookupFigures,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    log: Log,
    wish: Wish,
    reading: Reading,
    failures: u32,
    /// The log has said nothing new since.
    quiet_since: Option<Instant>,
    not_before: Option<Instant>,
    /// The one that was asked longest ago comes next.
    turn: u64,
}

impl Entry {
    /// What has come of it now that more of the log was read, or nothing new.
    fn news(&mut self, empty: bool, now: Instant, longest: Duration) -> News {
        match (&self.wish, &mut self.reading) {
            (Wish::Look(look), Reading::Batches(scan)) => {
                let is_endless = scan.is_endless();
                if scan.is_over() || is_endless && (scan.found_any() || scan.all_found()) {
                    let (surveyed, hole) = scan.surveyed();
                    let looked = Looked {
                        verdicts: scan.verdicts().collect(),
                        fenced_at: scan.fenced_at(),
                        surveyed,
                        hole,
                    };
                    return News::Looked(look.clone(), looked);
                }
                if is_endless {
                    self.not_before = empty.then(|| now + longest);
                    return News::Nothing;
                }
                if !self.is_quiet(empty, now, longest) {
                    return News::Nothing;
                }
                let node = self.log.node;
                let why = format!("broker {node} has told nothing new of the log for {longest:?}");
                News::Trouble {
                    why: why.into(),
                    refresh: true,
                }
            }
            (_, Reading::Marker(scan)) => News::Marker(match scan.told() {
                Some(Ok(marker)) => MarkerNews::Found(marker),
                Some(Err(why)) => MarkerNews::Unknown(why.to_string().into()),
                None => MarkerNews::NotYet {
                    refresh: self.is_quiet(empty, now, longest),
                },
            }),
            _ => News::Nothing,
        }
    }

    /// Whether the log has said nothing new for so long, or for so long again. A leader that is cut off from
    /// the others goes on answering, and has nothing new to tell.
    fn is_quiet(&mut self, empty: bool, now: Instant, longest: Duration) -> bool {
        if !empty {
            self.quiet_since = None;
            return false;
        }
        let since = *self.quiet_since.get_or_insert(now);
        let is_quiet = now.saturating_duration_since(since) >= longest;
        if is_quiet {
            self.quiet_since = Some(now);
        }
        is_quiet
    }
}

/// What is read of a log, and how far that has come.
#[derive(Debug)]
enum Reading {
    /// Nothing: its end is asked for.
    End,
    Batches(Scan),
    Marker(MarkerScan),
}

impl Reading {
    fn next_offset(&self) -> Option<i64> {
        match self {
            Self::End => None,
            Self::Batches(scan) => Some(scan.next_offset()),
            Self::Marker(scan) => Some(scan.next_offset()),
        }
    }

    fn read(&mut self, records: &[u8], log_start: i64) {
        match self {
            Self::End => {}
            Self::Batches(scan) => {
                scan.begins_at(log_start);
                scan.read(records);
            }
            Self::Marker(scan) => {
                scan.begins_at(log_start);
                scan.read(records);
            }
        }
    }
}

impl Lookups {
    pub fn new(backoff: Backoff, longest: Duration, most: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            busy: BTreeSet::new(),
            number: 0,
            backoff,
            longest,
            most,
            told: LookupFigures::default(),
        }
    }

    /// A partition wants to know something. What it wanted before is over, unless it is the same.
    pub fn want(&mut self, log: Log, wish: Wish) {
        self.number += 1;
        if let Some(entry) = self.entries.get_mut(&log.partition)
            && entry.wish == wish
            && entry.log.topic_id == log.topic_id
        {
            // What was read so far holds: only what is replicated is read.
            entry.log = log;
            entry.not_before = None;
            return;
        }
        let reading = match &wish {
            Wish::End => Reading::End,
            Wish::Look(look) => {
                let Look {
                    floor,
                    fence,
                    sought,
                    survey,
                } = look.clone();
                let scan = Scan::new(floor, fence, sought, self.most);
                Reading::Batches(scan.survey(survey))
            }
            Wish::Marker(witness) => Reading::Marker(MarkerScan::new(witness, self.most)),
        };
        let entry = Entry {
            number: self.number,
            wish,
            reading,
            failures: 0,
            quiet_since: None,
            not_before: None,
            turn: self.number,
            log,
        };
        self.entries.insert(entry.log.partition.clone(), entry);
    }

    /// A partition wants to know nothing any more.
    pub fn forget(&mut self, partition: &TopicPartition) {
        self.entries.remove(partition);
    }

    /// What has come of it so far.
    pub fn figures(&self) -> LookupFigures {
        LookupFigures {
            partitions: self.entries.len(),
            ..self.told
        }
    }

    /// Requests on their way were lost.
    pub fn lost(&mut self) {
        self.busy.clear();
    }

    /// What is to be asked now.
    pub fn next(&mut self, now: Instant) -> Option<Question> {
        let free = |entry: &&mut Entry| {
            !self.busy.contains(&entry.log.node) && entry.not_before.is_none_or(|at| at <= now)
        };
        let entries = self.entries.values_mut().filter(free);
        let entry = entries.min_by_key(|entry| entry.turn)?;
        self.number += 1;
        entry.turn = self.number;
        entry.not_before = None;
        self.busy.insert(entry.log.node);
        let ask = entry
            .reading
            .next_offset()
            .map_or(Ask::End, |offset| Ask::Read {
                offset,
                max_bytes: PIECE,
                max_wait: PATIENCE,
            });
        Some(Question {
            log: entry.log.clone(),
            ask,
            number: entry.number,
        })
    }

    /// When something is to be asked, if no answer comes before. What waits for a leader's answer is looked
    /// at when that comes.
    pub fn next_at(&self) -> Option<Instant> {
        let entries = self.entries.values();
        let free = entries.filter(|it| !self.busy.contains(&it.log.node));
        free.filter_map(|it| it.not_before).min()
    }

    /// A leader answered, or did not.
    pub fn answered(&mut self, question: &Question, told: &Told<'_>, now: Instant) -> News {
        self.busy.remove(&question.log.node);
        if let Told::Read { records, .. } = told {
            self.told.bytes += records.len() as u64;
        }
        let partition = &question.log.partition;
        let Some(entry) = self.entries.get_mut(partition) else {
            return News::Nothing;
        };
        if entry.number != question.number {
            return News::Nothing;
        }
        let news = match told {
            Told::End(end) => News::End(*end),
            Told::Read { records, log_start } => {
                entry.failures = 0;
                entry.reading.read(records, *log_start);
                entry.news(records.is_empty(), now, self.longest)
            }
            Told::Failed { follows, why } => {
                let (is_final, refresh) = match follows {
                    Follows::Never => (true, false),
                    Follows::AskMetadataFirst => (entry.failures >= DISBELIEVED, true),
                    Follows::AskMetadata => (false, true),
                    Follows::Retry => (false, false),
                };
                let why = Arc::clone(why);
                match &entry.wish {
                    Wish::Look(look) if is_final => News::Unreadable(look.clone(), why),
                    Wish::Marker(_) if is_final => News::Marker(MarkerNews::Unknown(why)),
                    _ => {
                        entry.failures += 1;
                        let wait = self.backoff.after(entry.failures, self.longest);
                        entry.not_before = Some(now + wait);
                        News::Trouble { why, refresh }
                    }
                }
            }
        };
        if let News::Looked(_, looked) = &news {
            count(&mut self.told, looked);
        }
        if news.is_last() {
            self.entries.remove(partition);
        }
        news
    }
}

fn count(told: &mut LookupFigures, looked: &Looked) {
    for (_, verdict) in &looked.verdicts {
        *match verdict {
            Verdict::At(_) => &mut told.found,
            Verdict::Absent => &mut told.absent,
            Verdict::Unknown(_) => &mut told.unknown,
        } += 1;
    }
}

#[cfg(test)]
mod tests;
