//! Makes a broker's TCP connection: resolves its name, tries its addresses, sets the socket's options.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::transport::Transport;
use super::{Endpoint, NetError, Observer, Seen};
use crate::core::dial::{Attempts, Learned};

/// Idle time after which the kernel asks whether the other end is still there. Load balancers of
/// clouds forget connections that were idle for four minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// The time between two such questions, and how many go without an answer.
#[cfg(target_os = "linux")]
const KEEPALIVE_PROBES: (Duration, u32) = (Duration::from_secs(15), 4);

/// What was written and is not acknowledged for so long ends the connection, as questions without
/// an answer do. `request.timeout.ms` counts where it is longer.
#[cfg(target_os = "linux")]
const LEAST_USER_TIMEOUT: Duration = Duration::from_secs(120);

/// The limits of a connection's making, and the options of its socket.
pub struct SocketOptions {
    /// The limit for resolving the name and connecting, for all addresses of the endpoint together.
    pub setup_timeout: Duration,
    /// The longest wait for what the other end has to say.
    pub request_timeout: Duration,
    /// `None` leaves it to the operating system.
    pub send_buffer: Option<usize>,
    /// `None` leaves it to the operating system.
    pub receive_buffer: Option<usize>,
    pub observer: Observer,
}

/// Connects to an address of the endpoint, within `setup_timeout` for all of it.
pub(super) async fn dial(
    endpoint: &Endpoint,
    options: &SocketOptions,
    learned: &mut Learned,
) -> Result<Transport, NetError> {
    let deadline = Instant::now() + options.setup_timeout;
    #[cfg(feature = "internals")]
    if let Some(dialled) = super::simulated::dial(endpoint) {
        let dialled = timeout_at(deadline, dialled).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        return match dialled {
            Ok(halves) => Ok(Transport::Simulated(halves)),
            Err(error) => Err(NetError::io(endpoint, "connecting to", error)),
        };
    }
    let timed_out = |attempts| NetError::ConnectTimeout {
        endpoint: endpoint.clone(),
        after: options.setup_timeout,
        attempts,
    };
    let found = match timeout_at(deadline, look_up(endpoint)).await {
        Err(_) => return Err(timed_out(Vec::new())),
        Ok(found) => found.map_err(|error| NetError::Resolve {
            endpoint: endpoint.clone(),
            source: Arc::new(error),
        })?,
    };
    if found.is_empty() {
        return Err(NetError::NoAddress {
            endpoint: endpoint.clone(),
        });
    }
    options
        .observer
        .tell(endpoint, || Seen::Addresses(found.clone()));
    match race(found, options, learned, deadline).await {
        Ok(stream) => {
            if let Ok(address) = stream.peer_addr() {
                options.observer.tell(endpoint, || Seen::Connected(address));
            }
            Ok(Transport::Plain(stream))
        }
        Err(attempts) if attempts.iter().any(|(_, error)| is_timeout(error)) => {
            Err(timed_out(attempts))
        }
        Err(attempts) => Err(NetError::Connect {
            endpoint: endpoint.clone(),
            attempts,
        }),
    }
}

