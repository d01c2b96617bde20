//! Sources: who has them, and how far they have come.

use super::restarts::Fall;
use super::*;
use crate::actors::spool::plan::Part;
use crate::core::spool::{Copied, Progress, copy};
use crate::disk::ModelDisk;
use crate::intake::lease::Lease;

impl Spool {
    /// Asks for a source. `None` while somebody has it.
    async fn open(&self, name: &str) -> Option<Lease> {
        let (reply, answer) = oneshot::channel();
        let name = name.into();
        self.spool.do_send(OpenSource { name, reply });
        answer.await.expect("an answer")
    }

    async fn progress_of(&self, name: &str) -> Progress {
        let (reply, answer) = oneshot::channel();
        let name = name.into();
        self.spool.do_send(ProgressOf { name, reply });
        answer.await.expect("an answer")
    }

    /// Appends a batch of one record of a source.
    async fn append_of(&self, seat: &mut Seat, number: u32, position: u64) {
        while !seat.make_room(1100) {
            self.wait_for_space().await;
        }
        let source = number;
        assert!(Self::put_of(seat, Some(Source { source, position })));
    }
}

fn start(disk: &ModelDisk, machine: bool) -> Spool {
    let store = disk.store().expect("nobody has it");
    let small = (64 << 10, 4 * (64 << 10));
    Spool::on(Arc::new(store), small, Duration::from_secs(3600), machine)
}

#[test]
fn a_source_has_one_holder_whatever_falls() {
    let disk = ModelDisk::new(1);
    run(async {
        let spool = start(&disk, false);
        let first = spool.open("a").await.expect("nobody has it");
        let other = spool.open("b").await.expect("nobody has it");
        assert_ne!(first.number, other.number);
        assert!(spool.open("a").await.is_none(), "somebody has it");
        spool.spool.do_send(Fall);
        assert!(spool.open("a").await.is_none(), "the actor restarted");
        first.progress.send_modify(|progress| {
            progress.appended(7, 0);
            progress.synced(7);
            progress.appended(8, 0);
        });
        let known = spool.progress_of("a").await;
        assert_eq!((known.accepted(), known.seen()), (Some(7), Some(8)));
        drop(first);
        let again = spool.open("a").await.expect("it was given back");
        assert_eq!(*again.progress.borrow(), known, "8 is still in doubt");
        // Somebody who does not wait for the answer has not got it.
        drop(again);
        let (reply, answer) = oneshot::channel();
        drop(answer);
        let name = "a".into();
        spool.spool.do_send(OpenSource { name, reply });
        assert!(spool.open("a").await.is_some());
    });
}

/// Its frames have the number alone.
#[test]
fn a_source_that_is_lent_keeps_its_number_whatever_ends() {
    for machine in [false, true] {
        let disk = ModelDisk::new(1);
        let numbers = run(async {
            let spool = start(&disk, machine);
            let a = spool.open("a").await.expect("nobody has it").number;
            (a, spool.open("b").await.expect("nobody has it").number)
        });
        match machine {
            true => disk.crash_machine(),
            false => disk.crash_process(),
        }
        run(async {
            let spool = start(&disk, machine);
            let b = spool.open("b").await.expect("nobody has it").number;
            let c = spool.open("c").await.expect("nobody has it").number;
            assert_eq!(
                (spool.open("a").await.map(|it| it.number), b),
                (Some(numbers.0), numbers.1)
            );
            assert!(c > numbers.0.max(numbers.1));
        });
    }
}

