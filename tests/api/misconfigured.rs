//! Every error says what is wrong and what to change, and says it at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use forebay::config::ProblemKind;
use forebay::{Config, Producer, Record, SendError, StartError};

/// Everything that is logged by the tests of this binary: the runtime logs on its own thread, so
/// one subscriber serves all, and each test looks for its own port.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("forebay=warn")
        .with_writer(move || writer.clone())
        .init();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The first line that names the address, as soon as there is one.
    async fn first_of(&self, address: SocketAddr, within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let address = address.to_string();
            if let Some(line) = text.lines().find(|line| line.contains(&address)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "nothing logged of {address}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends to a broker that is none: what is logged first, and what the send fails with at the end.
async fn first_warning_and_last_error(address: SocketAddr) -> (String, String) {
    const MAX_BLOCK: Duration = Duration::from_secs(3);
    LazyLock::force(&LOG);
    let config = Config::builder()
        .bootstrap_servers(address)
        .set("max.block.ms", MAX_BLOCK.as_millis())
        .build()
        .unwrap();
    let producer = Producer::start(config).unwrap();
    let sender = producer.clone();
    let send = tokio::spawn(async move { sender.send(Record::to("orders").value("1")).await });
    let warning = LOG.first_of(address, MAX_BLOCK).await;
    assert!(
        !send.is_finished(),
        "the log tells before the time-out does"
    );
    assert!(warning.contains("WARN"), "{warning}");
    let error = send.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            SendError::TopicUnknown {
                waited: MAX_BLOCK,
                ..
            }
        ),
        "{error:?}"
    );
    producer.close(Duration::from_secs(5)).await.unwrap();
    (warning, error.to_string())
}

/// A server that answers the first bytes of every connection so, and closes it.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = reply(stream, answer);
        }
    });
    address
}

fn reply(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut some = [0; 1024];
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = stream.read(&mut some)?;
    stream.write_all(answer)
}

#[tokio::test]
async fn nobody_listens() {
    // Bound for a moment, so that the port is free now.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (warning, error) = first_warning_and_last_error(address).await;
    for text in [warning, error] {
        assert!(
            text.contains(&format!("no connection to {address}")),
            "{text}"
        );
        assert!(text.contains("Connection refused"), "{text}");
        assert!(text.contains("is a broker listening there?"), "{text}");
    }
}

