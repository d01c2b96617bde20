use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::*;
use crate::core::spool::Region;
use crate::disk::queue::{Synced, Ticket};
use crate::disk::store::StoredFile;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(synced: Synced) -> Result<(), DiskError> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut synced = pin!(synced);
    loop {
        match synced.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::park(),
        }
    }
}

/// A file whose syncs the test lets begin and end.
#[derive(Debug)]
struct Gated {
    begun: SyncSender<()>,
    go_on: Mutex<Receiver<Result<(), DiskError>>>,
}

impl Region for Gated {
    fn len(&self) -> usize {
        64
    }

    fn write(&self, _: usize, _: &[u8]) -> bool {
        true
    }
}

impl StoredFile for Gated {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.begun.send(()).expect("the test listens");
        let go_on = self.go_on.lock().expect("no panic");
        go_on.recv().expect("the test says so")
    }

    fn prepare(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

fn gated() -> (Gated, Receiver<()>, Sender<Result<(), DiskError>>) {
    let (begun, begins) = sync_channel(100);
    let (ends, go_on) = channel();
    let go_on = Mutex::new(go_on);
    (Gated { begun, go_on }, begins, ends)
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl DiskEvents for Heard {
    fn told(&self, event: DiskEvent) {
        match event {
            DiskEvent::SyncFailed { name, .. } if &*name == "panics" => panic!("expected"),
            DiskEvent::SyncFailed { name, .. } => {
                self.0.lock().expect("no panic").push(name.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn those_who_come_while_a_sync_goes_on_share_the_next() {
    let syncer = Syncer::start(Arc::new(Heard::default())).expect("a thread");
    let (file, begins, ends) = gated();
    let file = syncer.queue().watch("segment-1", Arc::new(file));
    let first = file.ticket();
    let waits = thread::spawn(move || wait(first.synced()));
    begins.recv().expect("a sync for the first");
    let tickets: Vec<_> = (0..20).map(|_| file.ticket()).collect();
    let others: Vec<_> = tickets.iter().cloned().map(Ticket::synced).collect();
    assert!(tickets.iter().all(|ticket| ticket.outcome().is_none()));
    ends.send(Ok(())).expect("a sync");
    ends.send(Ok(())).expect("a sync");
    waits.join().expect("no panic").expect("it is synced");
    for other in others {
        wait(other).expect("it is synced");
    }
    assert_eq!(
        begins.try_iter().count(),
        1,
        "one more sync for all of them"
    );
    syncer.join();
}

#[test]
fn many_threads_that_await_their_writes_all_go_on() {
    let syncer = Syncer::start(Arc::new(Heard::default())).expect("a thread");
    let (file, begins, ends) = gated();
    let file = syncer.queue().watch("segment-1", Arc::new(file));
    (0..8 * 50).for_each(|_| ends.send(Ok(())).expect("a sync"));
    let drained = thread::spawn(move || begins.iter().count());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    wait(file.ticket().synced()).expect("it is synced");
                }
            });
        }
    });
    drop(file);
    syncer.join();
    let syncs = drained.join().expect("no panic");
    assert!((50..=400).contains(&syncs), "{syncs} syncs");
}

#[test]
fn a_failed_sync_is_told_before_those_who_wait_hear_of_it() {
    let heard = Arc::new(Heard::default());
    let syncer = Syncer::start(Arc::clone(&heard) as Arc<dyn DiskEvents>).expect("a thread");
    let (file, _begins, ends) = gated();
    let file = syncer.queue().watch("segment-1", Arc::new(file));
    ends.send(Err(DiskError::Ended)).expect("a sync");
    wait(file.ticket().synced()).expect_err("it failed");
    assert_eq!(*heard.0.lock().expect("no panic"), ["segment-1"]);
    syncer.join();
}

#[test]
fn when_the_thread_panics_those_who_wait_are_told() {
    let syncer = Syncer::start(Arc::new(Heard::default())).expect("a thread");
    let (file, _begins, ends) = gated();
    let file = syncer.queue().watch("panics", Arc::new(file));
    ends.send(Err(DiskError::Ended)).expect("a sync");
    let error = wait(file.ticket().synced()).expect_err("there is no thread");
    assert!(matches!(error, DiskError::Ended), "{error}");
    wait(file.ticket().synced()).expect_err("there is no thread");
    syncer.join();
}

#[test]
fn who_waits_when_it_ends_is_told_so() {
    let syncer = Syncer::start(Arc::new(Heard::default())).expect("a thread");
    let (file, _begins, _ends) = gated();
    let file = syncer.queue().watch("segment-1", Arc::new(file));
    syncer.join();
    let error = wait(file.ticket().synced()).expect_err("there is no thread");
    assert!(matches!(error, DiskError::Ended), "{error}");
}
