//! One seed, from its plan to its verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use forebay::config::Acks;
use forebay::internals::{faults, panic_message};
use forebay::{CloseError, Config, Figures, Outcome, Producer, Reason, Unconfirmed};
use forebay_model_cluster::{Cluster, Settings, rng, virtual_time};
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::check::{Promise, check};
use super::load::{Load, Name, Told};
use super::resolve;
use super::tally::{Fault, Invariant, Tally};
use super::weather::{before_message, cut_off_for_good, heal, storm};
use super::world::{History, Plan, World};

/// What came of a seed.
pub(super) struct Verdict<T = Tally> {
    pub tally: T,
    /// What is wrong, in words; empty if nothing is.
    pub wrong: Vec<String>,
    /// Of everything that happened.
    pub hash: u64,
    pub text: Vec<String>,
}

/// A seed's configuration of the producer, as far as the simulation has to know it.
struct ProducerSettings {
    config: Config,
    delivery_timeout: Duration,
    promise: Promise,
    /// An actor may be given up.
    fragile: bool,
}

pub(super) fn one_of<T: Copy>(rng: &mut SmallRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}

fn plan(rng: &mut SmallRng, topics: usize, congested: bool) -> Plan {
    let pauses = !congested && rng.random_bool(0.2);
    let backfills = rng.random_bool(0.2);
    // In pauses topics are let go of, and with them the identities that a silence could make old.
    let silent = !pauses && !backfills && rng.random_bool(0.1);
    let memory = one_of(rng, &SHORT_MEMORY);
    let mut weights = [0; Fault::COUNT];
    // Some seeds have much of a few faults, and none of the others: what two of them do together
    // shows best where nothing else is wrong.
    let share = one_of(rng, &[0.15, 0.3, 0.6, 1.0]);
    for weight in &mut weights {
        if rng.random_bool(share) {
            *weight = rng.random_range(1..=5);
        }
    }
    if rng.random_bool(0.5) {
        weights[Fault::Panic as usize] = 0;
    }
    if congested {
        weights[Fault::SlowNetwork as usize] = 5;
        weights[Fault::Freeze as usize] = 5;
    }
    Plan {
        congested,
        kafka: Settings {
            min_in_sync: one_of(rng, &[1, 2, 2]),
            max_message: one_of(rng, &[1 << 20, 1 << 20, 1 << 20, 500, 900]),
            names_duplicates: rng.random_bool(0.2),
            newest_produce: one_of(rng, &[8, 9, 11, 12, 13, 13]),
            hints: rng.random_bool(0.5),
            socket: match congested {
                true => 64,
                false => one_of(rng, &[64, 1_000, 10_000, 100_000]),
            },
            first_epoch: one_of(rng, &[0, 0, 0, 0, 32_766]),
            producer_expiration: match silent {
                true => memory,
                false => Settings::FAIR.producer_expiration,
            },
            expiration_check: match backfills || silent {
                true => Duration::from_millis(rng.random_range(50..2_000)),
                false => Settings::FAIR.expiration_check,
            },
            transactions: None,
            reads: false,
            readable: true,
        },
        weights,
        storm: Duration::from_millis(rng.random_range(300..5_000)),
        silence: match silent {
            true => memory + Duration::from_millis(rng.random_range(12_000..60_000)),
            false => Duration::ZERO,
        },
        outage: match pauses && rng.random_bool(0.5) {
            true => Duration::from_millis(rng.random_range(6_000..20_000)),
            false => Duration::ZERO,
        },
        stays_cut_off: (!congested && rng.random_bool(0.1)).then(|| rng.random_range(0..3)),
        topics,
        pauses,
        passing: pauses && rng.random_bool(0.5),
        backfills,
        resolves: None,
    }
}

/// For how long brokers remember producers in seeds with a silence. The producer is told of the first. It
/// expects to be forgotten after five minutes without that, so the other is longer.
const SHORT_MEMORY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(6 * 60)];

/// Milliseconds by which `delivery.timeout.ms` outlasts an outage and everything before it.
const OUTLASTS: u64 = 60_000;

