//! A broker's address in Metadata and Produce responses.

use super::WireError;
use super::reader::Reader;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

impl Node {
    /// Reads an array of nodes. A node whose address is impossible is left out: one bad entry must
    /// not hide the rest of the cluster.
    pub(super) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Node>, WireError> {
        let count = reader.count(10)?;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            let id = reader.i32()?;
            let host = reader.text()?;
            let port = reader.i32()?;
            let rack = reader.nullable_text()?;
            reader.skip_tags()?;
            if let (Ok(port @ 1..), false) = (u16::try_from(port), host.is_empty()) {
                nodes.push(Node {
                    id,
                    host: host.to_owned(),
                    port,
                    rack: rack.map(str::to_owned),
                });
            }
        }
        Ok(nodes)
    }
}
