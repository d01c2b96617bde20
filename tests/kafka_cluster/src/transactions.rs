//! What the brokers know of transactions, by Kafka's own tool.

use std::fmt;

use super::{Cluster, Result};

const TOOL: &str = "org.apache.kafka.tools.TransactionsCommand";

/// A table that the tool has printed.
pub struct Table(String);

impl Table {
    /// Its lines, without their title.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        let lines = self.0.lines().map(str::trim);
        lines.filter(|line| !line.is_empty()).skip(1)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim())
    }
}

impl Cluster {
    /// All transactions that coordinators know of that have not ended.
    pub fn open_transactions(&self) -> Result<Vec<String>> {
        let all = self.ask_for_transactions(&["list"])?;
        let open = all.rows().filter(|row| is_open(row));
        Ok(open.map(str::to_owned).collect())
    }

    /// Transactions that are open in a broker's partitions, and that no coordinator will end. The tool passes
    /// over those whose last record has a timestamp of less than so many minutes ago, which may not be 0.
    pub fn find_hanging_transactions(&self, broker: i32, minutes: u64) -> Result<Table> {
        let (broker, minutes) = (broker.to_string(), minutes.to_string());
        let [of, than] = ["--broker-id", "--max-transaction-timeout"];
        self.ask_for_transactions(&["find-hanging", of, &broker, than, &minutes])
    }

    fn ask_for_transactions(&self, args: &[&str]) -> Result<Table> {
        let bootstrap = self.bootstrap();
        let args = [&["--bootstrap-server", &bootstrap], args].concat();
        self.tool(TOOL, &args).map(Table)
    }
}

/// Whether a line of `list` has a transaction that has not ended. The state is the last word.
fn is_open(row: &str) -> bool {
    const ENDED: [&str; 4] = ["Empty", "CompleteCommit", "CompleteAbort", "Dead"];
    let state = row.split_whitespace().last();
    !state.is_some_and(|state| ENDED.contains(&state))
}