fn producer_settings(rng: &mut SmallRng, plan: &Plan) -> ProducerSettings {
    let request_timeout = rng.random_range(60..1_500);
    let linger = one_of(rng, &[0, 0, 1, 5, 40]);
    let spare = one_of(rng, &[0, 300, 1_500, 6_000]);
    let spare = match plan.outage.is_zero() {
        _ if plan.congested => 0,
        false => OUTLASTS,
        true if plan.stays_cut_off.is_some() => spare.max(20_000),
        true => spare,
    };
    let delivery_timeout = request_timeout + linger + spare;
    let batch = one_of(rng, &[100, 150, 300, 700, 2_000]);
    let memory = batch.max(300) * one_of(rng, &[3, 8, 40]);
    // Where many small batches wait for a narrow socket they are all of one size.
    let (batch, memory) = match plan.congested {
        true => (100, 60_000),
        false => (batch, memory),
    };
    let idempotent = !rng.random_bool(if plan.congested { 0.5 } else { 0.15 });
    let idempotent = idempotent || plan.resolves.is_some();
    let acks = match idempotent {
        true => "all",
        false => one_of(rng, &["all", "1", "0"]),
    };
    let in_flight = one_of(rng, &[1, 2, 5, 5, 5]);
    let told = plan.kafka.producer_expiration == SHORT_MEMORY[0];
    let expiration = if told {
        SHORT_MEMORY[0]
    } else {
        Settings::FAIR.producer_expiration
    };
    let fragile = rng.random_bool(0.1);
    let codec = one_of(rng, &["none", "none", "none", "none", "lz4"]);
    let config = Config::builder()
        .bootstrap_servers("broker-0:9092,broker-1:9092,broker-2:9092")
        // The one that is made up counts producers, and so would differ in length.
        .set("client.id", "simulated")
        .set("acks", acks)
        .set("enable.idempotence", idempotent)
        .set("max.in.flight.requests.per.connection", in_flight)
        .set("request.timeout.ms", request_timeout)
        .set("delivery.timeout.ms", delivery_timeout)
        .set("linger.ms", linger)
        .set("batch.size", batch)
        .set("buffer.memory", memory)
        .set("max.request.size", batch.max(300) * 4)
        .set("max.block.ms", one_of(rng, &[20, 300, 2_000]))
        .set("retries", one_of(rng, &[i32::MAX, i32::MAX, i32::MAX, 2]))
        .set("retry.backoff.ms", one_of(rng, &[1, 10, 100]))
        .set("retry.backoff.max.ms", one_of(rng, &[100, 800]))
        .set("reconnect.backoff.ms", one_of(rng, &[1, 10, 50]))
        .set("reconnect.backoff.max.ms", one_of(rng, &[50, 500]))
        .set(
            "socket.connection.setup.timeout.ms",
            one_of(rng, &[50, 500]),
        )
        .set("socket.connection.setup.timeout.max.ms", 1_000)
        .set("metadata.max.age.ms", one_of(rng, &[200, 1_000, 300_000]))
        .set(
            "metadata.max.idle.ms",
            match plan.pauses {
                true => 5_000,
                false => 3_600_000,
            },
        )
        .set("connections.max.idle.ms", one_of(rng, &[100, 540_000]))
        .set("compression.type", codec)
        .set(
            "forebay.producer.id.expiration.ms",
            expiration.as_millis() as i64,
        )
        .set("forebay.restart.max", if fragile { 3 } else { 1_000_000 });
    let config = match &plan.resolves {
        Some(resolves) => resolves.configure(config),
        None => config,
    };
    let config = config.build().expect("a configuration");
    ProducerSettings {
        config,
        delivery_timeout: Duration::from_millis(delivery_timeout),
        promise: Promise {
            kept: acks == "all",
            once: idempotent,
            ordered: idempotent || (in_flight == 1 && acks == "all"),
            fenced: idempotent
                && plan.kafka.first_epoch == 0
                && !plan.backfills
                && !plan.resolves.as_ref().is_some_and(|it| it.other_producers),
            resolved: plan.resolves.is_some(),
            by_id: plan.kafka.newest_produce >= 13,
            called: plan.weights[Fault::Panic as usize] == 0,
        },
        fragile: fragile && plan.weights[Fault::Panic as usize] > 0,
    }
}

/// Runs a seed on this thread, in virtual time.
pub(super) fn run(seed: u64, with_text: bool) -> Verdict {
    judged(simulate(seed, with_text))
}

/// What comes of a simulation, be it a panic.
pub(super) fn judged<T: Default>(simulation: impl Future<Output = Verdict<T>>) -> Verdict<T> {
    let ran = catch_unwind(AssertUnwindSafe(|| virtual_time(simulation)));
    faults::at_none();
    ran.unwrap_or_else(|panic| Verdict {
        tally: T::default(),
        wrong: vec![format!("a panic: {}", panic_message(&*panic))],
        hash: 0,
        text: Vec::new(),
    })
}

/// Nothing in a simulation takes longer than this, in virtual time.
const ENDLESS: Duration = Duration::from_secs(1_200);

