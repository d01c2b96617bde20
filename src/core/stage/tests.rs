use std::collections::HashMap;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_protocol::records::RecordBatchDecoder;

use super::*;
use crate::core::ack::Receipt;
use crate::core::batch::{HEADER_LEN, SealedBatch, Stamp};
use crate::core::memory::{Shelf, blank};
use crate::core::spool::{EmptySegment, Memory, PAGE, Space, SpaceEvent};

const BATCH: usize = 256;

struct Scene {
    stage: Stage,
    shelf: Arc<Shelf>,
    /// How often the actor was woken.
    wakes: Arc<AtomicUsize>,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            stage: Stage::new(0, BATCH, true),
            shelf: Shelf::new(1 << 20, BATCH),
            wakes: Arc::default(),
        };
        let wakes = Arc::clone(&scene.wakes);
        scene.stage.wake_with(move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        });
        scene
    }

    /// How often the actor was woken since the last call.
    fn woken(&self) -> usize {
        self.wakes.swap(0, Ordering::Relaxed)
    }

    fn memory(&self, size: usize) -> Option<Buffer> {
        Some(self.shelf.buffer(blank(size)))
    }

    fn append(&self, value: &[u8], memory: &mut Option<Buffer>, sticky: bool) -> Append {
        let mut options = AppendOptions {
            sticky,
            ..AppendOptions::default()
        };
        self.stage
            .append(&record(value), memory, &mut options, Instant::now)
    }

    /// Appends with as much memory as needed. Returns how often the actor was woken.
    fn send(&self, value: &[u8]) -> usize {
        let mut memory = None;
        loop {
            match self.append(value, &mut memory, false) {
                Append::Done(_) => return self.woken(),
                Append::NeedsMemory { size, .. } => memory = self.memory(size),
                refused => panic!("{refused:?}"),
            }
        }
    }

    fn collect(&self, open: bool) -> Vec<Vec<Bytes>> {
        sealed(&self.stage, open).map(values).collect()
    }
}

/// An observer that records what it was told.
#[derive(Default)]
struct Recorder(Mutex<Vec<Told>>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    Full(bool),
    Open,
    Awaited,
}

impl Recorder {
    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

impl BatchObserver for Recorder {
    fn full(&self, bytes: usize, ask: bool) {
        assert!((150..BATCH).contains(&bytes));
        self.0.lock().expect("no panic").push(Told::Full(ask));
    }

    fn opened(&self, _: Instant) {
        self.0.lock().expect("no panic").push(Told::Open);
    }

    fn awaited(&self, _: Instant) {
        self.0.lock().expect("no panic").push(Told::Awaited);
    }
}

/// Sends a record to a stage, and returns its receipt.
fn receipt(stage: &Stage, shelf: &Arc<Shelf>) -> Receipt {
    let mut memory = Some(shelf.buffer(blank(BATCH)));
    let mut options = AppendOptions::default();
    match stage.append(&record(b"x"), &mut memory, &mut options, Instant::now) {
        Append::Done(Appended { index, ack }) => Receipt::new(ack, index, 0),
        refused => panic!("{refused:?}"),
    }
}

/// Begins to wait for these records, each in a task of its own.
fn wait<'a>(receipts: impl IntoIterator<Item = &'a mut Receipt>) {
    for receipt in receipts {
        assert!(receipt.now_or_never().is_none());
    }
}

