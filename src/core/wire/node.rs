//! A broker's address in responses.

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
            let rack = rack.map(Cow::into_owned);
            nodes.extend(Node::possible(id, host.into_owned(), port, rack));
        }
        Ok(nodes)
    }

    /// A node, unless its number or address is impossible.
    pub(super) fn possible(id: i32, host: String, port: i32, rack: Option<String>) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        let possible = id >= 0 && (1..=LONGEST_HOST).contains(&host.len());
        possible.then_some(Node {
            id,
            host,
            port,
            rack,
        })
    }
}
