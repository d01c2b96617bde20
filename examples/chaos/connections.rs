//! Faults of connections, caused by the proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::kafka::{Lie, Proxies, Proxy, Rules};
use crate::kinds::{Kind, Tally, Where};

/// Causes faults of connections at random until `stop`, and then restores all proxies.
pub fn hurt(
    proxies: &Proxies,
    tally: &Tally,
    request_timeout: Duration,
    seed: u64,
    stop: &AtomicBool,
) {
    let kinds = tally.kinds_at(Where::Connections);
    if kinds.is_empty() {
        return;
    }
    let mut random = SmallRng::seed_from_u64(seed);
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(random.random_range(20..400)));
        // Each kind once, before any is chosen at random.
        let missing = kinds.iter().find(|kind| !tally.is_met(**kind));
        let any = kinds[random.random_range(0..kinds.len())];
        let kind = match missing {
            Some(kind) if random.random_bool(0.5) => *kind,
            _ => any,
        };
        tracing::debug!(%kind, "begins");
        once(kind, proxies, request_timeout, &mut random, stop);
        tracing::debug!(%kind, "is over");
        tally.count(kind);
    }
    for proxy in proxies.all() {
        proxy.set(Rules::default());
    }
}

fn once(
    kind: Kind,
    proxies: &Proxies,
    request_timeout: Duration,
    random: &mut SmallRng,
    stop: &AtomicBool,
) {
    let all = proxies.all();
    let one = &all[random.random_range(0..all.len())];
    let some = match random.random_bool(0.3) {
        true => all,
        false => std::slice::from_ref(one),
    };
    let timeout = request_timeout.as_millis() as u64;
    let rules = Rules::default();
    match kind {
        Kind::Cut => some.iter().for_each(|proxy| proxy.cut()),
        Kind::CutRequest => one.cut_in_request(random.random_range(1..20_000)),
        Kind::CutAnswer => one.cut_in_answer(random.random_range(1..2_000)),
        Kind::BlackHole => {
            let requests = random.random_bool(0.5);
            let hole = Rules {
                hold_requests: requests,
                hold_answers: !requests || random.random_bool(0.5),
                ..rules
            };
            for_a_while(
                some,
                hole,
                random.random_range(timeout / 4..timeout * 2),
                stop,
            );
        }
        Kind::Late => {
            let late = Rules {
                hold_answers: true,
                ..rules
            };
            for_a_while(some, late, random.random_range(20..timeout), stop);
        }
        Kind::Slow => {
            let speed = [300, 3_000, 30_000][random.random_range(0..3)];
            let slow = Rules {
                bytes_per_second: Some(speed),
                ..rules
            };
            for_a_while(some, slow, random.random_range(200..3000), stop);
        }
        Kind::Refuse => {
            let refuse = Rules {
                refuse: true,
                ..rules
            };
            some.iter().for_each(|proxy| proxy.set(refuse));
            some.iter().for_each(|proxy| proxy.cut());
            for_a_while(some, refuse, random.random_range(50..1500), stop);
        }
        Kind::Lie => {
            let lie = Rules {
                lie: Some(Lie::ALL[random.random_range(0..Lie::ALL.len())]),
                ..rules
            };
            // All proxies tell the lie, so that no broker contradicts it. Connections are cut, so
            // that metadata is requested.
            all.iter().for_each(|proxy| proxy.set(lie));
            one.cut();
            for_a_while(all, lie, random.random_range(200..3000), stop);
        }
        _ => {}
    }
}

fn for_a_while(some: &[Arc<Proxy>], rules: Rules, millis: u64, stop: &AtomicBool) {
    tracing::debug!(?rules, millis, at = some.len());
    some.iter().for_each(|proxy| proxy.set(rules));
    let end = Instant::now() + Duration::from_millis(millis);
    while Instant::now() < end && !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
    some.iter().for_each(|proxy| proxy.set(Rules::default()));
}
