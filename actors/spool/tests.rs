mod disks;
mod restarts;
mod resumed;
mod sources;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use tempfile::tempdir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::*;
use crate::actors::guard::Watch;
use crate::core::batch::{RecordRef, Run};
use crate::core::ledger::Record;
use crate::core::record::TopicPartition;
use crate::core::spool::{Appending, Fate, FileHeader, Index, Seat, Source, Spooled, resume};
use crate::core::supervision::Component;
use crate::disk::{
    Directory, DiskEvents, Recovered, Store, StoredFile, file_name, parse_name, recover,
};

const SEGMENT: u64 = 1 << 20;
const MOST: u64 = 4 * SEGMENT;

/// A partition that notes what it is told.
struct Peer(
    UnboundedSender<ReadBackDone>,
    UnboundedSender<Vec<u64>>,
    UnboundedSender<ExpireBefore>,
    UnboundedSender<Range<u64>>,
);

macro_rules! deaf {
    ($($message:ty),+) => {
        $(impl Accepts<$message> for Peer {
            fn do_send(&self, _: $message) {}
        })+
    };
}

deaf!(
    WakePartition,
    Take,
    QueueState,
    BlockedBy,
    LoanReturned,
    SetIdentity,
    RefuseIdentity,
    RefuseBatches,
    LogNews,
    LineRecorded
);

impl Accepts<ReadBackDone> for Peer {
    fn do_send(&self, message: ReadBackDone) {
        let _ = self.0.send(message);
    }
}

impl Accepts<OutcomesRecorded> for Peer {
    fn do_send(&self, OutcomesRecorded(positions): OutcomesRecorded) {
        let _ = self.1.send(positions);
    }
}

impl Accepts<ExpireBefore> for Peer {
    fn do_send(&self, message: ExpireBefore) {
        let _ = self.2.send(message);
    }
}

impl Accepts<Doubted> for Peer {
    fn do_send(&self, Doubted(positions): Doubted) {
        let _ = self.3.send(positions);
    }
}

impl PartitionPeer for Peer {}

#[derive(Default)]
struct Told {
    spool: std::sync::OnceLock<Addr<SpoolActor>>,
    /// What happens now is told to nobody.
    is_deaf: AtomicBool,
}

impl DiskEvents for Told {
    fn told(&self, event: DiskEvent) {
        if let (Some(spool), false) = (self.spool.get(), self.is_deaf.load(Ordering::Relaxed)) {
            spool.do_send(DiskTold(event));
        }
    }
}

/// A spool with two slots.
struct Spool {
    spool: Addr<SpoolActor>,
    told: Arc<Told>,
    space: Arc<Space>,
    written: Arc<Written>,
    peer: PartitionAddr,
    read: UnboundedReceiver<ReadBackDone>,
    recorded: UnboundedReceiver<Vec<u64>>,
    expired: UnboundedReceiver<ExpireBefore>,
    doubted: UnboundedReceiver<Range<u64>>,
}

impl Spool {
    fn start(path: &Path) -> Self {
        Self::start_with(path, MOST, Duration::from_secs(3600))
    }

    fn start_with(path: &Path, max_bytes: u64, max_age: Duration) -> Self {
        let store = Directory::open(path).expect("a directory");
        Self::on(Arc::new(store), (SEGMENT, max_bytes), max_age, false)
    }

    fn on(store: Arc<dyn Store>, bytes: (u64, u64), max_age: Duration, machine: bool) -> Self {
        Self::telling(store, bytes, max_age, machine, None)
    }

