//! `forebay check`: goes to each broker step by step, and says where it ends and why.

use std::io::{self, Write};
use std::process::ExitCode;

use forebay::check::{Line, Step, Verdict, check};

use crate::Failure;
use crate::settings::{Settings, topic_name};

/// Checks a configuration at its cluster: connects to each broker as a producer does, and prints
/// each step, with what is wrong and what to change. It writes no record and creates no topic.
///
/// Exit status: 0 if a producer could send; else that of the earliest step that failed: 3 no way to
/// a broker (its name, its port), 4 TLS and certificates, 5 the login, 6 the broker's answers, 7 the
/// topic or the permission to write. 2 if the arguments or the configuration are wrong.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// A topic that is to be written to. May be given again.
    #[arg(long, value_parser = topic_name)]
    topic: Vec<String>,
    /// Print each step as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Steps that failed, and those that were warned of.
#[derive(Default)]
struct Summary {
    failed: Vec<Step>,
    warnings: usize,
}

pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = args.settings.config()?;
    let mut summary = Summary::default();
    let mut broker = None;
    check(&config, &args.topic, |line| {
        match line.found.verdict {
            Verdict::Failed => summary.failed.push(line.step),
            Verdict::Warning => summary.warnings += 1,
            _ => {}
        }
        // Standard output may be closed. The exit status tells the result anyway.
        let _ = match args.json {
            true => print_json(&line),
            false => print(&line, &mut broker),
        };
    })
    .await;
    if !args.json {
        println!("\n{}", summary.text());
    }
    Ok(summary.status())
}

impl Summary {
    fn text(&self) -> String {
        let warnings = match self.warnings {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            more => format!(", {more} warnings"),
        };
        match self.failed.len() {
            0 => format!("a producer can send with this{warnings}"),
            1 => format!("1 step failed{warnings}"),
            more => format!("{more} steps failed{warnings}"),
        }
    }

    fn status(&self) -> ExitCode {
        ExitCode::from(match self.failed.iter().min() {
            None => 0,
            Some(Step::Resolve | Step::Connect) => 3,
            Some(Step::Tls) => 4,
            Some(Step::Login) => 5,
            Some(Step::Versions | Step::Cluster) => 6,
            Some(Step::Topic | Step::Write | Step::ProducerId | Step::Limits) => 7,
        })
    }
}

fn print_json(line: &Line) -> io::Result<()> {
    let text = serde_json::to_string(line).map_err(io::Error::other)?;
    writeln!(io::stdout(), "{text}")
}

/// Prints a step under the heading of its broker.
fn print(line: &Line, broker: &mut Option<String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let (Some(address), Some(by)) = (&line.broker, &line.named_by)
        && broker.as_ref() != Some(address)
    {
        if broker.is_some() {
            writeln!(out)?;
        }
        writeln!(out, "{address} (named by {by})")?;
        *broker = Some(address.clone());
    }
    let found = &line.found;
    let mark = match found.verdict {
        Verdict::Ok => "ok",
        Verdict::Unknown => "?",
        Verdict::Warning => "WARNING",
        Verdict::Failed => "FAILED",
    };
    let ms = line.ms.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
    writeln!(
        out,
        "  {:<11}  {mark:<7}  {ms:>7}  {}",
        line.step, found.text
    )?;
    let more = found.certificates.iter().map(ToString::to_string);
    for text in more.chain(found.notes.iter().cloned()) {
        writeln!(out, "{:33}{text}", "")?;
    }
    Ok(())
}