#[tokio::test]
async fn two_brokers_that_are_down_are_told_of_once_each() {
    LazyLock::force(&LOG);
    // Bound for a moment, so that the ports are free now.
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = bound
        .each_ref()
        .map(|it| it.local_addr().unwrap().to_string());
    drop(bound);
    let config = Config::builder()
        .bootstrap_servers(addresses.join(","))
        .set("max.block.ms", 3000)
        .build()
        .unwrap();
    let producer = Producer::start(config).unwrap();
    producer
        .send(Record::to("orders").value("1"))
        .await
        .unwrap_err();
    for address in &addresses {
        let warnings = logged_of(&format!("no connection to {address}"));
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
    }
    producer.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_web_server_listens() {
    let address = answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    let (warning, error) = first_warning_and_last_error(address).await;
    for text in [warning, error] {
        assert!(text.contains("answers HTTP"), "{text}");
        assert!(text.contains("give the port of a Kafka listener"), "{text}");
    }
}

#[tokio::test]
async fn a_tls_listener_is_spoken_to_in_plain_text() {
    // What it says to a first byte that begins no handshake: the alert `unexpected_message`.
    let address = answering(&[0x15, 3, 3, 0, 2, 2, 10]);
    let (warning, error) = first_warning_and_last_error(address).await;
    for text in [warning, error] {
        assert!(text.contains("expects TLS"), "{text}");
        assert!(text.contains("set security.protocol to SSL"), "{text}");
    }
}

#[tokio::test]
async fn a_listener_closes_without_a_word() {
    let address = answering(b"");
    let (warning, error) = first_warning_and_last_error(address).await;
    for text in [warning, error] {
        assert!(text.contains("is the listener TLS or SASL?"), "{text}");
    }
}

#[tokio::test]
async fn a_name_that_is_none() {
    let config = Config::builder()
        .bootstrap_servers("broker.invalid:9092")
        .set("max.block.ms", 1500)
        .build()
        .unwrap();
    let producer = Producer::start(config).unwrap();
    let error = producer.send(Record::to("orders").value("1")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("broker.invalid:9092 cannot be resolved"),
        "{error}"
    );
    assert!(error.contains("check bootstrap.servers"), "{error}");
}

/// Kind, key, and words that the message must have.
fn assert_problem(text: &str, kind: ProblemKind, key: &str, words: &[&str]) {
    let error = Config::builder().toml(text).build().unwrap_err();
    let problem = error
        .problems()
        .iter()
        .find(|problem| problem.kind == kind && problem.key.as_deref() == Some(key));
    let problem = problem.unwrap_or_else(|| panic!("no {kind:?} of {key} in\n{error}"));
    assert!(!problem.advice.is_empty(), "{problem}");
    let text = problem.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
}

const SERVERS: &str = "bootstrap.servers = \"localhost:9092\"\n";

#[test]
fn a_misspelt_key() {
    let text = format!("{SERVERS}linger.msec = 5");
    let words = ["linger.ms", "TOML:2"];
    assert_problem(&text, ProblemKind::UnknownKey, "linger.msec", &words);
}

/// What was logged while this ran, of it alone: `about` stands in no other test's lines.
fn logged_of(about: &str) -> Vec<String> {
    let text = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().filter(|line| line.contains(about));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_variable_that_is_nearly_a_key() {
    LazyLock::force(&LOG);
    let variables = [
        "LINGER_MSS",
        "HOME",
        "OPTS",
        "HEAP_OPTS",
        "LOG_DIRS",
        "ADVERTISED_LISTENERS",
    ];
    let builder = Config::builder().bootstrap_servers("localhost:9092");
    let builder = builder.env_vars(variables.map(|name| (format!("KAFKA_{name}"), "50")));
    builder.build().expect("what it does not know is ignored");
    let lines = logged_of("KAFKA_");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in [
        "WARN",
        "KAFKA_LINGER_MSS",
        "meant=\"KAFKA_LINGER_MS\"",
        "ignored",
    ] {
        assert!(lines[0].contains(word), "{word} in {lines:?}");
    }
}

#[test]
fn a_broker_that_is_named_twice() {
    LazyLock::force(&LOG);
    let config = Config::new("twice:1,other:1,TWICE:1").expect("as Java takes it");
    assert_eq!(config.bootstrap_servers.len(), 2);
    let lines = logged_of("twice:1");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("stands twice in bootstrap.servers"),
        "{lines:?}"
    );
}

#[test]
fn a_client_id_that_no_thread_can_have() {
    let text = format!("{SERVERS}client.id = \"a\\u0000b\"");
    let words = ["a\\0b", "control character", "TOML:2"];
    assert_problem(&text, ProblemKind::WrongValue, "client.id", &words);
}

#[test]
fn fields_are_checked_when_the_producer_starts() {
    type Change = fn(&mut Config);
    let changes: [(&str, Change); 6] = [
        ("client.id", |it| it.client_id = "a\0b".to_owned()),
        ("linger.ms", |it| it.linger = Duration::MAX),
        ("batch.size", |it| it.batch_size = it.buffer_memory + 1),
        ("bootstrap.servers", |it| it.bootstrap_servers.clear()),
        ("retries", |it| it.retries = 0),
        ("max.in.flight.requests.per.connection", |it| {
            it.max_in_flight = 0
        }),
    ];
    for (key, change) in changes {
        let mut config = Config::new("localhost:9092").unwrap();
        change(&mut config);
        match Producer::start(config) {
            Err(StartError::Config(error)) => {
                assert_eq!(error.problems().len(), 1, "{error}");
                assert_eq!(error.problems()[0].key.as_deref(), Some(key), "{error}");
            }
            Err(error) => panic!("{key}: {error}"),
            Ok(_) => panic!("{key}: it starts"),
        }
    }
}

#[test]
fn two_values_that_exclude_each_other() {
    let text = format!("{SERVERS}acks = 1\nenable.idempotence = true");
    let error = Config::builder().toml(&text).build().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems().len(), 1, "{text}");
    assert_eq!(error.problems()[0].kind, ProblemKind::Conflict, "{text}");
    assert!(!error.problems()[0].advice.is_empty(), "{text}");
    assert!(
        text.contains("acks") && text.contains("enable.idempotence"),
        "{text}"
    );
}

#[test]
fn a_value_of_another_kind() {
    let text = format!("{SERVERS}\nlinger.ms = \"soon\"");
    let words = ["soon", "TOML:3"];
    assert_problem(&text, ProblemKind::WrongValue, "linger.ms", &words);
}

#[test]
fn everything_at_once() {
    let text = "linger.msec = 5\nbatch.size = \"big\"\nacks = 0\nenable.idempotence = true";
    let error = Config::builder().toml(text).build().unwrap_err();
    assert_eq!(error.problems().len(), 4, "{error}");
    assert_eq!(error.to_string().lines().count(), 4);
}
