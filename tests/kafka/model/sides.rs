//! A real broker and the model's, asked in the same way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use forebay_model_cluster::{Kafka, raw};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};

pub enum Side {
    Real(SocketAddr),
    Model(Rc<Kafka>),
}

impl Side {
    pub async fn ask<R: Decodable>(
        &self,
        (api, version): (ApiKey, i16),
        request: &impl Encodable,
    ) -> R {
        let bytes = raw::request(api, version, request);
        let answer = match self {
            Self::Real(broker) => over_a_socket(*broker, &bytes),
            Self::Model(kafka) => kafka.ask(0, bytes).await.expect("the broker lives"),
        };
        raw::response(api, version, answer)
    }

    pub async fn pause(&self, time: Duration) {
        match self {
            Self::Real(_) => std::thread::sleep(time),
            Self::Model(_) => tokio::time::sleep(time).await,
        }
    }
}

pub(crate) fn over_a_socket(broker: SocketAddr, request: &[u8]) -> Bytes {
    let mut socket = TcpStream::connect(broker).expect("the broker listens");
    let limit = Some(Duration::from_secs(20));
    socket.set_read_timeout(limit).expect("a socket");
    let length = (request.len() as u32).to_be_bytes();
    socket
        .write_all(&[&length, request].concat())
        .expect("open");
    let mut length = [0; 4];
    socket.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer).expect("an answer");
    answer.into()
}

/// What was seen, in words that are the same on both sides: producer ids are told by the order in which
/// they turned up.
#[derive(Default)]
pub struct Seen {
    pub lines: RefCell<Vec<String>>,
    ids: RefCell<BTreeMap<i64, usize>>,
}

impl Seen {
    pub fn say(&self, what: &str, of: impl std::fmt::Debug) {
        let line = format!("{what}: {of:?}");
        println!("{line}");
        self.lines.borrow_mut().push(line);
    }

    pub fn id(&self, id: i64) -> i64 {
        if id < 0 {
            return id;
        }
        let mut ids = self.ids.borrow_mut();
        let next = ids.len();
        *ids.entry(id).or_insert(next) as i64
    }
}
