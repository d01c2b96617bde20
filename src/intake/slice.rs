//! Sends a slice of records with less work for each record.

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
    /// The index of the refused record. All records before it were accepted, and those after it
    /// were not tried.
    pub at: usize,
    /// Why it was refused. If a lane is also used as a sink, this may be the error of the record
    /// that the sink took last. Then the record at this index was not tried either.
    pub error: SendError,
}

impl Intake {
    /// Sends a slice of records; see [`Producer::send_slice`](crate::Producer::send_slice).
    pub async fn send_slice(
        &self,
        recent: &TopicCache,
        listeners: &[Arc<dyn Listener>],
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> Result<(), SliceError> {
        let plain = self.interceptors.is_empty() && listeners.is_empty();
        let failed = self.before_sync();
        let mut at = 0;
        loop {
            if plain {
                at += self.append_cached_slice(recent, &records[at..], receipts);
            }
            let Some(record) = records.get(at) else {
                return self.slice_synced_since(failed).await;
            };
            let options = AppendOptions {
                synced_later: true,
                ..AppendOptions::for_listeners(listeners)
            };
            match self
                .send_borrowed(recent, record.as_record(), options)
                .await
            {
                Ok(receipt) => receipts.push_receipt(receipt),
                Err(error) => {
                    self.slice_synced_since(failed).await?;
                    return Err(SliceError { at, error });
                }
            }
            at += 1;
        }
    }

    /// Waits until the spool has what was accepted of the slice on the disk, where it is accepted then.
    pub async fn slice_synced_since(&self, failed: u64) -> Result<(), SliceError> {
        if !self.syncs {
            return Ok(());
        }
        let synced = self.synced_since(failed).await;
        synced.map_err(|error| SliceError { at: 0, error })
    }

    /// Appends records as [`append_slice`](Self::append_slice) does, if the topic of the first one
    /// is cached. Returns how many were appended.
    fn append_cached_slice(
        &self,
        recent: &TopicCache,
        records: &[impl AsRecord],
        receipts: &mut Receipts,
    ) -> usize {
        let Some(first) = records.first() else {
            return 0;
        };
        // The topic is cloned, so that the cache is not locked during the append. Other threads may
        // use the cache for another topic.
        let topic = recent.with(first.as_record().topic, |topic| Some(Arc::clone(topic)));
        topic.map_or(0, |topic| self.append_slice(&topic, records, receipts))
    }

    /// Appends records from the start of the slice, while they go to `topic` and the open batches
    /// have room for them. Returns how many were appended.
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
            let appended = stage.append_run(run, &self.scope, sticky, |ack, first| {
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
