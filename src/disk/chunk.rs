//! Reads chunks of a segment.

use super::store::StoredFile;
use crate::core::spool::ReadChunk;

/// Reads so many bytes of the chunk at `offset` into `bytes`; else why it cannot be read.
pub fn read_chunk<'a>(
    file: &dyn StoredFile,
    salt: u64,
    (offset, length): (u32, u32),
    bytes: &'a mut Vec<u8>,
) -> Result<ReadChunk<'a>, String> {
    bytes.clear();
    bytes.resize(length as usize, 0);
    let read = file.read(offset.into(), bytes);
    read.map_err(|error| error.to_string())?;
    let chunk = ReadChunk::new(bytes, salt, offset.into(), file.len() as u64);
    chunk.ok_or_else(|| "its header is damaged".to_owned())
}