#[test]
fn the_observer_is_told_once_that_the_open_batch_is_waited_for() {
    let (stage, shelf) = (
        Arc::new(Stage::new(0, BATCH, true)),
        Shelf::new(1 << 20, BATCH),
    );
    let recorder = Arc::new(Recorder::default());
    stage.set_observer(Some(recorder.clone()));
    let stays = || stage.collect(|_| false, &mut VecDeque::new()).1;
    let awaited = || stays().expect("it is open").awaited;
    wait([&mut receipt(&stage, &shelf)]);
    assert_eq!(
        recorder.told(),
        [Told::Open],
        "it was not asked to hear of it"
    );
    stage.collect(|_| true, &mut VecDeque::new());
    stage.hear_who_waits();

    let mut receipts = [(); 3].map(|()| receipt(&stage, &shelf));
    assert_eq!(recorder.told(), [Told::Open]);
    assert!(!awaited());
    wait(&mut receipts);
    wait(&mut receipts);
    assert_eq!(recorder.told(), [Told::Awaited]);
    assert!(awaited());
    // The next batch is another one.
    let left = stage.collect(|_| true, &mut VecDeque::new());
    let next = receipt(&stage, &shelf);
    assert!(!awaited());
    wait(&mut receipts.map(|receipt| receipt.clone()));
    assert!(!awaited(), "those are of a batch that has left");
    drop((left, next));
}

#[test]
fn one_that_waits_among_many_that_do_not_is_not_heard() {
    for (others, waiting, heard) in [(1, 1, true), (2, 1, false), (12, 4, false), (8, 8, true)] {
        let (stage, shelf) = (
            Arc::new(Stage::new(0, BATCH, true)),
            Shelf::new(1 << 20, BATCH),
        );
        stage.hear_who_waits();
        (0..others).for_each(|_| drop(receipt(&stage, &shelf)));
        let mut receipts: Vec<_> = (0..waiting).map(|_| receipt(&stage, &shelf)).collect();
        wait(&mut receipts);
        let (_, stays) = stage.collect(|_| false, &mut VecDeque::new());
        assert_eq!(
            stays.expect("it is open").awaited,
            heard,
            "{waiting} and {others}"
        );
    }
}

#[test]
fn a_batch_that_others_fill_is_not_waited_for_any_more() {
    let (stage, shelf) = (
        Arc::new(Stage::new(0, BATCH, true)),
        Shelf::new(1 << 20, BATCH),
    );
    stage.hear_who_waits();
    let awaited = || {
        let (_, stays) = stage.collect(|_| false, &mut VecDeque::new());
        stays.expect("it is open").awaited
    };
    wait([&mut receipt(&stage, &shelf)]);
    assert!(awaited());
    (0..2).for_each(|_| drop(receipt(&stage, &shelf)));
    assert!(!awaited());
    wait(&mut [(); 2].map(|()| receipt(&stage, &shelf)));
    assert!(awaited());
}

#[test]
fn who_waits_for_a_batch_does_not_keep_its_stage() {
    let (stage, shelf) = (
        Arc::new(Stage::new(0, BATCH, true)),
        Shelf::new(1 << 20, BATCH),
    );
    stage.hear_who_waits();
    let mut left = receipt(&stage, &shelf);
    let weak = Arc::downgrade(&stage);
    drop(stage);
    assert!(weak.upgrade().is_none());
    let outcome = (&mut left).now_or_never();
    assert!(outcome.expect("it was settled as it was dropped").is_err());
}

#[test]
fn the_observer_is_told_of_batches_in_place_of_the_actor() {
    let scene = Scene::new();
    let recorder = Arc::new(Recorder::default());
    scene.stage.set_observer(Some(recorder.clone()));
    let large = [7; 150];
    let wakes: usize = (0..4).map(|_| scene.send(&large)).sum();
    assert_eq!(wakes, 0);
    let full = [true, false, false].map(|ask| [Told::Full(ask), Told::Open]);
    let told = [&[Told::Open][..], &full.concat()].concat();
    assert_eq!(recorder.told(), told, "told to ask once, until it collects");
    assert_eq!(scene.collect(false).len(), 3);
    scene.send(&large);
    assert_eq!(recorder.told(), [Told::Full(true), Told::Open]);
    // Without an observer the actor is told again.
    scene.stage.set_observer(None);
    assert_eq!(scene.collect(false).len(), 1);
    assert_eq!(scene.send(&large), 1);
    assert!(recorder.told().is_empty());
}

