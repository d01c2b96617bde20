//! The connection of one SenderActor: a task that connects, writes requests, and reads responses.

use std::io::IoSlice;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{ConnectOptions, Connection, Endpoint, FrameReader, FrameWriter, NetError, connect};
use crate::core::dispatch::OutgoingRequest;
use crate::core::wire::Versions;

/// What the task tells its SenderActor.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Connected(Versions),
    /// This many more requests, the oldest first, are written to the kernel.
    Wrote(usize),
    /// Responses that arrived together, without their length prefixes.
    Answers(Vec<Bytes>),
    /// The connection is lost. No event follows.
    Lost(NetError),
}

/// Runs the connection until it fails or `outbox` is closed.
pub(crate) async fn run(
    endpoint: Endpoint,
    options: ConnectOptions,
    mut outbox: UnboundedReceiver<OutgoingRequest>,
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
    // Reading and writing are one task. If reading fails, the writer is dropped too, and with it
    // the buffers it holds.
    let error = tokio::select! {
        // A fixed order makes a simulation repeatable. The writer cannot starve the reader: it has
        // no more requests than may be in flight.
        biased;
        written = write(writer, &mut outbox, &tell) => match written {
            Ok(()) => return,
            Err(error) => error,
        },
        error = read(reader, &tell) => error,
    };
    tell(LinkEvent::Lost(error));
}

/// Requests in one write, at most. The sender limits their bytes.
const MAX_AT_ONCE: usize = 64;

async fn read(mut reader: FrameReader, tell: &impl Fn(LinkEvent)) -> NetError {
    loop {
        let mut answers = match reader.next().await {
            Ok(Some(frame)) => vec![frame],
            Ok(None) => {
                return NetError::Closed {
                    endpoint: reader.endpoint().clone(),
                    partial: 0,
                };
            }
            Err(error) => return error,
        };
        let broken = loop {
            match reader.at_hand() {
                Ok(Some(frame)) => answers.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        tell(LinkEvent::Answers(answers));
        if let Some(error) = broken {
            return error;
        }
    }
}

async fn write(
    mut writer: FrameWriter,
    outbox: &mut UnboundedReceiver<OutgoingRequest>,
    tell: &impl Fn(LinkEvent),
) -> Result<(), NetError> {
    let mut going = Vec::new();
    while outbox.recv_many(&mut going, MAX_AT_ONCE).await > 0 {
        going.retain(|request: &OutgoingRequest| request.gate.pass());
        let count = going.iter().map(|outbound| 2 * outbound.records.len() + 1);
        let mut slices = Vec::with_capacity(count.sum());
        for OutgoingRequest {
            envelope, records, ..
        } in &going
        {
            let mut from = 0;
            for (&cut, payload) in envelope.cuts.iter().zip(records) {
                slices.push(IoSlice::new(&envelope.bytes[from..cut]));
                slices.push(IoSlice::new(payload));
                from = cut;
            }
            slices.push(IoSlice::new(&envelope.bytes[from..]));
        }
        writer.write(&mut slices).await?;
        if !going.is_empty() {
            tell(LinkEvent::Wrote(going.len()));
        }
        going.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    use super::super::fake::{listen, options, read_request, shake_hands};
    use super::*;
    use crate::core::wire;
    use crate::core::wire::Envelope;

    fn outbound(correlation_id: i32) -> OutgoingRequest {
        let bytes = wire::encode_api_versions(0, correlation_id, "test").expect("a request");
        OutgoingRequest {
            envelope: Envelope {
                bytes: bytes[..].into(),
                cuts: Vec::new(),
            },
            records: Vec::new(),
            gate: Arc::default(),
        }
    }

    /// A broker that reports the correlation ids of the requests it receives.
    async fn hear() -> (Endpoint, UnboundedReceiver<i32>) {
        let (seen, requests) = mpsc::unbounded_channel();
        let endpoint = listen(move |_, mut stream| {
            let seen = seen.clone();
            async move {
                shake_hands(&mut stream).await;
                while let Some(request) = read_request(&mut stream).await {
                    let _ = seen.send(request.correlation_id);
                }
            }
        });
        (endpoint.await, requests)
    }

    #[tokio::test]
    async fn what_was_given_back_is_not_written() {
        let (endpoint, mut requests) = hear().await;
        let (outbox, inbox) = mpsc::unbounded_channel();
        let given_back = outbound(1);
        assert!(!given_back.gate.shut());
        let sent = outbound(2);
        let gate = Arc::clone(&sent.gate);
        outbox.send(given_back).expect("a link");
        outbox.send(sent).expect("a link");
        drop(outbox);
        run(endpoint, options(), inbox, |_| {}).await;
        assert_eq!(requests.recv().await, Some(2));
        assert!(gate.shut(), "it has gone");
    }

    #[tokio::test]
    async fn answers_before_one_that_is_broken_are_told() {
        let endpoint = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            let frames = [&[0, 0, 0, 2][..], b"ab", &[0, 0, 0, 1], b"c", &[0xff; 4]];
            let written = stream.write_all(&frames.concat()).await;
            written.expect("an open connection");
            while read_request(&mut stream).await.is_some() {}
        });
        let (_outbox, inbox) = mpsc::unbounded_channel();
        let events = RefCell::new(Vec::new());
        let tell = |event| events.borrow_mut().push(event);
        run(endpoint.await, options(), inbox, tell).await;
        let (mut answers, mut lost) = (Vec::new(), false);
        for event in events.into_inner() {
            match event {
                LinkEvent::Answers(frames) => answers.extend(frames),
                LinkEvent::Lost(NetError::NegativeFrame { size: -1, .. }) => lost = true,
                LinkEvent::Connected(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(lost);
        assert_eq!(answers, [&b"ab"[..], b"c"]);
    }

    #[tokio::test]
    async fn requests_that_wait_together_are_written_at_once() {
        let (endpoint, mut requests) = hear().await;
        let (outbox, inbox) = mpsc::unbounded_channel();
        for correlation_id in 0..4 {
            let outbound = outbound(correlation_id);
            if correlation_id == 1 {
                outbound.gate.shut();
            }
            outbox.send(outbound).expect("a link");
        }
        drop(outbox);
        let wrote = RefCell::new(Vec::new());
        let tell = |event| {
            if let LinkEvent::Wrote(count) = event {
                wrote.borrow_mut().push(count);
            }
        };
        run(endpoint, options(), inbox, tell).await;
        assert_eq!(wrote.into_inner(), [3]);
        for correlation_id in [0, 2, 3] {
            assert_eq!(requests.recv().await, Some(correlation_id));
        }
    }
}
