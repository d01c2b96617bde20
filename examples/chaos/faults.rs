//! Faults of the cluster, one at a time. After each one the cluster is complete again, and every
//! partition delivers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::kafka::{self, Broker, Cluster, State};
use crate::kinds::{Kind, Tally, Where};
use crate::verdicts::Verdicts;
use crate::workload::Workload;

/// The topic of most records and of most faults.
pub const STREAM: &str = "stream";
pub const PARTITIONS: i32 = 12;
/// Where coordinators keep their transactions: the leader of a partition is the coordinator of its ids.
pub const TRANSACTION_STATE: &str = "__transaction_state";
pub const CLIENT: &str = "chaos";

/// How long a partition may take until it delivers again.
const LIMIT: Duration = Duration::from_secs(90);

pub struct Faults<'a> {
    pub cluster: &'a Cluster,
    pub workload: &'a mut dyn Workload,
    pub tally: &'a Tally,
    pub request_timeout: Duration,
    pub rate: f64,
    pub random: SmallRng,
    begin: Instant,
    /// The longest time from a fault's end until everything delivered again.
    pub recoveries: BTreeMap<Kind, Duration>,
    pub verdicts: Verdicts,
}

pub fn say(begin: Instant, what: impl std::fmt::Display) {
    println!("{:>7.1}s  {what}", begin.elapsed().as_secs_f64());
}

/// Waits, and returns for how long.
pub fn pause(random: &mut SmallRng, millis: Range<u64>) -> Duration {
    let pause = Duration::from_millis(random.random_range(millis));
    std::thread::sleep(pause);
    pause
}

impl<'a> Faults<'a> {
    pub fn new(
        (cluster, workload, tally): (&'a Cluster, &'a mut dyn Workload, &'a Tally),
        (request_timeout, rate): (Duration, f64),
        random: SmallRng,
        begin: Instant,
    ) -> Self {
        Self {
            cluster,
            workload,
            tally,
            request_timeout,
            rate,
            random,
            begin,
            recoveries: BTreeMap::new(),
            verdicts: Verdicts::default(),
        }
    }

    /// Has it sent.
    pub fn begin(&mut self) -> kafka::Result<()> {
        let wanted = self.tally.kinds_at(Where::Cluster);
        self.cluster.create_topic(STREAM, PARTITIONS, 3, &[])?;
        self.workload.begin(self.cluster, &wanted)?;
        self.delivers_again("the start");
        Ok(())
    }

    /// The topics to be read at the end.
    pub fn topics(&self) -> Vec<&'static str> {
        self.workload.topics()
    }