#[test]
fn the_observer_is_told_once_of_each_batch_that_is_opened() {
    let scene = Scene::new();
    let recorder = Arc::new(Recorder::default());
    scene.send(b"opened before there was an observer");
    scene.stage.set_observer(Some(recorder.clone()));
    scene.send(b"x");
    assert!(recorder.told().is_empty(), "the actor knows");
    assert_eq!(scene.collect(true).len(), 1);
    for _ in 0..2 {
        scene.send(b"x");
        scene.send(b"x");
        assert_eq!(recorder.told(), [Told::Open]);
        assert!(scene.collect(false).is_empty());
        scene.send(b"x");
        assert!(recorder.told().is_empty(), "the actor has seen it");
        assert_eq!(scene.collect(true).len(), 1);
    }
    assert_eq!(scene.woken(), 0);
}

#[test]
fn a_run_is_appended_as_far_as_it_fits_the_open_batch() {
    let scene = Scene::new();
    let run = |values: &[&[u8]]| {
        let records = values.iter().map(|value| record(value));
        scene
            .stage
            .append_run(records, &None, false, |_, first| first)
    };
    assert_eq!(run(&[b"x"]), None, "none is open");
    assert_eq!(scene.send(b"opens"), 1);
    assert_eq!(run(&[b"a", b"b"]), Some((1, 1..3)));
    assert_eq!(run(&[&[7; 2 * BATCH]]), None, "it does not fit");
    assert_eq!(run(&[b"c", &[7; 2 * BATCH], b"d"]), Some((3, 3..4)));
    assert_eq!(run(&[]), None);
    assert_eq!(scene.woken(), 0);
    assert_eq!(scene.collect(true), [["opens", "a", "b", "c"]]);
    scene.stage.close();
    assert_eq!(run(&[b"x"]), None);
}

#[test]
fn a_run_holds_the_claim_for_a_few_thousand_bytes() {
    const SIZE: usize = 1 << 16;
    let stage = Stage::new(0, SIZE, true);
    let shelf = Shelf::new(1 << 20, SIZE);
    let mut memory = Some(shelf.buffer(blank(SIZE)));
    let opened = stage.append(
        &record(b"opens"),
        &mut memory,
        &mut AppendOptions::default(),
        Instant::now,
    );
    assert!(matches!(opened, Append::Done(_)));
    let value = [7; 1000];
    let records = std::iter::repeat_n(record(&value), 60);
    let run = stage.append_run(records, &None, false, |_, _| {});
    assert_eq!(run, Some(((), 1..1 + RUN.div_ceil(1000) as u32)));
}

fn sealed(stage: &Stage, open: bool) -> impl Iterator<Item = SealedBatch> {
    let mut full = VecDeque::new();
    let (open, _) = stage.collect(|_| open, &mut full);
    full.into_iter().chain(open).map(OpenBatch::seal)
}

fn record(value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        key: None,
        value: Some(value),
        headers: &[],
        timestamp: 5,
    }
}

fn values(mut batch: SealedBatch) -> Vec<Bytes> {
    let (header, records) = batch.stamped(Stamp::NONE);
    let mut bytes: Bytes = [&header[..], &records[..]].concat().into();
    let set = RecordBatchDecoder::decode(&mut bytes).expect("a valid batch");
    let values = set.records.into_iter().map(|record| record.value);
    values.map(|value| value.expect("a value")).collect()
}

#[test]
fn the_actor_is_told_once_of_an_open_batch() {
    let scene = Scene::new();
    let wakes: Vec<_> = (0..4).map(|_| scene.send(b"x")).collect();
    assert_eq!(wakes, [1, 0, 0, 0]);
    assert!(scene.stage.open_since().is_some());
    assert_eq!(scene.send(b"x"), 0, "it has seen the batch");
    assert_eq!(scene.collect(true).len(), 1);
    assert_eq!(scene.stage.open_since(), None);
    assert_eq!(scene.send(b"x"), 1, "another batch");
}

