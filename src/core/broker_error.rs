//! Error codes of brokers, those of produce answers classed once.
//!
//! The classes answer one question: after this answer, is the batch in the log? Brokers send
//! several codes after the local append has happened, so those are "may be", and every code not
//! known to be safe is "may be" too.

use std::fmt;
use std::sync::Arc;

use kafka_protocol::ResponseError;

/// An error code as a broker sent it.
///
/// ```
/// use forebay::BrokerError;
///
/// let error = BrokerError::new(6);
/// assert_eq!(error.name().as_deref(), Some("NOT_LEADER_OR_FOLLOWER"));
/// assert_eq!(error.to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerError {
    /// The code on the wire.
    pub code: i16,
    /// What the broker added in words, if anything.
    pub message: Option<Arc<str>>,
    /// Who lacks an ACL, as brokers name them: `User:alice`. `None` where the error is another, and where
    /// only brokers know whom they take this client for, as with a certificate.
    pub principal: Option<Arc<str>>,
}

impl BrokerError {
    /// An error code without words.
    pub fn new(code: i16) -> Self {
        Self {
            code,
            message: None,
            principal: None,
        }
    }

    /// Names who was refused, if an ACL is what is missing.
    pub(crate) fn of(mut self, principal: &Option<Arc<str>>) -> Self {
        if self.missing_acl().is_some() {
            self.principal.clone_from(principal);
        }
        self
    }

    /// The ACL that would have let the request through; `None` if none was missing.
    ///
    /// ```
    /// use forebay::BrokerError;
    ///
    /// assert_eq!(BrokerError::new(29).missing_acl(), Some("WRITE on the topic"));
    /// assert_eq!(BrokerError::new(6).missing_acl(), None);
    /// ```
    pub fn missing_acl(&self) -> Option<&'static str> {
        match self.code {
            // TOPIC_, CLUSTER_ and TRANSACTIONAL_ID_AUTHORIZATION_FAILED. WRITE brings DESCRIBE.
            29 => Some("WRITE on the topic"),
            31 => Some("IDEMPOTENT_WRITE on the cluster, or WRITE on a topic"),
            53 => Some("WRITE on the transactional id"),
            _ => None,
        }
    }

    /// Kafka's name for the code, `None` if this build does not know it.
    pub fn name(&self) -> Option<String> {
        match ResponseError::try_from_code(self.code) {
            Some(ResponseError::Unknown(_)) | None => None,
            Some(error) => Some(screaming(&format!("{error:?}"))),
        }
    }
}

impl std::error::Error for BrokerError {}

/// `NotLeaderOrFollower` as Kafka writes it: `NOT_LEADER_OR_FOLLOWER`.
fn screaming(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 8);
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_with(self.missing_acl(), f)?;
        f.write_str(self.advice())
    }
}

impl BrokerError {
    /// Writes it without advice, as the answer to a request that needs this ACL.
    pub(crate) fn fmt_with(&self, acl: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.code)?,
            None => write!(f, "the unknown error code {}", self.code)?,
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(acl) = acl {
            let who = self.principal.as_deref().unwrap_or("this client");
            write!(f, "; {who} needs the ACL {acl}")?;
        }
        Ok(())
    }

    /// What to change so that the answer to a batch is another; empty where that is plain.
    fn advice(&self) -> &'static str {
        match self.code {
            // MESSAGE_TOO_LARGE.
            10 => {
                "; the topic takes less in one batch: raise its max.message.bytes, or lower \
                 max.request.size"
            }
            // UNSUPPORTED_COMPRESSION_TYPE.
            76 => "; set compression.type to gzip or none",
            // UNSUPPORTED_FOR_MESSAGE_FORMAT. Event Hubs say so of a codec.
            43 => {
                "; set compression.type to gzip or none; an old message format of the topic takes no \
                 headers, and needs enable.idempotence=false"
            }
            _ => "",
        }
    }
}

