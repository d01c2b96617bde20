//! Code of the application that waits while the runtime calls it, and callers whose runtime does not
//! answer. No wait is without an end.

use std::sync::mpsc;
use std::thread;

use actix::prelude::*;
use forebay::{BatchOutcome, CloseError, Placement, SendError};
use krafka::testing::{ApiKey, Control};
use tokio::sync::{mpsc as queue, oneshot};

use crate::*;

const PLACEMENTS: [Placement; 2] = [Placement::OwnThread, Placement::CurrentArbiter];

/// Runs `work` in a System on a thread of its own. If it hangs, this thread does not.
async fn aside<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (done, told) = oneshot::channel();
    thread::spawn(move || {
        let _ = done.send(System::new().block_on(work()));
    });
    within(told).await.expect("no panic")
}

fn placed(servers: &str, placement: Placement, keys: &[(&str, &str)]) -> Producer {
    let builder = Producer::builder().placement(placement);
    builder.start(config(servers, keys)).expect("a producer")
}

#[tokio::test]
async fn what_would_wait_in_a_callback_is_refused_at_once() {
    for placement in PLACEMENTS {
        let broker = broker().await;
        let servers = broker.bootstrap_servers();
        let log = aside(move || async move {
            let producer = placed(&servers, placement, &[("max.block.ms", "60000")]);
            let again = producer.clone();
            let (tell, told) = oneshot::channel();
            let callback = move |_: Outcome| {
                let known = block_on(again.send(to("known")));
                let unknown = block_on(again.send(Record::to("unknown").value("x")));
                let partitions = block_on(again.partitions_for("unknown"));
                let actor = block_on(again.partition_actor("t", 0)).map(drop);
                let refused = [
                    unknown.map(drop).expect_err("it would wait"),
                    partitions.map(drop).expect_err("it would wait"),
                    actor.expect_err("it would wait"),
                ];
                let ends = [
                    block_on(again.flush()).map(drop),
                    block_on(again.close(PATIENCE)).map(drop),
                    block_on(again.figures()).map(drop),
                ];
                let _ = tell.send((known, refused, ends));
            };
            let sent = producer.send_with(to("first"), callback).await;
            acked(sent.expect("accepted")).await;
            let (known, refused, ends) = within(told).await.expect("called");
            acked(known.expect("it needs no wait")).await;
            for refused in refused {
                assert!(matches!(refused, SendError::InCallback(_)), "{refused:?}");
            }
            assert_eq!(ends, [Err(CloseError::InCallback); 3]);
            // It is neither closed nor stuck.
            acked(send(&producer, "after").await).await;
            within(producer.flush()).await.expect("flushed");
            close(producer).await;
        });
        log.await;
        assert_eq!(self::log(&broker), ["first", "known", "after"]);
    }
}

#[tokio::test]
async fn memory_is_not_waited_for_in_a_callback() {
    for placement in PLACEMENTS {
        let broker = std::sync::Arc::new(broker().await);
        let servers = broker.bootstrap_servers();
        let quiet = std::sync::Arc::clone(&broker);
        let work = move || async move {
            let keys = [("batch.size", "1024"), ("buffer.memory", "4096")];
            let producer = placed(&servers, placement, &keys);
            let again = producer.clone();
            let (tell, told) = oneshot::channel();
            let callback = move |_: Outcome| {
                quiet.on(ApiKey::Produce, |_| Control::Silence);
                let sends = (0..20).map(|_| block_on(again.send(to("x".repeat(900)))));
                let _ = tell.send(sends.collect::<Vec<_>>());
            };
            let sent = producer.send_with(to("first"), callback).await;
            drop(sent.expect("accepted"));
            let sends = within(told).await.expect("called");
            assert!(sends.iter().any(Result::is_ok), "{sends:?}");
            let refused = sends.last().and_then(|last| last.as_ref().err());
            assert!(
                matches!(refused, Some(SendError::InCallback(_))),
                "{refused:?}"
            );
            let closed = within(producer.close(Duration::ZERO)).await;
            assert!(matches!(closed, Err(CloseError::TimedOut(_))), "{closed:?}");
        };
        aside(work).await;
    }
}

