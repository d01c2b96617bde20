//! Reads the demo's records back with krafka's consumer, which shares no code with forebay.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use krafka::Kafka;
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::error::KrafkaError;

use crate::Failure;
use crate::records::Check;

/// How long a partition may return no record before its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Passes every record of the topic to `check`, one partition after the other. The embedded broker
/// returns a partition to its end in one fetch response, whatever the limit.
pub async fn read_back(
    servers: &str,
    topic: &str,
    partitions: i32,
    check: &mut Check,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let failed = |e: KrafkaError| Failure::Failed(format!("reading back: {e}"));
    let kafka = Kafka::builder(servers).connect().await.map_err(failed)?;
    for partition in 0..partitions {
        let consumer = kafka
            .consumer_without_group()
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .max_poll_records(-1)
            .build()
            .await
            .map_err(failed)?;
        consumer
            .assign(topic, vec![partition])
            .await
            .map_err(failed)?;
        let (_, end) = consumer
            .fetch_watermarks(topic, partition)
            .await
            .map_err(failed)?;
        check.begin(partition);
        read_partition(&consumer, end, check, bar).await?;
        check.end();
        consumer.close().await.map_err(failed)?;
    }
    Ok(())
}

async fn read_partition(
    consumer: &Consumer,
    end: i64,
    check: &mut Check,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut next = 0;
    let mut heard = Instant::now();
    while next < end {
        let records = consumer.poll(Duration::from_secs(1)).await;
        let records = records.map_err(|e| Failure::Failed(format!("reading back: {e}")))?;
        for record in &records {
            check.record(
                record.offset,
                record.key.as_deref(),
                record.value.as_deref(),
            );
            next = record.offset + 1;
        }
        bar.inc(records.len() as u64);
        if !records.is_empty() {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            return Err(Failure::Failed(format!(
                "reading back: nothing came for {PATIENCE:?} before offset {end}"
            )));
        }
    }
    Ok(())
}
