//! Processes, one after the other, on one disk.

use std::rc::Rc;
use std::time::Duration;

use actix::Actor;
use forebay::{Config, Producer};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::application::{Application, ENOUGH, Known};
use super::rejected::is_recreated;
use super::resumed::Ear;
use crate::load::Name;
use crate::tally::{Fault, Invariant};
use crate::weather;

/// A close may take so much longer than it is given: two graces, and a timer is a millisecond or two late.
const CLOSE: Duration = Duration::from_millis(1_010);

/// Lives through a seed.
pub(super) async fn live(application: &Rc<Application>, config: Config) {
    let world = &application.world;
    let storm = {
        let world = Rc::clone(world);
        spawn_local(async move { weather::storm(&world).await })
    };
    let failures = spawn_local(fail_syncs(Rc::clone(application)));
    for _ in 0..application.plan.lives {
        process(application, &config).await;
    }
    let _ = storm.await;
    failures.abort();
    if world.plan.weights[Fault::Delete as usize] > 0 {
        // Until the topic is there again that was deleted last.
        sleep(Duration::from_millis(2_500)).await;
    }
    weather::heal(world).await;
    // What ends now may have been late.
    process(application, &config).await;
    drain(application, &config).await;
    ask(application, &config).await;
    // A machine that stopped may have kept records of which it has lost the topic partition.
    if !application.plan.machine {
        give_back(application, &config).await;
    }
}

