//! Fetch and ListOffsets, as a partition's leader answers consumers.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, ProducerId,
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::broker::Life;
use crate::cluster::At;
use crate::log::{Stored, code};

pub(crate) const FETCH: i16 = 1;
pub(crate) const LIST_OFFSETS: i16 = 2;

/// `isolation.level`
const READ_COMMITTED: i8 = 1;

/// A question for a partition.
struct Asked {
    offset: i64,
    epoch: i32,
    most: usize,
    committed: bool,
}

/// Batches as they are sent: with the offsets that the broker gave them, which no checksum covers.
fn on_the_wire(batches: &[std::rc::Rc<Stored>]) -> Bytes {
    let mut bytes = BytesMut::new();
    for batch in batches {
        bytes.put_i64(batch.base_offset);
        bytes.put_slice(&batch.bytes[8..12]);
        bytes.put_i32(0); // the leader's epoch
        bytes.put_slice(&batch.bytes[16..]);
    }
    bytes.freeze()
}

impl Life {
    /// The partition, if the broker leads it and the client knows the broker's reign.
    fn lead(&self, at: At, epoch: i32) -> Result<i32, i16> {
        let mine = self.kafka.cluster.borrow().view(self.broker, at).clone();
        if mine.leader != Some(self.broker) {
            return Err(code::NOT_LEADER_OR_FOLLOWER);
        }
        match epoch {
            epoch if epoch == -1 || epoch == mine.epoch => Ok(mine.epoch),
            epoch if epoch < mine.epoch => Err(code::FENCED_LEADER_EPOCH),
            _ => Err(code::UNKNOWN_LEADER_EPOCH),
        }
    }

