//! Transactions that are still open when all is quiet, as Kafka's own tool sees them.

use std::time::{Duration, Instant};

use crate::kafka::{self, Cluster};
use crate::verdicts::Verdicts;

/// How long coordinators may take to end what was left open. Markers have to be written, too.
const LIMIT: Duration = Duration::from_secs(120);
/// In minutes, and the least that the tool takes.
const AGE: u64 = 1;

/// Waits until no coordinator has an open transaction. Those that are open for too long count as hanging.
pub fn wait_for_ends(cluster: &Cluster, verdicts: &mut Verdicts) -> kafka::Result<()> {
    let begin = Instant::now();
    loop {
        let open = cluster.open_transactions()?;
        if open.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > LIMIT {
            verdicts.hanging.add(open.len() as u64, || {
                format!("a coordinator has it open after {LIMIT:?}: {}", open[0])
            });
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Asks the tool about each broker, when all that was sent before `quiet` is old enough for it. Returns
/// what it said.
pub fn find(cluster: &Cluster, quiet: Instant, verdicts: &mut Verdicts) -> kafka::Result<String> {
    // A second more, as it compares whole milliseconds of another clock.
    let old_enough = Duration::from_secs(60 * AGE + 1);
    std::thread::sleep(old_enough.saturating_sub(quiet.elapsed()));
    let mut said = String::new();
    for broker in cluster.brokers() {
        let id = broker.id();
        let table = cluster.find_hanging_transactions(id, AGE)?;
        let hanging: Vec<_> = table.rows().collect();
        verdicts.hanging.add(hanging.len() as u64, || {
            format!("broker {id}: {}", hanging.join("; "))
        });
        said += &format!("  broker {id}: {} found\n  {table}\n", hanging.len());
    }
    Ok(said)
}