    fn telling(
        store: Arc<dyn Store>,
        (segment_bytes, max_bytes): (u64, u64),
        max_age: Duration,
        machine: bool,
        resumed_to: Option<Recipient<Resumed>>,
    ) -> Self {
        let Recovered {
            mut state,
            catalog,
            segments,
            journals,
            next_number,
            ..
        } = recover(&*store).expect("it can be read");
        let space = Space::new();
        let resumed = resume(&state, &catalog, true);
        for slot in &resumed {
            state.apply(&Entry::past(slot.slot, slot.end..slot.next_position, 0));
            space.resume(slot.slot, slot.next_position);
        }
        let told: Arc<Told> = Arc::default();
        let events: Arc<dyn DiskEvents> = Arc::clone(&told) as _;
        let syncer = Syncer::start(Arc::clone(&events)).expect("a thread");
        let written = Arc::new(Written::default());
        let header = FileHeader {
            number: next_number,
            salt: 5,
            length: JOURNAL,
        };
        let name = file_name(Kind::Journal, next_number);
        let file = store.create(&name, JOURNAL).expect("there is space");
        let journal = JournalWriter::begin(Arc::clone(&file) as _, header, state).expect("it fits");
        file.sync().expect("it can be synced");
        written.add(next_number, syncer.queue().watch(&name, file));
        for journal in journals {
            store.remove(&journal).expect("it is there");
        }
        let start = SpoolStart {
            maker: Maker::start(store, segment_bytes, 1, events).expect("a thread"),
            syncer,
            written: Arc::clone(&written),
            space: Arc::clone(&space),
            catalog,
            journal,
            segments,
            next_number: next_number + 1,
            segment_bytes,
            max_bytes,
            max_age,
            machine,
            rng: SmallRng::seed_from_u64(3),
            client_id: "test".into(),
            former: Former::new(&resumed),
            resumed_to,
        };
        let watch = Watch::new(u32::MAX, Duration::from_secs(60), None);
        let clock = ClockActor::new(watch.guard(Component::Clock)).start();
        let spool = SpoolActor::new(start, clock, watch.guard(Component::Spool)).start();
        told.spool.set(spool.clone()).expect("once");
        let waker = spool.clone();
        space.wake_with(move || waker.do_send(SpaceChanged));
        for slot in 0..2 {
            spool.do_send(OpenSlot {
                place: SpoolPlace {
                    slot,
                    from: 0,
                    topic_id: Uuid::from_u128(1),
                },
                topic_partition: TopicPartition {
                    topic: "orders".into(),
                    partition: slot as i32,
                },
            });
        }
        let ((to_read, read), (to_recorded, recorded)) = (unbounded_channel(), unbounded_channel());
        let ((to_expired, expired), (to_doubted, doubted)) =
            (unbounded_channel(), unbounded_channel());
        Self {
            spool,
            told,
            space,
            written,
            peer: Arc::new(Peer(to_read, to_recorded, to_expired, to_doubted)),
            read,
            recorded,
            expired,
            doubted,
        }
    }

    async fn wait_for_space(&self) {
        let space = self.space_within(Duration::from_secs(20)).await;
        space.expect("space");
    }

    fn space_within(&self, within: Duration) -> impl Future<Output = Result<(), Arc<str>>> + use<> {
        let (reply, answered) = oneshot::channel();
        let deadline = now() + within;
        self.spool.do_send(WaitForSpace { deadline, reply });
        async { answered.await.expect("an answer") }
    }

    /// Appends a batch of one record. Both seats leave their chunks when they are asked to.
    async fn append_leaving(&mut self, seat: &mut Seat, other: &mut Seat) {
        while !seat.make_room(1100) {
            let space = self.space_within(Duration::from_secs(20));
            tokio::select! {
                answer = space => answer.expect("space"),
                _ = self.expired.recv() => {
                    seat.leave();
                    other.leave();
                }
            }
        }
        self.append(seat).await;
    }

    /// Appends a batch of one record.
    async fn append(&self, seat: &mut Seat) {
        while !seat.make_room(1100) {
            self.wait_for_space().await;
        }
        assert!(Self::put(seat));
    }

    /// Appends a batch of one record where there is room. Whether it is there.
    fn put(seat: &mut Seat) -> bool {
        Self::put_of(seat, None)
    }

    /// The same with a record of a source.
    fn put_of(seat: &mut Seat, source: Option<Source>) -> bool {
        let value = [seat.next_position() as u8; 1000];
        let record = RecordRef {
            key: None,
            value: Some(&value),
            headers: &[],
            timestamp: 0,
        };
        let mut memory = [0; 1100];
        let length = record.encode(&mut memory, 0, 1100, 0, 0).expect("room");
        seat.append(&Appending {
            records: &memory[..length],
            count: 1,
            newest: 1000,
            begins: Some(1000),
            source,
        })
    }

    fn settle(&self, slot: u32, position: u64, count: i32, fate: Fate) {
        self.spool.do_send(RecordOutcomes {
            slot,
            records: vec![Record {
                position,
                count,
                fate,
                why: (fate == Fate::Rejected).then(|| "it is too large".into()),
            }],
            lost: 0,
            who: Arc::clone(&self.peer),
        });
    }