    /// Causes faults until `done`, in rounds of each kind once.
    pub fn run(&mut self, done: impl Fn() -> bool) -> kafka::Result<()> {
        let kinds = self.tally.kinds_at(Where::Cluster);
        while !done() {
            let mut round = kinds.clone();
            round.shuffle(&mut self.random);
            for kind in round {
                if done() {
                    break;
                }
                // Kinds that are still missing come first.
                if self.tally.is_met(kind) && kinds.iter().any(|kind| !self.tally.is_met(*kind)) {
                    continue;
                }
                self.once(kind)?;
            }
            if kinds.is_empty() {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }

    fn once(&mut self, kind: Kind) -> kafka::Result<()> {
        let what = match kind {
            Kind::Kill => self.kill()?,
            Kind::Freeze => self.freeze()?,
            Kind::Roll => self.roll()?,
            Kind::Controller => self.controller()?,
            Kind::CutOff => self.cut_off()?,
            Kind::Coordinator => self.coordinator()?,
            Kind::Elect => self.elect()?,
            Kind::Reassign => self.reassign()?,
            Kind::Split => self.split()?,
            Kind::Quota => self.quota()?,
            Kind::MinInsync => self.min_insync()?,
            // The rest is of its own topics.
            _ => match self.workload.once(kind, self.cluster, &mut self.random)? {
                Some(what) => what,
                None => return Ok(()),
            },
        };
        let took = self.delivers_again(&what);
        let longest = self.recoveries.entry(kind).or_default();
        *longest = took.max(*longest);
        say(
            self.begin,
            format_args!("{kind}: {what}; all deliver again after {took:.1?}"),
        );
        self.tally.count(kind);
        Ok(())
    }

    /// Waits until every part of the workload has delivered something that was sent after this call.
    /// Returns how long that took.
    fn delivers_again(&mut self, after: &str) -> Duration {
        let begin = Instant::now();
        let marks = self.workload.sent();
        for (part, mark) in marks.into_iter().enumerate() {
            while self.workload.delivered_to(part) <= mark && begin.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
            let stalls = self.workload.delivered_to(part) <= mark;
            self.verdicts.stalled.add(stalls.into(), || {
                let name = self.workload.name(part);
                format!("{name} for {LIMIT:?} after: {after}")
            });
        }
        begin.elapsed()
    }

    fn pause(&mut self, millis: Range<u64>) -> Duration {
        pause(&mut self.random, millis)
    }

    /// The broker that leads a random partition.
    fn leader(&mut self) -> kafka::Result<&'a Broker> {
        let partition = self.random.random_range(0..PARTITIONS);
        let id = self.cluster.leader_of(STREAM, partition)?;
        Ok(self.cluster.broker(id))
    }

    /// Waits until all brokers run, all replicas are in sync, and every broker leads its share.
    pub fn make_whole(&self) -> kafka::Result<()> {
        for broker in self.cluster.brokers() {
            match broker.state() {
                State::Running => {}
                State::Frozen => broker.thaw()?,
                State::Down => broker.restart()?,
            }
        }
        self.cluster.wait_ready()?;
        let internal = self.workload.internal_topics();
        for topic in self.topics().iter().chain(internal) {
            self.cluster.wait_in_sync(topic)?;
        }
        for topic in [STREAM].iter().chain(internal) {
            self.cluster.elect_leaders(topic)?;
        }
        Ok(())
    }

    fn kill(&mut self) -> kafka::Result<String> {
        let broker = self.leader()?;
        self.kill_one(broker)
    }

    fn kill_one(&mut self, broker: &Broker) -> kafka::Result<String> {
        broker.kill()?;
        let down = self.pause(0..4000);
        broker.restart()?;
        broker.wait_ready()?;
        self.make_whole()?;
        Ok(format!("broker {}, down for {down:.1?}", broker.id()))
    }

    /// Stops a leader's process, at times for so long that another broker leads meanwhile. When it
    /// continues, it still believes that it leads.
    fn freeze(&mut self) -> kafka::Result<String> {
        let broker = self.leader()?;
        let timeout = self.request_timeout.as_millis() as u64;
        broker.freeze()?;
        let frozen = self.pause(timeout + 200..timeout + 3500);
        broker.thaw()?;
        self.make_whole()?;
        Ok(format!("broker {}, for {frozen:.1?}", broker.id()))
    }

    fn roll(&mut self) -> kafka::Result<String> {
        for broker in self.cluster.brokers() {
            broker.restart()?;
            broker.wait_ready()?;
            self.make_whole()?;
        }
        Ok("all brokers, one after another".into())
    }

    fn controller(&mut self) -> kafka::Result<String> {
        let broker = self.cluster.broker(self.cluster.controller()?);
        broker.kill()?;
        self.pause(0..1500);
        broker.restart()?;
        broker.wait_ready()?;
        self.make_whole()?;
        Ok(format!("broker {}", broker.id()))
    }

    /// It answers metadata with what it knew, and produce requests as the leader that it was. The others
    /// elect new leaders meanwhile.
    fn cut_off(&mut self) -> kafka::Result<String> {
        let id = self.leader()?.id();
        self.cluster.cut_off(id, true);
        let apart = self.pause(500..15_000);
        self.cluster.cut_off(id, false);
        self.make_whole()?;
        Ok(format!("broker {id}, for {apart:.1?}"))
    }

    /// A coordinator that moves loads its transactions from the log, and refuses meanwhile.
    fn coordinator(&mut self) -> kafka::Result<String> {
        if self.random.random_bool(0.5) {
            let times = self.random.random_range(1..4);
            self.move_leaders(TRANSACTION_STATE, times)?;
            self.make_whole()?;
            return Ok(format!("all moved {times} times"));
        }
        let all = self.cluster.partitions(TRANSACTION_STATE)?.len() as i32;
        let partition = self.random.random_range(0..all);
        let id = self.cluster.leader_of(TRANSACTION_STATE, partition)?;
        self.kill_one(self.cluster.broker(id))
    }

    fn elect(&mut self) -> kafka::Result<String> {
        let times = self.random.random_range(3..7);
        self.move_leaders(STREAM, times)?;
        self.make_whole()?;
        Ok(format!("all {PARTITIONS} partitions moved {times} times"))
    }

    /// Changes the order of each partition's replicas and elects the first one, several times.
    fn move_leaders(&mut self, topic: &str, times: u32) -> kafka::Result<()> {
        for _ in 0..times {
            let mut order = self.replicas(topic)?;
            order
                .iter_mut()
                .for_each(|(_, replicas)| replicas.rotate_left(1));
            self.cluster.reassign(topic, &order)?;
            self.pause(0..300);
            self.cluster.elect_leaders(topic)?;
        }
        Ok(())
    }

    fn reassign(&mut self) -> kafka::Result<String> {
        const AT_ONCE: usize = 3;
        let mut before = self.replicas(STREAM)?;
        before.shuffle(&mut self.random);
        before.truncate(AT_ONCE);
        // Without the leader, which then has to hand over first.
        let fewer = before.iter().map(|(p, all)| (*p, all[1..].to_vec()));
        let fewer: Vec<_> = fewer.collect();
        self.cluster.reassign(STREAM, &fewer)?;
        self.pause(100..1000);
        self.cluster.reassign(STREAM, &before)?;
        self.make_whole()?;
        Ok(format!("{AT_ONCE} partitions"))
    }

    fn replicas(&self, topic: &str) -> kafka::Result<Vec<(i32, Vec<i32>)>> {
        let partitions = self.cluster.partitions(topic)?;
        let each = partitions.into_iter().map(|p| (p.partition, p.replicas));
        Ok(each.collect())
    }

    fn split(&mut self) -> kafka::Result<String> {
        // Larger than any single record.
        const SMALL: &str = "2000";
        let set = |limit| {
            self.cluster
                .alter_topic(STREAM, &[("max.message.bytes", limit)])
        };
        set(SMALL)?;
        std::thread::sleep(Duration::from_secs(3));
        set("1048588")?;
        Ok(format!("{SMALL} bytes for 3 s"))
    }

    fn quota(&mut self) -> kafka::Result<String> {
        // A few percent of the load.
        let rate = self.rate * 3.0;
        self.cluster.limit_client(CLIENT, Some(rate))?;
        let throttled = self.pause(2000..5000);
        self.cluster.limit_client(CLIENT, None)?;
        Ok(format!("{rate:.0} bytes a second for {throttled:.1?}"))
    }

    fn min_insync(&mut self) -> kafka::Result<String> {
        let brokers = self.cluster.brokers();
        let at = self.random.random_range(0..brokers.len());
        if self.random.random_bool(0.5) {
            self.cluster
                .alter_topic(STREAM, &[("min.insync.replicas", "3")])?;
            brokers[at].kill()?;
            self.pause(2000..6000);
            brokers[at].restart()?;
            brokers[at].wait_ready()?;
            self.make_whole()?;
            self.cluster
                .alter_topic(STREAM, &[("min.insync.replicas", "2")])?;
            return Ok(format!("3 asked for without broker {}", brokers[at].id()));
        }
        let others = || brokers.iter().enumerate().filter(|(i, _)| *i != at);
        others().try_for_each(|(_, broker)| broker.freeze())?;
        let frozen = self.pause(1000..6000);
        others().try_for_each(|(_, broker)| broker.thaw())?;
        self.make_whole()?;
        let alone = brokers[at].id();
        Ok(format!("broker {alone} was alone for {frozen:.1?}"))
    }
}
