//! What holds for every error of the library.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::actors::lifecycle::CloseError;
use crate::api::lane::SinkError;
use crate::api::transaction::NotCommitted;
use crate::config::Config;
use crate::core::broker_error::BrokerError;
use crate::core::endpoint::Endpoint;
use crate::core::outcome::{Reason, Unconfirmed};
use crate::core::record::{Record, TopicPartition};
use crate::core::security::{KeyMaterialError, LoginRefusal, SecurityError};
use crate::core::supervision::Component;
use crate::core::tally::Outcomes;
use crate::core::transaction::{Cause, TransactionError};
use crate::intake::SliceError;
use crate::intake::error::{RecordPart, SendError, TrySendError, WaitsFor};
use crate::intake::source_error::SourceError;

fn broker_error() -> BrokerError {
    BrokerError {
        code: 87,
        message: Some("what the broker said".into()),
        principal: None,
    }
}

fn reasons() -> Vec<Reason> {
    let why = || Arc::from("what went wrong");
    let all = vec![
        Reason::Broker(broker_error()),
        Reason::BatchMate(broker_error()),
        Reason::InvalidRecord {
            error: broker_error(),
            message: why(),
        },
        Reason::Expired {
            timeout: Duration::from_secs(1),
            age: Duration::from_millis(1_020),
            last: Some(why()),
            security: Some(Arc::new(login_refused())),
        },
        Reason::Closed { last: Some(why()) },
        Reason::Fenced { why: why() },
        Reason::Failed {
            component: Component::Partition(TopicPartition::new("orders", 3)),
            why: why(),
        },
        Reason::NotRequested,
        Reason::AfterUnresolved { last: why() },
        Reason::Forgotten {
            age: Duration::from_secs(90_000),
            expiration: Duration::from_secs(86_400),
            last: why(),
        },
        Reason::Unresolved {
            first: Box::new(Reason::Connection { why: why() }),
            why: why(),
        },
        Reason::NoProducerId { why: why() },
        Reason::NoCommonVersion { why: why() },
        Reason::TransactionAborted { why: why() },
        Reason::CommitInDoubt { why: why() },
        Reason::RuntimeGone,
        Reason::Damaged,
        Reason::TopicRecreated,
        Reason::TooOld {
            max_age: Duration::from_secs(1),
        },
        Reason::DiskFailed {
            first: Box::new(Reason::RuntimeGone),
        },
        Reason::InCallback,
        Reason::Connection { why: why() },
    ];
    // A variant that is missing here is most likely missing above.
    all.iter().for_each(|reason| match reason {
        Reason::Broker(_)
        | Reason::BatchMate(_)
        | Reason::InvalidRecord { .. }
        | Reason::Expired { .. }
        | Reason::Closed { .. }
        | Reason::Fenced { .. }
        | Reason::Failed { .. }
        | Reason::NotRequested
        | Reason::Damaged
        | Reason::TopicRecreated
        | Reason::TooOld { .. }
        | Reason::DiskFailed { .. }
        | Reason::AfterUnresolved { .. }
        | Reason::Forgotten { .. }
        | Reason::Unresolved { .. }
        | Reason::NoProducerId { .. }
        | Reason::NoCommonVersion { .. }
        | Reason::TransactionAborted { .. }
        | Reason::CommitInDoubt { .. }
        | Reason::RuntimeGone
        | Reason::InCallback
        | Reason::Connection { .. } => {}
    });
    all
}

/// Each of them tells its own cause.
fn causes() -> Vec<Cause> {
    let why = || Arc::from("what went wrong");
    let all = vec![
        Cause::Requested,
        Cause::Record {
            partition: 3,
            unconfirmed: Unconfirmed::NotWritten(Reason::Broker(broker_error())),
        },
        Cause::Refused(TransactionError::Refused {
            request: "EndTxn",
            part: "billing-1".into(),
            error: broker_error(),
        }),
        Cause::OffsetsUnsent { why: why() },
        Cause::Untold {
            refused: TransactionError::Closed,
            why: why(),
        },
        Cause::Closed,
        Cause::Runtime { why: why() },
    ];
    all.iter().for_each(|cause| match cause {
        Cause::Requested
        | Cause::Record { .. }
        | Cause::Refused(_)
        | Cause::OffsetsUnsent { .. }
        | Cause::Untold { .. }
        | Cause::Closed
        | Cause::Runtime { .. } => {}
    });
    all
}

