//! Disks that fail, and processes and machines that end anywhere.

use rand::Rng;

use super::*;
use crate::disk::ModelDisk;

/// Small, so that much is moved.
const SMALL: (u64, u64) = (64 << 10, 4 * (64 << 10));

fn start(disk: &ModelDisk, machine: bool) -> Spool {
    let store = disk.store().expect("nobody has it");
    Spool::on(Arc::new(store), SMALL, Duration::from_secs(3600), machine)
}

#[test]
fn what_is_told_is_in_a_journal_that_the_disk_takes() {
    let disk = ModelDisk::new(1);
    let journal = file_name(Kind::Journal, 1);
    run(async {
        let mut spool = start(&disk, false);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        spool.append(&mut seat).await;
        assert!(disk.fail_sync(&journal));
        disk.limit(0);
        assert!(spool.written.synced().await.is_err());
        spool.settle(1, 0, 1, Fate::NotWritten);
        // There is no other journal.
        let figures = spool.spool.send(GetSpoolFigures).await;
        figures.expect("it lives");
        assert!(spool.recorded.try_recv().is_err());
        disk.limit(u64::MAX);
        assert_eq!(spool.recorded.recv().await, Some(vec![0]));
    });
    disk.crash_machine();
    let recovered = recover(&disk.store().expect("nobody has it")).expect("it can be read");
    let settled = &recovered.state.slots[&1].settled;
    assert!(settled.contains(0), "{settled:?}");
}

/// Partitions that end tell what is on its way to the journal.
#[test]
fn what_a_spool_is_told_before_it_stops_survives_the_machine() {
    for seed in 0..10 {
        let disk = ModelDisk::new(seed);
        run(async {
            let spool = start(&disk, true);
            spool.wait_for_space().await;
            let mut seat = Seat::new(Arc::clone(&spool.space), 1);
            spool.append(&mut seat).await;
            spool.settle(1, 0, 1, Fate::NotWritten);
            spool.spool.send(Stop).await.expect("it lives");
        });
        disk.crash_machine();
        let recovered = recover(&disk.store().expect("nobody has it")).expect("it can be read");
        let settled = recovered.state.slots.get(&1).map(|slot| &slot.settled);
        assert!(
            settled.is_some_and(|it| it.contains(0)),
            "seed {seed}: {settled:?}"
        );
    }
}

/// What is told to be kept has to be there.
#[test]
fn a_partition_knows_what_a_disk_may_have_lost_before_it_ends() {
    for machine in [true, false] {
        let disk = ModelDisk::new(1);
        run(async {
            let mut spool = start(&disk, machine);
            let who = Arc::clone(&spool.peer);
            spool.spool.do_send(SlotTaken {
                slot: 1,
                who,
                open_from: 0,
            });
            spool.wait_for_space().await;
            let mut seat = Seat::new(Arc::clone(&spool.space), 1);
            spool.append(&mut seat).await;
            seat.leave();
            spool.append(&mut seat).await;
            let mut names = disk.names().into_iter();
            let segment = names.find(|name| matches!(parse_name(name), Some((Kind::Segment, _))));
            assert!(disk.fail_sync(&segment.expect("one is filled")));
            // The producer ends.
            seat.leave();
            while !spool.spool.send(SyncAll).await.expect("it lives") {}
            let told: Vec<_> = std::iter::from_fn(|| spool.doubted.try_recv().ok()).collect();
            match machine {
                true => assert_eq!(told, [0..1, 1..2]),
                false => assert_eq!(told, [], "the process does not lose them"),
            }
        });
    }
}

/// One partition takes nothing, all of the other one is acked, and its records have to make place.
#[test]
fn nothing_that_waits_is_lost_wherever_it_ends() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("FOREBAY_FIRST_SEED").unwrap_or(0);
    let seeds = number("FOREBAY_SEEDS").unwrap_or(4);
    for seed in first..first + seeds {
        let (disk, mut rng) = (ModelDisk::new(seed), SmallRng::seed_from_u64(seed));
        // Those of the first slot that survive the end, whichever.
        let mut safe = 0;
        for life in 0..3 {
            let machine = rng.random();
            let operations = rng.random_range(100..3000);
            let kept = run(live(&disk, safe, operations));
            match machine {
                true => {
                    disk.crash_machine();
                    safe = kept.synced;
                }
                false => {
                    disk.crash_process();
                    safe = kept.written;
                }
            }
            let store = disk.store().expect("nobody has it");
            let recovered = recover(&store).expect("it can be read");
            // One is made so that the rest can be moved.
            let segments = recovered.segments.len();
            assert!(segments <= 5, "seed {seed}, life {life}: {segments}");
            let mut next = 0;
            for held in recovered.catalog.held(0, 0) {
                if held.from > next {
                    break;
                }
                next = held.to;
            }
            let what = format!("seed {seed}, life {life}, machine {machine}: {next} of {safe}");
            assert!(next >= safe, "{what}, {:?}", recovered.damage);
            safe = next;
        }
    }
}

/// What of the first slot is there.
struct Kept {
    written: u64,
    synced: u64,
}

/// Goes on until the process stops.
async fn live(disk: &ModelDisk, before: u64, operations: u64) -> Kept {
    let mut spool = start(disk, false);
    for slot in 0..2 {
        let who = Arc::clone(&spool.peer);
        spool.spool.do_send(SlotTaken {
            slot,
            who,
            open_from: 0,
        });
    }
    // It is all there as it was.
    for (position, batch) in (0..).zip(spool.read_back(0, before).await) {
        assert_eq!(batch.position, position);
        let last = batch.records.last_chunk::<3>().map(|it| it[0]);
        assert_eq!(last, Some(position as u8));
    }
    let [mut dead, mut live] = [0, 1].map(|slot| Seat::new(Arc::clone(&spool.space), slot));
    // What a former process had acked, and the journal does not have, is found in the log.
    for position in (0..live.next_position()).step_by(1 << 30) {
        spool.settle(1, position, 1 << 30, Fate::Acked(0));
    }
    let mut kept = Kept {
        written: before,
        synced: before,
    };
    // What was left out is settled. It begins where it can be told.
    let goes_on = dead.next_position() == before;
    disk.stop_behind(operations);
    for round in 0.. {
        let of_dead = goes_on && round % 40 == 0 && round < 400;
        let (seat, other) = match of_dead {
            true => (&mut dead, &mut live),
            false => (&mut live, &mut dead),
        };
        while !seat.make_room(1100) {
            let space = spool.space_within(Duration::from_millis(50));
            let _ = space.await;
            if disk.has_stopped() {
                return kept;
            }
            if spool.expired.try_recv().is_ok() {
                seat.leave();
                other.leave();
            }
        }
        let position = seat.next_position();
        let there = Spool::put(seat);
        if disk.has_stopped() {
            return kept;
        }
        assert!(there);
        if of_dead {
            kept.written = position + 1;
            if spool.written.synced().await.is_ok() && !disk.has_stopped() {
                kept.synced = position + 1;
            }
        } else {
            spool.settle(1, position, 1, Fate::Acked(position as i64));
        }
        tokio::task::yield_now().await;
    }
    kept
}