    /// Waits for `min_bytes` as long as the client wants. `None` when the broker has died.
    pub(crate) async fn fetch(
        &self,
        request: &FetchRequest,
        version: i16,
    ) -> Option<FetchResponse> {
        let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.kafka.changed.notified();
            let (answer, bytes, failed) = self.read(request, version);
            if failed || bytes >= request.min_bytes.max(0) as usize {
                return Some(answer);
            }
            if timeout_at(deadline, changed).await.is_err() {
                self.working().await?;
                return Some(self.read(request, version).0);
            }
            self.working().await?;
        }
    }

    /// What there is now, how many bytes, and whether a partition has an error.
    fn read(&self, request: &FetchRequest, version: i16) -> (FetchResponse, usize, bool) {
        let by_id = version >= 13;
        let (mut bytes, mut failed) = (0, false);
        let mut response = FetchResponse::default();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for it in &topic.partitions {
                let room = (request.max_bytes as usize).saturating_sub(bytes);
                let asked = Asked {
                    offset: it.fetch_offset,
                    epoch: if version >= 9 {
                        it.current_leader_epoch
                    } else {
                        -1
                    },
                    most: room.min(it.partition_max_bytes.max(0) as usize),
                    committed: request.isolation_level == READ_COMMITTED,
                };
                let located = self.locate(&topic.topic, topic.topic_id, it.partition, by_id);
                let data = located.and_then(|at| self.read_partition(at, &asked, bytes == 0));
                let data = data.unwrap_or_else(|code| {
                    failed = true;
                    let data = PartitionData::default()
                        .with_error_code(code)
                        .with_high_watermark(-1)
                        .with_last_stable_offset(-1)
                        .with_log_start_offset(-1);
                    match located {
                        Ok(at) if code != code::OFFSET_OUT_OF_RANGE && version >= 12 => {
                            data.with_current_leader(self.leader_of(at))
                        }
                        _ => data,
                    }
                });
                bytes += data.records.as_ref().map_or(0, Bytes::len);
                partitions.push(data.with_partition_index(it.partition));
            }
            let mut answer = FetchableTopicResponse::default().with_partitions(partitions);
            match by_id {
                true => answer.topic_id = topic.topic_id,
                false => answer.topic = topic.topic.clone(),
            }
            response.responses.push(answer);
        }
        (response, bytes, failed)
    }

    fn leader_of(&self, at: At) -> LeaderIdAndEpoch {
        let cluster = self.kafka.cluster.borrow();
        let view = cluster.view(self.broker, at);
        let leader = view.leader.map_or(-1, |leader| leader as i32);
        LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(view.epoch)
    }

    /// The first partition that has anything gives a batch, however large.
    fn read_partition(&self, at: At, asked: &Asked, first: bool) -> Result<PartitionData, i16> {
        if !self.kafka.settings.readable {
            return Err(code::TOPIC_AUTHORIZATION_FAILED);
        }
        self.lead(at, asked.epoch)?;
        let mut cluster = self.kafka.cluster.borrow_mut();
        let replica = &cluster.partition(at).replicas[self.broker];
        let log = &replica.log;
        if asked.offset < 0 || asked.offset > log.end() {
            return Err(code::OFFSET_OUT_OF_RANGE);
        }
        let stable = log.last_stable_offset(replica.high_watermark);
        let end = match asked.committed {
            true => stable,
            false => replica.high_watermark,
        };
        let batches = match asked.most == 0 && !first {
            true => Vec::new(),
            false => log.read(asked.offset, end, asked.most),
        };
        let to = batches.last().map_or(asked.offset, |last| last.end());
        let aborted = asked.committed.then(|| {
            let all = log.aborted(asked.offset, to).into_iter();
            let one = |(id, first)| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(id))
                    .with_first_offset(first)
            };
            all.map(one).collect()
        });
        Ok(PartitionData::default()
            .with_high_watermark(replica.high_watermark)
            .with_last_stable_offset(stable)
            .with_log_start_offset(0)
            .with_aborted_transactions(aborted)
            .with_preferred_read_replica(BrokerId(-1))
            .with_records(Some(on_the_wire(&batches))))
    }

    pub(crate) fn list_offsets(
        &self,
        request: &ListOffsetsRequest,
        version: i16,
    ) -> ListOffsetsResponse {
        let committed = request.isolation_level == READ_COMMITTED;
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|it| {
                let epoch = if version >= 4 {
                    it.current_leader_epoch
                } else {
                    -1
                };
                let located = self.locate(&topic.name, Uuid::nil(), it.partition_index, false);
                let offset = located.and_then(|at| self.offset(at, epoch, it.timestamp, committed));
                let answer = ListOffsetsPartitionResponse::default()
                    .with_partition_index(it.partition_index)
                    .with_timestamp(-1);
                match offset {
                    Ok((offset, reign)) if version >= 4 => {
                        answer.with_offset(offset).with_leader_epoch(reign)
                    }
                    Ok((offset, _)) => answer.with_offset(offset),
                    Err(code::OFFSET_NOT_AVAILABLE) if version < 5 => answer
                        .with_offset(-1)
                        .with_error_code(code::LEADER_NOT_AVAILABLE),
                    Err(code) => answer.with_offset(-1).with_error_code(code),
                }
            });
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    /// The offset for -1 (latest) or -2 (earliest), and the leader's epoch
    /// (`Partition.fetchOffsetForTimestamp`).
    fn offset(
        &self,
        at: At,
        epoch: i32,
        timestamp: i64,
        committed: bool,
    ) -> Result<(i64, i32), i16> {
        const LATEST: i64 = -1;
        const EARLIEST: i64 = -2;
        let reign = self.lead(at, epoch)?;
        let mut cluster = self.kafka.cluster.borrow_mut();
        let replica = &cluster.partition(at).replicas[self.broker];
        match timestamp {
            EARLIEST => Ok((0, reign)),
            // A new leader may not know yet how far the last one had got.
            LATEST if replica.high_watermark < replica.began_at => Err(code::OFFSET_NOT_AVAILABLE),
            LATEST if committed => {
                let stable = replica.log.last_stable_offset(replica.high_watermark);
                Ok((stable, reign))
            }
            LATEST => Ok((replica.high_watermark, reign)),
            other => panic!("nobody asks for the offset of {other}"),
        }
    }
}
