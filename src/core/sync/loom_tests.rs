//! Tries every order in which threads can meet at the ack, the gate, the stage, the ready queue and the
//! close of a transaction.
//!
//! `RUSTFLAGS="--cfg forebay_loom" cargo test --release --lib loom_tests`. A wake-up that is lost is
//! reported as a deadlock. `LOOM_LOG=trace LOOM_LOCATION=1` prints the order that failed;
//! `LOOM_MAX_PREEMPTIONS` searches further.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use loom::sync::Mutex;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread::{JoinHandle, spawn};

use crate::core::ack::{AckSettler, Receipt, Settlement};
use crate::core::batch::RecordRef;
use crate::core::dispatch::{Gate, ReadyHandle, ReadyQueue};
use crate::core::memory::{Shelf, blank};
use crate::core::stage::{Append, AppendOptions, Appended, BatchObserver, Stage};
use crate::core::transaction::Scope;
use crate::core::wire::TransactionProtocol;

/// Tries every order with up to so many preemptions. Few mistakes need more than two.
fn search(preemptions: usize, scene: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.check(scene);
}

fn join(threads: [JoinHandle<()>; 2]) {
    threads
        .into_iter()
        .for_each(|it| it.join().expect("no panic"));
}

/// A mailbox's address. Loom's sender is not `Sync`.
#[derive(Clone)]
struct Wake(Arc<Mutex<Sender<()>>>);

impl Wake {
    fn new(sender: Sender<()>) -> Self {
        Self(Arc::new(Mutex::new(sender)))
    }

    fn send(&self) {
        let sender = self.0.lock().expect("no panic");
        sender.send(()).expect("a receiver");
    }
}

#[test]
fn a_request_is_written_or_given_back() {
    search(3, || {
        let gate = Arc::new(Gate::default());
        let [writer, loan] = [(); 2].map(|()| Arc::clone(&gate));
        let writes = spawn(move || writer.pass());
        let begun = spawn(move || loan.shut());
        let written = writes.join().expect("no panic");
        assert_eq!(begun.join().expect("no panic"), written);
        assert_eq!(gate.shut(), written, "it stays so");
    });
}

#[test]
fn each_receipt_of_a_batch_is_woken() {
    search(3, || {
        let settler = AckSettler::new(0);
        let waiting = [0, 1].map(|index| {
            let receipt = settler.receipt(index, 0);
            spawn(move || loom::future::block_on(receipt))
        });
        settler.settle(Settlement::Acked {
            base_offset: Some(7),
            log_append_time: None,
        });
        let offsets = waiting.map(|it| it.join().expect("no panic").expect("acked").offset);
        assert_eq!(offsets, [Some(7), Some(8)]);
    });
}

#[test]
fn a_receipt_of_a_batch_that_is_split_and_lost_is_woken() {
    search(3, || {
        let whole = AckSettler::new(0);
        let receipt = whole.receipt(1, 0);
        let waiting = spawn(move || loom::future::block_on(receipt));
        let parts = [AckSettler::new(0), AckSettler::new(0)];
        whole.split((0..).zip(&parts));
        drop(parts);
        assert!(waiting.join().expect("no panic").is_err());
    });
}

/// A sender that waited for more bytes gets a response, looks, and from then on waits for any.
#[test]
fn a_full_batch_wakes_the_sender() {
    for wake_at in [1, 2, 3] {
        search(3, move || {
            let queue = Arc::new(ReadyQueue::default());
            let (wake, woken) = channel();
            assert!(!queue.park(wake_at, false), "nothing is there yet");
            let filling = [0, 1].map(|partition| {
                let (queue, wake) = (Arc::clone(&queue), wake.clone());
                spawn(move || {
                    if queue.batch_full(1, Some(ReadyHandle::new(partition))) {
                        wake.send(()).expect("a receiver");
                    }
                })
            });
            let (mut asked, mut seen) = (VecDeque::new(), 0);
            loop {
                queue.drain_into(&mut asked);
                seen += asked.drain(..).count();
                if queue.park(1, false) {
                    continue;
                }
                if seen == 2 {
                    break;
                }
                woken.recv().expect("a wake-up");
            }
            join(filling);
        });
    }
}

/// Whether each of two partitions has an open batch. The lock stands for the stage's claim: who opens
/// a batch has seen that the one before was taken out of the list.
type Open = [Mutex<bool>; 2];

fn take_all(queue: &ReadyQueue<usize>, open: &Open) {
    for handle in queue.take_due(|_| true).0 {
        *open[handle.partition].lock().expect("no panic") = false;
    }
}