#[test]
fn the_actor_is_told_once_that_something_is_sealed() {
    let scene = Scene::new();
    let large = [7; 150];
    let wakes: Vec<_> = (0..5).map(|_| scene.send(&large)).collect();
    assert_eq!(wakes, [1, 1, 0, 0, 0], "one a batch, four of them sealed");
    assert!(scene.stage.open_since().is_some());
    assert_eq!(scene.send(&large), 0, "what is sealed is known");
    assert_eq!(scene.collect(false).len(), 5);
    assert_eq!(scene.send(&large), 1, "the sixth is sealed, and news");
    assert_eq!(scene.collect(true).len(), 2);
}

#[test]
fn a_batch_is_sealed_as_soon_as_a_record_does_not_fit() {
    let scene = Scene::new();
    scene.send(&[1; 150]);
    // Even if the caller gets no memory now, the full batch is sealed.
    let refused = scene.append(&[2; 150], &mut None, false);
    assert!(matches!(refused, Append::NeedsMemory { .. }));
    assert_eq!(scene.woken(), 1);
    let refused = scene.append(&[2; 150], &mut None, false);
    assert!(matches!(refused, Append::NeedsMemory { .. }));
    assert_eq!(scene.woken(), 0);
    assert_eq!(scene.collect(false).len(), 1);
    assert_eq!(scene.stage.load(), (0, 0));
}

#[test]
fn batches_leave_in_the_order_in_which_they_were_filled() {
    let scene = Scene::new();
    for i in 0..40u8 {
        scene.send(&[i; 60]);
    }
    let sealed = scene.collect(false);
    scene.send(&[40; 60]);
    let rest = scene.collect(true);
    let all = [sealed, rest].concat().concat();
    assert!(all.iter().map(|value| value[0]).eq(0..=40));
}

#[test]
fn a_record_larger_than_a_batch_gets_one_of_its_own() {
    let scene = Scene::new();
    scene.send(b"small");
    let large = [9; 10 * BATCH];
    let Append::NeedsMemory { size, .. } = scene.append(&large, &mut None, false) else {
        panic!("it does not fit");
    };
    assert!(size > large.len() + HEADER_LEN && size < large.len() + BATCH);
    let mut too_little = scene.memory(BATCH);
    let again = scene.append(&large, &mut too_little, false);
    assert!(matches!(again, Append::NeedsMemory { .. }) && too_little.is_some());
    scene.send(&large);
    scene.send(&[1; 100]);
    let batches = scene.collect(true);
    let lengths: Vec<_> = batches
        .iter()
        .map(|batch| batch.iter().map(Bytes::len).collect::<Vec<_>>())
        .collect();
    assert_eq!(lengths, [vec![5], vec![10 * BATCH], vec![100]]);
}

#[test]
fn memory_that_is_not_needed_is_left_to_the_caller() {
    let scene = Scene::new();
    scene.send(b"opens");
    let mut memory = scene.memory(BATCH);
    assert!(matches!(
        scene.append(b"fits", &mut memory, false),
        Append::Done(_)
    ));
    assert!(memory.is_some());
}

#[test]
fn a_closed_stage_takes_nothing_and_gives_what_it_has() {
    let scene = Scene::new();
    scene.send(b"before");
    scene.stage.close();
    let mut memory = scene.memory(BATCH);
    assert!(matches!(
        scene.append(b"after", &mut memory, false),
        Append::Closed
    ));
    assert_eq!(scene.collect(true), [[Bytes::from("before")]]);
}

