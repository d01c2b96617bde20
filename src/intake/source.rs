//! Sends the records of a source, one after the other.
//!
//! A record is appended only when the disk has the one before. They may be in different files, of which a
//! machine that stops may have kept the later one alone.

use std::sync::Arc;

use super::Intake;
use super::backend::Asking;
use super::deadline::NoAnswer;
use super::error::{SendError, WaitsFor};
use super::lease::Lease;
use super::source_error::SourceError;
use super::topics::TopicCache;
use crate::core::ack::Receipt;
use crate::core::delivery::Listener;
use crate::core::record::Record;
use crate::core::spool::{Open, Progress, Source};
use crate::core::stage::AppendOptions;

/// The longest name of a source, in bytes.
const LONGEST_NAME: usize = 1_000;

impl Intake {
    /// Has a source lent, and waits until the disk has all that is known of it.
    pub async fn lend_source(&self, name: &Arc<str>) -> Result<Lease, SourceError> {
        let ask = || self.backend.open_source(name);
        let lease = self.asked_of_spool(name, ask).await?;
        let lease = lease.ok_or_else(|| SourceError::InUse {
            name: Arc::clone(name),
        })?;
        self.decide(&lease).await?;
        Ok(lease)
    }

    /// Up to where a source is accepted, whoever has it.
    pub async fn accepted_up_to(&self, name: &Arc<str>) -> Result<Option<u64>, SourceError> {
        let ask = || self.backend.progress_of(name);
        let progress: Progress = self.asked_of_spool(name, ask).await?;
        match progress.open() {
            Some(open) => self.await_open(open).await.map(Some),
            None => Ok(progress.accepted()),
        }
    }

    /// Sends a record of a source. The position counts as soon as the record is appended, though this future
    /// is dropped then.
    pub async fn send_of_source(
        &self,
        mut recent: &TopicCache,
        listeners: &[Arc<dyn Listener>],
        lease: &Lease,
        (record, position): (Record, u64),
    ) -> Result<Receipt, SourceError> {
        self.decide(lease).await?;
        let progress = *lease.progress.borrow();
        if let (false, Some(accepted)) = (progress.may_follow(position), progress.seen()) {
            return Err(SourceError::NotRising { position, accepted });
        }
        let source = Source {
            source: lease.number,
            position,
        };
        let mut options = AppendOptions {
            synced_later: true,
            source: Some(&source),
            ..AppendOptions::for_listeners(listeners)
        };
        let record = self.intercepted(record)?;
        let failed = self.before_sync();
        let receipt = self
            .admit(&mut recent, record.borrowed(), &mut options)
            .await?;
        // Nothing is waited for since it was appended.
        let appended = |progress: &mut Progress| progress.appended(position, failed);
        lease.progress.send_modify(appended);
        self.decide(lease).await?;
        Ok(receipt)
    }

    /// Waits until it is known that all is accepted that was appended.
    pub async fn decide(&self, lease: &Lease) -> Result<(), SourceError> {
        let open = lease.progress.borrow().open();
        if let Some(open) = open {
            let position = self.await_open(open).await?;
            let synced = |progress: &mut Progress| progress.synced(position);
            lease.progress.send_modify(synced);
        }
        Ok(())
    }

    /// Waits until the disk has what was appended. Returns up to where the source is accepted then.
    async fn await_open(&self, Open { position, failed }: Open) -> Result<u64, SourceError> {
        match self.synced_since(failed).await {
            Ok(()) => Ok(position),
            Err(SendError::InDoubt { why }) => Err(SourceError::InDoubt { position, why }),
            Err(other) => Err(other.into()),
        }
    }