/// On a thread of their own callbacks hold up no receipt. On the arbiter they do.
#[tokio::test]
async fn a_receipt_that_is_awaited_in_a_callback_does_not_hang() {
    for placement in PLACEMENTS {
        let broker = broker().await;
        let servers = broker.bootstrap_servers();
        let work = move || async move {
            let producer = placed(&servers, placement, &[]);
            let again = producer.clone();
            let (tell, told) = oneshot::channel();
            let callback = move |_: Outcome| {
                let receipt = block_on(again.send(to("second"))).expect("it needs no wait");
                let later = receipt.clone();
                let mut receipts = Receipts::default();
                receipts.push_receipt(receipt.clone());
                let waited = (block_on(receipt), block_on(receipts.next()));
                let _ = tell.send((later, waited, receipts.len()));
            };
            let sent = producer.send_with(to("first"), callback).await;
            drop(sent.expect("accepted"));
            let (later, (outcome, next), left) = within(told).await.expect("called");
            match placement {
                Placement::OwnThread => assert!(outcome.is_ok() && next == Some(outcome)),
                _ => {
                    let unknown = Unconfirmed::Unknown(forebay::Reason::InCallback);
                    assert_eq!((outcome, next, left), (Err(unknown), None, 1));
                }
            }
            acked(later).await;
            close(producer).await;
        };
        aside(work).await;
        assert_eq!(log(&broker), ["first", "second"]);
    }
}

/// What is logged is sent on, once.
#[derive(Clone)]
struct Sends {
    by: std::sync::Arc<std::sync::Mutex<Option<Producer>>>,
    told: mpsc::Sender<String>,
}

