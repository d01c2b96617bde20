//! The life of the producer: the storm, and what has to be when it is over.

use std::rc::Rc;
use std::time::Duration;

use forebay::{Config, Producer, TransactionalProducer};
use forebay_model_cluster::State;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::application::Application;
use super::journal::Told;
use super::plan::{Ending, ID};
use super::tally::Invariant;
use super::troubles;
use crate::tally::Trouble;
use crate::weather;

/// An instance of the producer.
fn start(config: &Config, seed: u64) -> TransactionalProducer {
    let builder = Producer::builder().in_local_set().seed(seed);
    let producer = builder.start_transactional(config.clone());
    producer.expect("a producer")
}

/// How long a transaction may take to get through once everything works.
const ENOUGH: Duration = Duration::from_secs(60);

/// Lives through a seed.
pub(super) async fn live(application: &Rc<Application>, config: Config) {
    let (world, plan) = (&application.world, &application.plan);
    let first = start(&config, world.seed);
    world.supervision.replace(Some(first.supervision()));
    let work = |producer: &TransactionalProducer, instance: usize| {
        let application = Rc::clone(application);
        spawn_local(application.work(producer.clone(), instance))
    };
    let mut workers: Vec<_> = (0..plan.workers).map(|_| work(&first, 0)).collect();
    let mut second = None;
    {
        let storm = async {
            tokio::join!(weather::storm(world), troubles::storm(world, plan));
        };
        let close = async {
            if plan.ending == Ending::ClosedEarly {
                sleep(world.between(0, 3_000)).await;
                let (limit, began) = (world.between(0, 1_000), Instant::now());
                application.journal.borrow_mut().closed = true;
                let _ = first.close(limit).await;
                if began.elapsed() > limit + Duration::from_secs(1) {
                    let took = began.elapsed();
                    let text = format!("a close of {limit:?} took {took:?}");
                    application.wrong(Invariant::Blocked, &text);
                }
            }
        };
        let another = async {
            let after = plan.second?;
            sleep(after).await;
            world.chronicle.trouble(Trouble::Second);
            let other = start(&config, world.seed + 1);
            let workers: Vec<_> = (0..plan.workers).map(|_| work(&other, 1)).collect();
            Some((other, workers))
        };
        let (_, (), other) = tokio::join!(storm, close, another);
        if let Some((other, others)) = other {
            workers.extend(others);
            second = Some(other);
        }
    }
    weather::heal(world).await;
    if let Some(broker) = world.plan.stays_cut_off {
        weather::cut_off_for_good(world, broker).await;
    }
    for worker in workers {
        let _ = worker.await;
    }
    sleep(plan.delivery_timeout + Duration::from_secs(2)).await;
    end(application, [Some(first), second], &config).await;
    world.supervision.replace(None);
    // What is still on its way arrives, and coordinators abort what nobody has ended.
    sleep(plan.timeout + Duration::from_secs(20)).await;
    at_last(application);
}

/// Everything works, and all transactions have been ended.
async fn end(
    application: &Rc<Application>,
    instances: [Option<TransactionalProducer>; 2],
    config: &Config,
) {
    let plan = &application.plan;
    let troubles = *application.world.chronicle.troubles.borrow();
    let several = troubles[Trouble::Second as usize] + troubles[Trouble::TakenOver as usize] > 0;
    let mut well = false;
    for (instance, producer) in instances.into_iter().enumerate() {
        let Some(producer) = producer else {
            continue;
        };
        if plan.ending == Ending::Closed && !plan.fragile && !several {
            at_rest(application, &producer).await;
            well |= commit_one(application, &producer, instance).await;
        }
        application.journal.borrow_mut().closed = true;
        if plan.ending != Ending::Dropped {
            let _ = producer.close(plan.delivery_timeout).await;
        }
    }
    if !well {
        let producer = start(config, application.world.seed + 2);
        if !commit_one(application, &producer, 2).await {
            application.wrong(
                Invariant::Blocked,
                "a new instance is fenced, and nobody is there",
            );
        }
        let _ = producer.close(plan.delivery_timeout).await;
    }
}

/// What is wrong with a producer whose transactions do not begin.
const NOT_BEGUN: &str = "it does not begin";

/// Nothing is on its way any more.
async fn at_rest(application: &Application, producer: &TransactionalProducer) {
    let figures = match producer.figures().await {
        Ok(figures) => figures,
        Err(why) => return application.wrong(Invariant::Blocked, &format!("no figures: {why}")),
    };
    let pool = figures.pool;
    if pool.available_bytes != pool.total_bytes {
        application.wrong(Invariant::Spilled, &format!("{pool:?}"));
    }
    if figures.queued_records() + figures.in_flight() > 0 {
        let text = format!("not at rest: {:?}", figures.partitions);
        application.wrong(Invariant::Blocked, &text);
    }
}

/// A new transaction reaches every partition, and is committed. Returns `false` if the producer is fenced,
/// or as good as that.
async fn commit_one(
    application: &Rc<Application>,
    producer: &TransactionalProducer,
    instance: usize,
) -> bool {
    let world = &application.world;
    let began = Instant::now();
    let mut last = NOT_BEGUN.to_owned();
    while began.elapsed() < ENOUGH {
        let begun = application.begin(producer, instance, 1).await;
        let Some((transaction, number)) = begun else {
            if application.journal.borrow().fenced.contains(&instance) {
                return false;
            }
            continue;
        };
        let mut task = application.task(&transaction, number);
        let everywhere = world.kafka.cluster.borrow().everywhere();
        let mut refused = None;
        for (record, at) in (0..).zip(everywhere) {
            let topic = {
                let topic = &world.kafka.cluster.borrow().topics[at.0];
                if at.1 >= topic.visible || !topic.exists {
                    continue;
                }
                topic.number
            };
            let mut accepted = false;
            for _ in 0..30 {
                accepted = accepted
                    || application
                        .send(&mut task, record, Some((topic, at.1)))
                        .await;
                sleep(Duration::from_millis(270 * u64::from(!accepted))).await;
            }
            if !accepted {
                refused = Some(at);
            }
        }
        application.commit(transaction, number).await;
        let told = application
            .journal
            .borrow_mut()
            .transaction(number)
            .told
            .clone();
        if told == Told::Committed && refused.is_none() {
            return true;
        }
        last = format!("{told:?}, and records for {refused:?} are refused");
        sleep(Duration::from_millis(100)).await;
    }
    if last == NOT_BEGUN && application.is_spent() {
        return false;
    }
    let text = format!("no transaction gets through though all is well: {last}");
    application.wrong(Invariant::Blocked, &text);
    true
}

/// What the cluster has to say at the end.
fn at_last(application: &Application) {
    let kafka = &application.world.kafka;
    for (at, open) in kafka.hanging() {
        application.wrong(Invariant::Hanging, &format!("{open:?} in {at:?}"));
    }
    if let Some(it) = kafka.transaction(ID)
        && (it.is_ending() || it.state == State::Ongoing)
    {
        application.wrong(
            Invariant::Hanging,
            &format!("its coordinator has it: {it:?}"),
        );
    }
    for breach in kafka.breaches() {
        application.wrong(Invariant::Mixed, &format!("{breach:?}"));
    }
}