async fn simulate(seed: u64, with_text: bool) -> Verdict {
    let mut rng = rng(seed);
    let congested = rng.random_bool(0.25);
    let topics: Vec<usize> = match rng.random_range(0..3) {
        0 => vec![1],
        1 => vec![3],
        _ => vec![1, 2],
    };
    let topics = if congested { vec![3] } else { topics };
    let mut plan = plan(&mut rng, topics.len(), congested);
    resolve::choose(seed, &mut plan);
    let settings = producer_settings(&mut rng, &plan);
    let clones = rng.random_range(1..=3);
    let records = rng.random_range(10..=50);
    let pace = one_of(&mut rng, &[1, 20, 120]);
    let filler = one_of(&mut rng, &[1, 1, 60, 200]);
    let ending = rng.random_range(0..10u32);
    let (clones, records, pace, filler) = match congested {
        true => (3, 60, 1, 1),
        false => (clones, records, pace, filler),
    };
    let cluster = Cluster::new(3, &topics, &mut rng);
    let promise = settings.promise;
    let resolve_timeout = plan
        .resolves
        .as_ref()
        .map_or(Duration::ZERO, |it| it.timeout);
    let world = World::new((seed, super::many::replay(seed)), plan, cluster, rng);
    if with_text {
        world.chronicle.history.borrow_mut().text = Some(vec![format!("{:?}", world.plan)]);
    }
    {
        let world = Rc::clone(&world);
        faults::at_each(move |actor, message| before_message(&world, actor, message));
    }
    let load = Rc::new(Load {
        world: Rc::clone(&world),
        journal: Default::default(),
        delivery_timeout: settings.delivery_timeout,
        resolve_timeout,
        fragile: settings.fragile,
        records,
        pace,
        filler,
        passing: Default::default(),
    });
    let mut wrong = Vec::new();
    let lived = timeout(ENDLESS, live(&load, settings, clones, ending)).await;
    match lived {
        Ok(found) => wrong.extend(found),
        Err(_) => wrong.push("stuck: it never ends".to_owned()),
    }
    faults::at_none();

    let mut tally = world.chronicle.tally.borrow().clone();
    tally.seeds = 1;
    tally.seconds = world.start.elapsed().as_secs();
    for invariant in Invariant::ALL {
        let broken = wrong.iter().filter(|text| invariant.is_broken_by(text));
        tally.broken[*invariant as usize] = broken.count() as u64;
    }
    {
        let cluster = world.kafka.cluster.borrow();
        let journal = load.journal.borrow();
        wrong.extend(check(seed, promise, &journal, &cluster, &mut tally));
    }
    wrong.extend(unconfirmed(&load, &mut tally));
    tally.resolving = u64::from(world.plan.resolves.is_some());
    tally.troubles = *world.chronicle.troubles.borrow();
    for (name, sent) in &load.journal.borrow().sent {
        let outcome = match sent.told.outcome() {
            Some(Ok(acked)) => acked.offset.unwrap_or(-1),
            Some(Err(Unconfirmed::NotWritten(_))) => -2,
            Some(Err(_)) => -3,
            None => -4,
        };
        world.note("outcome", &[i64::from(name.0), i64::from(name.1), outcome]);
    }
    let history: History = std::mem::take(&mut *world.chronicle.history.borrow_mut());
    tally.events = history.events;
    Verdict {
        tally,
        wrong,
        hash: history.hash(),
        text: history.text.unwrap_or_default(),
    }
}

