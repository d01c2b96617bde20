//! The slow path of every send: a record waits for its topic and for memory until it is accepted.

use super::error::SendError;
use super::{Admission, Entry, Intake, Missing, wall_clock};
use crate::core::record::BorrowedRecord;
use crate::core::stage::AppendOptions;

impl Intake {
    /// Admits a record if that is possible without waiting.
    pub fn admit_now<E: Entry>(
        &self,
        entry: &mut E,
        record: &mut BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Result<Admission<E::Kept>, SendError> {
        self.check_open()?;
        record.resolve_timestamp(wall_clock::millis)?;
        let Some(found) = entry.find_topic(record.topic, &self.topics) else {
            return Ok(Admission::Missing(Missing::Topic));
        };
        Ok(match self.step(entry.topic(&found), record, options)? {
            Admission::Accepted(accepted) => {
                Admission::Accepted(entry.keep(found, accepted, record.fields.timestamp))
            }
            Admission::Missing(missing) => Admission::Missing(missing),
        })
    }

    /// Waits for what is missing until the record is accepted.
    pub async fn admit_later<E: Entry>(
        &self,
        entry: &mut E,
        mut record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
        mut missing: Missing,
    ) -> Result<E::Kept, SendError> {
        record.resolve_timestamp(wall_clock::millis)?;
        let asked = self.backend.now();
        loop {
            let (topic, step) = match missing {
                Missing::Topic => {
                    let topic = self.topic(&record.topic.into(), asked).await?;
                    let step = self.step(&topic, &record, options)?;
                    (topic, step)
                }
                Missing::Memory(topic, target, size) => {
                    let memory = self.memory(size, asked).await?;
                    let step = self.append(&topic, &record, target, options, Some(memory))?;
                    (topic, step)
                }
            };
            match step {
                Admission::Accepted(accepted) => {
                    let found = entry.learn_topic(topic);
                    return Ok(entry.keep(found, accepted, record.fields.timestamp));
                }
                Admission::Missing(next) => missing = next,
            }
        }
    }

    /// Admits a record that the interceptors have seen. They are told if it is refused.
    pub async fn admit<E: Entry>(
        &self,
        entry: &mut E,
        mut record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Result<E::Kept, SendError> {
        let admitted = match self.admit_now(entry, &mut record, options) {
            Ok(Admission::Accepted(kept)) => return Ok(kept),
            Ok(Admission::Missing(missing)) => {
                self.admit_later(entry, record, options, missing).await
            }
            Err(error) => Err(error),
        };
        admitted.inspect_err(|error| self.refused(record.topic, error))
    }
}
