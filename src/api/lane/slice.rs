//! Many records at once.

use super::{Lane, Route};
use crate::core::receipts::Receipts;
use crate::core::record::AsRecord;
use crate::intake::SliceError;

impl Lane {
    /// Sends records one behind the other, as [`send`](Self::send) would, for two thirds of what that
    /// costs its caller where they are small: what is the same for all of them is looked at once.
    ///
    /// The records are [`BorrowedRecord`](crate::BorrowedRecord)s, or [`Record`](crate::Record)s.
    /// Their receipts go into `receipts` as the records are accepted. So they tell how many were,
    /// also after an error, or when the future is dropped. Records without a time of their own may
    /// share one, the time of the call.
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
        let mut at = 0;
        loop {
            at += self.append_slice(&records[at..], receipts);
            let Some(record) = records.get(at) else {
                return Ok(());
            };
            match self.send(record.as_record()).await {
                Ok(sent) => receipts.push(sent),
                Err(error) => return Err(SliceError { at, error }),
            }
            at += 1;
        }
    }

    /// Sends what goes to the topic of the last record, as far as batches are open, and returns how
    /// many records that were.
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