/// What a produce answer means for the batch it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// In the log.
    Success,
    /// In the log since an earlier attempt.
    Duplicate,
    /// Certainly not appended by this attempt; nothing that a retry could mend.
    Refused,
    /// Certainly not appended by this attempt; may succeed later.
    RefusedForNow,
    /// Certainly not appended: too large for the broker as it is, to be split.
    TooLarge,
    /// Not appended: the broker expected another sequence.
    OutOfOrder,
    /// Not appended: the broker does not know this producer id or epoch.
    IdentityLost,
    /// May be appended; may succeed later.
    DoubtfulForNow,
    /// May be appended; a retry would not help.
    Doubtful,
}

/// The class of each error code of a produce response.
pub(crate) fn class_of(code: i16) -> Class {
    match code {
        0 => Class::Success,
        46 => Class::Duplicate, // DUPLICATE_SEQUENCE_NUMBER
        10 => Class::TooLarge,  // MESSAGE_TOO_LARGE
        45 => Class::OutOfOrder,
        47 | 59 => Class::IdentityLost, // INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID
        // Checked before the append, and gone by itself: LEADER_NOT_AVAILABLE,
        // COORDINATOR_LOAD_IN_PROGRESS,
        // NOT_ENOUGH_REPLICAS, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH,
        // CONCURRENT_TRANSACTIONS, THROTTLING_QUOTA_EXCEEDED.
        5 | 14 | 19 | 74 | 75 | 51 | 89 => Class::RefusedForNow,
        // CORRUPT_MESSAGE: checked before the append; the bytes may have been hurt on the way.
        2 => Class::RefusedForNow,
        // Checked before the append, and staying: INVALID_FETCH_SIZE never comes, INVALID_TOPIC_EXCEPTION,
        // RECORD_LIST_TOO_LARGE, INVALID_REQUIRED_ACKS, TOPIC_AUTHORIZATION_FAILED,
        // CLUSTER_AUTHORIZATION_FAILED, INVALID_TIMESTAMP, UNSUPPORTED_VERSION,
        // UNSUPPORTED_FOR_MESSAGE_FORMAT, POLICY_VIOLATION, INVALID_REQUEST,
        // TRANSACTIONAL_ID_AUTHORIZATION_FAILED, UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD,
        // PRODUCER_FENCED, INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING, TRANSACTION_ABORTABLE.
        17 | 18 | 21 | 29 | 31 | 32 | 35 | 42 | 43 | 44 | 48 | 49 | 53 | 76 | 87 | 90 | 120 => {
            Class::Refused
        }
        // After the append, or by a broker that no longer knows what it did:
        // UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT,
        // NOT_ENOUGH_REPLICAS_AFTER_APPEND, KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_ID,
        // INCONSISTENT_TOPIC_ID, BROKER_NOT_AVAILABLE, REPLICA_NOT_AVAILABLE. NETWORK_EXCEPTION
        // comes from no broker, but may come from a proxy.
        3 | 6 | 7 | 8 | 9 | 13 | 20 | 56 | 100 | 103 => Class::DoubtfulForNow,
        // UNKNOWN_SERVER_ERROR and whatever is not known here.
        _ => Class::Doubtful,
    }
}

/// Whether this code means that the metadata may be out of date.
///
/// A leader that is cut off from the controller does not hear that there is another one. The followers
/// fetch from that one, so the former leader can only answer that they take too long
/// (REQUEST_TIMED_OUT), or that they are too few, as they were before (NOT_ENOUGH_REPLICAS,
/// NOT_ENOUGH_REPLICAS_AFTER_APPEND).
pub(crate) fn asks_for_metadata(code: i16) -> bool {
    matches!(
        code,
        3 | 5 | 6 | 7 | 8 | 9 | 19 | 20 | 56 | 74 | 75 | 100 | 103
    )
}

#[cfg(test)]
pub(crate) mod tests;