    /// Asks the spool, again if the question is lost.
    async fn asked_of_spool<T>(
        &self,
        name: &str,
        ask: impl Fn() -> Option<Asking<T>>,
    ) -> Result<T, SourceError> {
        let (length, limit) = (name.len(), LONGEST_NAME);
        if !(1..=limit).contains(&length) {
            return Err(SourceError::IllegalName { length, limit });
        }
        let asked = self.backend.now();
        loop {
            self.check_open()?;
            let answer = ask().ok_or(SourceError::NoSpool)?;
            match self.answer(answer, asked).await {
                Ok(Ok(answer)) => return Ok(answer),
                // The request was lost when an actor restarted. It is repeated.
                Ok(Err(_)) if self.backend.is_running() => {}
                Ok(Err(_)) => return Err(SendError::Closed.into()),
                Err(NoAnswer::InCallback) => {
                    return Err(SendError::InCallback(WaitsFor::Spool).into());
                }
                Err(NoAnswer::TimedOut) => {
                    let waited = self.config.max_block;
                    return Err(SourceError::Unanswered { waited });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt;
    use tokio::sync::{oneshot, watch};

    use super::*;
    use crate::core::memory::Shelf;
    use crate::core::partitioner::{RoundRobin, Sticky};
    use crate::core::spool::{EmptySegment, Memory, PAGE, Seat, Space};
    use crate::core::stage::Stage;
    use crate::intake::backend::tests::Asked;
    use crate::intake::topics::{Gauge, PartitionRoute, Topic, Topics};

    type Sync = oneshot::Sender<Result<(), Arc<str>>>;

    /// A source, and the topic "t" of one partition that is in a spool.
    struct Scene {
        asked: Arc<Asked>,
        intake: Intake,
        recent: TopicCache,
        stage: Arc<Stage>,
        shelf: Arc<Shelf>,
        lease: Lease,
        _seen: watch::Receiver<Progress>,
    }

    impl Scene {
        fn new() -> Self {
            let asked = Asked::running();
            let (shelf, size) = Asked::shelf();
            let space = Space::new();
            space.add(EmptySegment {
                number: 1,
                salt: 2,
                region: Arc::new(Memory::new(PAGE + (64 << 10))),
            });
            space.resume(0, 0);
            let stage = Arc::new(Stage::new(0, size, true));
            stage.set_seat(Seat::new(space, 0));
            let route = PartitionRoute {
                stage: Arc::clone(&stage),
                gauge: Arc::new(Gauge::new(Instant::now())),
            };
            let sticky = Arc::new(Sticky::new(true, size, 1));
            let dealt = Arc::new(RoundRobin::new());
            let topics = Topics::new();
            topics.insert(Topic::new("t".into(), vec![route], vec![0], sticky, dealt));
            let (progress, seen) = watch::channel(Progress::default());
            Self {
                intake: asked.intake(topics, Arc::clone(&shelf)),
                asked,
                recent: TopicCache::default(),
                stage,
                shelf,
                lease: Lease {
                    number: 3,
                    progress,
                },
                _seen: seen,
            }
        }

        /// The next wait for the disk ends when this is told.
        fn sync(&self) -> Sync {
            let (told, synced) = oneshot::channel();
            self.asked.syncs.lock().expect("no panic").push_back(synced);
            told
        }

        fn send(&self, position: u64) -> impl Future<Output = Result<Receipt, SourceError>> {
            let sent = (Record::to("t").value("a line"), position);
            self.intake
                .send_of_source(&self.recent, &[], &self.lease, sent)
        }

        fn accepted(&self) -> Option<u64> {
            self.lease.progress.borrow().accepted()
        }

        fn appended(&self) -> usize {
            self.stage.load().0
        }
    }

    /// It is dropped at each place where it waits.
    #[test]
    fn a_send_that_is_dropped_is_accepted_once_or_not_at_all() {
        let scene = Scene::new();
        let waits_for_memory = scene.send(5).now_or_never();
        assert!(waits_for_memory.is_none());
        assert_eq!((scene.appended(), scene.accepted()), (0, None));

        let mut sending = Box::pin(scene.send(5));
        let told = scene.sync();
        assert!(sending.as_mut().now_or_never().is_none(), "for memory");
        scene.asked.grant(&scene.shelf);
        assert!(sending.as_mut().now_or_never().is_none(), "for the disk");
        drop((sending, told));
        assert_eq!((scene.appended(), scene.accepted()), (1, None));

        // The next one waits for the disk first.
        let told = scene.sync();
        let mut again = Box::pin(scene.send(5));
        assert!(again.as_mut().now_or_never().is_none());
        told.send(Ok(())).expect("it waits");
        let refused = again.now_or_never().expect("the disk has it");
        let refused = refused.expect_err("it is accepted already");
        assert!(
            matches!(
                refused,
                SourceError::NotRising {
                    position: 5,
                    accepted: 5
                }
            ),
            "{refused}"
        );
        assert_eq!((scene.appended(), scene.accepted()), (1, Some(5)));
        let next = scene.send(6).now_or_never().expect("nothing to wait for");
        drop(next.expect("accepted"));
        assert_eq!((scene.appended(), scene.accepted()), (2, Some(6)));
    }

    #[test]
    fn nothing_follows_a_record_that_a_disk_may_have_lost() {
        let scene = Scene::new();
        let mut sending = Box::pin(scene.send(5));
        assert!(sending.as_mut().now_or_never().is_none());
        scene.asked.grant(&scene.shelf);
        drop(sending.now_or_never().expect("appended").expect("accepted"));
        for position in [6, 7, 7] {
            scene.sync().send(Err("it failed".into())).expect("kept");
            let sent = scene.send(position).now_or_never().expect("an answer");
            let doubt = sent.expect_err("the disk failed");
            assert!(
                matches!(doubt, SourceError::InDoubt { position: 6, .. }),
                "{doubt}"
            );
        }
        assert_eq!((scene.appended(), scene.accepted()), (2, Some(5)));
    }
}