/// Resolves a name. That is done for each connection, since another address may stand behind it by now.
async fn look_up(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    #[cfg(test)]
    if let Some(found) = super::fake::look_up(endpoint) {
        return Ok(found);
    }
    let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
    Ok(found.collect())
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Tries the addresses, some side by side. The first to accept wins; the other attempts are dropped.
async fn race(
    found: Vec<SocketAddr>,
    options: &SocketOptions,
    learned: &mut Learned,
    deadline: Instant,
) -> Result<TcpStream, Vec<(SocketAddr, Arc<io::Error>)>> {
    let now = || Instant::now().into_std();
    let mut attempts = Attempts::new(found, learned, now());
    let mut tried = Vec::new();
    let mut failed: Vec<(SocketAddr, Arc<io::Error>)> = Vec::new();
    let mut connecting = FuturesUnordered::new();
    loop {
        if let Some(address) = attempts.next(now()) {
            tried.push(address);
            connecting.push(async move { (address, open(address, options).await) });
        }
        let next = attempts.next_at();
        if connecting.is_empty() && next.is_none() {
            return Err(failed);
        }
        let next = next.map_or(deadline, |at| deadline.min(at.into()));
        tokio::select! {
            biased;
            Some((address, outcome)) = connecting.next() => match outcome {
                Ok(stream) => {
                    learned.accepted(address);
                    return Ok(stream);
                }
                Err(error) => {
                    failed.push((address, Arc::new(error)));
                    attempts.failed(now());
                }
            },
            () = sleep_until(next) => {
                if Instant::now() >= deadline {
                    break;
                }
            }
        }
    }
    let hanging = tried
        .into_iter()
        .filter(|address| failed.iter().all(|(it, _)| it != address));
    let hanging: Vec<_> = hanging.collect();
    failed.extend(hanging.into_iter().map(|address| {
        let error: io::Error = io::ErrorKind::TimedOut.into();
        (address, Arc::new(error))
    }));
    Err(failed)
}

async fn open(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // This must be before connecting, because the size of the receive buffer decides the window
    // scale.
    if let Some(size) = options.send_buffer {
        socket.set_send_buffer_size(u32::try_from(size).unwrap_or(u32::MAX))?;
    }
    if let Some(size) = options.receive_buffer {
        socket.set_recv_buffer_size(u32::try_from(size).unwrap_or(u32::MAX))?;
    }
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    if let Err(error) = notice_silence(&stream, options) {
        // Sandboxes may forbid it, and a connection without it is better than none.
        tracing::debug!(%address, %error, "a dead connection will be noticed late");
    }
    Ok(stream)
}

/// Has the kernel notice that the other end is gone, while nothing is sent and while nobody asked for
/// an answer.
fn notice_silence(stream: &TcpStream, options: &SocketOptions) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    #[cfg(target_os = "linux")]
    let keepalive = {
        let (interval, retries) = KEEPALIVE_PROBES;
        let user_timeout = options.request_timeout.max(LEAST_USER_TIMEOUT);
        // The kernel has 32 bits for the milliseconds, of which it takes one for the sign.
        let most = Duration::from_millis(i32::MAX as u64);
        socket.set_tcp_user_timeout(Some(user_timeout.min(most)))?;
        keepalive.with_interval(interval).with_retries(retries)
    };
    // Other kernels are not told how long to wait.
    #[cfg(not(target_os = "linux"))]
    let _ = options.request_timeout;
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::super::fake::options;
    use super::*;

    /// An address whose packets are swallowed: with a full accept queue the kernel accepts no more.
    async fn swallowing() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("a free port");
        let listener = socket.listen(0).expect("a listener");
        let address = listener.local_addr().expect("bound");
        let mut held = Vec::new();
        let short = Duration::from_millis(100);
        while let Ok(stream) = tokio::time::timeout(short, TcpStream::connect(address)).await {
            held.push(stream.expect("connected"));
        }
        (address, (listener, held))
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_does_not_use_the_time_up() {
        let (hangs, _held) = swallowing().await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let works = listener.local_addr().expect("bound");
        let (options, mut learned) = (options().sockets(), Learned::default());
        // An equal share for each of them would be an hour.
        let deadline = Instant::now() + Duration::from_secs(7200);
        for _ in 0..2 {
            let race = race(vec![hangs, works], &options, &mut learned, deadline);
            let stream = tokio::time::timeout(Duration::from_secs(60), race).await;
            let stream = stream
                .expect("the second one is tried")
                .expect("it accepts");
            assert_eq!(stream.peer_addr().expect("connected"), works);
            let mut next = Attempts::new(vec![hangs, works], &learned, Instant::now().into_std());
            let first = next.next(Instant::now().into_std());
            assert_eq!(first, Some(works), "the one that worked");
        }
    }

    #[tokio::test]
    async fn each_address_that_fails_or_hangs_is_named() {
        let (hangs, _held) = swallowing().await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let closed = listener.local_addr().expect("bound");
        drop(listener);
        let deadline = Instant::now() + Duration::from_millis(400);
        let found = vec![hangs, closed];
        let failed = race(
            found,
            &options().sockets(),
            &mut Learned::default(),
            deadline,
        )
        .await;
        let failed = failed.expect_err("neither accepts");
        let kinds: Vec<_> = failed
            .iter()
            .map(|(address, error)| (*address, error.kind()))
            .collect();
        assert_eq!(
            kinds,
            [
                (closed, io::ErrorKind::ConnectionRefused),
                (hangs, io::ErrorKind::TimedOut)
            ]
        );
    }

    /// As a broker's name leads to another pod after a roll.
    #[tokio::test]
    async fn a_name_is_resolved_for_each_connection() {
        let endpoint = Endpoint::new("broker-1.example.com", 9092);
        let mut learned = Learned::default();
        let mut former = Vec::new();
        for _ in 0..3 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("bound");
            super::super::fake::resolve("broker-1.example.com", vec![address]);
            let dialled = dial(&endpoint, &options().sockets(), &mut learned).await;
            let Ok(Transport::Plain(stream)) = dialled else {
                panic!("not connected");
            };
            assert_eq!(stream.peer_addr().expect("connected"), address);
            // The former address goes on accepting.
            former.push(listener);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_watches_the_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        for (request, user) in [(5, 120), (300, 300), (u64::MAX, i32::MAX as u64 / 1000)] {
            let mut options = options().sockets();
            options.request_timeout = Duration::from_secs(request);
            let stream = open(address, &options).await.expect("connected");
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(
                socket.tcp_keepalive_time().expect("an option"),
                KEEPALIVE_IDLE
            );
            let probes = (
                socket.tcp_keepalive_interval().expect("an option"),
                socket.tcp_keepalive_retries().expect("an option"),
            );
            assert_eq!(probes, KEEPALIVE_PROBES);
            let user_timeout = socket.tcp_user_timeout().expect("an option").expect("set");
            assert_eq!(user_timeout.as_secs(), user);
        }
    }
}