/// The storm and what comes after it. Returns what is wrong beside the records.
async fn live(
    load: &Rc<Load>,
    settings: ProducerSettings,
    clones: u32,
    ending: u32,
) -> Vec<String> {
    let world = &load.world;
    let delivery_timeout = settings.delivery_timeout;
    let producer = Producer::builder()
        .in_local_set()
        .seed(world.seed)
        .start(settings.config)
        .expect("a producer");
    world.supervision.replace(Some(producer.supervision()));
    let senders: Vec<_> = (0..clones)
        .map(|clone| spawn_local(Rc::clone(load).run(producer.clone(), clone)))
        .collect();
    let mut wrong = Vec::new();
    match ending {
        // Closed in the middle of everything.
        0 => {
            world.closes.set(true);
            let (_, closed) = tokio::join!(storm(world), close_at_once(world, &producer));
            wrong.extend(closed);
            for sender in senders {
                let _ = sender.await;
            }
            heal(world).await;
        }
        // Dropped when all is sent.
        1 => {
            storm(world).await;
            heal(world).await;
            for sender in senders {
                let _ = sender.await;
            }
            drop(producer);
            sleep(delivery_timeout + load.resolve_timeout + Duration::from_secs(1)).await;
        }
        _ => {
            storm(world).await;
            // Before they are let go of, since no broker knows them.
            if let Ok(Ok(figures)) = timeout(Duration::from_secs(1), producer.figures()).await {
                wrong.extend(strangers(&figures));
            }
            heal(world).await;
            if let Some(broker) = world.plan.stays_cut_off {
                cut_off_for_good(world, broker).await;
            }
            let healed = Instant::now();
            for sender in senders {
                let _ = sender.await;
            }
            sleep(delivery_timeout + Duration::from_secs(2)).await;
            world.closes.set(settings.fragile);
            if !settings.fragile {
                wrong.extend(undelivered(load, &producer, healed));
                match &world.plan.resolves {
                    None => wrong.extend(at_rest(load, &producer, clones).await),
                    // The next record may have to be the fence.
                    Some(resolves) => {
                        sleep(resolve::ASKED_AGAIN).await;
                        wrong.extend(goes_on(load, &producer, clones).await);
                        sleep(resolves.rests_after(&world.plan)).await;
                        wrong.extend(rests(&producer).await);
                        count_lookups(world, &producer).await;
                    }
                }
            }
            let _ = producer.close(delivery_timeout).await;
        }
    }
    world.supervision.replace(None);
    // What is still on its way arrives.
    sleep(Duration::from_secs(6)).await;
    wrong
}

async fn count_lookups(world: &World, producer: &Producer) {
    if let Ok(Figures { lookups, .. }) = producer.figures().await {
        let mut tally = world.chronicle.tally.borrow_mut();
        tally.found += lookups.found;
        tally.absent += lookups.absent;
    }
}

/// Several tasks close the producer, and one flushes, all at about the same time: each has to end.
async fn close_at_once(world: &Rc<World>, producer: &Producer) -> Vec<String> {
    sleep(world.between(0, 3_000)).await;
    let ended = |what: &'static str, limit: Duration, began: Instant| {
        let late = began.elapsed() > limit + LATE_END;
        late.then(|| format!("stuck: a {what} of {limit:?} took {:?}", began.elapsed()))
    };
    let close = || async {
        sleep(world.between(0, 20)).await;
        let (limit, began) = (world.between(0, 1_000), Instant::now());
        let closed = producer.close(limit).await;
        let unanswered = closed == Err(CloseError::NoAnswer);
        let unanswered = unanswered.then(|| "stuck: a close without an answer".to_owned());
        ended("close", limit, began).or(unanswered)
    };
    let flush = async {
        sleep(world.between(0, 20)).await;
        let began = Instant::now();
        let _ = producer.flush().await;
        ended("flush", Duration::from_secs(1), began)
    };
    let together = world.below(2) == 0;
    let ends = match together {
        true => <[_; 3]>::from(tokio::join!(close(), close(), flush)),
        false => [close().await, None, None],
    };
    ends.into_iter().flatten().collect()
}

/// What is conceded to a close beyond its own time: stalls.
const LATE_END: Duration = Duration::from_secs(1);

/// Records that had time enough after everything worked again, and ran out of it all the same.
fn undelivered(load: &Load, producer: &Producer, healed: Instant) -> Vec<String> {
    let config = producer.config();
    if config.acks == Acks::None || config.retries < 10 {
        return Vec::new();
    }
    let journal = load.journal.borrow();
    let mut wrong = Vec::new();
    for (name, sent) in &journal.sent {
        let has_partition = (sent.partition as u64) < load.world.partitions(sent.topic);
        let lasting = sent.topic < load.world.plan.topics;
        let Some(Err(why)) = sent.told.outcome() else {
            continue;
        };
        let expired = matches!(why.reason(), Reason::Expired { .. });
        let due = sent.due - load.resolve_timeout;
        if expired && lasting && has_partition && due > healed + ENOUGH {
            let left = due - healed;
            wrong.push(format!(
                "stuck: {name:?} to {}-{} had {left:?} left when all was well: {why}",
                sent.topic, sent.partition
            ));
        }
    }
    wrong
}

/// Records that are unknown though the model sees no reason for that.
fn unconfirmed(load: &Load, tally: &mut Tally) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, sent) in &load.journal.borrow().sent {
        let Some(Err(Unconfirmed::Unknown(why))) = sent.told.outcome() else {
            continue;
        };
        match resolve::excuse(load, sent, &why) {
            Some(excuse) => tally.excuses[excuse as usize] += 1,
            None => {
                let what = Invariant::Unconfirmed;
                tally.broken[what as usize] += 1;
                let (label, topic, partition) = (what.label(), sent.topic, sent.partition);
                wrong.push(format!("{label}: {name:?} to {topic}-{partition}: {why}"));
            }
        }
    }
    wrong
}

