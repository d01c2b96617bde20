//! Awaits the futures of clients that return one for each record.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::job::Job;
use crate::load::Results;

/// Futures in one chunk. They are handed over together.
const CHUNK: usize = 1024;
/// Chunks in a channel.
const CHUNKS: usize = 64;

/// Hands futures to tasks that await them one after the other. Without a rate there is one task.
/// With a rate there is one for each partition, whose records are settled in order, so that a slow
/// partition does not count as latency of the others.
pub struct Follower<F> {
    lanes: Vec<Lane<F>>,
}

struct Lane<F> {
    chunk: Vec<(F, u64)>,
    chunks: mpsc::Sender<Vec<(F, u64)>>,
    task: JoinHandle<()>,
}

impl<T, E, F: Future<Output = Result<T, E>> + Send + 'static> Follower<F> {
    pub fn new(job: &Job, results: &'static Results) -> Self {
        let lanes = if job.rate == 0 { 1 } else { job.partitions };
        let lane = |_| {
            let (chunks, mut to) = mpsc::channel::<Vec<(F, u64)>>(CHUNKS);
            let task = tokio::spawn(async move {
                while let Some(chunk) = to.recv().await {
                    for (future, due) in chunk {
                        let outcome = future.await;
                        results.settled(outcome.is_ok(), due);
                    }
                }
            });
            let chunk = Vec::with_capacity(CHUNK);
            Lane {
                chunk,
                chunks,
                task,
            }
        };
        Self {
            lanes: (0..lanes).map(lane).collect(),
        }
    }

    pub async fn follow(&mut self, future: F, partition: i32, due: u64) {
        let lane = partition as usize % self.lanes.len();
        let lane = &mut self.lanes[lane];
        lane.chunk.push((future, due));
        if lane.chunk.len() == CHUNK {
            lane.hand_over().await;
        }
    }

    pub async fn pause(&mut self) {
        for lane in &mut self.lanes {
            lane.hand_over().await;
        }
    }

    pub async fn finish(mut self) {
        self.pause().await;
        for lane in self.lanes {
            drop(lane.chunks);
            lane.task.await.expect("every future to be awaited");
        }
    }
}

impl<F> Lane<F> {
    async fn hand_over(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let sent = self.chunks.send(chunk).await;
        assert!(sent.is_ok(), "the follower is gone");
    }
}
