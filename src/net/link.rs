//! The connection of one SenderActor: a task that connects, writes requests, reads answers.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{ConnectOptions, Connection, Endpoint, FrameReader, FrameWriter, NetError, connect};
use crate::batch::Payload;
use crate::wire::{Envelope, Versions};

/// A request on its way to the socket. It owns what it carries: whatever becomes of the batches,
/// their bytes stay as they are until the last of them is written or the connection is gone.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub envelope: Envelope,
    pub records: Vec<Arc<Payload>>,
    /// Set before the first byte goes to the socket.
    pub written: Arc<AtomicBool>,
}

/// What the task tells its SenderActor.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Connected(Versions),
    /// The oldest request not yet reported is with the kernel.
    Wrote,
    /// A frame without its length prefix.
    Answer(Bytes),
    /// It is over; nothing comes after this.
    Lost(NetError),
}

/// Runs the connection until it fails or `outbox` is closed.
pub(crate) async fn run(
    endpoint: Endpoint,
    options: ConnectOptions,
    mut outbox: UnboundedReceiver<Outbound>,
    tell: impl Fn(LinkEvent),
) {
    let Connection {
        reader,
        writer,
        versions,
    } = match connect(&endpoint, &options).await {
        Ok(connection) => connection,
        Err(error) => return tell(LinkEvent::Lost(error)),
    };
    tell(LinkEvent::Connected(versions));
    // One task for both halves: a reader that fails takes the writer with it, and so do the
    // buffers that the writer holds.
    let error = tokio::select! {
        error = read(reader, &tell) => error,
        written = write(writer, &mut outbox, &tell) => match written {
            Ok(()) => return,
            Err(error) => error,
        },
    };
    tell(LinkEvent::Lost(error));
}

async fn read(mut reader: FrameReader, tell: &impl Fn(LinkEvent)) -> NetError {
    loop {
        match reader.next().await {
            Ok(Some(frame)) => tell(LinkEvent::Answer(frame)),
            Ok(None) => {
                return NetError::Closed {
                    endpoint: reader.endpoint().clone(),
                    partial: 0,
                };
            }
            Err(error) => return error,
        }
    }
}

async fn write(
    mut writer: FrameWriter,
    outbox: &mut UnboundedReceiver<Outbound>,
    tell: &impl Fn(LinkEvent),
) -> Result<(), NetError> {
    while let Some(outbound) = outbox.recv().await {
        let Outbound {
            envelope,
            records,
            written,
        } = outbound;
        written.store(true, Ordering::Release);
        let mut slices = Vec::with_capacity(2 * records.len() + 1);
        let mut from = 0;
        for (&cut, payload) in envelope.cuts.iter().zip(&records) {
            slices.push(IoSlice::new(&envelope.bytes[from..cut]));
            slices.push(IoSlice::new(payload));
            from = cut;
        }
        slices.push(IoSlice::new(&envelope.bytes[from..]));
        writer.write(&mut slices).await?;
        tell(LinkEvent::Wrote);
    }
    Ok(())
}
