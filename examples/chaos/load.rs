//! The load: one producer, and a sending task for each stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::{CloseError, Config, Figures, Producer, Record, SendError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::books::{Books, Sent};
use crate::stream::Stream;
use crate::verdicts::Verdicts;

/// Added to every deadline, because the machine is busy with brokers.
pub const GRACE: Duration = Duration::from_secs(20);

pub struct Load {
    add: UnboundedSender<(Arc<Stream>, f64)>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Verdicts>,
}

impl Load {
    pub fn start(config: Config, books: Arc<Books>) -> Self {
        let (add, added) = unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let drive = drive(config, books, added, stopped);
            LocalSet::new().block_on(&runtime, drive)
        };
        let thread = std::thread::spawn(run);
        Self { add, stop, thread }
    }

    /// Sends `per_second` records of a stream, until the end.
    pub fn send(&self, stream: Arc<Stream>, per_second: f64) {
        assert!(
            self.add.send((stream, per_second)).is_ok(),
            "the load has ended"
        );
    }

    /// Ends the load. The verdicts say which records have no outcome, and how much memory is
    /// missing.
    pub fn finish(self) -> Verdicts {
        self.stop.store(true, Relaxed);
        drop(self.add);
        self.thread.join().expect("the load does not panic")
    }
}

async fn drive(
    config: Config,
    books: Arc<Books>,
    mut added: UnboundedReceiver<(Arc<Stream>, f64)>,
    stop: Arc<AtomicBool>,
) -> Verdicts {
    let delivery = config.delivery_timeout;
    let producer = Producer::start(config).expect("a producer");
    let (mut senders, mut followers) = (JoinSet::new(), JoinSet::new());
    let mut streams = Vec::new();
    while let Some((stream, rate)) = added.recv().await {
        let (sent, settling) = unbounded_channel();
        let (books, to) = (Arc::clone(&books), Arc::clone(&stream));
        let paced = send_paced(
            producer.clone(),
            Arc::clone(&stream),
            rate,
            Arc::clone(&books),
            sent,
            Arc::clone(&stop),
        );
        senders.spawn_local(paced);
        followers.spawn_local(async move { books.follow(&to, settling, true).await });
        streams.push(stream);
    }
    let mut verdicts = Verdicts::default();
    while senders.join_next().await.is_some() {}
    let (begin, limit) = (Instant::now(), delivery + GRACE);
    if !matches!(timeout(limit, producer.flush()).await, Ok(Ok(_))) {
        let overdue = || format!("a flush did not end within {limit:?}");
        verdicts.unresolved.add(1, overdue);
    }
    let all = async { while followers.join_next().await.is_some() {} };
    let _ = timeout(limit.saturating_sub(begin.elapsed()).max(GRACE), all).await;
    for stream in streams {
        let (sent, settled) = (stream.sent(), stream.settled());
        verdicts.unresolved.add(sent - settled, || {
            let (topic, partition) = (&stream.topic, stream.partition);
            format!("{topic}-{partition}: from number {settled} of {sent}")
        });
    }
    let request_timeout = producer.config().request_timeout;
    let figures = async || producer.figures().await;
    look_for_leaks(figures, request_timeout, &mut verdicts).await;
    let limit = Duration::from_secs(10);
    match timeout(limit + GRACE, producer.close(limit)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => verdicts.unresolved.add(1, || format!("close: {error}")),
        Err(_) => verdicts
            .unresolved
            .add(1, || "close did not end".to_string()),
    }
    verdicts
}

/// Checks that all memory is back once every record has its outcome. A request that has timed out
/// may still hold some, until its response arrives or its connection is given up.
pub async fn look_for_leaks(
    figures: impl AsyncFn() -> Result<Figures, CloseError>,
    request_timeout: Duration,
    verdicts: &mut Verdicts,
) {
    let begin = Instant::now();
    let limit = request_timeout + GRACE;
    loop {
        let Ok(Ok(figures)) = timeout(GRACE, figures()).await else {
            return verdicts.leaked.add(1, || "no figures to be had".into());
        };
        let pool = figures.pool;
        let missing = pool.total_bytes - pool.available_bytes;
        let held = figures.queued_records() + figures.in_flight() + pool.waiting;
        if missing == 0 && held == 0 {
            return;
        }
        if begin.elapsed() > limit {
            let (queued, in_flight) = (figures.queued_records(), figures.in_flight());
            return verdicts.leaked.add(missing.max(1) as u64, || {
                format!("{missing} bytes; {queued} records queued, {in_flight} batches in flight, {pool:?}")
            });
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends at a rate, with a burst every few milliseconds. If it falls behind, it catches up at full
/// speed.
async fn send_paced(
    producer: Producer,
    stream: Arc<Stream>,
    rate: f64,
    books: Arc<Books>,
    sent: UnboundedSender<Sent>,
    stop: Arc<AtomicBool>,
) {
    const BURST: Duration = Duration::from_millis(20);
    let begin = Instant::now();
    let mut done = 0;
    let is_over = || stop.load(Relaxed) || stream.is_over();
    while !is_over() {
        let due = (begin.elapsed().as_secs_f64() * rate) as u64;
        for _ in done..due {
            send_one(async |it| producer.send(it).await, &stream, &books, &sent).await;
            if is_over() {
                return;
            }
        }
        done = due.max(done);
        sleep(BURST).await;
    }
}

/// Sends the stream's next record. Returns whether it was accepted.
pub async fn send_one<R>(
    send: impl AsyncFnOnce(Record) -> Result<R, SendError>,
    stream: &Stream,
    books: &Books,
    sent: &UnboundedSender<Sent<R>>,
) -> bool {
    let number = stream.next();
    let record = Record::to(Arc::clone(&stream.topic)).partition(stream.partition);
    let record = record.value(stream.value(number));
    let record = match stream.age(number) {
        Duration::ZERO => record,
        age => record.timestamp(millis_before(age)),
    };
    let called = Instant::now();
    let outcome = match send(record).await {
        Ok(receipt) => {
            books.accepted.fetch_add(1, Relaxed);
            let accepted = Instant::now();
            Sent::Accepted {
                receipt,
                called,
                accepted,
            }
        }
        Err(error) => Sent::Refused(error.to_string()),
    };
    let accepted = matches!(outcome, Sent::Accepted { .. });
    // The follower reads to the end of the stream.
    let _ = sent.send(outcome);
    accepted
}

/// What the wall clock showed so long ago, in milliseconds since 1970.
fn millis_before(age: Duration) -> i64 {
    let then = SystemTime::now() - age;
    let since = then.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