fn login_refused() -> SecurityError {
    SecurityError::Login {
        broker: Endpoint::new("broker-1", 9092),
        mechanism: "PLAIN".into(),
        user: "alice".into(),
        why: LoginRefusal::BrokerNotProven,
    }
}

fn refusals() -> Vec<SendError> {
    let (topic, why) = (|| Arc::from("orders"), || Arc::from("what went wrong"));
    let waited = Duration::from_secs(60);
    let all = vec![
        SendError::TopicUnknown {
            topic: topic(),
            waited,
            why: why(),
            error: Some(broker_error()),
        },
        SendError::IllegalTopicName {
            topic: topic(),
            why: why(),
        },
        SendError::TopicRefused {
            topic: topic(),
            error: broker_error(),
        },
        SendError::TooManyPartitions {
            topic: topic(),
            partitions: 1_000_000,
            limit: 100_000,
        },
        SendError::Security(Arc::new(login_refused())),
        SendError::Serialize {
            topic: topic(),
            part: RecordPart::Key,
            why: why(),
        },
        SendError::PartitionOutOfRange {
            topic: topic(),
            partition: 7,
            count: 3,
        },
        SendError::Panicked {
            what: "the partitioner",
            why: why(),
        },
        SendError::TooLarge {
            size: 2_000,
            key: "max.request.size",
            limit: 1_000,
        },
        SendError::NegativeTimestamp(-1),
        SendError::NoMemory {
            waited,
            total: 1_000,
            why: Some(why()),
        },
        SendError::WouldBlock(WaitsFor::Memory),
        SendError::InCallback(WaitsFor::Topic),
        SendError::PartitionDown {
            topic: topic(),
            partition: 1,
        },
        SendError::TransactionEnded {
            why: Some(Arc::new(Cause::Requested)),
        },
        SendError::NoTransaction,
        SendError::NoSpace {
            waited: Duration::from_secs(1),
            why: why(),
        },
        SendError::InDoubt { why: why() },
        SendError::NotSpooled { topic: topic() },
        SendError::Closed,
    ];
    all.iter().for_each(|error| match error {
        SendError::TopicUnknown { .. }
        | SendError::NoSpace { .. }
        | SendError::InDoubt { .. }
        | SendError::NotSpooled { .. }
        | SendError::IllegalTopicName { .. }
        | SendError::TopicRefused { .. }
        | SendError::TooManyPartitions { .. }
        | SendError::Security(_)
        | SendError::Serialize { .. }
        | SendError::PartitionOutOfRange { .. }
        | SendError::Panicked { .. }
        | SendError::TooLarge { .. }
        | SendError::NegativeTimestamp(_)
        | SendError::NoMemory { .. }
        | SendError::WouldBlock(_)
        | SendError::InCallback(_)
        | SendError::PartitionDown { .. }
        | SendError::TransactionEnded { .. }
        | SendError::NoTransaction
        | SendError::Closed => {}
    });
    all
}

fn source_errors() -> [SourceError; 6] {
    [
        SourceError::NoSpool,
        SourceError::IllegalName {
            length: 0,
            limit: 1_000,
        },
        SourceError::InUse {
            name: "orders.txt".into(),
        },
        SourceError::NotRising {
            position: 3,
            accepted: 4,
        },
        SourceError::InDoubt {
            position: 4,
            why: "the disk does not answer".into(),
        },
        SourceError::Unanswered {
            waited: Duration::from_secs(60),
        },
    ]
}