/// Once everything works, a record is delivered by then.
const ENOUGH: Duration = Duration::from_secs(20);

/// A partition of a topic that nobody asked for.
fn strangers(figures: &Figures) -> Option<String> {
    let mut held = figures.partitions.iter().map(|it| &it.topic_partition);
    let strange = held.find(|at| !at.topic.starts_with("topic-"))?;
    Some(format!(
        "strange: {strange} is there, which nobody asked for"
    ))
}

/// Nothing goes wrong any more: everything has come to rest, and the next records are acked.
async fn at_rest(load: &Rc<Load>, producer: &Producer, clone: u32) -> Vec<String> {
    let mut wrong = rests(producer).await;
    wrong.extend(goes_on(load, producer, clone).await);
    wrong
}

/// Everything has come to rest.
async fn rests(producer: &Producer) -> Vec<String> {
    let mut wrong = Vec::new();
    let figures = match producer.figures().await {
        Ok(figures) => figures,
        Err(error) => return vec![format!("stuck: no figures: {error}")],
    };
    let pool = figures.pool;
    if pool.available_bytes != pool.total_bytes {
        wrong.push(format!("{}: {pool:?}", Invariant::Leaked.label()));
    }
    if figures.queued_records() + figures.in_flight() > 0 {
        wrong.push(format!("stuck: not at rest: {:?}", figures.partitions));
    }
    wrong.extend(strangers(&figures));
    wrong
}

/// The outcome of a record that is sent by itself, unless it is refused for long.
async fn alone(
    load: &Rc<Load>,
    producer: &Producer,
    name: Name,
    to: (usize, usize),
) -> Option<Outcome> {
    let mut accepted = false;
    // A partition that nobody has heard of yet is known soon after it was asked for: but that may
    // be `retry.backoff.ms` after the last answer, which is longer than the shortest
    // `max.block.ms`.
    for _ in 0..30 {
        accepted = accepted || load.send(producer, None, name, Some(to)).await;
        sleep(Duration::from_millis(270 * u64::from(!accepted))).await;
    }
    if !accepted {
        return None;
    }
    let receipt = match &load.journal.borrow().sent[&name].told {
        Told::By(receipt) => receipt.clone(),
        Told::WithOthers(..) => unreachable!("it was sent by itself"),
    };
    Some(receipt.await)
}

/// The next record for each partition is acked.
async fn goes_on(load: &Rc<Load>, producer: &Producer, clone: u32) -> Vec<String> {
    let mut wrong = Vec::new();
    let everywhere = load.world.kafka.cluster.borrow().everywhere();
    // These promise nothing.
    let lax = producer.config().acks == Acks::None || producer.config().retries < 10;
    for (number, at) in (0..).zip(everywhere) {
        let topic = {
            let topic = &load.world.kafka.cluster.borrow().topics[at.0];
            if at.1 >= topic.visible || !topic.exists {
                continue;
            }
            topic.number
        };
        let mut outcome = alone(load, producer, (clone, number), (topic, at.1)).await;
        // An identity may have to be asked for first, of a coordinator that has moved. That can take longer
        // than the shortest `delivery.timeout.ms`.
        let expired = |it: &Option<Outcome>| match it {
            Some(Err(Unconfirmed::NotWritten(why))) => matches!(why, Reason::Expired { .. }),
            _ => false,
        };
        if load.world.plan.resolves.is_some() && expired(&outcome) {
            outcome = alone(load, producer, (clone + 1, number), (topic, at.1)).await;
        }
        let Some(outcome) = outcome else {
            wrong.push(format!(
                "stuck: a record for {at:?} is refused though all is well"
            ));
            continue;
        };
        // One with an old timestamp is not tried a second time.
        let tried = |why: &Unconfirmed| !matches!(why.reason(), Reason::Forgotten { .. });
        if let (Err(why), false) = (outcome, lax)
            && tried(&why)
        {
            let cluster = load.world.kafka.cluster.borrow();
            let partition = &cluster.topics[at.0].partitions[at.1].now;
            let views: Vec<_> = (0..cluster.brokers.len())
                .map(|b| cluster.view(b, at))
                .collect();
            let text = format!("stuck: a record for {at:?} is not acked though all is well: {why}");
            wrong.push(format!("{text}; {partition:?}, brokers believe {views:?}"));
        }
    }
    wrong
}