#[test]
fn the_bytes_of_sticky_records_are_told_when_a_batch_is_full() {
    let scene = Scene::new();
    let append = |value: &[u8], memory: &mut Option<Buffer>| scene.append(value, memory, true);
    let run = |appended| match appended {
        Append::NeedsMemory { begins, .. } => begins.expect("a batch begins"),
        other => panic!("{other:?}"),
    };
    assert_eq!(run(append(&[0; 100], &mut None)), 0, "the first batch");
    append(&[0; 100], &mut scene.memory(BATCH));
    // Unused bytes at the end count as used.
    assert_eq!(run(append(&[0; 100], &mut None)), BATCH);
    assert_eq!(run(append(&[0; 100], &mut None)), 0, "told once");
    // A batch that was sealed before it was full counts with its bytes.
    append(&[0; 100], &mut scene.memory(BATCH));
    scene.collect(true);
    let bytes = run(append(&[0; 100], &mut None));
    assert!((100..BATCH / 2).contains(&bytes), "{bytes}");
    // Records whose partition the application chose do not count.
    scene.send(&[0; 100]);
    assert_eq!(run(append(&[0; 100], &mut None)), 0);
}

#[test]
fn callbacks_and_listeners_go_with_the_batch() {
    struct Deaf;
    impl Listener for Deaf {
        fn delivered(&self, _: &crate::BatchOutcome) {}
    }
    let scene = Scene::new();
    let listeners: [Arc<dyn Listener>; 1] = [Arc::new(Deaf)];
    for _ in 0..3 {
        let mut options = AppendOptions {
            callback: Some(Box::new(|_| {})),
            ..AppendOptions::for_listeners(&listeners)
        };
        let mut memory = scene.memory(BATCH);
        scene
            .stage
            .append(&record(b"x"), &mut memory, &mut options, Instant::now);
        assert!(options.callback.is_none(), "taken with the record");
    }
    let mut batch = sealed(&scene.stage, true).next().expect("a batch");
    let settled = batch
        .settle(crate::core::ack::Settlement::Split(Vec::new()))
        .expect("the first outcome");
    assert_eq!(settled.listeners.listeners().len(), 1, "once a batch");
    assert_eq!(settled.listeners.into_callbacks().len(), 3);
}

#[test]
fn a_batch_takes_what_its_records_need_and_the_next_begins_so() {
    const SIZE: usize = 16 * 512;
    let stage = Stage::new(0, SIZE, true);
    let shelf = Shelf::new(1 << 20, SIZE);
    let value = [7; 100];
    let mut asked = Vec::new();
    let mut sent = 0;
    // One batch that grows, a second one with a full buffer, and the beginning of a third.
    while asked.len() < 7 {
        let (mut memory, mut options) = (None, AppendOptions::default());
        loop {
            match stage.append(&record(&value), &mut memory, &mut options, Instant::now) {
                Append::Done(_) => break,
                Append::NeedsMemory { size, begins, .. } => {
                    asked.push((size, begins.is_some()));
                    memory = Some(shelf.buffer(blank(size)));
                }
                refused => panic!("{refused:?}"),
            }
        }
        sent += 1;
    }
    assert_eq!(
        asked,
        [
            (512, true),
            (1024, false),
            (2048, false),
            (4096, false),
            (SIZE, false),
            (SIZE, true),
            (SIZE, true)
        ]
    );
    let batches: Vec<_> = sealed(&stage, true).map(values).collect();
    assert_eq!(batches.concat(), vec![Bytes::from(value.to_vec()); sent]);
    assert_eq!(batches.len(), 3);
    // The third batch was small, so the fourth begins small.
    let (mut memory, mut options) = (None, AppendOptions::default());
    let needs = stage.append(&record(&value), &mut memory, &mut options, Instant::now);
    assert!(matches!(needs, Append::NeedsMemory { size: 512, .. }));
    // A large record gets what it needs at once, and one larger than a batch a buffer of its own size.
    let needs = stage.append(&record(&[0; 600]), &mut memory, &mut options, Instant::now);
    assert!(matches!(needs, Append::NeedsMemory { size: 1024, .. }));
    let needs = stage.append(&record(&[0; SIZE]), &mut memory, &mut options, Instant::now);
    assert!(matches!(needs, Append::NeedsMemory { size, .. } if size > SIZE));
    // That is not what the next one is expected to need.
    memory = Some(shelf.buffer(blank(2 * SIZE)));
    let large = stage.append(&record(&[0; SIZE]), &mut memory, &mut options, Instant::now);
    assert!(matches!(large, Append::Done(_)));
    assert_eq!(sealed(&stage, true).count(), 1);
    let needs = stage.append(&record(&value), &mut memory, &mut options, Instant::now);
    assert!(matches!(needs, Append::NeedsMemory { size: SIZE, .. }));
}

