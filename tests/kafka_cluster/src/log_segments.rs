//! A broker's log files through Kafka's `DumpLogSegments`: is every batch that
//! lies on its disk valid?

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{Cluster, Error, Libs, Release, Result};

const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub struct LogSegments {
    pub batches: u64,
    pub valid: u64,
    pub invalid: u64,
    /// As the batch headers count them.
    pub records: u64,
    /// How many batches each codec compressed, `none` included.
    pub codecs: BTreeMap<String, u64>,
    /// How many batches have each magic number.
    pub magics: BTreeMap<String, u64>,
    /// Everything that the tool said, the records too.
    pub text: String,
}

impl Cluster {
    /// Reads the topic's segments in one broker's data directory. The last
    /// batches of a running broker may not be on disk for it to see.
    pub fn dump_log_segments(&self, broker: i32, topic: &str) -> Result<LogSegments> {
        self.run_dump(broker, topic, &["--deep-iteration"])
    }

    /// The same without a look at single records, for millions of them. A batch's CRC covers
    /// its records too.
    pub fn dump_batches(&self, broker: i32, topic: &str) -> Result<LogSegments> {
        self.run_dump(broker, topic, &[])
    }

    fn run_dump(&self, broker: i32, topic: &str, args: &[&str]) -> Result<LogSegments> {
        let files = self.segments(broker, topic)?;
        if files.is_empty() {
            return Err(Error::new(format!("broker {broker} has no {topic}")));
        }
        let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let files = files.join(",");
        let args = [args, &["--files", &files]].concat();
        let class = "org.apache.kafka.tools.DumpLogSegments";
        // The tool of older releases is called otherwise and prints another form.
        let libs = Libs::get(Release::default())?;
        Ok(parse(libs.tool(class, &args, LIMIT)?))
    }

    fn segments(&self, broker: i32, topic: &str) -> Result<Vec<PathBuf>> {
        let data = self.broker(broker).data_dir();
        let mut found = Vec::new();
        for dir in fs::read_dir(&data).map_err(Error::at(data.display()))? {
            let dir = dir.map_err(Error::at(data.display()))?;
            let name = dir.file_name().to_string_lossy().into_owned();
            let of_topic = name
                .rsplit_once('-')
                .is_some_and(|(t, partition)| t == topic && partition.parse::<u32>().is_ok());
            if of_topic {
                let files = fs::read_dir(dir.path()).map_err(Error::at(&name))?;
                let files = files.filter_map(|file| Some(file.ok()?.path()));
                found.extend(files.filter(|f| f.extension().is_some_and(|e| e == "log")));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// A batch is a line such as
/// `baseOffset: 0 lastOffset: 9 count: 10 … compresscodec: none crc: 1 isvalid: true`.
fn parse(text: String) -> LogSegments {
    let mut seen = LogSegments::default();
    for line in text.lines().filter(|line| line.starts_with("baseOffset: ")) {
        let mut words = line.split_whitespace();
        let mut fields = BTreeMap::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            fields.insert(name.trim_end_matches(':'), value);
        }
        let field = |name: &str| fields.get(name).copied().unwrap_or("?").to_string();
        seen.batches += 1;
        match field("isvalid").as_str() {
            "true" => seen.valid += 1,
            _ => seen.invalid += 1,
        }
        seen.records += field("count").parse::<u64>().unwrap_or(0);
        *seen.codecs.entry(field("compresscodec")).or_default() += 1;
        *seen.magics.entry(field("magic")).or_default() += 1;
    }
    seen.text = text;
    seen
}