impl std::io::Write for Sends {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let producer = self.by.lock().expect("no panic").take();
        if let Some(producer) = producer {
            let sent = block_on(producer.send(Record::to("unknown").value("x")));
            let _ = self.told.send(format!("{sent:?}"));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The actors log on the thread that they share with the application.
#[tokio::test]
async fn a_subscriber_that_sends_holds_nothing_up_on_an_arbiter_either() {
    let broker = broker().await;
    let servers = broker.bootstrap_servers();
    let work = move || async move {
        let (told, hears) = mpsc::channel();
        let sends = Sends {
            by: Default::default(),
            told,
        };
        let writer = sends.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let keys = [("max.block.ms", "3000")];
        let producer = placed(&servers, Placement::CurrentArbiter, &keys);
        *sends.by.lock().expect("no panic") = Some(producer.clone());
        acked(send(&producer, "x").await).await;
        let sent = hears.try_recv().expect("something is logged");
        assert!(sent.contains("InCallback"), "{sent}");
        close(producer).await;
    };
    aside(work).await;
}

struct Waits(std::sync::Mutex<Option<Producer>>);

impl forebay::Interceptor for Waits {
    fn on_send(&self, record: Record) -> Record {
        let producer = self.0.lock().expect("no panic").take();
        match producer {
            None => record,
            Some(producer) => {
                let sent = block_on(producer.send(Record::to("unknown").value("x")));
                record.value(format!("{sent:?}"))
            }
        }
    }
}

/// `SendRecord` has it called on the runtime's thread.
#[tokio::test]
async fn an_interceptor_that_waits_holds_nothing_up() {
    for placement in PLACEMENTS {
        let broker = broker().await;
        let servers = broker.bootstrap_servers();
        let work = move || async move {
            let waits = std::sync::Arc::new(Waits(Default::default()));
            struct Shared(std::sync::Arc<Waits>);
            impl forebay::Interceptor for Shared {
                fn on_send(&self, record: Record) -> Record {
                    self.0.on_send(record)
                }
            }
            let builder = Producer::builder().placement(placement);
            let builder = builder.interceptor(Shared(std::sync::Arc::clone(&waits)));
            let producer = builder.start(config(&servers, &[])).expect("a producer");
            let partition = producer.partition_actor("t", 0).await.expect("an actor");
            *waits.0.lock().expect("no panic") = Some(producer.clone());
            let sent = within(partition.send(forebay::SendRecord::new(to("x")))).await;
            acked(sent.expect("alive").expect("accepted")).await;
            close(producer).await;
        };
        aside(work).await;
        let values = log(&broker);
        assert!(values[0].contains("InCallback"), "{values:?}");
    }
}

#[tokio::test]
async fn callers_deadlines_hold_though_the_runtime_stands_still() {
    let broker = broker().await;
    let servers = broker.bootstrap_servers();
    let (hand_over, handed) = oneshot::channel();
    let (go_on, stands_still) = mpsc::channel::<()>();
    let arbiter = thread::spawn(move || {
        System::new().block_on(async {
            let keys = [
                ("max.block.ms", "200"),
                ("request.timeout.ms", "100"),
                ("delivery.timeout.ms", "200"),
                ("batch.size", "1024"),
                ("buffer.memory", "4096"),
            ];
            let producer = placed(&servers, Placement::CurrentArbiter, &keys);
            acked(send(&producer, "first").await).await;
            let _ = hand_over.send(producer.clone());
            // A task of the application.
            let _ = stands_still.recv();
            within(producer.close(PATIENCE)).await
        })
    });
    let producer = within(handed).await.expect("a producer");
    // A caller without tokio.
    let caller = thread::spawn(move || {
        let unknown = block_on(producer.send(Record::to("unknown").value("x")));
        let unknown = unknown.map(drop).expect_err("no answer");
        assert!(
            matches!(unknown, SendError::TopicUnknown { .. }),
            "{unknown}"
        );
        let full = loop {
            if let Err(full) = block_on(producer.send(to("x".repeat(900)))) {
                break full;
            }
        };
        assert!(matches!(full, SendError::NoMemory { .. }), "{full}");
        let actor = block_on(producer.partition_actor("t", 0)).map(drop);
        assert!(
            matches!(actor, Err(SendError::TopicUnknown { .. })),
            "{actor:?}"
        );
        let flushed = block_on(producer.flush());
        assert!(
            matches!(flushed, Err(CloseError::TimedOut(_))),
            "{flushed:?}"
        );
        let figures = block_on(producer.figures()).map(drop);
        assert_eq!(figures, Err(CloseError::NoAnswer));
        let closed = block_on(producer.close(Duration::from_millis(100)));
        assert_eq!(closed, Err(CloseError::NoAnswer));
        producer
    });
    let joining = tokio::task::spawn_blocking(move || caller.join());
    let producer = within(joining)
        .await
        .expect("no panic")
        .expect("as expected");
    go_on.send(()).expect("it stands still");
    let joining = tokio::task::spawn_blocking(move || arbiter.join());
    let closed = within(joining).await.expect("no panic").expect("no panic");
    assert_eq!(
        within(producer.close(PATIENCE)).await,
        closed,
        "the first one's"
    );
}

#[tokio::test]
async fn a_callback_that_does_not_return_holds_up_nothing_but_what_is_told() {
    let broker = broker().await;
    let keys = [
        ("request.timeout.ms", "300"),
        ("delivery.timeout.ms", "300"),
    ];
    let producer = producer(&broker, &keys);
    let (go_on, stands_still) = mpsc::channel::<()>();
    let callback = move |_: Outcome| {
        let _ = stands_still.recv();
    };
    let sent = producer.send_with(to(0), callback).await;
    acked(sent.expect("accepted")).await;
    let (tell, told) = oneshot::channel();
    let behind = move |outcome: Outcome| drop(tell.send(outcome));
    let sent = producer.send_with(to(1), behind).await.expect("accepted");
    acked(sent).await;
    all_acked(send_all(&producer, 2..10).await).await;
    let flushed = within(producer.flush()).await;
    assert!(
        matches!(flushed, Err(CloseError::TimedOut(_))),
        "{flushed:?}"
    );
    let last = send(&producer, 10).await;
    let began = std::time::Instant::now();
    let closed = within(producer.close(Duration::from_millis(100))).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(
        closed.is_ok() || matches!(closed, Err(CloseError::TimedOut(_))),
        "{closed:?}"
    );
    assert!(last.outcome().is_some());
    assert_eq!(
        within(producer.close(PATIENCE)).await,
        closed,
        "the first one's"
    );
    // No outcome is lost.
    go_on.send(()).expect("it stands still");
    within(told).await.expect("told").expect("acked");
}

#[tokio::test]
async fn two_closes_end_though_one_is_called_where_callbacks_run() {
    for placement in PLACEMENTS {
        for _ in 0..10 {
            let broker = broker().await;
            let servers = broker.bootstrap_servers();
            let work = move || async move {
                let producer = placed(&servers, placement, &[]);
                let again = producer.clone();
                let (tell, told) = oneshot::channel();
                let (begin, begun) = oneshot::channel();
                let callback = move |_: Outcome| {
                    actix::spawn(async move {
                        let _ = begin.send(());
                        let _ = tell.send(again.close(PATIENCE).await);
                    });
                };
                let sent = producer.send_with(to("first"), callback).await;
                drop(sent.expect("accepted"));
                within(begun).await.expect("spawned");
                within(producer.close(PATIENCE)).await.expect("closed");
                // Or its task ended with the producer.
                if let Ok(closed) = within(told).await {
                    closed.expect("closed");
                }
            };
            aside(work).await;
        }
    }
}

#[tokio::test]
async fn a_flush_and_a_close_count_what_became_of_the_records() {
    let broker = broker().await;
    let keys = [
        ("linger.ms", "100000"),
        ("request.timeout.ms", "200"),
        ("delivery.timeout.ms", "200000"),
    ];
    let producer = producer(&broker, &keys);
    let waited = send_all(&producer, 0..7).await;
    let flushed = within(producer.flush()).await.expect("flushed");
    assert_eq!((flushed.acked, flushed.total()), (7, 7));
    assert!(flushed.all_acked());
    all_acked(waited).await;
    let nothing = within(producer.flush()).await.expect("flushed");
    assert_eq!(nothing.total(), 0, "what had its outcome is not waited for");
    let waited = send_all(&producer, 0..5).await;
    let closes = (0..3).map(|_| producer.close(PATIENCE));
    for closed in within(futures_util::future::join_all(closes)).await {
        let closed = closed.expect("closed");
        assert_eq!((closed.acked, closed.total()), (5, 5));
    }
    all_acked(waited).await;
    let again = within(producer.close(PATIENCE)).await.expect("closed");
    assert_eq!(again.acked, 5, "the first one's");
}

#[tokio::test]
async fn records_that_expire_in_a_close_are_counted() {
    let (_broker, producer, receipts) = ten_that_expire().await;
    let closed = within(producer.close(PATIENCE)).await.expect("closed");
    let count = |is: fn(&Outcome) -> bool| {
        let outcomes = receipts.iter().filter_map(Receipt::outcome);
        outcomes.filter(is).count() as u64
    };
    assert_eq!(closed.total(), 10);
    let counted = (closed.acked, closed.not_written, closed.unknown);
    let found = (
        count(Outcome::is_ok),
        count(is_not_written),
        count(is_unknown),
    );
    assert_eq!(counted, found);
    assert!(!closed.all_acked());
}

/// Handles outcomes, once it is let.
struct Slow {
    begin: Option<oneshot::Receiver<()>>,
    tell: queue::UnboundedSender<BatchOutcome>,
}

impl Actor for Slow {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let begin = self.begin.take().expect("started once");
        ctx.wait(fut::wrap_future(async move { drop(begin.await) }));
    }
}

impl Handler<BatchOutcome> for Slow {
    type Result = ();

