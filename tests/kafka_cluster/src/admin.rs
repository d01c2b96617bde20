//! Changes to the cluster, through krafka's admin client: no JVM to start.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use krafka::Kafka;
use krafka::admin::{AdminClient, ConfigOp, ConfigResource, NewTopic};
use krafka::error::{ErrorCode, KrafkaError};

use super::{Error, Result};

const LIMIT: Duration = Duration::from_secs(30);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// Runs one admin call and, while it fails with something that may pass, runs
/// it again with a new client: the old one may hold on to a broker that hangs.
///
/// On a thread of its own, because the caller's may belong to a runtime.
pub fn call<T, F>(what: &str, bootstrap: &str, ask: F) -> Result<T>
where
    T: Send,
    F: AsyncFn(&AdminClient) -> krafka::Result<T> + Sync,
{
    let attempt = async || {
        let kafka = Kafka::builder(bootstrap)
            .connect_timeout(Duration::from_secs(1))
            .request_timeout(Duration::from_secs(3))
            .connect()
            .await?;
        let admin = kafka.admin().default_api_timeout(ATTEMPT_LIMIT);
        ask(&admin).await
    };
    let retry = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::at("start a runtime"))?;
        let end = Instant::now() + LIMIT;
        loop {
            match runtime.block_on(attempt()) {
                Ok(answer) => return Ok(answer),
                Err(e) if e.is_retriable() && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(e) => return Err(Error::new(format!("{what}: {e}"))),
            }
        }
    };
    std::thread::scope(|scope| scope.spawn(retry).join())
        .unwrap_or_else(|_| Err(Error::new(format!("{what}: panicked"))))
}

pub fn create_topic(bootstrap: &str, topic: NewTopic) -> Result<()> {
    let tried = AtomicBool::new(false);
    call(
        &format!("create {}", topic.name),
        bootstrap,
        async |admin| {
            let again = tried.swap(true, Relaxed);
            let done = only(
                admin
                    .create_topics([topic.clone()], Default::default())
                    .await?,
            );
            // An attempt whose answer was lost may have created it.
            match done {
                Err(KrafkaError::Broker {
                    code: ErrorCode::TopicAlreadyExists,
                    ..
                }) if again => Ok(()),
                done => done,
            }
        },
    )
}

pub fn delete_topic(bootstrap: &str, topic: &str) -> Result<()> {
    call(&format!("delete {topic}"), bootstrap, async |admin| {
        only(admin.delete_topics([topic], Default::default()).await?)
    })
}

pub fn set_partitions(bootstrap: &str, topic: &str, total: i32) -> Result<()> {
    call(&format!("grow {topic}"), bootstrap, async |admin| {
        let totals = [(topic, total)];
        only(admin.create_partitions(totals, Default::default()).await?)
    })
}

pub fn alter_topic(bootstrap: &str, topic: &str, configs: &[(&str, &str)]) -> Result<()> {
    let set: Vec<_> = configs.iter().map(|(k, v)| ConfigOp::set(*k, *v)).collect();
    call(&format!("alter {topic}"), bootstrap, async |admin| {
        let change = [(ConfigResource::topic(topic), set.clone())];
        only(
            admin
                .incremental_alter_configs(change, Default::default())
                .await?,
        )
    })
}

/// The results of a call about one thing.
fn only<K: Debug + Eq + Hash>(results: HashMap<K, krafka::Result<()>>) -> krafka::Result<()> {
    results.into_values().collect()
}
