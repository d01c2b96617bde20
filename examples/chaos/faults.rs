//! Faults of the cluster, one at a time. After each one the cluster is complete again, and every
//! partition delivers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::books::Books;
use crate::kafka::{self, Broker, Cluster, State};
use crate::kinds::{Kind, Tally, Where};
use crate::load::Load;
use crate::stream::Stream;
use crate::verdicts::Verdicts;

/// The topic of most records and of most faults.
pub const STREAM: &str = "stream";
pub const PARTITIONS: i32 = 12;
/// A topic that is deleted and created again.
pub const RETURNING: &str = "returning";
/// A topic that gets more and more partitions.
pub const GROWING: &str = "growing";
/// A topic whose records have old timestamps.
const BACKFILLED: &str = "backfilled";
/// Topics that are used for a moment, again and again.
const PASSING: [&str; 4] = ["passing-0", "passing-1", "passing-2", "passing-3"];
const FEW: i32 = 3;
const MOST: i32 = 60;
const SEVERAL_A_SECOND: f64 = 100.0;
/// Batches of old records go one at a time, so many small ones would pile up.
const A_FEW_A_SECOND: f64 = 20.0;
pub const CLIENT: &str = "chaos";

/// How long a partition may take until it delivers again.
const LIMIT: Duration = Duration::from_secs(90);

pub struct Faults<'a> {
    pub cluster: &'a Cluster,
    pub load: &'a Load,
    pub books: &'a Books,
    pub tally: &'a Tally,
    pub request_timeout: Duration,
    pub rate: f64,
    pub random: SmallRng,
    begin: Instant,
    streams: Vec<Arc<Stream>>,
    /// Streams to topics that were used for a moment.
    passed: Vec<Arc<Stream>>,
    /// Which of these topics are there.
    passing: [bool; PASSING.len()],
    /// The longest time from a fault's end until everything delivered again.
    pub recoveries: BTreeMap<Kind, Duration>,
    pub verdicts: Verdicts,
}

pub fn say(begin: Instant, what: impl std::fmt::Display) {
    println!("{:>7.1}s  {what}", begin.elapsed().as_secs_f64());
}

impl<'a> Faults<'a> {
    pub fn new(
        (cluster, load, books, tally): (&'a Cluster, &'a Load, &'a Books, &'a Tally),
        (request_timeout, rate): (Duration, f64),
        random: SmallRng,
        begin: Instant,
    ) -> Self {
        Self {
            cluster,
            load,
            books,
            tally,
            request_timeout,
            rate,
            random,
            begin,
            streams: Vec::new(),
            passed: Vec::new(),
            passing: [false; PASSING.len()],
            recoveries: BTreeMap::new(),
            verdicts: Verdicts::default(),
        }
    }

    /// Creates the topics and sends to them.
    pub fn begin(&mut self) -> kafka::Result<()> {
        let wanted = self.tally.kinds_at(Where::Cluster);
        self.cluster.create_topic(STREAM, PARTITIONS, 3, &[])?;
        self.open(STREAM, 0..PARTITIONS, self.rate / f64::from(PARTITIONS));
        for (kind, topic) in [(Kind::Recreate, RETURNING), (Kind::Grow, GROWING)] {
            if wanted.contains(&kind) {
                self.cluster.create_topic(topic, FEW, 3, &[])?;
                self.open(topic, 0..FEW, SEVERAL_A_SECOND);
            }
        }
        self.cluster.create_topic(BACKFILLED, FEW, 3, &[])?;
        for partition in 0..FEW {
            let stream = self.books.open_backfill(BACKFILLED, partition);
            self.load.send(Arc::clone(&stream), A_FEW_A_SECOND);
            self.streams.push(stream);
        }
        self.delivers_again("the start");
        Ok(())
    }