    fn handle(&mut self, outcome: BatchOutcome, _: &mut Context<Self>) {
        let _ = self.tell.send(outcome);
    }
}

const LITTLE_MEMORY: [(&str, &str); 3] = [
    ("batch.size", "1024"),
    ("buffer.memory", "8192"),
    ("max.block.ms", "300"),
];

#[actix::test]
async fn outcomes_that_wait_for_a_slow_recipient_take_memory_and_none_is_lost() {
    for placement in PLACEMENTS {
        let broker = broker().await;
        let producer = placed(&broker.bootstrap_servers(), placement, &LITTLE_MEMORY);
        let (begin, tell, mut told) = {
            let (begin, begun) = oneshot::channel();
            let (tell, told) = queue::unbounded_channel();
            (begin, (Some(begun), tell), told)
        };
        let (started, tell) = tell;
        let slow = Slow {
            begin: started,
            tell,
        }
        .start();
        let telling = producer.outcomes_to(slow.recipient());
        let mut accepted = 0;
        let refused = loop {
            match within(telling.send(to("x".repeat(900)))).await {
                Ok(receipt) => acked(receipt).await,
                Err(refused) => break refused,
            };
            accepted += 1;
            assert!(accepted < 100, "nothing holds up those who send");
        };
        assert!(matches!(refused, SendError::NoMemory { .. }), "{refused}");
        // Neither waits for the recipient.
        within(producer.flush()).await.expect("flushed");
        begin.send(()).expect("it waits");
        let mut offsets = Vec::new();
        while offsets.len() < accepted {
            let outcome = within(told.recv()).await.expect("alive");
            offsets.extend(outcome.ids().filter_map(|id| outcome.offset_of(id)));
        }
        assert!(offsets.is_sorted(), "{offsets:?}");
        // There is memory again.
        acked(
            within(telling.send(to("x".repeat(900))))
                .await
                .expect("accepted"),
        )
        .await;
        close(producer).await;
    }
}

#[actix::test]
async fn a_recipient_that_is_gone_or_stuck_does_not_hold_up_the_end() {
    for gone in [true, false] {
        let broker = broker().await;
        let producer = producer(&broker, &LITTLE_MEMORY);
        let (begin, begun) = oneshot::channel();
        let (tell, mut told) = queue::unbounded_channel();
        let slow = Slow {
            begin: Some(begun),
            tell,
        };
        let arbiter = Arbiter::new();
        let slow = Slow::start_in_arbiter(&arbiter.handle(), |_| slow);
        let telling = producer.outcomes_to(slow.recipient());
        for i in 0..4 {
            acked(send(&telling, i).await).await;
        }
        if gone {
            arbiter.stop();
            within(async { while told.recv().await.is_some() {} }).await;
            // All memory is there.
            for _ in 0..40 {
                let sent = within(telling.send(to("x".repeat(900)))).await;
                acked(sent.expect("accepted")).await;
            }
        }
        drop(telling);
        within(producer.close(PATIENCE)).await.expect("closed");
        if !gone {
            begin.send(()).expect("it waits");
            for _ in 0..4 {
                within(told.recv()).await.expect("none is lost");
            }
            arbiter.stop();
        }
    }
}

#[tokio::test]
async fn the_last_handle_may_go_with_a_callback() {
    for placement in PLACEMENTS {
        let broker = broker().await;
        let servers = broker.bootstrap_servers();
        let work = move || async move {
            let producer = placed(&servers, placement, &[("linger.ms", "20")]);
            let last = producer.clone();
            let (tell, told) = oneshot::channel();
            let callback = move |_: Outcome| {
                let second = last.try_send(to("second"));
                drop(last);
                let _ = tell.send(second);
            };
            let sent = producer.send_with(to("first"), callback).await;
            drop((producer, sent.expect("accepted")));
            let second = within(told).await.expect("called");
            acked(second.expect("accepted")).await;
        };
        aside(work).await;
        assert_eq!(log(&broker), ["first", "second"]);
    }
}
