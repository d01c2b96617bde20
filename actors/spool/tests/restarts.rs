//! A panic in a handler has the actor go on with what it has.

use super::*;
use crate::disk::ModelDisk;

/// A panic in a handler.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Fall;

impl Handler<Fall> for SpoolActor {
    type Result = ();

    fn handle(&mut self, _: Fall, ctx: &mut Context<Self>) {
        guard::watch_over(self, ctx, |_, _| panic!("injected"));
    }
}

/// A partition tells its outcomes again when anything has fallen.
#[test]
fn a_rejected_record_that_is_told_again_has_one_line() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    run(async {
        let mut spool = Spool::start(&path);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        for _ in 0..3 {
            spool.append(&mut seat).await;
        }
        spool.settle(1, 0, 1, Fate::Rejected);
        spool.settle(1, 1, 1, Fate::Rejected);
        spool.settle(1, 0, 1, Fate::Rejected);
        assert_eq!(spool.recorded.recv().await, Some(vec![0]));
        assert_eq!(spool.recorded.recv().await, Some(vec![1]));
        // What it was told of may have been lost.
        spool.settle(1, 0, 1, Fate::Rejected);
        assert_eq!(spool.recorded.recv().await, Some(vec![0]));
        let figures = spool.spool.send(GetSpoolFigures).await.expect("it lives");
        assert_eq!(figures.rejected, 2);
        spool.spool.send(Stop).await.expect("it lives");
    });
    let positions = rejected_in(&path);
    let positions = positions.iter().map(|line| line["position"].as_u64());
    assert_eq!(positions.collect::<Vec<_>>(), [Some(0), Some(1)]);
}

#[test]
fn what_is_rejected_is_told_though_the_actor_restarts() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    run(async {
        let mut spool = Spool::start(&path);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        for _ in 0..600 {
            spool.append(&mut seat).await;
        }
        for position in [0, 300] {
            spool.settle(1, position, 300, Fate::Rejected);
        }
        for _ in 0..4 {
            spool.spool.send(Fall).await.expect("it lives");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert_eq!(spool.recorded.recv().await, Some(vec![0]));
        assert_eq!(spool.recorded.recv().await, Some(vec![300]));
        spool.spool.send(Stop).await.expect("it lives");
    });
    let lines = rejected_in(&path);
    let positions: BTreeSet<_> = lines.iter().map(|line| line["position"].as_u64()).collect();
    assert_eq!(positions, (0..600).map(Some).collect());
}

/// What it waits for is made, and what it moves is moved.
#[test]
fn nothing_is_pinned_though_the_actor_restarts() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let kept = run(async {
        let mut spool = Spool::start(&path);
        for slot in 0..2 {
            let who = Arc::clone(&spool.peer);
            spool.spool.do_send(SlotTaken {
                slot,
                who,
                open_from: 0,
            });
        }
        let [mut dead, mut live] = [0, 1].map(|slot| Seat::new(Arc::clone(&spool.space), slot));
        for round in 0..2 * MOST / 1000 {
            if round % 50 == 0 {
                spool.append_leaving(&mut dead, &mut live).await;
                spool.spool.do_send(Fall);
            }
            let position = live.next_position();
            spool.append_leaving(&mut live, &mut dead).await;
            spool.settle(1, position, 1, Fate::Acked(position as i64));
            if round % 50 == 20 {
                tokio::task::yield_now().await;
                spool.spool.do_send(Fall);
            }
        }
        let kept = dead.next_position();
        drop((dead, live));
        // All that is left but the newest two is moved, and no file is left that nobody knows.
        while segment_names(&path).len() > 3 {
            spool.spool.do_send(SpaceChanged);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        spool.spool.send(Stop).await.expect("it lives");
        kept
    });
    recover_all(&path, kept);
}

/// Nothing that is written to it would ever be synced.
#[test]
fn a_segment_that_has_failed_is_left_though_the_news_of_it_is_lost() {
    let disk = ModelDisk::new(1);
    run(async {
        let store = disk.store().expect("nobody has it");
        let hour = Duration::from_secs(3600);
        let spool = Spool::on(Arc::new(store), (SEGMENT, MOST), hour, true);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        spool.append(&mut seat).await;
        spool.told.is_deaf.store(true, Ordering::Relaxed);
        for name in disk.names() {
            disk.fail_sync(&name);
        }
        assert!(spool.written.synced().await.is_err());
        spool.told.is_deaf.store(false, Ordering::Relaxed);
        spool.spool.send(Fall).await.expect("it lives");
        spool.append(&mut seat).await;
        while let Err(why) = spool.written.synced().await {
            assert!(why.to_string().contains("journal"), "{why}");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        spool.spool.send(Stop).await.expect("it lives");
    });
}
