//! `forebay produce`: sends one record per line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::{Config, Outcome, Producer, Record};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Failure;
use crate::closing::{TO_CLOSE, close};
use crate::follow::{Follower, Observer, Sent};
use crate::interrupt::interrupt;
use crate::lines::{self, Line};
use crate::settings::{Settings, topic_name};
use crate::spooled::{self, Lines};
use crate::tally::Tally;
use crate::text::Grouped;
use crate::transactional::{Limits, Transactional};

/// After Ctrl-C: how long to deliver the lines that were read.
const AFTER_INTERRUPT: Duration = Duration::from_secs(10);

/// Sends lines: one record per line of a file or of standard input.
///
/// Lines end with \n and are taken as bytes: \r stays, an empty line is a record with an empty
/// value. Ctrl-C stops reading and delivers what was read for ten more seconds; a second one ends
/// at once. Exit status: 0 if every record is acked (or acks=0 asked for no ack), 1 if not, 2 if
/// the arguments or the configuration are wrong, 130 after a second Ctrl-C.
#[derive(clap::Args)]
pub struct Args {
    /// The topic of the records.
    #[arg(long, value_parser = topic_name)]
    topic: String,
    #[command(flatten)]
    settings: Settings,
    /// The file with the lines. Without it: standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Keep what is accepted in this directory until it is delivered. Killed and started again, it delivers
    /// that, and goes on with the file at the first line that was not accepted.
    #[arg(long, value_name = "DIR", conflicts_with = "transactional_id")]
    spool: Option<String>,
    /// The name under which the spool has how far the file came. Without it: the topic and the file's path.
    #[arg(long, value_name = "NAME", requires = "file")]
    source: Option<String>,
    /// What separates a line's key from its value, at its first occurrence. A line without it is a
    /// record with a null key.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// The partition of every record. Without it: the partitioner's choice.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Print the closing summary as one line of JSON on standard output.
    #[arg(long, conflicts_with = "transactional_id")]
    json: bool,
    /// Send in transactions, under this transactional.id. A transaction that is aborted is sent again. A
    /// line that is refused ends the run; what was committed before stays.
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,
    /// Commit after so many lines.
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "transactional_id",
        value_parser = clap::value_parser!(u32).range(1..))]
    transaction_records: u32,
    /// Commit so many milliseconds after the first line of a transaction.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 1_000,
        requires = "transactional_id"
    )]
    transaction_ms: u64,
}

pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let spool = args.spool.as_deref();
    let spool = spool.map(|directory| ("forebay.spool.dir", directory));
    let mut config = args.settings.config_with(spool.as_slice())?;
    if args.transactional_id.is_some() {
        config.transactional_id = args.transactional_id;
    }
    let record = Records {
        topic: Arc::from(args.topic),
        partition: args.partition,
        separator: args.key_separator.map(Bytes::from),
    };
    if let (Some(_), Some(file)) = (&config.spool_dir, &args.file) {
        let lines = Lines::new(file.clone(), &record.topic, args.source)?;
        return spooled::run(config, lines, |line| record.of(line), args.json).await;
    }
    if args.source.is_some() {
        let why = "--source is of a file with a spool: name its directory by --spool";
        return Err(Failure::Usage(why.to_owned()));
    }
    let from = open(args.file.as_deref())?;
    let lines = lines::read(from, config.max_request_size)
        .map_err(|e| Failure::Failed(format!("no thread to read with: {e}")))?;
    if config.transactional_id.is_some() {
        let limits = Limits {
            records: args.transaction_records as usize,
            time: Duration::from_millis(args.transaction_ms),
        };
        let make = move |line| record.of(line);
        let transactional = Transactional::start(config, lines, limits, make)?;
        transactional.run(interrupt()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    send_all(config, record, lines, args.json).await
}

/// Sends without transactions.
async fn send_all(
    config: Config,
    record: Records,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let longest = config.max_request_size;
    let has_spool = config.spool_dir.is_some();
    let producer = Producer::start(config)?;
    if has_spool {
        spooled::tell_of_former(&producer).await;
    }
    let (follower, followed) = Follower::start(Tally::default());
    let began = Instant::now();
    let mut pump = Pump {
        record,
        longest,
        producer: producer.clone(),
        follower,
        lines,
        pending: VecDeque::new(),
        read: 0,
        refused: Tally::default(),
        broken: None,
    };

    let mut interrupted = pin!(interrupt());
    let pressed = tokio::select! {
        () = &mut interrupted => true,
        () = pump.all() => {
            tokio::select! {
                () = &mut interrupted => true,
                // A flush fails only with the runtime. Then every record's outcome says so.
                _ = producer.flush() => false,
            }
        }
    };
    let mut within = TO_CLOSE;
    if pressed {
        eprintln!("interrupted: delivering what was read, for {AFTER_INTERRUPT:?} at most");
        let deadline = Instant::now() + AFTER_INTERRUPT;
        pump.lines.close();
        let rest = tokio::time::timeout_at(deadline.into(), pump.all()).await;
        if rest.is_err() {
            pump.give_up();
        }
        within = deadline.saturating_duration_since(Instant::now());
    }
    close(&producer, within).await;
    let seconds = began.elapsed().as_secs_f64();

    let Pump {
        follower,
        read,
        refused,
        broken,
        ..
    } = pump;
    follower.finish().await;
    let mut tally = followed
        .await
        .map_err(|e| Failure::Failed(format!("the count of outcomes is lost: {e}")))?;
    let accepted = has_spool.then(|| read.saturating_sub(refused.not_written));
    tally.add(refused);
    tell(read, accepted, &tally, seconds);
    if json {
        print_json(read, &tally, seconds, has_spool);
    }
    if let Some(error) = broken {
        return Err(Failure::Failed(format!("the input broke off: {error}")));
    }
    Ok(match tally.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// `accepted`: of those that were read, where there is a spool.
fn tell(read: u64, accepted: Option<u64>, tally: &Tally, seconds: f64) {
    let lines = if read == 1 { "line" } else { "lines" };
    let accepted = accepted.map(|it| format!(", {} accepted", Grouped(it)));
    let accepted = accepted.unwrap_or_default();
    let read = Grouped(read);
    eprintln!("{read} {lines} read{accepted}: {tally} in {seconds:.3} s");
}

fn print_json(read: u64, tally: &Tally, seconds: f64, has_spool: bool) {
    let mut summary = json!({
        "read": read,
        "acked": tally.acked,
        "not_written": tally.not_written,
        "unknown": tally.unknown,
        "seconds": seconds,
    });
    if has_spool {
        summary["kept"] = tally.kept.into();
    }
    // Standard output may be closed. The exit status tells the result anyway.
    let _ = writeln!(io::stdout(), "{summary}");
}

/// The file, or standard input.
fn open(path: Option<&Path>) -> Result<Box<dyn Read + Send>, Failure> {
    let Some(path) = path else {
        return Ok(Box::new(io::stdin()));
    };
    let opened = File::open(path);
    let file = opened.map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?;
    Ok(Box::new(file))
}

/// Makes records of lines.
struct Records {
    topic: Arc<str>,
    partition: Option<i32>,
    separator: Option<Bytes>,
}

impl Records {
    fn of(&self, line: Bytes) -> Record {
        let mut record = Record::to(Arc::clone(&self.topic));
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        match self.separator.as_deref().and_then(|it| find(it, &line)) {
            Some((key, value)) => record.key(line.slice(key)).value(line.slice(value)),
            None => record.value(line),
        }
    }
}

/// Sends lines to the producer.
struct Pump {
    record: Records,
    longest: usize,
    producer: Producer,
    follower: Follower<()>,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    /// Lines that were read and are not accepted yet.
    pending: VecDeque<Line>,
    read: u64,
    refused: Tally,
    broken: Option<io::Error>,
}

impl Pump {
    /// Sends every line. The future may be dropped and this function called again: a line stays in
    /// `pending` until it is accepted or refused, and there is no await between that and its
    /// removal.
    async fn all(&mut self) {
        loop {
            while let Some(line) = self.pending.front() {
                match line {
                    Line::Whole(line) => {
                        let record = self.record.of(line.clone());
                        let sent = self.follower.send(&mut self.producer, record, ()).await;
                        if let Err(error) = sent {
                            self.refused.refused(&error);
                        }
                    }
                    Line::TooLong(len) => {
                        let limit = self.longest;
                        let why = format!(
                            "the record takes {len} bytes, more than max.request.size ({limit}) allows"
                        );
                        self.refused.not_written(1, why);
                    }
                }
                self.pending.pop_front();
            }
            self.follower.hand_over().await;
            match self.lines.recv().await {
                Some(Ok(lines)) => {
                    self.read += lines.len() as u64;
                    self.pending = lines.into();
                }
                Some(Err(error)) => self.broken = Some(error),
                None => return,
            }
        }
    }

    /// Counts the lines that are still pending as not sent.
    fn give_up(&mut self) {
        while let Ok(Ok(lines)) = self.lines.try_recv() {
            self.read += lines.len() as u64;
            self.pending.extend(lines);
        }
        let why = "interrupted before it was sent";
        self.refused.not_written(self.pending.len() as u64, why);
        self.pending.clear();
    }
}

type Span = std::ops::Range<usize>;

/// Splits a line into key and value, if it has a separator.
fn find(separator: &[u8], line: &[u8]) -> Option<(Span, Span)> {
    let at = line
        .windows(separator.len())
        .position(|it| it == separator)?;
    Some((0..at, at + separator.len()..line.len()))
}

impl Observer<()> for Tally {
    fn settled(&mut self, _: &Sent<()>, outcome: Outcome, _: Instant) {
        self.outcome(&outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_ends_the_key() {
        assert_eq!(find(b":", b"a:b:c"), Some((0..1, 2..5)));
        assert_eq!(find(b"::", b"a:b::c"), Some((0..3, 5..6)));
        assert_eq!(find(b":", b":b"), Some((0..0, 1..2)));
        assert_eq!(find(b":", b"a:"), Some((0..1, 2..2)));
        assert_eq!(find(b":", b"ab"), None);
        assert_eq!(find(b"::", b":"), None);
    }
}
