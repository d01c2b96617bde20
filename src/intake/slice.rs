//! Many records at once.

use std::iter;
use std::sync::Arc;

use super::Intake;
use crate::core::delivery::Listener;
use crate::core::receipts::Receipts;
use crate::core::record::AsRecord;
use crate::core::stage::AppendOptions;
use crate::intake::error::SendError;
use crate::intake::topics::{Topic, TopicCache};
use crate::intake::wall_clock;

/// Why [`Producer::send_slice`](crate::Producer::send_slice) or
/// [`Lane::send_slice`](crate::Lane::send_slice) stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("record {at} of the slice was refused: {error}")]
#[non_exhaustive]
pub struct SliceError {
    /// Which record was refused. All before it were accepted, those behind it were not tried.
    pub at: usize,
    /// Why. Of a lane that is used as a sink, too, it may be what is to be said of the record that the
    /// sink took last; then this one was not tried either.
    pub error: SendError,
}

impl Intake {
    /// Sends records of a handle; see [`Producer::send_slice`](crate::Producer::send_slice).
    pub async fn send_slice(
        &self,
        recent: &TopicCache,
        listeners: &[Arc<dyn Listener>],
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        let plain = self.interceptors.is_empty() && listeners.is_empty();
        let mut at = 0;
        loop {
            if plain {
                at += self.append_at_hand(recent, &records[at..], receipts);
            }
            let Some(record) = records.get(at) else {
                return Ok(());
            };
            let options = AppendOptions::for_listeners(listeners);
            match self
                .send_borrowed(recent, record.as_record(), options)
                .await
            {
                Ok(receipt) => receipts.push_receipt(receipt),
                Err(error) => return Err(SliceError { at, error }),
            }
            at += 1;
        }
    }

    /// Sends what goes to the first record's topic, if that is at hand and as far as batches are open,
    /// and returns how many records that were.
    fn append_at_hand(
        &self,
        recent: &TopicCache,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> usize {
        let Some(first) = records.first() else {
            return 0;
        };
        // Counted, so that nobody who sends to another topic meanwhile has to do without.
        let topic = recent.with(first.as_record().topic, |topic| Some(Arc::clone(topic)));
        topic.map_or(0, |topic| self.append_slice(&topic, records, receipts))
    }

    /// Sends what goes to `topic`, as far as batches are open, and returns how many records that were.
    pub fn append_slice(
        &self,
        topic: &Topic,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> usize {
        if self.is_closed() {
            return 0;
        }
        let now = wall_clock::millis();
        let mut rest = records;
        while let Some((first, others)) = rest.split_first()
            && let first = first.as_record()
            && topic.is(first.topic)
            && let Some((partition, sticky)) = self.target_at_once(topic, &first)
            && self.fits(&first)
            && let Ok(timestamp) = first.time(|| now)
        {
            let others = others.iter().map(AsRecord::as_record);
            let others = others.take_while(|next| next.goes_with(&first) && self.fits(next));
            let run = iter::once(first).chain(others);
            let run = run.map(|record| record.fields_at(timestamp));
            let stage = &topic.partitions[partition].stage;
            let appended = stage.append_run(run, sticky, |ack, first| {
                receipts.joins(ack, partition, first)
            });
            let Some((joins, indices)) = appended else {
                break;
            };
            rest = &rest[indices.len()..];
            receipts.put(joins, partition, indices, timestamp);
        }
        records.len() - rest.len()
    }
}
