//! Producers that are started, send, and are ended while they send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forebay::{CloseError, Config, Producer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use crate::books::Books;
use crate::kinds::{Kind, Tally, Where};
use crate::load::{GRACE, look_for_leaks, send_one};
use crate::verdicts::Verdicts;

/// Starts and ends one producer after another until `stop`.
pub fn come_and_go(
    bootstrap: &str,
    (topic, partitions): (&str, i32),
    books: &Arc<Books>,
    tally: &Tally,
    seed: u64,
    stop: &AtomicBool,
) -> Verdicts {
    let mut verdicts = Verdicts::default();
    if tally.kinds_at(Where::Clients).is_empty() {
        return verdicts;
    }
    let mut random = SmallRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(random.random_range(100..3000)));
        let life = one(
            bootstrap,
            (topic, partitions),
            books,
            &mut random,
            &mut verdicts,
        );
        LocalSet::new().block_on(&runtime, life);
        tally.count(Kind::End);
    }
    verdicts
}

#[derive(Clone, Copy, Debug)]
enum End {
    Close(Duration),
    CloseTwice(Duration),
    FlushAndClose,
    Drop,
}

async fn one(
    bootstrap: &str,
    (topic, partitions): (&str, i32),
    books: &Arc<Books>,
    random: &mut SmallRng,
    verdicts: &mut Verdicts,
) {
    let (config, settings) = hurried(bootstrap, random);
    let (delivery, request_timeout) = (config.delivery_timeout, config.request_timeout);
    let producer = Producer::start(config).expect("a producer");
    let (mut senders, mut followers) = (JoinSet::new(), JoinSet::new());
    let mut streams = Vec::new();
    let ended = Arc::new(AtomicBool::new(false));
    for _ in 0..random.random_range(1..4) {
        let stream = books.open(topic, random.random_range(0..partitions));
        let (sent, settling) = unbounded_channel();
        let (producer, ended) = (producer.clone(), Arc::clone(&ended));
        let (from, to) = (Arc::clone(&stream), Arc::clone(&stream));
        let (at_sending, at_following) = (Arc::clone(books), Arc::clone(books));
        let most = 10u64.pow(random.random_range(0..4)) * 3;
        senders.spawn_local(async move {
            for _ in 0..most {
                let send = async |it| producer.send(it).await;
                if ended.load(Relaxed) || !send_one(send, &from, &at_sending, &sent).await {
                    break;
                }
            }
        });
        followers.spawn_local(async move { at_following.follow(&to, settling, false).await });
        streams.push(stream);
    }
    sleep(Duration::from_millis(random.random_range(0..1500))).await;

    let within = Duration::from_millis([0, 50, 1000, 5000][random.random_range(0..4)]);
    let end = match random.random_range(0..4) {
        0 => End::Close(within),
        1 => End::CloseTwice(within),
        2 => End::FlushAndClose,
        _ => End::Drop,
    };
    let who = format!("{end:?} of a producer with {settings:?}");
    let limit = match end {
        End::Close(within) | End::CloseTwice(within) => within,
        End::FlushAndClose | End::Drop => delivery,
    } + GRACE;
    let begin = Instant::now();
    let ending = async {
        match end {
            End::Close(within) => producer.close(within).await.map(drop),
            End::CloseTwice(within) => {
                let again = producer.clone();
                let (first, second) = tokio::join!(producer.close(within), again.close(within));
                if first != second {
                    let differ = || format!("{who}: {first:?}, then {second:?}");
                    verdicts.unresolved.add(1, differ);
                }
                first.map(drop)
            }
            End::FlushAndClose => {
                ended.store(true, Relaxed);
                while senders.join_next().await.is_some() {}
                if let Err(error) = producer.flush().await {
                    let failed = || format!("{who}: a flush: {error}");
                    verdicts.unresolved.add(1, failed);
                }
                let figures = async || producer.figures().await;
                look_for_leaks(figures, request_timeout, verdicts).await;
                producer.close(Duration::ZERO).await.map(drop)
            }
            End::Drop => {
                ended.store(true, Relaxed);
                while senders.join_next().await.is_some() {}
                drop(producer);
                Ok(())
            }
        }
    };
    match timeout(limit + GRACE, ending).await {
        // The remaining records have their outcomes.
        Ok(Ok(()) | Err(CloseError::TimedOut(_))) => {}
        Ok(Err(error)) => verdicts.unresolved.add(1, || format!("{who}: {error}")),
        Err(_) => verdicts.unresolved.add(1, || format!("{who} did not end")),
    }
    // After a close, sends are refused, and the sending tasks end. Then the followers end.
    let all = async {
        while senders.join_next().await.is_some() {}
        while followers.join_next().await.is_some() {}
    };
    let _ = timeout(limit.saturating_sub(begin.elapsed()).max(GRACE), all).await;
    for stream in streams {
        let (sent, settled) = (stream.sent(), stream.settled());
        verdicts.unresolved.add(sent - settled, || {
            format!(
                "{who}: stream {} from number {settled} of {sent}",
                stream.id
            )
        });
    }
}

/// A configuration with short timeouts, and with settings that differ between applications.
fn hurried(
    bootstrap: &str,
    random: &mut SmallRng,
) -> (Config, BTreeMap<&'static str, &'static str>) {
    let mut one_of = |all: &[&'static str]| all[random.random_range(0..all.len())];
    let settings = BTreeMap::from([
        ("request.timeout.ms", one_of(&["300", "1000"])),
        ("delivery.timeout.ms", one_of(&["1500", "3000", "10000"])),
        ("linger.ms", one_of(&["0", "5", "200"])),
        ("batch.size", one_of(&["500", "16384", "100000"])),
        ("buffer.memory", one_of(&["200000", "33554432"])),
        ("compression.type", one_of(&["none", "lz4"])),
        ("max.block.ms", "1000"),
    ]);
    let builder = Config::builder().bootstrap_servers(bootstrap);
    let builder = settings.iter().fold(builder, |b, (k, v)| b.set(*k, v));
    (builder.build().expect("a configuration"), settings)
}
