//! The slow path of every send: a record waits for its topic and for memory until it is accepted.

use std::time::Instant;

use super::error::SendError;
use super::{Admission, Entry, Intake, Missing, check_partition, check_topic_name, wall_clock};
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
            check_topic_name(record.topic)?;
            check_partition(record.topic, record.partition)?;
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
        record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
        missing: Missing,
    ) -> Result<E::Kept, SendError> {
        let asked = self.backend.now();
        self.wait(asked, entry, record, options, missing).await
    }

    async fn wait<E: Entry>(
        &self,
        asked: Instant,
        entry: &mut E,
        mut record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
        mut missing: Missing,
    ) -> Result<E::Kept, SendError> {
        record.resolve_timestamp(wall_clock::millis)?;
        let failed = self.before_sync();
        loop {
            let (topic, step) = match missing {
                Missing::Topic => {
                    let topic = self
                        .topic(&record.topic.into(), record.partition, asked)
                        .await?;
                    let step = self.step(&topic, &record, options)?;
                    (topic, step)
                }
                Missing::Space(topic, target) => {
                    self.space(asked).await?;
                    let Some((topic, target)) = self.chosen_anew(topic, target) else {
                        missing = Missing::Topic;
                        continue;
                    };
                    let step = self.append(&topic, &record, target, options, None)?;
                    (topic, step)
                }
                Missing::Memory(topic, target, size) => {
                    let memory = self.memory(size, asked).await?;
                    let Some((topic, target)) = self.chosen_anew(topic, target) else {
                        // Whoever can use the memory gets it meanwhile.
                        drop(memory);
                        missing = Missing::Topic;
                        continue;
                    };
                    let step = self.append(&topic, &record, target, options, Some(memory))?;
                    (topic, step)
                }
            };
            match step {
                Admission::Accepted(accepted) => {
                    let found = entry.learn_topic(topic);
                    if self.syncs && !options.synced_later {
                        self.synced_since(failed).await?;
                    }
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
        record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Result<E::Kept, SendError> {
        let asked = || self.backend.now();
        self.admit_since(asked, entry, record, options).await
    }

    /// As [`admit`](Self::admit), for a record that has waited for others since it was `asked` for.
    /// `max.block.ms` counts from then.
    pub async fn admit_since<E: Entry>(
        &self,
        asked: impl FnOnce() -> Instant,
        entry: &mut E,
        mut record: BorrowedRecord<'_>,
        options: &mut AppendOptions<'_>,
    ) -> Result<E::Kept, SendError> {
        let failed = self.before_sync();
        let admitted = match self.admit_now(entry, &mut record, options) {
            Ok(Admission::Accepted(kept)) if !self.syncs || options.synced_later => {
                return Ok(kept);
            }
            Ok(Admission::Accepted(kept)) => {
                let synced = self.synced_since(failed).await;
                synced.map(|()| kept)
            }
            Ok(Admission::Missing(missing)) => {
                self.wait(asked(), entry, record, options, missing).await
            }
            Err(error) => Err(error),
        };
        admitted.inspect_err(|error| self.refused(record.topic, error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::memory::Shelf;
    use crate::core::partitioner::{Load, RoundRobin, Sticky};
    use crate::core::record::Record;
    use crate::core::stage::Stage;
    use crate::intake::backend::tests::Asked;
    use crate::intake::topics::{Gauge, PartitionRoute, Topic, TopicCache, Topics};

    /// The topic "t" of two partitions, an intake that routes to it, and the partitioner.
    fn two_partitions(asked: &Arc<Asked>) -> (Intake, Arc<Topic>, Arc<Shelf>) {
        let (shelf, size) = Asked::shelf();
        let topics = Topics::new();
        let topic = topics.insert(topic(&[0, 1].map(|partition| route(partition, size))));
        (asked.intake(topics, Arc::clone(&shelf)), topic, shelf)
    }

    fn route(partition: i32, size: usize) -> PartitionRoute {
        PartitionRoute {
            stage: Arc::new(Stage::new(partition, size, true)),
            gauge: Arc::new(Gauge::new(Instant::now())),
        }
    }

    fn topic(routes: &[PartitionRoute]) -> Topic {
        let (_, size) = Asked::shelf();
        let sticky = Arc::new(Sticky::new(true, size, 1));
        let available = (0..).zip(routes).map(|(partition, _)| partition).collect();
        let dealt = Arc::new(RoundRobin::new());
        Topic::new("t".into(), routes.to_vec(), available, sticky, dealt)
    }

    /// Its broker hangs, and so memory is used up. When some comes back, it is not to go there again.
    #[tokio::test]
    async fn a_record_that_waited_for_memory_goes_to_the_partition_that_is_chosen_then() {
        let asked = Asked::running();
        let (intake, topic, shelf) = two_partitions(&asked);
        let recent = TopicCache::default();
        let sending = intake.send(&recent, Record::to("t"), AppendOptions::default());
        let granting = async {
            let hangs = topic.sticky.current();
            let loads = [0, 1].map(|partition| Load {
                partition,
                queue_len: 1,
                available: partition != hangs,
            });
            topic.sticky.update(&loads);
            asked.grant(&shelf);
            hangs
        };
        let (sent, hangs) = tokio::join!(sending, granting);
        let receipt = sent.expect("accepted");
        let holds = |route: &PartitionRoute| !route.stage.is_empty();
        let held: Vec<_> = topic.partitions.iter().map(holds).collect();
        assert_eq!(held, [hangs != 0, hangs != 1], "{hangs} hangs");
        drop(receipt);
    }

    /// Its stage is open, as records of others there wait for their outcome.
    #[tokio::test]
    async fn a_record_that_waited_for_memory_is_not_accepted_into_a_topic_that_was_deleted() {
        for (partition, anew) in [(None, false), (Some(1), false), (Some(1), true)] {
            let asked = Asked::running();
            let (intake, topic, shelf) = two_partitions(&asked);
            let recent = TopicCache::default();
            let record = Record {
                partition,
                ..Record::to("t")
            };
            let sending = intake.send(&recent, record, AppendOptions::default());
            let deleting = async {
                match anew {
                    // With fewer partitions.
                    true => drop(intake.topics.insert(self::topic(&topic.partitions[..1]))),
                    false => intake.topics.remove("t"),
                }
                asked.grant(&shelf);
            };
            let wanted = async {
                while asked.waits.lock().expect("no panic").is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            let sent = async {
                tokio::select! {
                    biased;
                    sent = sending => panic!("{sent:?}"),
                    () = async { deleting.await; wanted.await } => {}
                }
            };
            sent.await;
            let holds = |route: &PartitionRoute| !route.stage.is_empty();
            assert!(!topic.partitions.iter().any(holds), "{partition:?}");
            assert_eq!(*asked.waits.lock().expect("no panic"), [true]);
        }
    }

    #[tokio::test]
    async fn a_record_that_waited_for_memory_goes_to_the_newest_version_of_its_topic() {
        let asked = Asked::running();
        let (intake, old, shelf) = two_partitions(&asked);
        let recent = TopicCache::default();
        let record = Record::to("t").partition(1);
        let sending = intake.send(&recent, record, AppendOptions::default());
        let (_, size) = Asked::shelf();
        let granting = async {
            let routes = [0, 1].map(|partition| route(partition, size));
            let newest = intake.topics.insert(topic(&routes));
            asked.grant(&shelf);
            newest
        };
        let (sent, newest) = tokio::join!(sending, granting);
        let receipt = sent.expect("accepted");
        assert!(old.partitions[1].stage.is_empty());
        assert!(!newest.partitions[1].stage.is_empty());
        drop(receipt);
    }
}