/// Threads append while a collector, in place of the actor, collects only when it is woken. A lost
/// wake-up would leave records behind.
#[test]
fn nothing_is_lost_and_each_thread_keeps_its_order() {
    const THREADS: u8 = 4;
    const EACH: u32 = 20_000;
    let (sender, woken) = mpsc::channel();
    let wake = sender.clone();
    let stage = Stage::new(0, BATCH, true);
    stage.wake_with(move || wake.send(true).expect("a collector"));
    let scene = &Scene {
        stage,
        ..Scene::new()
    };
    let seen = std::thread::scope(|scope| {
        let collector = scope.spawn(move || {
            let mut seen: HashMap<u8, u32> = HashMap::new();
            while woken.recv() == Ok(true) {
                // Like the actor, it takes the sealed batches, and the open one as if its linger
                // were over.
                let mut taken = scene.collect(false);
                if scene.stage.open_since().is_some() {
                    taken.extend(scene.collect(true));
                }
                for value in taken.concat() {
                    let next = seen.entry(value[0]).or_default();
                    let number = u32::from_be_bytes(value[1..5].try_into().expect("a number"));
                    assert_eq!(number, *next, "thread {}", value[0]);
                    *next += 1;
                }
            }
            seen
        });
        let appenders: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let value = [&[thread][..], &number.to_be_bytes()].concat();
                        scene.send(&value);
                    }
                })
            })
            .collect();
        for appender in appenders {
            appender.join().expect("no panic");
        }
        sender.send(false).expect("a collector");
        collector.join().expect("no panic")
    });
    assert_eq!(scene.stage.load(), (0, 0), "left without a wake-up");
    assert_eq!(seen.len(), usize::from(THREADS));
    assert!(seen.values().all(|count| *count == EACH));
}

/// The position would be lost with the process.
#[test]
fn a_record_of_a_source_is_refused_where_nothing_is_in_the_spool() {
    let scene = Scene::new();
    let mut memory = scene.memory(BATCH);
    let source = Source {
        source: 3,
        position: 17,
    };
    let append = |memory: &mut _| {
        let mut options = AppendOptions {
            source: Some(&source),
            ..AppendOptions::default()
        };
        let stage = &scene.stage;
        stage.append(&record(b"a line"), memory, &mut options, Instant::now)
    };
    assert!(matches!(append(&mut memory), Append::NotSpooled));
    let space = space();
    scene.stage.set_seat(Seat::new(Arc::clone(&space), 1));
    assert!(matches!(append(&mut memory), Append::Done(_)));
    // One that is of none goes to the same chunk.
    scene.send(b"another line");
    scene.stage.leave_chunk();
    assert_eq!(accepted_in(&space), [source]);
}

/// Space for some records of one slot.
fn space() -> Arc<Space> {
    let space = Space::new();
    space.add(EmptySegment {
        number: 4,
        salt: 9,
        region: Arc::new(Memory::new(PAGE + (64 << 10))),
    });
    space.resume(1, 0);
    space
}

/// The positions of sources in the chunks that were filled.
fn accepted_in(space: &Space) -> Vec<Source> {
    let events = space.events().into_iter();
    let accepted = events.filter_map(|event| match event {
        SpaceEvent::Closed { accepted, .. } => Some(accepted),
        _ => None,
    });
    accepted.flatten().collect()
}