/// Nothing is left in the spool, and its space is given back.
async fn give_back(application: &Rc<Application>, config: &Config) {
    let process = LocalSet::new();
    let waiting = async {
        let producer = start(application, config);
        let began = Instant::now();
        loop {
            let spool = producer.figures().await.ok().and_then(|it| it.spool);
            if spool.as_ref().is_some_and(|spool| spool.segments <= 2) {
                break;
            }
            if began.elapsed() > ENOUGH {
                let text = format!("all is delivered, and the space is not given back: {spool:?}");
                application.wrong(Invariant::Stuck, &text);
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let _ = producer.close(ENOUGH).await;
    };
    process.run_until(waiting).await;
    application.world.supervision.replace(None);
}

/// Asks up to where sources are accepted. Where a sync fails late, the next process tells.
async fn ask(application: &Rc<Application>, config: &Config) {
    for asked in 0.. {
        let process = LocalSet::new();
        let asking = async {
            let producer = start(application, config);
            let told = application.ask_all(&producer, asked == 5).await;
            let _ = producer.close(ENOUGH).await;
            told
        };
        let told = process.run_until(asking).await;
        application.world.supervision.replace(None);
        if told || asked == 5 {
            return;
        }
    }
}

/// Has syncs of files fail, if they are to.
async fn fail_syncs(application: Rc<Application>) {
    let world = &application.world;
    let Some(apart) = application.plan.failing_syncs else {
        return;
    };
    loop {
        sleep(world.between(0, apart)).await;
        let names = application.disk.model.names();
        let name = names.get(world.below(names.len() as u64) as usize);
        if let Some(name) = name.filter(|name| application.disk.model.fail_sync(name)) {
            world.note(&format!("syncs of {name} fail"), &[]);
            application.journal.borrow_mut().tally.failed_syncs += 1;
        }
    }
}

fn start(application: &Rc<Application>, config: &Config) -> Producer {
    let world = &application.world;
    let producer = Producer::builder()
        .in_local_set()
        .unchecked()
        .seed(world.below(u64::MAX))
        .resumed_to(Ear(Rc::clone(application)).start().recipient())
        .start(config.clone())
        .expect("a producer");
    world.supervision.replace(Some(producer.supervision()));
    producer
}

/// A process that sends, and ends whenever it pleases chance.
async fn process(application: &Rc<Application>, config: &Config) {
    let (world, plan) = (&application.world, &application.plan);
    let lives = match world.below(3) {
        0 => world.between(0, 10),
        _ => world.between(0, plan.life),
    };
    let closes = world.below(10) < plan.closes;
    // All that is in it ends at once when it is dropped.
    let process = LocalSet::new();
    let working = async {
        let producer = start(application, config);
        for partition in 0..world.partitions(0) {
            let application = Rc::clone(application);
            spawn_local(application.work(producer.clone(), partition as u32));
        }
        for source in 0..plan.sources {
            let application = Rc::clone(application);
            spawn_local(application.follow(producer.clone(), source));
        }
        sleep(lives).await;
        if closes {
            let limit = world.between(0, 2_000);
            let began = Instant::now();
            let _ = producer.close(limit).await;
            let took = began.elapsed();
            if took > limit + CLOSE {
                let text = format!("a close of {limit:?} took {took:?}");
                application.wrong(Invariant::Stuck, &text);
            }
            // Those who wait are told.
            sleep(Duration::from_millis(1)).await;
        }
    };
    process.run_until(working).await;
    world.supervision.replace(None);
    let stops = !closes && plan.machine && world.below(2) == 0;
    world.note("ends", &[closes.into(), stops.into()]);
    {
        let tally = &mut application.journal.borrow_mut().tally;
        match (closes, stops) {
            (true, _) => tally.closed += 1,
            (false, true) => tally.stopped += 1,
            (false, false) => tally.killed += 1,
        }
    }
    match stops {
        true => application.disk.model.crash_machine(),
        false => application.disk.model.crash_process(),
    }
    drop(process);
    if world.below(2) == 0 {
        sleep(world.between(0, 300)).await;
    }
}

/// Sends a record until one is accepted: the producer may have to learn of the topic first.
async fn accepted(
    application: &Rc<Application>,
    producer: &Producer,
    partition: u32,
) -> Option<Name> {
    let began = Instant::now();
    loop {
        let name = application.send(producer, None, partition).await;
        // Its outcome may be there already.
        if !matches!(application.known(name), Known::Tried | Known::Refused) {
            return Some(name);
        }
        if began.elapsed() > ENOUGH {
            let text = format!("a record for partition {partition} is refused");
            application.wrong(Invariant::Stuck, &text);
            return None;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// All that was accepted has its outcome soon.
async fn flush(application: &Application, producer: &Producer) {
    match timeout(ENOUGH, producer.flush()).await {
        Ok(Ok(_)) => {}
        other => {
            let figures = producer.figures().await;
            let text = format!("not delivered though all is well: {other:?}, {figures:?}");
            application.wrong(Invariant::Stuck, &text);
        }
    }
    sleep(Duration::from_millis(1)).await;
}

/// The last process delivers what is left, and something of its own.
async fn drain(application: &Rc<Application>, config: &Config) {
    let process = LocalSet::new();
    let draining = async {
        let producer = start(application, config);
        let mut names = Vec::new();
        for partition in 0..application.world.partitions(0) {
            names.extend(accepted(application, &producer, partition as u32).await);
        }
        flush(application, &producer).await;
        for name in &mut names {
            // It may have been accepted for a former topic: nobody had told of the present one.
            for _ in 0..3 {
                match application.known(*name) {
                    Known::NotWritten(why) | Known::Unknown(why) if is_recreated(&why) => {}
                    _ => break,
                }
                let again = accepted(application, &producer, name.0).await;
                *name = again.unwrap_or(*name);
                flush(application, &producer).await;
            }
        }
        if !matches!(timeout(ENOUGH, producer.resumed()).await, Ok(Ok(()))) {
            let text = "what former processes left is not over though all of it is delivered";
            application.wrong(Invariant::Stuck, text);
        }
        sleep(Duration::from_millis(1)).await;
        for name in names {
            let known = application.known(name);
            if !matches!(known, Known::Acked(_)) {
                let text = format!("{name:?} is {known:?} though all is well");
                application.wrong(Invariant::Stuck, &text);
            }
        }
        if let Err(why) = producer.close(ENOUGH).await {
            application.wrong(Invariant::Stuck, &format!("the last close: {why:?}"));
        }
    };
    process.run_until(draining).await;
    application.world.supervision.replace(None);
    drop(process);
    // What is still on its way arrives.
    sleep(Duration::from_secs(6)).await;
}