#[test]
fn every_open_batch_is_listed() {
    search(3, || {
        let start = Instant::now();
        let queue = Arc::new(ReadyQueue::default());
        let open: Arc<Open> = Arc::default();
        let (wake, woken) = channel();
        let sender = spawn({
            let (queue, open) = (Arc::clone(&queue), Arc::clone(&open));
            move || {
                while woken.recv() == Ok(true) {
                    take_all(&queue, &open);
                }
            }
        });
        let opening = [0, 1].map(|partition| {
            let (queue, open, wake) = (Arc::clone(&queue), Arc::clone(&open), wake.clone());
            spawn(move || {
                let handle = ReadyHandle::new(partition);
                for ms in [0, 1] {
                    *open[partition].lock().expect("no panic") = true;
                    if queue.batch_opened(start + Duration::from_millis(ms), &handle) {
                        wake.send(true).expect("a receiver");
                    }
                }
            })
        });
        join(opening);
        wake.send(false).expect("a receiver");
        sender.join().expect("no panic");
        // The sender's alarm rings.
        take_all(&queue, &open);
        let left = open.iter().filter(|it| *it.lock().expect("no panic"));
        assert_eq!(left.count(), 0);
    });
}

/// The batch size, whether open batches are taken, and how many of three records are taken then:
/// batches of one record, and one batch of all records.
const SCENES: [(usize, bool, i32); 3] = [(250, true, 3), (250, false, 2), (4_000, true, 3)];

/// Two threads append three records to the same partition.
fn append_three(stage: &Arc<Stage>, batch_size: usize) -> [JoinHandle<()>; 2] {
    let now = Instant::now();
    let shelf = Shelf::new(1 << 20, batch_size);
    [1, 2].map(|records| {
        let (stage, shelf) = (Arc::clone(stage), Arc::clone(&shelf));
        spawn(move || {
            let record = RecordRef {
                key: None,
                value: Some(&[7; 100]),
                headers: &[],
                timestamp: 0,
            };
            for _ in 0..records {
                let mut memory = Some(shelf.buffer(blank(batch_size)));
                let mut options = AppendOptions::default();
                let appended = stage.append(&record, &mut memory, &mut options, || now);
                assert!(matches!(appended, Append::Done(_)));
            }
        })
    })
}

/// Takes the batches, and returns how many records are in them.
fn collect(stage: &Stage, open_too: bool) -> i32 {
    let mut full = VecDeque::new();
    let (open, _) = stage.collect(|_| open_too, &mut full);
    full.iter().chain(&open).map(|batch| batch.count()).sum()
}

#[test]
fn a_partition_is_woken_for_every_record() {
    for (batch_size, open_too, records) in SCENES {
        search(3, move || {
            let stage = Arc::new(Stage::new(0, batch_size, true));
            let (wake, woken) = channel();
            let wake = Wake::new(wake);
            stage.wake_with(move || wake.send());
            let appending = append_three(&stage, batch_size);
            let mut seen = 0;
            while seen < records {
                woken.recv().expect("a wake-up");
                seen += collect(&stage, open_too);
            }
            join(appending);
        });
    }
}

/// Tells a sender of a partition's batches, as the actors do.
struct Notifier {
    queue: Arc<ReadyQueue<Arc<Stage>>>,
    handle: Arc<ReadyHandle<Arc<Stage>>>,
    wake: Wake,
}

impl BatchObserver for Notifier {
    fn full(&self, bytes: usize, ask: bool) {
        let handle = ask.then(|| Arc::clone(&self.handle));
        if self.queue.batch_full(bytes, handle) {
            self.wake.send();
        }
    }

    fn opened(&self, at: Instant) {
        if self.queue.batch_opened(at, &self.handle) {
            self.wake.send();
        }
    }

    fn awaited(&self, at: Instant) {
        if self.queue.batch_awaited(at, &self.handle) {
            self.wake.send();
        }
    }
}

/// Has a sender hear of the stage's batches. Returns its list, and what wakes it. The stage and its observer
/// hold each other.
fn observed(stage: &Arc<Stage>) -> (Arc<ReadyQueue<Arc<Stage>>>, Receiver<()>) {
    let queue = Arc::new(ReadyQueue::default());
    let (wake, woken) = channel();
    stage.set_observer(Some(Arc::new(Notifier {
        queue: Arc::clone(&queue),
        handle: ReadyHandle::new(Arc::clone(stage)),
        wake: Wake::new(wake),
    })));
    (queue, woken)
}

