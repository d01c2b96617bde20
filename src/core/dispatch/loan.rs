//! A batch lent to a sender, and its way back.

use std::sync::Arc;

use uuid::Uuid;

use super::{Gate, OutgoingBatch};
use crate::core::batch::{HEADER_LEN, Payload};
use crate::core::ledger::{Lent, Report};
use crate::core::record::TopicPartition;

/// Where a loan goes back to: its partition.
pub(crate) trait LoanHome {
    /// The loan is back, with what became of it. As long as `alive` lives, the ledger knows that the
    /// loan is somewhere.
    fn loan_returned(&self, id: u64, report: Report, alive: Arc<()>);
}

/// A batch that the partition's ledger keeps and a sender may send. Dropping it, in whatever way,
/// tells the partition, and whether a byte of it may have left; so a sender that dies loses
/// nothing and nobody has to guess.
pub(crate) struct Loan<H: LoanHome> {
    pub topic_partition: TopicPartition,
    pub topic_id: Uuid,
    lent: Lent,
    home: H,
    /// Passed by the request that carries the batch, before its first byte is written.
    gate: Option<Arc<Gate>>,
    /// Why it comes back without an answer.
    error: Option<Arc<str>>,
    settled: bool,
}

impl<H: LoanHome> Loan<H> {
    /// In a box, since it goes through half a dozen hands.
    pub fn new(topic_partition: TopicPartition, topic_id: Uuid, lent: Lent, home: H) -> Box<Self> {
        let (gate, error, settled) = (None, None, false);
        Box::new(Self {
            topic_partition,
            topic_id,
            lent,
            home,
            gate,
            error,
            settled,
        })
    }

    pub fn records(&self) -> &Arc<Payload> {
        &self.lent.records
    }

    /// The batch goes out with the request behind this gate.
    pub fn goes_with(&mut self, gate: &Arc<Gate>) {
        self.gate = Some(Arc::clone(gate));
    }

    /// Gives the loan back with what the broker said.
    #[expect(clippy::boxed_local, reason = "it stays where it is")]
    pub fn settle(mut self: Box<Self>, report: Report) {
        self.settled = true;
        self.come_back(report);
    }

    fn come_back(&self, report: Report) {
        let alive = Arc::clone(&self.lent.alive);
        let id = self.lent.id;
        self.home.loan_returned(id, report, alive);
    }

    /// Gives the loan back without an answer.
    #[expect(clippy::boxed_local, reason = "it stays where it is")]
    pub fn give_back(mut self: Box<Self>, error: &Arc<str>) {
        self.error = Some(Arc::clone(error));
    }
}

impl<H: LoanHome> OutgoingBatch for Loan<H> {
    fn topic(&self) -> &str {
        &self.topic_partition.topic
    }

    fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    fn partition(&self) -> i32 {
        self.topic_partition.partition
    }

    fn header(&self) -> &[u8; HEADER_LEN] {
        &self.lent.header
    }

    fn records_len(&self) -> usize {
        self.lent.records.len()
    }
}

impl<H: LoanHome> Drop for Loan<H> {
    fn drop(&mut self) {
        if !self.settled {
            let written = self.gate.as_ref().is_some_and(|gate| gate.shut());
            let error = self
                .error
                .take()
                .unwrap_or_else(|| "the sender is gone".into());
            self.come_back(Report::Returned { written, error });
        }
    }
}
