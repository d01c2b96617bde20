//! `forebay produce`: one record per line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::{Outcome, Producer, Record, SendError};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Failure;
use crate::follow::{Follower, Observer, PartitionRoute, Sent};
use crate::lines::{self, Line};
use crate::settings::Settings;
use crate::tally::Tally;
use crate::text::Grouped;

/// How long Ctrl-C leaves to deliver what was read.
const AFTER_INTERRUPT: Duration = Duration::from_secs(10);
/// How long the runtime has to end once everything is flushed.
const TO_CLOSE: Duration = Duration::from_secs(10);

/// Sends lines: one record per line of a file or of standard input.
///
/// Lines end with \n and are taken as bytes: \r stays, an empty line is a record with an empty
/// value. Ctrl-C stops reading and delivers for ten seconds more what was read; a second one ends
/// at once. Exit status: 0 if every record is acked (or acks=0 asked for no ack), 1 if not, 2 if
/// the arguments or the configuration are wrong, 130 after a second Ctrl-C.
#[derive(clap::Args)]
pub struct SendRecord {
    /// The topic of the records.
    #[arg(long)]
    topic: String,
    #[command(flatten)]
    settings: Settings,
    /// Where the lines are. Without it: standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// What stands between a line's key and its value, first occurrence. A line without it is a
    /// record with a null key.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// The partition of every record. Without it: the partitioner's choice.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Print the closing summary as one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: SendRecord) -> Result<ExitCode, Failure> {
    let config = args.settings.config()?;
    let from = open(args.file.as_deref())?;
    let longest = config.max_request_size;
    let producer = Producer::start(config)?;
    let lines = lines::read(from, longest)
        .map_err(|e| Failure::Failed(format!("no thread to read with: {e}")))?;
    let (follower, followed) = Follower::start(Tally::default());
    let began = Instant::now();
    let mut pump = Pump {
        topic: Arc::from(args.topic),
        partition: args.partition,
        separator: args.key_separator.map(Bytes::from),
        longest,
        door: PartitionRoute::Shared(producer.clone()),
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
                // It fails only with the runtime, and then every record is told so.
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
    // What it has to give up is in the outcomes.
    let _ = producer.close(within).await;
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
    tally.add(refused);
    let lines = if read == 1 { "line" } else { "lines" };
    eprintln!("{} {lines} read: {tally} in {seconds:.3} s", Grouped(read));
    if args.json {
        print_json(read, &tally, seconds);
    }
    if let Some(error) = broken {
        return Err(Failure::Failed(format!("the input broke off: {error}")));
    }
    Ok(match tally.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print_json(read: u64, tally: &Tally, seconds: f64) {
    let summary = json!({
        "read": read,
        "acked": tally.acked,
        "not_written": tally.not_written,
        "unknown": tally.unknown,
        "seconds": seconds,
    });
    // Nobody may be left to read it; the exit status stands.
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

/// The first Ctrl-C. From then on, another one ends the process at once.
async fn interrupt() {
    // One listener for both: a new one would not hear what comes before its first poll.
    let Ok(mut presses) = presses() else {
        // Ctrl-C cannot be heard: it ends the process, as it does by default.
        return std::future::pending().await;
    };
    presses.recv().await;
    tokio::spawn(async move {
        if presses.recv().await.is_some() {
            std::process::exit(130);
        }
    });
}

#[cfg(unix)]
fn presses() -> io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

#[cfg(windows)]
fn presses() -> io::Result<tokio::signal::windows::CtrlC> {
    tokio::signal::windows::ctrl_c()
}

/// Lines on their way to the producer.
struct Pump {
    topic: Arc<str>,
    partition: Option<i32>,
    separator: Option<Bytes>,
    longest: usize,
    door: PartitionRoute,
    follower: Follower<()>,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    /// Read and not accepted yet.
    pending: VecDeque<Line>,
    read: u64,
    refused: Tally,
    broken: Option<io::Error>,
}

impl Pump {
    /// Sends every line. It may be dropped on the way and called again: a line is in `pending`
    /// until it is accepted or refused, and between that and its leaving there is no await.
    async fn all(&mut self) {
        loop {
            while let Some(line) = self.pending.front() {
                let sent = match line {
                    Line::Whole(line) => {
                        let record = self.record(line.clone());
                        self.follower.send(&mut self.door, record, ()).await
                    }
                    Line::TooLong(len) => Err(SendError::TooLarge {
                        size: usize::try_from(*len).unwrap_or(usize::MAX),
                        key: "max.request.size",
                        limit: self.longest,
                    }),
                };
                if let Err(error) = sent {
                    self.refused.refused(&error);
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

    fn record(&self, line: Bytes) -> Record {
        let mut record = Record::to(Arc::clone(&self.topic));
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        match self.separator.as_deref().and_then(|it| find(it, &line)) {
            Some((key, value)) => record.key(line.slice(key)).value(line.slice(value)),
            None => record.value(line),
        }
    }

    /// What is still pending will not be sent.
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

/// The key and the value of a line that has a separator.
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
