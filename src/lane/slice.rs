//! Many records at once.

use super::{Lane, Receipts, Route};
use crate::error::SendError;
use crate::record::BorrowedRecord;
use crate::wall_clock;

/// Why [`Lane::send_slice`] stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("record {at} of the slice was refused: {error}")]
#[non_exhaustive]
pub struct SliceError {
    /// Which record was refused. All before it were accepted, those behind it were not tried.
    pub at: usize,
    /// Why. Of a lane that is used as a sink, too, it may be what is to be said of the record that the
    /// sink took last; then this one was not tried either.
    #[source]
    pub error: SendError,
}

impl Lane {
    /// Sends records one behind the other, as [`send`](Self::send) would, for two thirds of what that
    /// costs its caller where they are small: what is the same for all of them is looked at once.
    ///
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
        records: &[BorrowedRecord<'_>],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        let mut at = 0;
        loop {
            at += self.append_slice(&records[at..], receipts);
            let Some(record) = records.get(at) else {
                return Ok(());
            };
            match self.send(*record).await {
                Ok(sent) => receipts.push(sent),
                Err(error) => return Err(SliceError { at, error }),
            }
            at += 1;
        }
    }

    /// Sends what goes to the topic of the last record, as far as batches are open, and returns how
    /// many records that were.
    fn append_slice(&mut self, records: &[BorrowedRecord<'_>], receipts: &mut Receipts) -> usize {
        let intake = self.producer.intake();
        if !self.plain || self.sunk.is_waiting() || intake.is_closed() {
            return 0;
        }
        let Some(Route { topic, latest }) = self.routes.all.get_mut(self.routes.last) else {
            return 0;
        };
        let now = wall_clock::millis();
        let mut rest = records;
        while let Some(first) = rest.first()
            && topic.is(first.topic)
            && let Some((at, sticky)) = intake.place_at_once(topic, first)
            && let Ok(timestamp) = first.time(now)
        {
            let goes_along =
                |next: &&BorrowedRecord<'_>| next.goes_with(first) && intake.fits(next);
            let run = rest.iter().take_while(goes_along);
            let run = run.map(|next| next.fields_at(timestamp));
            let (latest, mut former) = (&mut latest[at], None);
            let stage = &topic.partitions[at].stage;
            let count = stage.append_run(run, sticky, |ack, last| {
                former = latest.follow(ack, last, timestamp);
            });
            drop(former);
            if count == 0 {
                break;
            }
            receipts.add(latest, count);
            rest = &rest[count as usize..];
        }
        records.len() - rest.len()
    }
}