/// Each error, and the text of what caused it, if that is an error too.
fn errors() -> Vec<(Box<dyn Error>, Option<String>)> {
    let mut all: Vec<(Box<dyn Error>, Option<String>)> = Vec::new();
    let no_thread = || io::Error::other("no thread to be had");
    all.push((
        Box::new(StartError::Thread(no_thread())),
        Some(no_thread().to_string()),
    ));
    let no_servers = Config::builder().build().expect_err("no servers");
    all.push((
        Box::new(StartError::Config(no_servers.clone())),
        Some(no_servers.to_string()),
    ));
    all.push((Box::new(StartError::NoArbiter), None));
    all.push((Box::new(StartError::PanicAbort), None));
    let key = KeyMaterialError::NoProvider {
        why: "nothing to encrypt with".into(),
    };
    let text = Some(key.to_string());
    all.push((Box::new(StartError::KeyMaterial(key.clone())), text));
    all.push((Box::new(key), None));
    let refusal = Some(LoginRefusal::BrokerNotProven.to_string());
    all.push((Box::new(login_refused()), refusal));
    all.push((Box::new(LoginRefusal::BrokerNotProven), None));
    all.push((Box::new(broker_error()), None));
    for reason in reasons() {
        let text = reason.to_string();
        for fate in [Unconfirmed::NotWritten, Unconfirmed::Unknown] {
            let unconfirmed = fate(reason.clone());
            let caused = unconfirmed.to_string();
            all.push((Box::new(SinkError::from(unconfirmed.clone())), Some(caused)));
            all.push((Box::new(unconfirmed), Some(text.clone())));
        }
        all.push((Box::new(reason), None));
    }
    for cause in causes() {
        let text = Some(cause.to_string());
        let caused: [Box<dyn Error>; 3] = [
            Box::new(NotCommitted::Aborted(cause.clone())),
            Box::new(NotCommitted::Unknown(cause.clone())),
            Box::new(TransactionError::Failed(Arc::new(cause.clone()))),
        ];
        all.extend(caused.map(|error| (error, text.clone())));
        all.push((Box::new(cause), None));
    }
    for error in refusals() {
        let text = Some(error.to_string());
        let refused = TrySendError::new(Record::to("orders"), error.clone());
        all.push((Box::new(refused), text.clone()));
        let error_at = SliceError {
            at: 7,
            error: error.clone(),
        };
        all.push((Box::new(error_at), text.clone()));
        all.push((Box::new(SinkError::from(error.clone())), text.clone()));
        all.push((Box::new(SourceError::from(error.clone())), text));
        all.push((Box::new(error), None));
    }
    all.extend(source_errors().map(|error| (Box::new(error) as _, None)));
    for error in [
        CloseError::TimedOut(Outcomes::default()),
        CloseError::NoAnswer,
        CloseError::InCallback,
        CloseError::Gone,
        CloseError::Fenced,
    ] {
        let text = error.to_string();
        all.push((Box::new(SinkError::from(error)), Some(text)));
        all.push((Box::new(error), None));
    }
    let endpoint = "broker-1".parse::<Endpoint>().expect_err("no port");
    let config = Config::new("broker-1").expect_err("no port");
    all.push((Box::new(config), Some(endpoint.to_string())));
    all.push((Box::new(endpoint), None));
    all
}

/// The texts of an error, of its source, and so on.
fn texts(error: &dyn Error) -> Vec<String> {
    let mut all = vec![error.to_string()];
    all.extend(error.source().map(texts).into_iter().flatten());
    all
}

#[test]
fn a_chain_of_errors_says_nothing_twice() {
    for (error, _) in errors() {
        let texts = texts(&*error);
        for (at, text) in texts.iter().enumerate() {
            let others = texts[..at].iter().find(|other| other.contains(text));
            assert_eq!(others, None, "{error:?} says {text:?} twice");
        }
    }
}

#[test]
fn the_text_of_an_error_has_its_cause() {
    for (error, cause) in errors() {
        let text = error.to_string();
        let said = cause.is_none_or(|cause| text.contains(&cause));
        assert!(said, "{error:?} is told as {text:?}");
    }
}