/// What was accepted is in frames, then in an index, then in the journal alone.
#[test]
fn what_was_accepted_of_a_source_survives_its_segments() {
    let disk = ModelDisk::new(1);
    let found = |disk: &ModelDisk| {
        run(async {
            let spool = start(disk, false);
            let progress = spool.progress_of("a").await;
            spool.spool.send(Stop).await.expect("it lives");
            progress
        })
    };
    run(async {
        let spool = start(&disk, false);
        let number = spool.open("a").await.expect("nobody has it").number;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        for position in 0..10 {
            spool.append_of(&mut seat, number, 10 * position).await;
        }
        std::mem::forget(seat);
    });
    disk.crash_process();
    let recovered = recover(&disk.store().expect("nobody has it")).expect("it can be read");
    assert_eq!(recovered.sources(), [("a".into(), Some(90))]);
    drop(recovered);
    assert_eq!(found(&disk), Progress::found(Some(90)));
    run(async {
        let spool = start(&disk, false);
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        let end = seat.next_position();
        spool.settle(1, 0, end as i32, Fate::Acked(0));
        let names = || disk.names().into_iter().filter_map(|it| parse_name(&it));
        let first = names().filter(|(kind, _)| *kind == Kind::Segment);
        let first = first.map(|(_, number)| number).min().expect("it is there");
        // The journal is told before it is given back.
        while names().any(|it| it == (Kind::Segment, first)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        spool.append(&mut seat).await;
        std::mem::forget(seat);
    });
    disk.crash_machine();
    assert_eq!(found(&disk), Progress::found(Some(90)));
}

/// The position 5 of the source is known if its record is there, in the second slot. Returns whether it is.
fn position_is_as_the_record(disk: &ModelDisk, seed: u64) -> bool {
    let recovered = recover(&disk.store().expect("nobody has it")).expect("it can be read");
    let is_there = recovered.catalog.held(1, 0).next().is_some();
    drop(recovered);
    let progress = run(async { start(disk, true).progress_of("a").await });
    assert_eq!(progress.seen(), is_there.then_some(5), "seed {seed}");
    is_there
}

/// The process is killed before the disk has the record, the next one starts, and then the machine stops.
#[test]
fn no_position_outlives_its_record() {
    let mut lost = 0;
    for seed in 0..20 {
        let disk = ModelDisk::new(seed);
        run(async {
            let spool = start(&disk, true);
            let number = spool.open("a").await.expect("nobody has it").number;
            spool.wait_for_space().await;
            let mut seat = Seat::new(Arc::clone(&spool.space), 1);
            spool.written.synced().await.expect("it can be synced");
            spool.append_of(&mut seat, number, 5).await;
            std::mem::forget(seat);
        });
        disk.crash_process();
        run(async {
            let spool = start(&disk, true);
            spool.spool.send(GetSpoolFigures).await.expect("it lives");
        });
        disk.crash_machine();
        lost += u32::from(!position_is_as_the_record(&disk, seed));
    }
    assert!(lost > 0, "the disk had it each time");
}

/// A machine that stops may keep the record, and lose which topic partition its slot is.
#[test]
fn what_can_never_be_sent_is_not_accepted() {
    let disk = ModelDisk::new(1);
    run(async {
        let spool = start(&disk, true);
        let number = spool.open("a").await.expect("nobody has it").number;
        for (slot, position) in [(1, 3), (2, 4)] {
            spool.space.register(slot);
            let mut seat = Seat::new(Arc::clone(&spool.space), slot);
            spool.append_of(&mut seat, number, position).await;
            std::mem::forget(seat);
        }
    });
    disk.crash_process();
    let recovered = recover(&disk.store().expect("nobody has it")).expect("it can be read");
    assert_eq!(recovered.sources(), [("a".into(), Some(3))]);
}

/// Has the last record of the second slot copied, and tells when that is over.
struct CopyLast(oneshot::Sender<()>);

impl Message for CopyLast {
    type Result = ();
}

impl Handler<CopyLast> for SpoolActor {
    type Result = ();

    fn handle(&mut self, CopyLast(over): CopyLast, ctx: &mut Context<Self>) {
        self.look(ctx);
        let held = self.catalog.held(1, 0).last().expect("its chunk is closed");
        let file = &self.segments[&held.segment];
        let part = Part {
            file: Arc::clone(&file.file),
            salt: file.salt,
            offset: held.used.offset,
            length: held.used.bytes,
            positions: held.positions(),
        };
        let mut bytes = Vec::new();
        let chunk = part.read(&mut bytes).expect("it is there");
        let copied = copy(&self.space, &chunk, part.positions.clone());
        assert_eq!(copied, Copied::All);
        self.hand_over(ctx, |_, _| _ = over.send(()));
    }
}

/// The last record of a source is in a segment that cannot be synced, and so is its copy, which is under way.
/// Returns the segments from the first one on.
async fn copy_failing(disk: &ModelDisk) -> (Spool, Vec<String>, oneshot::Receiver<()>) {
    let mut spool = start(disk, true);
    let is_segment = |name: &String| matches!(parse_name(name), Some((Kind::Segment, _)));
    let segments = || disk.names().into_iter().filter(is_segment).collect();
    // Whichever is filled.
    let fail_all = || {
        let names: Vec<String> = segments();
        names.iter().for_each(|name| assert!(disk.fail_sync(name)));
    };
    let number = spool.open("a").await.expect("nobody has it").number;
    spool.wait_for_space().await;
    let [mut other, mut seat] = [0, 1].map(|slot| Seat::new(Arc::clone(&spool.space), slot));
    spool.append_of(&mut seat, number, 5).await;
    seat.leave();
    fail_all();
    let _fails = spool.written.synced().await;
    while spool.space.given_up() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It begins the next segment.
    spool.append(&mut other).await;
    other.leave();
    spool.settle(0, 0, 1, Fate::NotWritten);
    assert_eq!(spool.recorded.recv().await, Some(vec![0]));
    fail_all();
    let (over, copied) = oneshot::channel();
    spool.spool.send(CopyLast(over)).await.expect("it lives");
    std::mem::forget((seat, other));
    (spool, segments(), copied)
}

/// Until so many of these are gone.
async fn are_gone(disk: &ModelDisk, segments: &[String], count: usize) {
    let is_gone = |name: &&String| !disk.names().contains(name);
    while segments.iter().filter(is_gone).count() < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_copy_that_the_disk_may_not_have_tells_of_no_position() {
    let mut lost = 0;
    for seed in 0..16 {
        let disk = ModelDisk::new(seed);
        run(async {
            let (_spool, segments, copied) = copy_failing(&disk).await;
            copied.await.expect("it goes on");
            are_gone(&disk, &segments[1..], 1).await;
        });
        disk.crash_machine();
        lost += u32::from(!position_is_as_the_record(&disk, seed));
    }
    assert!(lost > 0, "the disk had it each time");
}

/// The record and its copy are given back together.
#[test]
fn a_position_outlives_all_copies_of_its_record() {
    let disk = ModelDisk::new(1);
    run(async {
        let (mut spool, segments, _copied) = copy_failing(&disk).await;
        spool.settle(1, 0, 1, Fate::NotWritten);
        assert_eq!(spool.recorded.recv().await, Some(vec![0]));
        are_gone(&disk, &segments, 2).await;
    });
    disk.crash_process();
    let progress = run(async { start(&disk, true).progress_of("a").await });
    assert_eq!(progress.seen(), Some(5));
}
