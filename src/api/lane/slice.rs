//! Sends a slice of records through a lane.

use super::{Lane, Route};
use crate::core::receipts::Receipts;
use crate::core::record::AsRecord;
use crate::intake::SliceError;

impl Lane {
    /// Sends records one after the other, as [`send`](Self::send) does. If they are small, it costs
    /// the caller two thirds as much as `send`, because what is the same for all of them is checked
    /// once.
    ///
    /// The records are [`BorrowedRecord`](crate::BorrowedRecord)s or [`Record`](crate::Record)s.
    /// When a record is accepted, its receipt is added to `receipts`. So the number of receipts
    /// tells how many records were accepted, even after an error, or if the future is dropped.
    /// Records without a timestamp may get the same one, the time of the call.
    ///
    /// ```no_run
    /// # async fn example(mut lane: forebay::Lane) -> Result<(), Box<dyn std::error::Error>> {
    /// use forebay::{BorrowedRecord, Receipts};
    ///
    /// let text = std::fs::read_to_string("lines.txt")?;
    /// let record = |line| BorrowedRecord::to("lines").value(line);
    /// let records: Vec<_> = text.lines().map(record).collect();
    /// let mut receipts = Receipts::default();
    /// lane.send_slice(&records, &mut receipts).await?;
    /// while let Some(outcome) = receipts.next().await {
    ///     outcome?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_slice(
        &mut self,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        let failed = self.producer.intake().before_sync();
        let mut at = 0;
        loop {
            at += self.append_slice(&records[at..], receipts);
            let Some(record) = records.get(at) else {
                return self.producer.intake().slice_synced_since(failed).await;
            };
            match self.sending(record.as_record(), true).await {
                Ok(sent) => receipts.push(sent),
                Err(error) => {
                    let intake = self.producer.intake();
                    intake.slice_synced_since(failed).await?;
                    return Err(SliceError { at, error });
                }
            }
            at += 1;
        }
    }

    /// Appends records from the start of the slice, while they go to the topic of the last record
    /// and the open batches have room for them. Returns how many were appended.
    fn append_slice(&self, records: &[impl AsRecord], receipts: &mut Receipts) -> usize {
        if !self.plain || self.sunk.is_waiting() {
            return 0;
        }
        match self.routes.all.get(self.routes.last) {
            Some(Route { topic, .. }) => {
                let intake = self.producer.intake();
                intake.append_slice(topic, records, receipts)
            }
            None => 0,
        }
    }
}
