//! Who hears of what former producers left.

use super::*;
use crate::core::spool::ResumedOutcome;
use crate::disk::ModelDisk;

/// Hears of it, and takes its time.
struct Slow(UnboundedSender<Resumed>);

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Resumed> for Slow {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, resumed: Resumed, _: &mut Context<Self>) -> Self::Result {
        let told = self.0.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let _ = told.send(resumed);
        })
    }
}

/// A spool in which a producer has left four records of a partition.
async fn leave(disk: &ModelDisk) {
    let store = Arc::new(disk.store().expect("nobody has it"));
    let hour = Duration::from_secs(3600);
    let spool = Spool::on(store, (SEGMENT, MOST), hour, false);
    spool.wait_for_space().await;
    let mut seat = Seat::new(Arc::clone(&spool.space), 1);
    for _ in 0..4 {
        spool.append(&mut seat).await;
    }
    drop(seat);
    spool.spool.send(Stop).await.expect("it lives");
}

/// The next producer on it, and what an actor of the application hears.
fn go_on(disk: &ModelDisk, machine: bool) -> (Spool, UnboundedReceiver<Resumed>) {
    let (told, heard) = unbounded_channel();
    let store = Arc::new(disk.store().expect("nobody has it"));
    let hour = Duration::from_secs(3600);
    let to = Some(Slow(told).start().recipient());
    let spool = Spool::telling(store, (SEGMENT, MOST), hour, machine, to);
    (spool, heard)
}

fn waits(spool: &Spool) -> oneshot::Receiver<()> {
    let (reply, over) = oneshot::channel();
    spool.spool.do_send(WaitForResumed(reply));
    over
}

#[test]
fn each_batch_of_a_former_producer_is_told_once_in_order() {
    for machine in [false, true] {
        let disk = ModelDisk::new(1);
        run(async {
            leave(&disk).await;
            let (spool, mut heard) = go_on(&disk, machine);
            let mut over = waits(&spool);
            spool.settle(1, 0, 1, Fate::Acked(70));
            spool.settle(1, 1, 2, Fate::Unknown);
            // It tells again what it has not heard of.
            spool.settle(1, 1, 2, Fate::Unknown);
            // This producer's own.
            spool.settle(1, 1 << 40, 1, Fate::Acked(80));
            tokio::task::yield_now().await;
            assert!(over.try_recv().is_err(), "one has no outcome");
            spool.settle(1, 3, 1, Fate::Rejected);
            over.await.expect("all have their outcome");
            let told: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok())
                .map(|it| (it.position, it.count, it.outcome))
                .collect();
            let rejected = ResumedOutcome::Rejected {
                why: "it is too large".into(),
            };
            let acked = ResumedOutcome::Acked {
                offset: Some(70),
                may_be_twice: false,
            };
            let expected = [
                (0, 1, acked),
                (1, 2, ResumedOutcome::Unknown),
                (3, 1, rejected),
            ];
            assert_eq!(told, expected);
            spool.spool.send(Stop).await.expect("it lives");
        });
    }
}

#[test]
fn what_is_not_told_when_it_stops_is_told_then() {
    let disk = ModelDisk::new(1);
    run(async {
        leave(&disk).await;
        let (spool, mut heard) = go_on(&disk, false);
        let over = waits(&spool);
        for position in 0..3 {
            spool.settle(1, position, 1, Fate::Acked(position as i64));
        }
        spool.spool.send(Stop).await.expect("it lives");
        assert!(over.await.is_err(), "the last one has no outcome");
        drop(spool);
        for position in 0..3 {
            let told = heard.recv().await.expect("it is told");
            assert_eq!(told.position, position);
        }
    });
}

#[test]
fn a_restart_goes_on_with_telling() {
    let disk = ModelDisk::new(1);
    run(async {
        leave(&disk).await;
        let (spool, mut heard) = go_on(&disk, false);
        let over = waits(&spool);
        for position in 0..4 {
            spool.settle(1, position, 1, Fate::Acked(position as i64));
            spool.spool.do_send(restarts::Fall);
        }
        over.await.expect("all were told");
        let mut told: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok())
            .map(|it| it.position)
            .collect();
        // The one that was being told may be told again.
        told.dedup();
        assert_eq!(told, [0, 1, 2, 3]);
        spool.spool.send(Stop).await.expect("it lives");
    });
}