    /// All batches of a slot, as the partition would read them back.
    async fn read_back(&mut self, slot: u32, end: u64) -> Vec<Spooled> {
        let mut all: Vec<Spooled> = Vec::new();
        loop {
            let position = all.last().map_or(0, Spooled::end);
            if position == end {
                return all;
            }
            self.spool.do_send(ReadBackFrom {
                slot,
                position,
                records: end - position,
                who: Arc::clone(&self.peer),
            });
            let done = self.read.recv().await.expect("an answer");
            assert_eq!(done.missing, Vec::new());
            assert!(!done.batches.is_empty(), "at {position}");
            all.extend(done.batches);
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let within = Duration::from_secs(120);
    let result = System::new().block_on(async { tokio::time::timeout(within, test).await });
    result.expect("it does not hang")
}

fn bytes_in(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).expect("it is there");
    let lens = files.map(|it| it.expect("a file").metadata().map_or(0, |it| it.len()));
    lens.sum()
}

/// One partition takes nothing. Through the other one go three times as many bytes as the spool may have.
#[test]
fn a_partition_that_takes_nothing_pins_no_disk() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let kept = run(async {
        let mut spool = Spool::start(&path);
        spool.wait_for_space().await;
        for slot in 0..2 {
            let who = Arc::clone(&spool.peer);
            spool.spool.do_send(SlotTaken {
                slot,
                who,
                open_from: 0,
            });
        }
        let [mut dead, mut live] = [0, 1].map(|slot| Seat::new(Arc::clone(&spool.space), slot));
        for round in 0..3 * MOST / 1000 {
            if round % 100 == 0 {
                spool.append_leaving(&mut dead, &mut live).await;
            }
            let position = live.next_position();
            spool.append_leaving(&mut live, &mut dead).await;
            spool.settle(1, position, 1, Fate::Acked(position as i64));
            if round % 100 == 0 {
                tokio::task::yield_now().await;
                // Spares, journals and indexes are beside the segments.
                assert!(bytes_in(&path) <= MOST + 3 * SEGMENT + 2 * JOURNAL);
            }
        }
        let kept = dead.next_position();
        let batches = spool.read_back(0, kept).await;
        assert_eq!(batches.len() as u64, kept);
        for (position, batch) in (0..).zip(batches) {
            let run = Run::read(&batch.records).expect("records");
            assert_eq!((batch.position, batch.index, run.count), (position, 0, 1));
            assert_eq!(
                batch.records.last_chunk::<3>().map(|it| it[0]),
                Some(position as u8)
            );
        }
        drop((dead, live));
        spool.spool.send(Stop).await.expect("it lives");
        kept
    });
    recover_all(&path, kept);
}

/// The next process finds all records of the first slot.
fn recover_all(path: &Path, count: u64) -> Recovered {
    let directory = Directory::open(path).expect("nobody has it");
    let recovered = recover(&directory).expect("it can be read");
    assert_eq!(recovered.damage, Vec::<String>::new());
    let mut next = 0;
    for held in recovered.catalog.held(0, 0) {
        assert_eq!(held.from, next);
        next = held.to;
    }
    assert_eq!(next, count);
    recovered
}

/// All segments that there may be are full, one partition takes nothing, and the other one has all acked.
#[test]
fn a_full_spool_that_is_started_anew_is_freed() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let kept = run(async {
        let spool = Spool::start(&path);
        spool.wait_for_space().await;
        let [mut dead, mut live] = [0, 1].map(|slot| Seat::new(Arc::clone(&spool.space), slot));
        let full = loop {
            if live.next_position() % 100 == 0 && dead.make_room(1100) {
                spool.append(&mut dead).await;
            }
            if live.make_room(1100) {
                spool.append(&mut live).await;
            } else if let Err(why) = spool.space_within(Duration::from_millis(500)).await {
                break why;
            }
        };
        assert!(full.contains("forebay.spool.max.bytes"), "{full}");
        let end = live.next_position() as i32;
        let kept = dead.next_position();
        drop((dead, live));
        spool.settle(1, 0, end, Fate::Acked(0));
        spool.spool.send(Stop).await.expect("it lives");
        kept
    });
    // The last one was for copies, and goes.
    let max_bytes = MOST - SEGMENT;
    run(async {
        let mut spool = Spool::start_with(&path, max_bytes, Duration::from_secs(3600));
        spool.wait_for_space().await;
        assert_eq!(spool.read_back(0, kept).await.len() as u64, kept);
        spool.spool.send(Stop).await.expect("it lives");
    });
    recover_all(&path, kept);
}

#[test]
fn each_segment_that_is_closed_gets_an_index() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let (closed, count) = run(async {
        let spool = Spool::start(&path);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 0);
        while seat.next_position() < 5 * SEGMENT / 2 / 1100 {
            spool.append(&mut seat).await;
        }
        let names = segment_names(&path).into_iter().take(2);
        let number = |name: String| parse_name(&name).expect("a name of ours").1;
        let closed: Vec<_> = names.map(number).collect();
        for number in &closed {
            let index = path.join(file_name(Kind::Index, *number));
            let read = || Some(Index::decode(*number, &std::fs::read(&index).ok()?));
            while !matches!(read(), Some(Ok(_))) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let count = seat.next_position();
        drop(seat);
        spool.spool.send(Stop).await.expect("it lives");
        (closed, count)
    });
    let recovered = recover_all(&path, count);
    for number in closed {
        assert!(recovered.segments[&number].indexed, "{number}");
    }
}

