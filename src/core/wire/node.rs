//! A broker's address in Metadata and Produce responses.

use std::borrow::Cow;

use super::WireError;
use super::reader::Reader;

/// Bytes of the longest host name (RFC 1035), with some to spare for an address's zone.
const LONGEST_HOST: usize = 300;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl Node {
    /// Reads an array of nodes. A node whose number or address is impossible is left out: one bad
    /// entry must not hide the rest of the cluster. -1 stands for no node wherever one is named.
    pub(super) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Node>, WireError> {
        let count = reader.count(10)?;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            let id = reader.i32()?;
            let host = reader.text()?;
            let port = reader.i32()?;
            let rack = reader.nullable_text()?;
            reader.skip_tags()?;
            let possible = id >= 0 && (1..=LONGEST_HOST).contains(&host.len());
            if let (Ok(port @ 1..), true) = (u16::try_from(port), possible) {
                nodes.push(Node {
                    id,
                    host: host.into_owned(),
                    port,
                    rack: rack.map(Cow::into_owned),
                });
            }
        }
        Ok(nodes)
    }
}