#[test]
fn a_sender_is_woken_for_every_record() {
    for (batch_size, open_too, records) in SCENES {
        search(3, move || {
            let stage = Arc::new(Stage::new(0, batch_size, true));
            let (queue, woken) = observed(&stage);
            let appending = append_three(&stage, batch_size);
            let (mut asked, mut seen) = (VecDeque::new(), 0);
            while seen < records {
                woken.recv().expect("a wake-up");
                loop {
                    queue.drain_into(&mut asked);
                    asked.extend(queue.take_due(|_| true).0);
                    let asked = asked.drain(..);
                    seen += asked
                        .map(|it| collect(&it.partition, open_too))
                        .sum::<i32>();
                    if !queue.park(1, false) {
                        break;
                    }
                }
            }
            join(appending);
            // The stage and its observer hold each other.
            stage.set_observer(None);
        });
    }
}

/// Two threads each send a record and wait for it. However they meet, a sender at rest takes both without
/// looking at the time.
#[test]
fn a_sender_at_rest_is_woken_for_all_who_wait() {
    const SIZE: usize = 4_000;
    search(3, move || {
        let stage = Arc::new(Stage::new(0, SIZE, true));
        stage.hear_who_waits();
        let (queue, woken) = observed(&stage);
        queue.park(1, true);
        let waiting = [(); 2].map(|()| {
            let (stage, shelf) = (Arc::clone(&stage), Shelf::new(1 << 20, SIZE));
            spawn(move || {
                let record = RecordRef {
                    key: None,
                    value: Some(&[7; 100]),
                    headers: &[],
                    timestamp: 0,
                };
                let mut memory = Some(shelf.buffer(blank(SIZE)));
                let mut options = AppendOptions::default();
                let appended = stage.append(&record, &mut memory, &mut options, Instant::now);
                let Append::Done(Appended { index, ack }) = appended else {
                    panic!("{appended:?}");
                };
                let mut receipt = Receipt::new(ack, index, 0);
                let mut context = Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut receipt).poll(&mut context);
            })
        });
        let (mut asked, mut seen) = (VecDeque::new(), 0);
        while seen < 2 {
            woken.recv().expect("a wake-up");
            loop {
                queue.drain_into(&mut asked);
                asked.extend(queue.take_awaited());
                let asked = asked.drain(..);
                seen += asked.map(|it| collect(&it.partition, true)).sum::<i32>();
                if !queue.park(1, true) {
                    break;
                }
            }
        }
        join(waiting);
        // The stage and its observer hold each other.
        stage.set_observer(None);
    });
}

/// Appends records in a transaction as the intake does, until it takes no more. Returns how many it took.
fn append_in(stage: &Stage, scope: &Arc<Scope>, batch_size: usize, records: usize) -> i32 {
    let (now, shelf) = (Instant::now(), Shelf::new(1 << 20, batch_size));
    let record = RecordRef {
        key: None,
        value: Some(&[7; 100]),
        headers: &[],
        timestamp: 0,
    };
    let scope = Some(Arc::clone(scope));
    for taken in 0..records {
        let at_once = stage.append_to_open(&record, &scope, false, |_, _| ());
        if at_once.is_some() {
            continue;
        }
        let mut memory = Some(shelf.buffer(blank(batch_size)));
        let mut options = AppendOptions {
            scope: scope.clone(),
            ..AppendOptions::default()
        };
        match stage.append(&record, &mut memory, &mut options, || now) {
            Append::Done(_) => {}
            Append::Ended => return taken as i32,
            other => panic!("{other:?}"),
        }
    }
    records as i32
}

/// What a transaction had accepted when it was closed is found by the flush that follows, and nothing comes
/// behind that: the coordinator is asked to end it then.
#[test]
fn a_flush_behind_the_close_of_a_transaction_finds_all_of_it() {
    // Batches of one record, and one batch of all records.
    for batch_size in [250, 4_000] {
        search(3, move || {
            let stage = Arc::new(Stage::new(0, batch_size, true));
            let scope = Scope::open(TransactionProtocol::V2);
            let appending = [1, 2].map(|records| {
                let (stage, scope) = (Arc::clone(&stage), Arc::clone(&scope));
                spawn(move || append_in(&stage, &scope, batch_size, records))
            });
            scope.close();
            let flushed = collect(&stage, true);
            let accepted = appending.map(|it| it.join().expect("no panic"));
            assert_eq!(flushed, accepted.iter().sum::<i32>());
            assert_eq!(collect(&stage, true), 0, "something came behind the flush");
        });
    }
}