#[test]
fn a_rejected_record_is_in_a_file_before_it_is_told() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    run(async {
        let mut spool = Spool::start(&path);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        for _ in 0..600 {
            spool.append(&mut seat).await;
        }
        spool.settle(1, 1, 1, Fate::Rejected);
        assert_eq!(spool.recorded.recv().await, Some(vec![1]));
        let lines = || {
            let mut files = std::fs::read_dir(path.join("rejected")).expect("it is there");
            let file = files
                .next()
                .expect("a file")
                .expect("it can be read")
                .path();
            assert!(
                file.to_string_lossy().ends_with("-orders-1.jsonl"),
                "{file:?}"
            );
            let text = std::fs::read_to_string(file).expect("text");
            let lines = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"));
            lines.collect::<Vec<serde_json::Value>>()
        };
        assert_eq!(lines()[0]["position"], 1);
        assert_eq!(lines()[0]["reason"], "it is too large");
        // More than what is read at once.
        spool.settle(1, 10, 500, Fate::Rejected);
        assert_eq!(spool.recorded.recv().await, Some(vec![10]));
        let figures = spool.spool.send(GetSpoolFigures).await.expect("it lives");
        assert_eq!(
            (figures.rejected, figures.resumed, figures.lost),
            (501, 0, 0)
        );
        assert_eq!(figures.bytes, figures.segments as u64 * SEGMENT);
        assert!(figures.segments > 0 && figures.syncs == 0, "{figures:?}");
        let positions = lines().into_iter().map(|line| line["position"].as_u64());
        assert_eq!(
            positions.collect::<Vec<_>>(),
            [1].into_iter().chain(10..510).map(Some).collect::<Vec<_>>()
        );
        spool.spool.do_send(Stop);
    });
}

/// The lines of all files with records that are rejected.
fn rejected_in(path: &Path) -> Vec<serde_json::Value> {
    let files = std::fs::read_dir(path.join("rejected")).expect("it is there");
    let texts = files.map(|it| std::fs::read_to_string(it.expect("a file").path()));
    let texts: Vec<_> = texts.map(|text| text.expect("text")).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_record_is_too_old_when_it_has_waited_for_longer_and_not_before() {
    let folder = tempdir().expect("a folder");
    run(async {
        let max_age = Duration::from_millis(400);
        let mut spool = Spool::start_with(folder.path(), MOST, max_age);
        spool.spool.do_send(SlotTaken {
            slot: 1,
            who: Arc::clone(&spool.peer),
            open_from: 0,
        });
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 1);
        for _ in 0..3 {
            spool.append(&mut seat).await;
        }
        let accepted = now();
        // Nobody but the partition knows how much is in a chunk that is being filled.
        let first = spool.expired.recv().await.expect("a message");
        assert_eq!((first.position, first.leave), (0, true));
        seat.leave();
        let second = loop {
            let next = spool.expired.recv().await.expect("a message");
            if next.position > 0 {
                break next;
            }
        };
        assert_eq!((second.position, second.leave), (3, false));
        assert!(now() >= accepted + max_age);
        spool.spool.do_send(Stop);
    });
}

/// The file of a segment is used again. Whoever reads it while its records settle must not find others.
#[test]
fn a_segment_that_is_being_read_is_not_given_back() {
    let folder = tempdir().expect("a folder");
    let path = folder.path().to_owned();
    run(async {
        let spool = Spool::start(&path);
        spool.wait_for_space().await;
        let mut seat = Seat::new(Arc::clone(&spool.space), 0);
        for _ in 0..SEGMENT / 1000 {
            spool.append(&mut seat).await;
        }
        let first = segment_names(&path);
        assert!(first.len() >= 2, "{first:?}");
        let reader = spool
            .spool
            .send(Borrow)
            .await
            .expect("it lives")
            .expect("a segment");
        let count = seat.next_position();
        seat.leave();
        spool.settle(0, 0, count as i32, Fate::Acked(0));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(segment_names(&path).contains(&first[0]), "it is read");
        drop(reader);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!segment_names(&path).contains(&first[0]), "nobody reads it");
        spool.spool.do_send(Stop);
    });
}

/// The names of segments.
fn segment_names(path: &Path) -> Vec<String> {
    let files = std::fs::read_dir(path).expect("it is there");
    let names = files.map(|it| {
        it.expect("a file")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let is_segment = |name: &String| matches!(parse_name(name), Some((Kind::Segment, _)));
    let mut names: Vec<_> = names.filter(is_segment).collect();
    names.sort();
    names
}

/// As a read does: the file of the first segment.
struct Borrow;

impl Message for Borrow {
    type Result = Option<Arc<dyn StoredFile>>;
}

impl Handler<Borrow> for SpoolActor {
    type Result = Option<Arc<dyn StoredFile>>;

    fn handle(&mut self, _: Borrow, _: &mut Context<Self>) -> Self::Result {
        self.segments
            .values()
            .next()
            .map(|segment| Arc::clone(&segment.file))
    }
}
