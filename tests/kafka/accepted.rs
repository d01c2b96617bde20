//! The service of `examples/accepted`, killed under load: what it answered 202 is there, once.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::Producer;
use forebay_kafka_cluster::{self as kafka, Isolation};

#[path = "../../examples/accepted/service.rs"]
mod service;

/// Has this binary run as the service, and with what.
const SERVERS: &str = "FOREBAY_TEST_ACCEPTED_SERVERS";
const SPOOL: &str = "FOREBAY_TEST_ACCEPTED_SPOOL";
const LISTEN_ON: &str = "FOREBAY_TEST_ACCEPTED_ON";

/// Not a test by itself: what the test below kills.
#[test]
fn the_service() {
    let var = |name| std::env::var(name).ok();
    let (Some(servers), Some(spool), Some(listen_on)) = (var(SERVERS), var(SPOOL), var(LISTEN_ON))
    else {
        return;
    };
    actix_web::rt::System::new().block_on(async {
        let listener = TcpListener::bind(listen_on).expect("nobody listens there");
        let config = service::config(&servers, &spool).expect("a configuration");
        let producer = Producer::start(config).expect("a producer");
        let server = service::serve(producer, listener).expect("it listens");
        server.await.expect("it serves");
    });
}

struct Process(Child);

impl Process {
    fn start(servers: &str, spool: &str, listen_on: SocketAddr) -> Self {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "accepted::the_service"])
            .env(SERVERS, servers)
            .env(SPOOL, spool)
            .env(LISTEN_ON, listen_on.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The status of an answer. Each request has a connection of its own.
fn post(to: SocketAddr, body: &str) -> io::Result<u16> {
    let mut connection = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    write!(
        connection,
        "POST /orders HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut status = String::new();
    BufReader::new(connection).read_line(&mut status)?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[test]
fn what_was_answered_202_is_there_once_though_the_service_is_killed() {
    if !kafka::require_or_skip("what_was_answered_202_is_there_once_though_the_service_is_killed") {
        return;
    }
    let cluster = &*kafka::shared();
    cluster.create_topic(service::TOPIC, 3, 3, &[]).unwrap();
    let spool = std::env::temp_dir().join(format!("forebay-accepted-{}", std::process::id()));
    let (servers, spool_dir) = (cluster.bootstrap(), spool.to_string_lossy().into_owned());
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen_on = free.local_addr().unwrap();
    drop(free);

    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let accepted = Mutex::new(Vec::new());
    let client = || {
        while !over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match post(listen_on, &number.to_string()) {
                Ok(202) => accepted.lock().expect("no panic").push(number),
                // Refused, or nobody knows. It is not sent again.
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    };
    let kills = 10;
    std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(client)));
        for kill in 0..kills {
            let process = Process::start(&servers, &spool_dir, listen_on);
            std::thread::sleep(Duration::from_millis(900 + 213 * (kill % 5)));
            drop(process);
        }
        over.store(true, Ordering::Relaxed);
    });
    let accepted = accepted.into_inner().expect("no panic");
    println!("{kills} kills, {} answered 202", accepted.len());
    assert!(accepted.len() > 100, "it was hardly used");

    let _last = Process::start(&servers, &spool_dir, listen_on);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut times: BTreeMap<u64, u32> = BTreeMap::new();
        let take = |_, _, value: &[u8]| {
            let number = String::from_utf8_lossy(value).parse().expect("a number");
            *times.entry(number).or_default() += 1;
        };
        let isolation = Isolation::default();
        cluster
            .read_values(service::TOPIC, isolation, take)
            .unwrap();
        let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
        let missing = accepted.iter().filter(|it| !times.contains_key(it));
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{} are missing", missing.len());
        std::thread::sleep(Duration::from_millis(500));
    }
    std::fs::remove_dir_all(spool).unwrap();
}
