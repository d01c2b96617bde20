//! The connection of one SenderActor: a task that connects, writes requests, and reads responses.

use std::io::IoSlice;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::renewal::{LoginResponses, Renewal, renewal};
use super::{ConnectOptions, Connection, Endpoint, FrameReader, FrameWriter, NetError, connect};
use crate::core::dial::Learned;
use crate::core::dispatch::OutgoingRequest;
use crate::core::wire::{Addressee, Versions};

/// What the task tells its SenderActor.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// What was learned from this connection for the next ones.
    Learned(Learned),
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
    (endpoint, addressee): (Endpoint, Option<Addressee>),
    options: ConnectOptions,
    mut learned: Learned,
    outbox: UnboundedReceiver<OutgoingRequest>,
    tell: impl Fn(LinkEvent),
) {
    let connected = connect(&endpoint, addressee.as_ref(), &options, &mut learned).await;
    tell(LinkEvent::Learned(learned));
    match connected {
        Ok(connection) => carry(connection, options, outbox, tell).await,
        Err(error) => tell(LinkEvent::Lost(error)),
    }
}

async fn carry(
    connection: Connection,
    options: ConnectOptions,
    mut outbox: UnboundedReceiver<OutgoingRequest>,
    tell: impl Fn(LinkEvent),
) {
    let Connection {
        reader,
        writer,
        versions,
        term,
    } = connection;
    let (renewal, logins) = match term {
        Some(term) => {
            let (renewal, logins) = renewal(options, versions.clone(), term);
            (Some(renewal), Some(logins))
        }
        None => (None, None),
    };
    tell(LinkEvent::Connected(versions));
    // Reading and writing are one task. If reading fails, the writer is dropped too, and with it
    // the buffers it holds.
    let error = tokio::select! {
        // A fixed order makes a simulation repeatable. The writer cannot starve the reader: it has
        // no more requests than may be in flight.
        biased;
        written = write(writer, renewal, &mut outbox, &tell) => match written {
            Ok(()) => return,
            Err(error) => error,
        },
        error = read(reader, logins, &tell) => error,
    };
    tell(LinkEvent::Lost(error));
}

/// Requests in one write, at most. The sender limits their bytes.
const MAX_AT_ONCE: usize = 64;

async fn read(
    mut reader: FrameReader,
    logins: Option<LoginResponses>,
    tell: &impl Fn(LinkEvent),
) -> NetError {
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
        if let Some(logins) = &logins {
            logins.take_from(&mut answers);
        }
        if !answers.is_empty() {
            tell(LinkEvent::Answers(answers));
        }
        if let Some(error) = broken {
            return error;
        }
    }
}

