//! Streams of records to topics that stay, come, go and grow.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::books::Books;
use crate::faults::{PARTITIONS, STREAM, pause};
use crate::kafka::{self, Cluster};
use crate::kinds::Kind;
use crate::load::Load;
use crate::stream::Stream;
use crate::workload::Workload;

/// A topic that is deleted and created again.
const RETURNING: &str = "returning";
/// A topic that gets more and more partitions.
const GROWING: &str = "growing";
/// A topic whose records have old timestamps.
const BACKFILLED: &str = "backfilled";
/// Topics that are used for a moment, again and again.
const PASSING: [&str; 4] = ["passing-0", "passing-1", "passing-2", "passing-3"];
const FEW: i32 = 3;
const MOST: i32 = 60;
const SEVERAL_A_SECOND: f64 = 100.0;
/// Batches of old records go one at a time, so many small ones would pile up.
const A_FEW_A_SECOND: f64 = 20.0;

pub struct Topics<'a> {
    load: &'a Load,
    books: &'a Books,
    rate: f64,
    streams: Vec<Arc<Stream>>,
    /// Streams to topics that were used for a moment.
    passed: Vec<Arc<Stream>>,
    /// Which of these topics are there.
    passing: [bool; PASSING.len()],
}

impl Workload for Topics<'_> {
    fn begin(&mut self, cluster: &Cluster, wanted: &[Kind]) -> kafka::Result<()> {
        self.open(STREAM, 0..PARTITIONS, self.rate / f64::from(PARTITIONS));
        for (kind, topic) in [(Kind::Recreate, RETURNING), (Kind::Grow, GROWING)] {
            if wanted.contains(&kind) {
                cluster.create_topic(topic, FEW, 3, &[])?;
                self.open(topic, 0..FEW, SEVERAL_A_SECOND);
            }
        }
        cluster.create_topic(BACKFILLED, FEW, 3, &[])?;
        for partition in 0..FEW {
            let stream = self.books.open_backfill(BACKFILLED, partition);
            self.load.send(Arc::clone(&stream), A_FEW_A_SECOND);
            self.streams.push(stream);
        }
        Ok(())
    }

    fn topics(&self) -> Vec<&'static str> {
        let all = [STREAM, RETURNING, GROWING, BACKFILLED];
        let used = |topic: &&str| self.streams.iter().any(|it| *it.topic == **topic);
        let passing = PASSING.into_iter().zip(self.passing);
        let passing = passing.filter_map(|(topic, is_there)| is_there.then_some(topic));
        all.into_iter().filter(used).chain(passing).collect()
    }

    fn sent(&self) -> Vec<u64> {
        self.streams.iter().map(|stream| stream.sent()).collect()
    }

    fn delivered_to(&self, part: usize) -> u64 {
        self.streams[part].acked_to()
    }

    fn name(&self, part: usize) -> String {
        let stream = &self.streams[part];
        format!("{}-{}", stream.topic, stream.partition)
    }

    fn once(
        &mut self,
        kind: Kind,
        cluster: &Cluster,
        random: &mut SmallRng,
    ) -> kafka::Result<Option<String>> {
        let what = match kind {
            Kind::Passing => self.passing(cluster, random)?,
            Kind::Recreate => self.recreate(cluster, random)?,
            Kind::Grow => self.grow(cluster, random)?,
            _ => return Ok(None),
        };
        Ok(Some(what))
    }
}

impl<'a> Topics<'a> {
    pub fn new(load: &'a Load, books: &'a Books, rate: f64) -> Self {
        Self {
            load,
            books,
            rate,
            streams: Vec::new(),
            passed: Vec::new(),
            passing: [false; PASSING.len()],
        }
    }

    fn open(&mut self, topic: &str, partitions: std::ops::Range<i32>, rate: f64) {
        for partition in partitions {
            let stream = self.books.open(topic, partition);
            self.load.send(Arc::clone(&stream), rate);
            self.streams.push(stream);
        }
    }

    /// A topic is created, unless it is there from an earlier time, and gets records for a moment.
    fn passing(&mut self, cluster: &Cluster, random: &mut SmallRng) -> kafka::Result<String> {
        let at = random.random_range(0..PASSING.len());
        let topic = PASSING[at];
        let again = std::mem::replace(&mut self.passing[at], true);
        if !again {
            cluster.create_topic(topic, FEW, 3, &[])?;
        }
        let first = self.streams.len();
        self.open(topic, 0..FEW, SEVERAL_A_SECOND);
        let used = pause(random, 100..2_000);
        let streams = self.streams.split_off(first);
        streams.iter().for_each(|it| it.end());
        let deleted = random.random_bool(0.3);
        if deleted {
            cluster.delete_topic(topic)?;
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

    fn recreate(&mut self, cluster: &Cluster, random: &mut SmallRng) -> kafka::Result<String> {
        cluster.delete_topic(RETURNING)?;
        let gone = pause(random, 0..2000);
        cluster.create_topic(RETURNING, FEW, 3, &[])?;
        for stream in self.streams.iter().filter(|it| *it.topic == *RETURNING) {
            stream.begin_anew();
        }
        Ok(format!("gone for {gone:.1?}"))
    }

    fn grow(&mut self, cluster: &Cluster, random: &mut SmallRng) -> kafka::Result<String> {
        let now = cluster.partitions(GROWING)?.len() as i32;
        let then = (now + random.random_range(1..3)).min(MOST);
        if then > now {
            cluster.add_partitions(GROWING, then)?;
            self.open(GROWING, now..then, SEVERAL_A_SECOND);
        }
        Ok(format!("{now} partitions become {then}"))
    }
}
