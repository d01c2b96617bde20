//! What it means that a partition's leader refuses to tell of its log, or is not reached.

use crate::core::wire::Api;

/// Why a broker refuses a Fetch or a ListOffsets request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something that passes.
    Passing,
    /// It leads the partition no more, or not yet, or not in the epoch that the request names; or its
    /// disk has failed, and another one is going to lead.
    NotLeader,
    /// It knows of no such topic, or of another one with this name. It may not have heard of it yet.
    NoTopic,
    /// The log begins behind the offset, or ends before it.
    OutOfRange,
    /// An ACL is missing: see `missing_acl`.
    Denied,
    /// Another reason, which a retry would not change.
    Final,
}

/// What whoever asked may do. Nothing is known of the log in any of these cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Ask the same broker again after a wait.
    Retry,
    /// Ask again when it is known anew who leads which topic.
    AskMetadata,
    /// The same, a few times: the broker may be cut off from the others, and not know that another one leads,
    /// which has what it lacks. If it stays so, the same question gets the same answer.
    AskMetadataFirst,
    /// The same question gets the same answer.
    Never,
}

impl Refusal {
    /// By the error code, which is not 0.
    pub fn of(code: i16) -> Self {
        match code {
            // UNKNOWN_SERVER_ERROR, REQUEST_TIMED_OUT, THROTTLING_QUOTA_EXCEEDED. NETWORK_EXCEPTION may
            // come from a proxy. OFFSET_NOT_AVAILABLE: a new leader does not know yet what is replicated.
            -1 | 7 | 13 | 78 | 89 => Self::Passing,
            // LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, BROKER_NOT_AVAILABLE, REPLICA_NOT_AVAILABLE,
            // KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
            5 | 6 | 8 | 9 | 56 | 74 | 75 => Self::NotLeader,
            // UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID.
            3 | 100 | 103 => Self::NoTopic,
            // OFFSET_OUT_OF_RANGE.
            1 => Self::OutOfRange,
            // TOPIC_AUTHORIZATION_FAILED.
            29 => Self::Denied,
            // CORRUPT_MESSAGE, which here means that the log is damaged, UNSUPPORTED_VERSION,
            // INVALID_REQUEST and whatever is not known here.
            _ => Self::Final,
        }
    }

    pub fn follows(self) -> Follows {
        match self {
            Self::Passing => Follows::Retry,
            Self::NotLeader | Self::NoTopic => Follows::AskMetadata,
            Self::OutOfRange => Follows::AskMetadataFirst,
            Self::Denied | Self::Final => Follows::Never,
        }
    }
}

/// The ACL that would have let this request through; `None` if none was missing. It is not the one that
/// those who produce need.
pub fn missing_acl(api: Api, code: i16) -> Option<&'static str> {
    match (Refusal::of(code), api) {
        (Refusal::Denied, Api::Fetch) => Some("READ on the topic"),
        // READ and WRITE bring it.
        (Refusal::Denied, Api::ListOffsets) => Some("DESCRIBE on the topic"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_of_one_class() {
        for (refusal, codes) in [
            (Refusal::Passing, &[-1, 7, 13, 78, 89][..]),
            (Refusal::NotLeader, &[5, 6, 8, 9, 56, 74, 75]),
            (Refusal::NoTopic, &[3, 100, 103]),
            (Refusal::OutOfRange, &[1]),
            (Refusal::Denied, &[29]),
            (
                Refusal::Final,
                &[2, 17, 35, 42, 43, 76, 134, i16::MIN, i16::MAX],
            ),
        ] {
            for code in codes {
                assert_eq!(Refusal::of(*code), refusal, "{code}");
            }
        }
    }

    /// By Kafka's own consumer, which asks for metadata after these, too.
    #[test]
    fn what_follows_is_what_the_consumer_does() {
        let follows = |code| Refusal::of(code).follows();
        for code in [3, 5, 6, 9, 56, 74, 75, 100, 103] {
            assert_eq!(follows(code), Follows::AskMetadata, "{code}");
        }
        for code in [-1, 78] {
            assert_eq!(follows(code), Follows::Retry, "{code}");
        }
        for code in [2, 29, 35] {
            assert_eq!(follows(code), Follows::Never, "{code}");
        }
        assert_eq!(follows(1), Follows::AskMetadataFirst);
    }

    #[test]
    fn reading_needs_other_acls_than_producing() {
        assert_eq!(missing_acl(Api::Fetch, 29), Some("READ on the topic"));
        assert_eq!(
            missing_acl(Api::ListOffsets, 29),
            Some("DESCRIBE on the topic")
        );
        assert_eq!(missing_acl(Api::Fetch, 1), None);
    }
}
