//! The command `forebay`: demonstrates the producer, checks a configuration, sends lines, looks into a spool,
//! and measures.

#![warn(clippy::too_many_lines)]

mod check;
mod closing;
mod demo;
mod follow;
mod interrupt;
mod lines;
mod noted;
mod payload;
mod perf;
mod produce;
mod read_back;
mod records;
mod settings;
mod spool;
mod spooled;
mod tally;
mod text;
mod transactional;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use forebay::{ConfigError, StartError};
use tracing_subscriber::EnvFilter;

/// A Kafka producer, in Kafka's own words. Logs go to stderr; RUST_LOG sets what is logged.
#[derive(Parser)]
#[command(name = "forebay", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Args),
    Demo(demo::Demo),
    Produce(produce::Args),
    Perf(perf::Perf),
    Spool(spool::Args),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The configuration's problems, one per line.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An argument is invalid.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something other than the producer failed.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// The exit status 2 is also clap's for wrong arguments.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Start(_) | Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    log_to_stderr();
    // With `perf`, the sending task and the follower share one thread. On two threads, each would
    // fetch every receipt's reference count from the other's cache. That took a quarter of the
    // total time.
    let mut threads = match args.command {
        Command::Perf(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match threads.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no threads or event queue for the command: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match args.command {
            Command::Check(check) => check::run(check).await,
            Command::Demo(demo) => demo::run(demo).await,
            Command::Produce(produce) => produce::run(produce).await,
            Command::Perf(perf) => perf::run(perf).await,
            Command::Spool(spool) => spool::run(spool).await,
        }
    });
    // All outcomes are reported, so remaining tasks must not keep the process alive.
    runtime.shutdown_background();
    ended.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        failure.exit_code()
    })
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
