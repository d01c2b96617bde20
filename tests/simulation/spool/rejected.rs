//! The lines of records that were rejected.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forebay::internals::disk::Store;
use serde_json::Value;

use super::application::Application;
use crate::load::{Name, Tag};
use crate::tally::{Fault, Invariant};

/// What the lines say.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    /// By record: whether it was certainly never written.
    pub records: BTreeMap<Name, bool>,
    /// The partitions and positions in the spool.
    pub positions: BTreeMap<(i32, u64), Name>,
}

/// What a line of a record says that was accepted for a former topic.
const RECREATED: &str =
    "the topic was deleted and created anew, and this was accepted for the former one";
const MAY_BE_THERE: &str = "may or may not be written: ";

/// Whether this is why something is not in the log of the present topic.
pub(super) fn is_recreated(why: &str) -> bool {
    why == RECREATED
}

impl Application {
    /// Whether the topic was deleted at some time.
    pub fn is_recreated(&self) -> bool {
        self.world.plan.weights[Fault::Delete as usize] > 0
            && self.world.kafka.cluster.borrow().topics.len() > 1
    }
}

/// Reads all lines that are on the disk.
pub(super) fn read(application: &Application, wrong: &mut Vec<(Invariant, String)>) -> Rejected {
    let mut rejected = Rejected::default();
    let store = application.disk.model.store().expect("nobody has it");
    for (name, length) in store.files().expect("names") {
        if !name.starts_with("rejected/") {
            continue;
        }
        let mut bytes = vec![0; length as usize];
        let file = store.open(&name).expect("a file");
        file.read(0, &mut bytes).expect("its bytes");
        for line in bytes.split(|byte| *byte == b'\n') {
            // A process that ends may leave a part of one.
            if let Ok(line) = serde_json::from_slice::<Value>(line)
                && let Err(why) = rejected.take(application, &line)
            {
                wrong.push((Invariant::Misrouted, format!("{why}: {line}")));
            }
        }
    }
    rejected
}

impl Rejected {
    fn take(&mut self, application: &Application, line: &Value) -> Result<(), &'static str> {
        let value = &line["value"];
        let value = match value["base64"].as_str() {
            Some(text) => STANDARD.decode(text).expect("base64"),
            None => value.as_str().unwrap_or_default().as_bytes().to_vec(),
        };
        let tag = Tag::decode(&value).filter(|tag| tag.seed == application.world.seed);
        let tag = tag.ok_or("it is nobody's")?;
        if line["partition"].as_i64() != Some(tag.partition.into()) {
            return Err("it is of another partition");
        }
        let reason = line["reason"].as_str().unwrap_or_default();
        let doubt = reason.strip_prefix(MAY_BE_THERE);
        if !is_recreated(doubt.unwrap_or(reason)) {
            return Err("it is there for no reason");
        }
        let never = self.records.entry(tag.name).or_insert(true);
        *never &= doubt.is_none();
        let position = line["position"].as_u64().ok_or("it has no position")?;
        let former = self.positions.insert((tag.partition, position), tag.name);
        match former.is_none_or(|former| former == tag.name) {
            true => Ok(()),
            false => Err("two records have one position"),
        }
    }
}
