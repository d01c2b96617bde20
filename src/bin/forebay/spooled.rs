//! Sends the lines of a file by way of a spool: started again, it goes on behind the last line that was
//! accepted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::config::Durability;
use forebay::{Config, Producer, Record, SendError, Source, SourceError};
use serde_json::json;
use tokio::sync::mpsc;

use crate::Failure;
use crate::closing::{TO_CLOSE, close};
use crate::follow::Follower;
use crate::interrupt::interrupt;
use crate::lines::{self, Line};
use crate::noted::{self, GoesOn, Noted, Refused};
use crate::tally::Tally;
use crate::text::Grouped;

/// The file, and under which name the spool has how far it came.
pub struct Lines {
    pub path: PathBuf,
    pub source: String,
}

impl Lines {
    /// Named after the topic and the file, if `name` does not say otherwise.
    pub fn new(path: PathBuf, topic: &str, name: Option<String>) -> Result<Self, Failure> {
        let source = match name {
            Some(name) => name,
            None => {
                let whole = fs::canonicalize(&path).map_err(|e| at(&path, e))?;
                format!("{topic} {}", whole.display())
            }
        };
        Ok(Self { path, source })
    }
}

fn at(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("{}: {why}", path.display()))
}

pub async fn run(
    config: Config,
    lines: Lines,
    record: impl Fn(Bytes) -> Record,
    json: bool,
) -> Result<ExitCode, Failure> {
    let longest = config.max_request_size;
    let began = Instant::now();
    let file = File::open(&lines.path).map_err(|e| at(&lines.path, e))?;
    let (machine, spool) = (config.spool_durability, config.spool_dir.clone());
    let notes = noted::notes_of(&spool.unwrap_or_default(), &lines.source);
    let producer = Producer::start(config)?;
    tell_of_former(&producer).await;
    let source = producer.source(&lines.source).await;
    let source = source.map_err(|e| Failure::Failed(e.to_string()))?;
    let next = source.accepted_up_to().unwrap_or(0);
    let checking = move || noted::go_on(file, &notes, next, machine == Durability::Machine);
    let (file, before) = checked(&lines.path, checking).await?;
    let (follower, followed) = Follower::start(Tally::default());
    let mut pump = Pump {
        record,
        longest,
        next,
        source,
        follower,
        lines: lines::read(file, longest)
            .map_err(|e| Failure::Failed(format!("no thread to read with: {e}")))?,
        line: before,
        accepted: 0,
        refused: Tally::default(),
    };
    let ended = pump.until_it_ends(&producer).await;
    if !matches!(ended, Ended::Delivered) {
        eprintln!(
            "{ended}: what was accepted is delivered, for {TO_CLOSE:?} at most; to go on, start it again"
        );
    }
    close(&producer, TO_CLOSE).await;
    pump.follower.finish().await;
    let mut tally = followed
        .await
        .map_err(|e| Failure::Failed(format!("the count of outcomes is lost: {e}")))?;
    tally.add(pump.refused);
    tell((pump.accepted, before), &tally, began.elapsed(), json);
    Ok(match (ended, tally.is_good()) {
        (Ended::Delivered, true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// The file where it goes on, and how many lines come before.
async fn checked(
    path: &Path,
    checking: impl FnOnce() -> Result<GoesOn, Refused> + Send + 'static,
) -> Result<(Noted, u64), Failure> {
    let checked = tokio::task::spawn_blocking(checking).await;
    let checked =
        checked.map_err(|e| Failure::Failed(format!("the file was not compared: {e}")))?;
    let GoesOn {
        file,
        lines,
        unchecked,
    } = checked.map_err(|why| {
        let what = "to send it from its beginning, name it by another --source";
        at(path, format!("{why}; {what}"))
    })?;
    if lines > 0 {
        let (path, lines) = (path.display(), Grouped(lines));
        eprintln!("{path}: goes on behind line {lines}, which was accepted before");
    }
    if unchecked {
        eprintln!("nothing was noted of what was read of it before, so that is not compared");
    }
    Ok((file, lines))
}

fn tell((accepted, before): (u64, u64), tally: &Tally, took: Duration, json: bool) {
    let seconds = took.as_secs_f64();
    let (now, former) = (Grouped(accepted), Grouped(before));
    eprintln!("{now} lines accepted, {former} before: {tally} in {seconds:.3} s");
    if json {
        let summary = json!({
            "accepted": accepted,
            "accepted_before": before,
            "acked": tally.acked,
            "kept": tally.kept,
            "not_written": tally.not_written,
            "unknown": tally.unknown,
            "seconds": seconds,
        });
        // Standard output may be closed. The exit status tells the result anyway.
        let _ = writeln!(io::stdout(), "{summary}");
    }
}

/// Says that more is delivered than what is sent now, if it is so.
pub async fn tell_of_former(producer: &Producer) {
    let figures = producer.figures().await.ok();
    let former = figures.and_then(|it| it.spool).map_or(0, |it| it.resumed);
    if former > 0 {
        let former = Grouped(former);
        eprintln!("{former} records of former runs are in the spool, and are delivered first");
    }
}

/// How it ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("all is delivered")]
    Delivered,
    #[error("interrupted")]
    Interrupted,
    #[error("line {line} is not accepted: {why}")]
    Stopped { line: u64, why: SourceError },
    #[error("the input broke off: {0}")]
    Broken(io::Error),
}

/// Sends lines one after the other.
struct Pump<F> {
    record: F,
    longest: usize,
    /// Where the next line begins.
    next: u64,
    source: Source,
    follower: Follower<()>,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    /// The number of the line that was read last.
    line: u64,
    accepted: u64,
    refused: Tally,
}

impl<F: Fn(Bytes) -> Record> Pump<F> {
    async fn until_it_ends(&mut self, producer: &Producer) -> Ended {
        let mut interrupted = pin!(interrupt());
        tokio::select! {
            () = &mut interrupted => return Ended::Interrupted,
            sent = self.all() => if let Err(ended) = sent {
                return ended;
            },
        }
        tokio::select! {
            () = &mut interrupted => Ended::Interrupted,
            // A flush fails only with the runtime. Then every record's outcome says so.
            _ = producer.flush() => Ended::Delivered,
        }
    }

    async fn all(&mut self) -> Result<(), Ended> {
        while let Some(lines) = self.lines.recv().await {
            for line in lines.map_err(Ended::Broken)? {
                self.line += 1;
                self.send(line).await?;
            }
            self.follower.hand_over().await;
        }
        Ok(())
    }

    /// Sends a line. One that is too long is passed over.
    async fn send(&mut self, line: Line) -> Result<(), Ended> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong(length) => {
                let limit = self.longest;
                let why = format!(
                    "the record takes {length} bytes, more than max.request.size ({limit}) allows"
                );
                self.refused.not_written(1, why);
                self.next += length + 1;
                return Ok(());
            }
        };
        let next = self.next + line.len() as u64 + 1;
        match self.source.send((self.record)(line), next).await {
            Ok(receipt) => {
                self.accepted += 1;
                self.follower.add(receipt, ()).await;
            }
            Err(SourceError::Refused(why @ SendError::TooLarge { .. })) => {
                self.refused.refused(&why)
            }
            Err(why) => {
                let line = self.line;
                return Err(Ended::Stopped { line, why });
            }
        }
        self.next = next;
        Ok(())
    }
}