async fn write(
    mut writer: FrameWriter,
    mut renewal: Option<Renewal>,
    outbox: &mut UnboundedReceiver<OutgoingRequest>,
    tell: &impl Fn(LinkEvent),
) -> Result<(), NetError> {
    let mut going = Vec::new();
    loop {
        let received = match &mut renewal {
            None => outbox.recv_many(&mut going, MAX_AT_ONCE).await,
            Some(renewal) => tokio::select! {
                biased;
                () = renewal.due() => {
                    renewal.renew(&mut writer).await?;
                    continue;
                }
                received = outbox.recv_many(&mut going, MAX_AT_ONCE) => received,
            },
        };
        if received == 0 {
            break;
        }
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
        if let Some(renewal) = &renewal {
            renewal.writes(going.iter().filter(|it| it.is_answered).count());
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::super::fake::{
        frame, listen, logged_in, login, login_by, mechanisms, options, read_request, shake_hands,
    };
    use super::super::term::Term;
    use super::*;
    use crate::core::wire;
    use crate::core::wire::Envelope;

    fn outbound(correlation_id: i32) -> OutgoingRequest {
        let bytes = wire::encode_api_versions(0, correlation_id, "test", None).expect("a request");
        OutgoingRequest {
            envelope: Envelope {
                bytes: bytes[..].into(),
                cuts: Vec::new(),
            },
            records: Vec::new(),
            gate: Arc::default(),
            is_answered: true,
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
        run(
            (endpoint, None),
            options(),
            Learned::default(),
            inbox,
            |_| {},
        )
        .await;
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
        run(
            (endpoint.await, None),
            options(),
            Learned::default(),
            inbox,
            tell,
        )
        .await;
        let (mut answers, mut lost) = (Vec::new(), false);
        for event in events.into_inner() {
            match event {
                LinkEvent::Answers(frames) => answers.extend(frames),
                LinkEvent::Lost(NetError::NegativeFrame { size: -1, .. }) => lost = true,
                LinkEvent::Learned(_) | LinkEvent::Connected(_) => {}
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
        run((endpoint, None), options(), Learned::default(), inbox, tell).await;
        assert_eq!(wrote.into_inner(), [3]);
        for correlation_id in [0, 2, 3] {
            assert_eq!(requests.recv().await, Some(correlation_id));
        }
    }

    /// The response to a request that was written before arrives while the login is renewed, and that
    /// of a request that came meanwhile behind it.
    #[tokio::test]
    async fn a_login_is_renewed_between_requests() {
        let (seen, mut requests) = mpsc::unbounded_channel();
        let endpoint = listen(move |_, mut stream| {
            let seen = seen.clone();
            async move {
                shake_hands(&mut stream).await;
                let (mut waiting, mut logins) = (Vec::new(), 0);
                while let Some(request) = read_request(&mut stream).await {
                    let _ = seen.send((request.api_key, request.correlation_id));
                    let answer = match request.api_key {
                        17 => mechanisms(request.correlation_id, 0, &["PLAIN"]),
                        36 => {
                            logins += 1;
                            // The first is good for a moment, the others for ever.
                            let lifetime = if logins == 1 { 200 } else { 0 };
                            logged_in(request.correlation_id, (0, ""), lifetime)
                        }
                        _ if logins == 1 => {
                            waiting.push(frame(request.correlation_id, b"late"));
                            continue;
                        }
                        _ => frame(request.correlation_id, b"soon"),
                    };
                    let answers = [waiting.concat(), answer].concat();
                    waiting.clear();
                    stream.write_all(&answers).await.expect("open");
                }
            }
        });
        let endpoint = endpoint.await;
        let mut options = options();
        options.security.login = Some(login());
        let (outbox, inbox) = mpsc::unbounded_channel();
        outbox.send(outbound(1)).expect("a link");
        let answers = RefCell::new(Vec::new());
        let tell = |event| match event {
            LinkEvent::Answers(frames) => answers.borrow_mut().extend(frames),
            LinkEvent::Lost(error) => panic!("{error}"),
            _ => {}
        };
        let work = async {
            let mut apis = Vec::new();
            while apis.len() < 5 {
                apis.push(requests.recv().await.expect("a request").0);
            }
            outbox.send(outbound(2)).expect("a link");
            apis.push(requests.recv().await.expect("a request").0);
            assert_eq!(apis, [17, 36, 18, 17, 36, 18]);
            while answers.borrow().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = run((endpoint, None), options, Learned::default(), inbox, tell) => panic!("it ended"),
            () = work => {}
        }
        let answers = answers.into_inner();
        assert_eq!(answers, [&b"\0\0\0\x01late"[..], b"\0\0\0\x02soon"]);
    }

    /// A broker that lets everybody in, for ever, and tells each request. It keeps the first that is no
    /// login waiting until `late` says so.
    async fn lets_in(mut late: UnboundedReceiver<()>) -> (Endpoint, UnboundedReceiver<i16>) {
        let (seen, requests) = mpsc::unbounded_channel();
        let late = Arc::new(tokio::sync::Mutex::new(
            async move { late.recv().await }.boxed(),
        ));
        let endpoint = listen(move |_, mut stream| {
            let (seen, late) = (seen.clone(), Arc::clone(&late));
            async move {
                shake_hands(&mut stream).await;
                while let Some(request) = read_request(&mut stream).await {
                    let _ = seen.send(request.api_key);
                    let answer = match request.api_key {
                        17 => mechanisms(request.correlation_id, 0, &["PLAIN"]),
                        36 => logged_in(request.correlation_id, (0, ""), 0),
                        _ => {
                            if request.correlation_id == 1 {
                                (&mut *late.lock().await).await;
                            }
                            frame(request.correlation_id, b"it")
                        }
                    };
                    stream.write_all(&answer).await.expect("open");
                }
            }
        });
        (endpoint.await, requests)
    }

    /// The login has to be renewed at once, and ends in a minute.
    async fn due(endpoint: &Endpoint, options: &ConnectOptions) -> Connection {
        let connected = connect(endpoint, None, options, &mut Learned::default()).await;
        let mut connection = connected.expect("a broker");
        let now = Instant::now();
        connection.term = Some(Term::at("alice", now, now + Duration::from_secs(60)));
        connection
    }

    #[tokio::test]
    async fn a_password_that_is_away_for_a_moment_costs_no_connection() {
        let (go, late) = mpsc::unbounded_channel();
        go.send(()).expect("a broker");
        let (endpoint, mut requests) = lets_in(late).await;
        let (times, looked) = (AtomicUsize::new(0), mpsc::unbounded_channel());
        let (look, mut looked) = looked;
        let login = login_by(move || match times.fetch_add(1, Ordering::Relaxed) {
            1 => {
                look.send(()).expect("a test");
                Err("the file is being written".to_owned())
            }
            _ => Ok("alice"),
        });
        let mut options = options();
        options.security.login = Some(login);
        let mut connection = due(&endpoint, &options).await;
        // Soon, so that it is looked for again soon.
        let now = Instant::now();
        connection.term = Some(Term::at("alice", now, now + Duration::from_secs(2)));
        let (outbox, inbox) = mpsc::unbounded_channel();
        let tell = |event| {
            if let LinkEvent::Lost(error) = event {
                panic!("{error}");
            }
        };
        let work = async {
            looked.recv().await.expect("it looks");
            outbox.send(outbound(1)).expect("a link");
            let mut apis = Vec::new();
            while apis.len() < 5 {
                apis.push(requests.recv().await.expect("a request"));
            }
            assert_eq!(apis, [17, 36, 18, 17, 36]);
        };
        tokio::select! {
            () = carry(connection, options, inbox, tell) => panic!("it ended"),
            () = work => {}
        }
    }

    /// Brokers refuse another user on the same connection.
    #[tokio::test]
    async fn another_user_comes_on_another_connection_when_what_is_in_flight_is_answered() {
        let (go, late) = mpsc::unbounded_channel();
        let (endpoint, mut requests) = lets_in(late).await;
        let times = AtomicUsize::new(0);
        let login = login_by(move || match times.fetch_add(1, Ordering::Relaxed) {
            0 => Ok("alice"),
            _ => {
                go.send(()).expect("a broker");
                Ok("bob")
            }
        });
        let mut options = options();
        options.security.login = Some(login);
        let mut connection = due(&endpoint, &options).await;
        // Requests go first.
        let now = Instant::now();
        let (soon, end) = (Duration::from_millis(500), Duration::from_secs(60));
        connection.term = Some(Term::at("alice", now + soon, now + end));
        let (outbox, inbox) = mpsc::unbounded_channel();
        outbox.send(outbound(1)).expect("a link");
        let events = RefCell::new(Vec::new());
        let tell = |event| match event {
            LinkEvent::Answers(frames) => events.borrow_mut().extend(frames),
            LinkEvent::Lost(error) => {
                assert!(matches!(error, NetError::UserChanged { .. }), "{error}");
                assert!(error.is_closed() && error.security().is_none());
                events.borrow_mut().push(Bytes::from_static(b"lost"));
            }
            _ => {}
        };
        carry(connection, options, inbox, tell).await;
        assert_eq!(events.into_inner(), [&b"\0\0\0\x01it"[..], b"lost"]);
        let mut apis = Vec::new();
        while let Ok(api) = requests.try_recv() {
            apis.push(api);
        }
        assert_eq!(apis, [17, 36, 18], "no second login");
    }
}
