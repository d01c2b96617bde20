//! `forebay spool`: what is in a spool's directory, and what to do about it.

mod drain;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use forebay::spool::{Contents, Files, Unreadable, Waiting};
use serde_json::{Value, json};

use crate::Failure;
use crate::text::{Grouped, MB};

/// Looks into the directory of forebay.spool.dir, and delivers what is in it.
///
/// No producer may have the directory open meanwhile. `ls`, `verify` and `export` change nothing in it.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ls(Ls),
    Verify(Verify),
    Export(Export),
    Drain(drain::Drain),
}

/// Shows what waits for each topic partition, the sources, and the files.
#[derive(clap::Args)]
struct Ls {
    /// The directory.
    directory: PathBuf,
    /// Print one line of JSON instead.
    #[arg(long)]
    json: bool,
}

/// Reads every byte of the spool. Exit status: 0 if all of it is whole, 1 if something is damaged.
#[derive(clap::Args)]
struct Verify {
    /// The directory.
    directory: PathBuf,
}

/// Writes the records that wait as lines of JSON to standard output, by topic partition and in order.
///
/// A line has topic, partition, position, timestamp, key, value, headers and sent. What is no UTF-8 is
/// {"base64": "..."}. Where sent is true, the record may be in the log already. Exit status: 1 if records
/// cannot be read.
#[derive(clap::Args)]
struct Export {
    /// The directory.
    directory: PathBuf,
    /// Only the records of this topic. May be given again.
    #[arg(long)]
    topic: Vec<String>,
}

pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.what {
        What::Ls(ls) => show(&ls),
        What::Verify(verify) => check(&verify),
        What::Export(export) => write_out(&export),
        What::Drain(drain) => drain::run(drain).await,
    }
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Usage(error.to_string())
    }
}

fn show(args: &Ls) -> Result<ExitCode, Failure> {
    let contents = Contents::read(&args.directory)?;
    let files = contents.files()?;
    // Standard output may be closed. There is nobody to tell then.
    let _ = match args.json {
        true => writeln!(io::stdout(), "{}", as_json(&contents, &files)),
        false => print(&contents, &files),
    };
    Ok(ExitCode::SUCCESS)
}

fn as_json(contents: &Contents, files: &Files) -> Value {
    let waiting = contents.waiting().into_iter().map(|it| {
        json!({
            "topic": it.topic.as_deref(), "partition": it.partition, "records": it.records, "bytes": it.bytes,
            "sent": it.sent, "lost": it.lost, "since": it.since,
        })
    });
    let sources = contents.sources().into_iter();
    let sources = sources.map(|(name, up_to)| json!({"name": &*name, "accepted_up_to": up_to}));
    json!({
        "partitions": waiting.collect::<Vec<_>>(), "sources": sources.collect::<Vec<_>>(),
        "segments": files.segments, "bytes": files.bytes, "rejected_files": files.rejected,
        "damaged_files": files.damaged, "damage": contents.damage(),
    })
}

fn print(contents: &Contents, files: &Files) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let waiting = contents.waiting();
    let names: Vec<_> = waiting.iter().map(name).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    for (waiting, name) in waiting.iter().zip(&names) {
        let mut notes = String::new();
        if waiting.sent > 0 {
            notes = format!("; {} may be in the log", Grouped(waiting.sent));
        }
        if waiting.lost > 0 {
            notes += &format!("; {} LOST: their files are damaged", Grouped(waiting.lost));
        }
        let since = waiting.since.map_or_else(String::new, |since| {
            format!(", the oldest {} old at most", age(since))
        });
        writeln!(
            out,
            "{name:<width$}  {:>12} records  {:>10.3} MB{since}{notes}",
            Grouped(waiting.records),
            waiting.bytes as f64 / MB,
        )?;
    }
    if waiting.is_empty() {
        writeln!(out, "no record waits")?;
    }
    for (name, up_to) in contents.sources() {
        match up_to {
            Some(up_to) => writeln!(out, "source {name:?}: accepted up to {up_to}")?,
            None => writeln!(out, "source {name:?}: nothing accepted")?,
        }
    }
    let bytes = files.bytes as f64 / MB;
    writeln!(out, "segments: {}, {bytes:.1} MB", files.segments)?;
    for (folder, count) in [("rejected", files.rejected), ("damaged", files.damaged)] {
        if count > 0 {
            writeln!(out, "files in {folder}/: {count}")?;
        }
    }
    for damage in contents.damage() {
        writeln!(out, "DAMAGED {damage}")?;
    }
    Ok(())
}

fn name(waiting: &Waiting) -> String {
    match (&waiting.topic, waiting.partition) {
        (Some(topic), Some(partition)) => format!("{topic}-{partition}"),
        _ => "(its name is lost)".to_owned(),
    }
}

/// How long ago a time is, in words. Milliseconds since 1970.
fn age(since: i64) -> String {
    let since = UNIX_EPOCH + Duration::from_millis(since.max(0).unsigned_abs());
    let age = SystemTime::now().duration_since(since).unwrap_or_default();
    match age.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn check(args: &Verify) -> Result<ExitCode, Failure> {
    let contents = Contents::read(&args.directory)?;
    let damage = contents.verify();
    let waiting = contents.waiting();
    let (mut records, mut lost) = (0, 0);
    for waiting in &waiting {
        (records, lost) = (records + waiting.records, lost + waiting.lost);
    }
    let mut out = io::stdout().lock();
    for damage in &damage {
        let _ = writeln!(out, "DAMAGED {damage}");
    }
    let _ = match (damage.is_empty(), lost) {
        (true, 0) => writeln!(out, "whole: {} records wait", Grouped(records)),
        (false, 0) => writeln!(
            out,
            "damaged; start a producer to see whether records are lost"
        ),
        (_, lost) => writeln!(out, "{} records without an outcome are lost", Grouped(lost)),
    };
    Ok(match damage.is_empty() && lost == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn write_out(args: &Export) -> Result<ExitCode, Failure> {
    let contents = Contents::read(&args.directory)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = contents.export(&args.topic, |lines| out.write_all(lines));
    let exported = exported.and_then(|counts| out.flush().map(|()| counts));
    let (written, lost) =
        exported.map_err(|error| Failure::Failed(format!("standard output: {error}")))?;
    let unread = match lost {
        0 => String::new(),
        lost => format!("; {} cannot be read", Grouped(lost)),
    };
    eprintln!("{} records written out{unread}", Grouped(written));
    Ok(match lost {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_in_units_that_one_reads_at_once() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("it is after 1970").as_millis() as i64;
        let ages = [5, 300, 9_000, 500_000].map(|seconds| age(now - seconds * 1_000));
        assert_eq!(ages, ["5 s", "5 min", "2 h", "5 days"]);
        assert_eq!(age(now + 5_000), "0 s", "a clock was set");
    }
}
