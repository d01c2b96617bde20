//! A TCP proxy in front of each broker, where connections can be hurt.
//!
//! Brokers advertise the proxies' addresses on a listener of their own, so that the producer under
//! test goes through them, and the harness and the brokers among themselves do not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::lie::{Lie, is_metadata, rewritten};
use super::{Cluster, Error, Result};

/// What a proxy does to every connection that passes through it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    /// Nobody listens.
    pub refuse: bool,
    /// Requests are held back. What was held is forwarded later, in order, as TCP would.
    pub hold_requests: bool,
    /// Answers are held back: what they answer is done.
    pub hold_answers: bool,
    /// In each direction of each connection.
    pub bytes_per_second: Option<u32>,
    /// Metadata answers say something else.
    pub lie: Option<Lie>,
}

/// The proxies of a cluster's brokers, on a thread of their own. Dropping them closes every
/// connection.
pub struct Proxies {
    proxies: Vec<Arc<Proxy>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxies {
    /// Starts one in front of each broker's listener of that name, which must be
    /// [`proxied`](super::Listener::proxied).
    pub fn start(cluster: &Cluster, listener: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::at("start a runtime"))?;
        let mut proxies = Vec::new();
        for broker in cluster.brokers() {
            let address = |name: &str| {
                let port = broker.port(name);
                let port = port.ok_or_else(|| Error::new(format!("no listener {name}")))?;
                Ok(SocketAddr::from(([127, 0, 0, 1], port)))
            };
            let listens_at = address(&super::cluster::proxy_of(listener))?;
            proxies.push(Arc::new(Proxy::new(listens_at, address(listener)?)));
        }
        let (stop, stopped) = oneshot::channel();
        let all = proxies.clone();
        let thread = std::thread::Builder::new()
            .name("proxies".into())
            .spawn(move || {
                runtime.block_on(async {
                    all.into_iter().for_each(|it| drop(tokio::spawn(it.run())));
                    let _ = stopped.await;
                });
            })
            .map_err(Error::at("start the proxies"))?;
        Ok(Self {
            proxies,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// In the order of the brokers.
    pub fn all(&self) -> &[Arc<Proxy>] {
        &self.proxies
    }

    /// Connections that died before the client closed them, by a proxy or a broker.
    pub fn deaths(&self) -> u64 {
        self.proxies.iter().map(|it| it.deaths()).sum()
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub struct Proxy {
    listens_at: SocketAddr,
    broker: SocketAddr,
    rules: watch::Sender<Rules>,
    /// Counts the times that everything was cut.
    cuts: watch::Sender<u64>,
    requests: Fuse,
    answers: Fuse,
    deaths: AtomicU64,
}

impl Proxy {
    fn new(listens_at: SocketAddr, broker: SocketAddr) -> Self {
        Self {
            listens_at,
            broker,
            rules: watch::Sender::default(),
            cuts: watch::Sender::default(),
            requests: Fuse::default(),
            answers: Fuse::default(),
            deaths: AtomicU64::new(0),
        }
    }

    pub fn set(&self, rules: Rules) {
        self.rules.send_replace(rules);
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends the connection that carries the `bytes`th byte of a request from now on, right behind
    /// that byte.
    pub fn cut_in_request(&self, bytes: u32) {
        self.requests.light(bytes);
    }

    /// Ends the connection that carries the `bytes`th byte of an answer from now on, right behind
    /// that byte: what was asked is done, and nobody hears of it.
    pub fn cut_in_answer(&self, bytes: u32) {
        self.answers.light(bytes);
    }

    pub fn deaths(&self) -> u64 {
        self.deaths.load(Relaxed)
    }

    async fn run(self: Arc<Self>) {
        let mut rules = self.rules.subscribe();
        loop {
            let Ok(listener) = TcpListener::bind(self.listens_at).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let accepting = async {
                loop {
                    if let Ok((client, _)) = listener.accept().await {
                        tokio::spawn(Arc::clone(&self).carry(client));
                    }
                }
            };
            tokio::select! {
                () = accepting => {}
                _ = rules.wait_for(|rules| rules.refuse) => {}
            }
            drop(listener);
            if rules.wait_for(|rules| !rules.refuse).await.is_err() {
                return;
            }
        }
    }

    async fn carry(self: Arc<Self>, client: TcpStream) {
        let mut cuts = self.cuts.subscribe();
        let seen = *cuts.borrow_and_update();
        let Ok(broker) = TcpStream::connect(self.broker).await else {
            return reset(client);
        };
        let nodelay = [client.set_nodelay(true), broker.set_nodelay(true)];
        if nodelay.iter().any(std::result::Result::is_err) {
            return;
        }
        let asked = Mutex::new(HashMap::new());
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_broker, mut to_broker) = broker.into_split();
        let ended = tokio::select! {
            ended = self.requests(&mut from_client, &mut to_broker, &asked) => ended,
            ended = self.answers(&mut from_broker, &mut to_client, &asked) => ended,
            _ = cuts.wait_for(|cuts| *cuts != seen) => Ended::Cut,
        };
        if ended != Ended::ByClient {
            self.deaths.fetch_add(1, Relaxed);
            // A broker that died leaves a reset behind it, too.
            if let Ok(client) = from_client.reunite(to_client) {
                reset(client);
            }
        }
    }

    async fn requests(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        asked: &Asked,
    ) -> Ended {
        let mut frames = BytesMut::new();
        loop {
            match from.read_buf(&mut frames).await {
                Ok(1..) => {}
                _ => return Ended::ByClient,
            }
            while let Some(frame) = next_frame(&mut frames) {
                if let Some((correlation, version)) = is_metadata(&frame) {
                    lock(asked).insert(correlation, version);
                }
                let held = |rules: &Rules| rules.hold_requests;
                match self.forward(&frame, to, &self.requests, held).await {
                    Ended::Not => {}
                    ended => return ended,
                }
            }
        }
    }

    async fn answers(
        &self,
        from: &mut OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        asked: &Asked,
    ) -> Ended {
        let mut frames = BytesMut::new();
        loop {
            match from.read_buf(&mut frames).await {
                Ok(1..) => {}
                _ => return Ended::ByBroker,
            }
            while let Some(mut frame) = next_frame(&mut frames) {
                if let Some(version) = frame
                    .get(4..8)
                    .and_then(|correlation| lock(asked).remove(correlation))
                    && let Some(lie) = self.rules.borrow().lie
                {
                    frame = rewritten(&frame, version, lie).unwrap_or(frame);
                }
                let held = |rules: &Rules| rules.hold_answers;
                match self.forward(&frame, to, &self.answers, held).await {
                    Ended::Not => {}
                    Ended::ByClient => return Ended::ByBroker,
                    ended => return ended,
                }
            }
        }
    }

    /// Writes a frame as the rules have it.
    async fn forward(
        &self,
        frame: &[u8],
        to: &mut OwnedWriteHalf,
        fuse: &Fuse,
        held: impl Fn(&Rules) -> bool,
    ) -> Ended {
        let mut rest = frame;
        while !rest.is_empty() {
            let mut rules = self.rules.subscribe();
            let speed = match rules.wait_for(|rules| !held(rules)).await {
                Ok(rules) => rules.bytes_per_second,
                Err(_) => return Ended::Cut,
            };
            let step = speed.map_or(rest.len(), |speed| (speed / 20).max(1) as usize);
            let (now, later) = rest.split_at(step.min(rest.len()));
            let (now, cut) = match fuse.burn(now.len()) {
                Some(left) => (&now[..left], true),
                None => (now, false),
            };
            if to.write_all(now).await.is_err() {
                return Ended::ByClient;
            }
            if cut {
                return Ended::Cut;
            }
            if speed.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            rest = later;
        }
        Ended::Not
    }
}

/// The versions of metadata requests that are under way, by the bytes of their correlation ids.
type Asked = Mutex<HashMap<[u8; 4], i16>>;

fn lock(asked: &Asked) -> MutexGuard<'_, HashMap<[u8; 4], i16>> {
    asked.lock().unwrap_or_else(|e| e.into_inner())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ended {
    Not,
    ByClient,
    ByBroker,
    Cut,
}

/// Bytes until something is cut; nothing is while it is not lit.
struct Fuse(AtomicI64);

impl Default for Fuse {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

impl Fuse {
    fn light(&self, bytes: u32) {
        self.0.store(i64::from(bytes), Relaxed);
    }

    /// How many of these bytes may still pass, if it ends in them.
    fn burn(&self, bytes: usize) -> Option<usize> {
        let left = self.0.load(Relaxed);
        if left == i64::MAX {
            return None;
        }
        // All of a proxy's connections live on one thread.
        let ends = left <= bytes as i64;
        let next = if ends { i64::MAX } else { left - bytes as i64 };
        self.0.store(next, Relaxed);
        ends.then_some(left as usize)
    }
}

/// The next whole frame, with its length.
fn next_frame(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = buffer.first_chunk::<4>()?;
    let whole = u32::from_be_bytes(*length) as usize + 4;
    (buffer.len() >= whole).then(|| buffer.split_to(whole).freeze())
}

fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
}
