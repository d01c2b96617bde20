//! A batch lent to a sender, and how it comes back to its partition.

use std::sync::Arc;

use uuid::Uuid;

use super::{Gate, OutgoingBatch};
use crate::core::batch::HEADER_LEN;
use crate::core::ledger::{Lent, Report};
use crate::core::memory::Buffer;
use crate::core::record::TopicPartition;
use crate::core::wire::TransactionProtocol;

/// The partition that a loan goes back to.
pub(crate) trait LoanHome {
    /// The loan with this id is back. `report` says what became of it. While `alive` is held, the
    /// ledger knows that the news of the loan is not lost.
    fn loan_returned(&self, id: u64, report: Report, alive: Arc<()>);
}

/// A batch that a sender may send. The partition's ledger keeps it too.
///
/// Dropping a loan, in whatever way, reports to the partition that it is back, and whether a byte
/// of it may have been written. So if a sender dies, no batch is lost, and its state is known.
pub(crate) struct Loan<H: LoanHome> {
    pub topic_partition: TopicPartition,
    pub topic_id: Uuid,
    lent: Lent,
    owner: H,
    /// The gate of the request that carries the batch. The request passes it before its first byte
    /// is written.
    gate: Option<Arc<Gate>>,
    /// Why the loan comes back without a response.
    error: Option<Arc<str>>,
    settled: bool,
}

impl<H: LoanHome> Loan<H> {
    /// Boxed, because it is moved through half a dozen functions and queues.
    pub fn new(topic_partition: TopicPartition, topic_id: Uuid, lent: Lent, owner: H) -> Box<Self> {
        let (gate, error, settled) = (None, None, false);
        Box::new(Self {
            topic_partition,
            topic_id,
            lent,
            owner,
            gate,
            error,
            settled,
        })
    }

    /// What the batch's transaction speaks, if it is part of one.
    pub fn protocol(&self) -> Option<TransactionProtocol> {
        self.lent.protocol
    }

    pub fn records(&self) -> &Arc<Buffer> {
        &self.lent.records
    }

    /// Notes that the batch is sent with the request of this gate.
    pub fn goes_with(&mut self, gate: &Arc<Gate>) {
        self.gate = Some(Arc::clone(gate));
    }

    /// Gives the loan back with the report on it.
    #[expect(clippy::boxed_local, reason = "it stays where it is")]
    pub fn settle(mut self: Box<Self>, report: Report) {
        self.settled = true;
        self.come_back(report);
    }

    fn come_back(&self, report: Report) {
        let alive = Arc::clone(&self.lent.alive);
        let id = self.lent.id;
        self.owner.loan_returned(id, report, alive);
    }

    /// Gives the loan back without a response, because of `error`.
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
