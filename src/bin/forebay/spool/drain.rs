//! `forebay spool drain`: delivers what a producer has left.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use forebay::Producer;
use forebay::spool::Contents;

use crate::Failure;
use crate::closing::{TO_CLOSE, close};
use crate::interrupt::interrupt;
use crate::settings::Settings;
use crate::text::Grouped;

/// How often it is said how much is left.
const REPORT: Duration = Duration::from_secs(5);

/// Delivers what waits in the spool, as the next producer on it would, and ends.
///
/// It takes the configuration of that producer. Ctrl-C ends it; what is not delivered by then stays in the
/// spool. Exit status: 0 if nothing waits any more and every record is acked, 1 if not, 2 if the arguments or
/// the configuration are wrong.
#[derive(clap::Args)]
pub struct Drain {
    /// The directory.
    directory: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// End after so many milliseconds, whatever is left.
    #[arg(long, value_name = "MS")]
    within_ms: Option<u64>,
}

pub async fn run(args: Drain) -> Result<ExitCode, Failure> {
    let directory = args
        .directory
        .to_str()
        .ok_or_else(|| Failure::Usage(format!("{} is no UTF-8", args.directory.display())))?;
    let config = args
        .settings
        .config_with(&[("forebay.spool.dir", directory)])?;
    // A producer would make a directory that is not there.
    let waits = waiting(&args)?;
    eprintln!("{} records wait", Grouped(waits));
    let producer = Producer::start(config)?;
    let within = args.within_ms.map_or(Duration::MAX, Duration::from_millis);
    let delivered = tokio::select! {
        // It fails only with the runtime. Then the close says so.
        flushed = producer.flush() => flushed.is_ok_and(|outcomes| outcomes.all_acked()),
        () = interrupt() => {
            eprintln!("interrupted");
            false
        }
        () = tokio::time::sleep(within) => {
            eprintln!("--within-ms is over");
            false
        }
        () = report(&producer) => false,
    };
    close(&producer, TO_CLOSE).await;
    let left = waiting(&args)?;
    eprintln!("{} records wait in the spool now", Grouped(left));
    Ok(match delivered && left == 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Records that wait.
fn waiting(args: &Drain) -> Result<u64, Failure> {
    let waiting = Contents::read(&args.directory)?.waiting();
    Ok(waiting.iter().map(|it| it.records).sum())
}

/// Says how much is left, again and again.
async fn report(producer: &Producer) {
    loop {
        tokio::time::sleep(REPORT).await;
        let figures = producer.figures().await.ok();
        if let Some(spool) = figures.and_then(|it| it.spool) {
            eprintln!("{} records left", Grouped(spool.unsettled_records));
        }
    }
}