    /// The topics to be read at the end.
    pub fn topics(&self) -> Vec<&'static str> {
        let all = [STREAM, RETURNING, GROWING, BACKFILLED];
        let used = |topic: &&str| self.streams.iter().any(|it| *it.topic == **topic);
        let passing = PASSING.into_iter().zip(self.passing);
        let passing = passing.filter_map(|(topic, is_there)| is_there.then_some(topic));
        all.into_iter().filter(used).chain(passing).collect()
    }

    fn open(&mut self, topic: &str, partitions: std::ops::Range<i32>, rate: f64) {
        for partition in partitions {
            let stream = self.books.open(topic, partition);
            self.load.send(Arc::clone(&stream), rate);
            self.streams.push(stream);
        }
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
            Kind::Passing => self.passing()?,
            Kind::Elect => self.elect()?,
            Kind::Reassign => self.reassign()?,
            Kind::Recreate => self.recreate()?,
            Kind::Grow => self.grow()?,
            Kind::Split => self.split()?,
            Kind::Quota => self.quota()?,
            Kind::MinInsync => self.min_insync()?,
            _ => return Ok(()),
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

    /// Waits until every stream has an ack of a record that was sent after this call. Returns how
    /// long that took.
    fn delivers_again(&mut self, after: &str) -> Duration {
        let begin = Instant::now();
        let marks: Vec<u64> = self.streams.iter().map(|stream| stream.sent()).collect();
        for (stream, mark) in self.streams.iter().zip(marks) {
            while stream.acked_to() <= mark && begin.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(5));
            }
            let stalls = stream.acked_to() <= mark;
            self.verdicts.stalled.add(stalls.into(), || {
                let (topic, partition) = (&stream.topic, stream.partition);
                format!("{topic}-{partition} for {LIMIT:?} after: {after}")
            });
        }
        begin.elapsed()
    }

    fn pause(&mut self, millis: std::ops::Range<u64>) -> Duration {
        let pause = Duration::from_millis(self.random.random_range(millis));
        std::thread::sleep(pause);
        pause
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
        for topic in self.topics() {
            self.cluster.wait_in_sync(topic)?;
        }
        self.cluster.elect_leaders(STREAM)
    }

    fn kill(&mut self) -> kafka::Result<String> {
        let broker = self.leader()?;
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

    /// A topic is created, unless it is there from an earlier time, and gets records for a moment.
    fn passing(&mut self) -> kafka::Result<String> {
        let at = self.random.random_range(0..PASSING.len());
        let topic = PASSING[at];
        let again = std::mem::replace(&mut self.passing[at], true);
        if !again {
            self.cluster.create_topic(topic, FEW, 3, &[])?;
        }
        let first = self.streams.len();
        self.open(topic, 0..FEW, SEVERAL_A_SECOND);
        let used = self.pause(100..2_000);
        let streams = self.streams.split_off(first);
        streams.iter().for_each(|it| it.end());
        let deleted = self.random.random_bool(0.3);
        if deleted {
            self.cluster.delete_topic(topic)?;
            self.passing[at] = false;
        }
        // What was acked is gone with the topic.
        for stream in self.passed.iter().chain(&streams) {
            if deleted && *stream.topic == *topic {
                stream.begin_anew();
            }
        }
        self.passed.extend(streams);
        let [again, deleted] = [(again, "again, "), (deleted, ", then deleted")]
            .map(|(is, words)| if is { words } else { "" });
        Ok(format!("{again}{topic} for {used:.1?}{deleted}"))
    }

    /// Changes the order of each partition's replicas and elects the first one, several times.
    fn elect(&mut self) -> kafka::Result<String> {
        let times = self.random.random_range(3..7);
        for _ in 0..times {
            let mut order = self.replicas(STREAM)?;
            order
                .iter_mut()
                .for_each(|(_, replicas)| replicas.rotate_left(1));
            self.cluster.reassign(STREAM, &order)?;
            self.pause(0..300);
            self.cluster.elect_leaders(STREAM)?;
        }
        self.make_whole()?;
        Ok(format!("all {PARTITIONS} partitions moved {times} times"))
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

    fn recreate(&mut self) -> kafka::Result<String> {
        self.cluster.delete_topic(RETURNING)?;
        let gone = self.pause(0..2000);
        self.cluster.create_topic(RETURNING, FEW, 3, &[])?;
        for stream in self.streams.iter().filter(|it| *it.topic == *RETURNING) {
            stream.begin_anew();
        }
        Ok(format!("gone for {gone:.1?}"))
    }

    fn grow(&mut self) -> kafka::Result<String> {
        let now = self.replicas(GROWING)?.len() as i32;
        let then = (now + self.random.random_range(1..3)).min(MOST);
        if then > now {
            self.cluster.add_partitions(GROWING, then)?;
            self.open(GROWING, now..then, SEVERAL_A_SECOND);
        }
        Ok(format!("{now} partitions become {then}"))
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
