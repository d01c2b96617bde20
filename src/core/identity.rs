//! Producer id and epoch: who we are to the brokers (KIP-98, KIP-360).

use std::fmt;
use std::sync::Arc;

use crate::core::broker_error::BrokerError;
use crate::core::cluster::Nodes;
use crate::core::endpoint::Endpoint;
use crate::core::wire::InitProducerIdResponse;

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub producer_id: i64,
    pub epoch: i16,
}

impl Identity {
    /// What a broker gave.
    pub fn given(producer_id: i64, epoch: i16) -> Result<Self, NoIdentity> {
        if producer_id < 0 || epoch < 0 {
            return Err(NoIdentity::Nonsense { producer_id, epoch });
        }
        Ok(Self { producer_id, epoch })
    }
}

/// Why there is no identity.
#[derive(Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// No broker answered.
    Unanswered(Arc<str>),
    /// The broker does not serve InitProducerId, in no version or none that is known here.
    NotServed(Arc<str>),
    /// The broker's response is an error.
    Refused(BrokerError),
    /// It is below 0. Brokers take such batches for those of a producer that is not idempotent, and
    /// append them again with every retry.
    Nonsense { producer_id: i64, epoch: i16 },
}

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(why) => f.write_str(why)?,
            Self::NotServed(why) => f.write_str(why)?,
            Self::Refused(error) => write!(f, "the broker answered {error}")?,
            Self::Nonsense { producer_id, epoch } => {
                write!(f, "the broker gave {producer_id} with epoch {epoch}")?;
            }
        }
        self.remedy()
            .map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl NoIdentity {
    /// What to change, where a broker will say the same until something is changed.
    ///
    /// Brokers answer InitProducerId without a transactional id with these codes, too, and all of
    /// them pass: COORDINATOR_LOAD_IN_PROGRESS (no block of ids yet), COORDINATOR_NOT_AVAILABLE,
    /// NOT_COORDINATOR, CONCURRENT_TRANSACTIONS, REQUEST_TIMED_OUT, UNKNOWN_SERVER_ERROR.
    fn remedy(&self) -> Option<&'static str> {
        let code = match self {
            Self::NotServed(_) => 35,
            Self::Refused(error) => error.code,
            Self::Unanswered(_) | Self::Nonsense { .. } => return None,
        };
        match code {
            // TOPIC_, CLUSTER_, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which name the ACL.
            29 | 31 | 53 => Some("or set enable.idempotence=false"),
            // SASL_AUTHENTICATION_FAILED, DELEGATION_TOKEN_AUTHORIZATION_FAILED.
            58 | 65 => Some(
                "grant the ACL IDEMPOTENT_WRITE on the cluster or WRITE on the topic, \
                 or set enable.idempotence=false",
            ),
            // UNSUPPORTED_VERSION, INVALID_REQUEST.
            35 | 42 => Some("set enable.idempotence=false, or use brokers of Kafka 0.11 or newer"),
            _ => None,
        }
    }
}

/// What follows when there is no identity.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another broker is to be asked at once.
    AskAnother,
    /// No broker will give one until something is changed: what waits fails.
    Final,
    /// It may be asked for again later.
    ForNow,
}

/// The identities that the partitions of one producer number their batches under, as the
/// IdentityActor keeps them. All of them have one producer id, until a partition has used up its
/// epochs. Each partition has an epoch of its own, since brokers keep one for each partition.
///
/// Invariant: a partition never gets an identity that it had before.
#[derive(Debug, Default)]
pub struct Identities {
    /// Whom brokers take this client for, if that is known.
    principal: Option<Arc<str>>,
    /// The newest producer id, and the epoch of partitions that begin under it.
    first: Option<Identity>,
    /// The highest epoch that any partition was given under this producer id.
    highest: i16,
    /// [`Wanted::freed`] of the partitions that may begin with `first`, at most.
    freed: u64,
    asking: bool,
    /// Brokers that refused for good since one gave an identity or since the last final refusal.
    refused_by: Vec<Endpoint>,
}

/// A partition's request for an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The identity that the partition had until now, if any.
    pub left: Option<Identity>,
    /// How often partitions had been freed before this one was made. One that was freed and made
    /// again does not know which identities it had. So it begins above all that were given out
    /// until then: under an epoch that it had, a broker could take a new batch for one that it
    /// remembers.
    pub freed: u64,
    /// It is to be of another producer id than the one that was left, and needs no fence.
    pub fresh: bool,
    /// It is to be one that needs no look into the log.
    pub plain: bool,
}

/// What a partition's request for an identity leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum NextIdentity {
    /// Give this one out.
    Use(Identity),
    /// Ask a broker for a new producer id.
    Ask,
    /// A broker has been asked already.
    Wait,
}

impl Identities {
    /// For whom brokers take for `principal`.
    pub fn of(principal: Option<Arc<str>>) -> Self {
        Self {
            principal,
            ..Self::default()
        }
    }

    /// A partition needs an identity. Its next epoch is decided here: a producer without a
    /// transactional id owns its epochs. Once they are used up, a broker has to give a new producer
    /// id. Other partitions stay with theirs.
    ///
    /// The same request leads to the same identity, so one that was lost can be repeated.
    pub fn want(&mut self, wanted: Wanted) -> NextIdentity {
        let Some(first) = &mut self.first else {
            return self.ask();
        };
        if wanted.freed > self.freed {
            let Some(epoch) = self.highest.checked_add(1) else {
                return self.ask();
            };
            (self.freed, self.highest, first.epoch) = (wanted.freed, epoch, epoch);
        }
        let epoch = match wanted.left {
            Some(left) if left.producer_id == first.producer_id => left.epoch.checked_add(1),
            _ => Some(first.epoch),
        };
        let Some(epoch) = epoch else {
            return self.ask();
        };
        self.highest = self.highest.max(epoch);
        NextIdentity::Use(Identity { epoch, ..*first })
    }

    /// A broker answered. If it gave no identity, nobody is asked again before
    /// [`failed`](Self::failed).
    pub fn answered(&mut self, response: InitProducerIdResponse) -> Result<Identity, NoIdentity> {
        let InitProducerIdResponse {
            error_code,
            producer_id,
            epoch,
            ..
        } = response;
        if error_code != 0 {
            let error = BrokerError::new(error_code).of(&self.principal);
            return Err(NoIdentity::Refused(error));
        }
        let identity = Identity::given(producer_id, epoch)?;
        self.obtained(identity);
        Ok(identity)
    }

    /// A broker gave an identity.
    pub fn obtained(&mut self, identity: Identity) {
        self.asking = false;
        self.refused_by.clear();
        self.highest = identity.epoch;
        self.first = Some(identity);
    }

    /// There is no identity, as `broker` says. A refusal for good has to come from two of `nodes`, where
    /// there are two: one of them may have old rules. One that is asked again, because no other could be
    /// asked, is still one.
    pub fn refused(
        &mut self,
        why: &NoIdentity,
        broker: Option<&Endpoint>,
        nodes: &Nodes,
    ) -> Refusal {
        let Some(broker) = broker.filter(|_| why.remedy().is_some()) else {
            return Refusal::ForNow;
        };
        if self.refused_by.contains(broker) {
            return Refusal::ForNow;
        }
        self.refused_by.push(broker.clone());
        if !nodes.are_two(&self.refused_by) {
            return Refusal::AskAnother;
        }
        self.refused_by.clear();
        Refusal::Final
    }

    /// The brokers that have refused for good. Others are asked before.
    pub fn refused_by(&self) -> &[Endpoint] {
        &self.refused_by
    }

    /// The broker's answer did not come or was an error: it may be asked again.
    pub fn failed(&mut self) {
        self.asking = false;
    }

    /// Whether a broker has been asked and has not answered.
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    fn ask(&mut self) -> NextIdentity {
        if std::mem::replace(&mut self.asking, true) {
            NextIdentity::Wait
        } else {
            NextIdentity::Ask
        }
    }
}

/// How many sequence numbers there are: 2147483647 is followed by 0.
pub(crate) const SEQUENCES: u64 = 1 << 31;

/// The sequence that follows `count` records from `sequence` on: it wraps to 0 behind 2^31-1.
pub(crate) fn sequence_after(sequence: i32, count: i32) -> i32 {
    (i64::from(sequence) + i64::from(count)).rem_euclid(SEQUENCES as i64) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(producer_id: i64, epoch: i16) -> Identity {
        Identity { producer_id, epoch }
    }

    const NEW: Wanted = Wanted {
        left: None,
        freed: 0,
        fresh: false,
        plain: false,
    };

    fn after(left: Identity) -> Wanted {
        Wanted {
            left: Some(left),
            ..NEW
        }
    }

    fn freed(freed: u64) -> Wanted {
        Wanted {
            freed,
            ..Wanted::default()
        }
    }

    fn with(first: Identity) -> Identities {
        let mut identities = Identities::default();
        identities.obtained(first);
        identities
    }

    #[test]
    fn a_bump_is_local_and_concerns_the_partition_that_asks() {
        let mut identities = Identities::default();
        assert_eq!(identities.want(NEW), NextIdentity::Ask);
        assert_eq!(identities.want(NEW), NextIdentity::Wait);
        identities.obtained(identity(9, 0));
        for _ in 0..2 {
            let next = identities.want(after(identity(9, 0)));
            assert_eq!(next, NextIdentity::Use(identity(9, 1)), "repeated or not");
        }
        let next = identities.want(after(identity(9, 1)));
        assert_eq!(next, NextIdentity::Use(identity(9, 2)));
        assert_eq!(
            identities.want(NEW),
            NextIdentity::Use(identity(9, 0)),
            "another partition begins with the first"
        );
    }

    #[test]
    fn behind_the_last_epoch_a_broker_is_asked_for_the_partition_alone() {
        let mut identities = with(identity(9, 0));
        let last = after(identity(9, i16::MAX));
        assert_eq!(identities.want(last), NextIdentity::Ask);
        assert_eq!(identities.want(last), NextIdentity::Wait);
        let other = identities.want(after(identity(9, 4)));
        assert_eq!(other, NextIdentity::Use(identity(9, 5)), "others go on");
        identities.failed();
        assert_eq!(identities.want(last), NextIdentity::Ask);
        identities.obtained(identity(10, 0));
        assert_eq!(identities.want(last), NextIdentity::Use(identity(10, 0)));
        let other = identities.want(after(identity(9, 5)));
        assert_eq!(other, NextIdentity::Use(identity(10, 0)));
    }

    #[test]
    fn a_partition_that_was_freed_begins_above_all_epochs_given_before() {
        let mut identities = with(identity(9, 0));
        for epoch in 0..3 {
            let next = identities.want(after(identity(9, epoch)));
            assert_eq!(next, NextIdentity::Use(identity(9, epoch + 1)));
        }
        for _ in 0..2 {
            let next = identities.want(freed(1));
            assert_eq!(next, NextIdentity::Use(identity(9, 4)), "repeated or not");
        }
        assert_eq!(identities.want(NEW), NextIdentity::Use(identity(9, 4)));
        assert_eq!(identities.want(freed(3)), NextIdentity::Use(identity(9, 5)));
        assert_eq!(identities.want(freed(2)), NextIdentity::Use(identity(9, 5)));

        let mut identities = with(identity(9, i16::MAX));
        assert_eq!(identities.want(freed(1)), NextIdentity::Ask);
        identities.obtained(identity(10, 0));
        assert!(matches!(
            identities.want(freed(1)),
            NextIdentity::Use(Identity {
                producer_id: 10,
                ..
            })
        ));
    }

    fn response(error_code: i16, producer_id: i64, epoch: i16) -> InitProducerIdResponse {
        InitProducerIdResponse {
            throttle: std::time::Duration::ZERO,
            error_code,
            producer_id,
            epoch,
        }
    }

    #[test]
    fn what_a_broker_gives_is_used_from_then_on() {
        for (producer_id, epoch) in [(0, 0), (9, 3), (i64::MAX, i16::MAX)] {
            let mut identities = Identities::default();
            assert_eq!(identities.want(NEW), NextIdentity::Ask);
            let given = Identity { producer_id, epoch };
            assert_eq!(
                identities.answered(response(0, producer_id, epoch)),
                Ok(given)
            );
            assert!(!identities.is_asking());
            assert_eq!(identities.want(NEW), NextIdentity::Use(given));
        }
    }

    #[test]
    fn an_answer_without_an_identity_is_asked_for_again_but_not_at_once() {
        let refused = |code| NoIdentity::Refused(BrokerError::new(code));
        let nonsense = |producer_id, epoch| NoIdentity::Nonsense { producer_id, epoch };
        for (response, why) in [
            (response(14, 9, 0), refused(14)),
            (response(-1, -1, -1), refused(-1)),
            (response(0, -1, 0), nonsense(-1, 0)),
            (response(0, 9, -1), nonsense(9, -1)),
        ] {
            let mut identities = Identities::default();
            assert_eq!(identities.want(NEW), NextIdentity::Ask);
            assert_eq!(identities.answered(response), Err(why));
            assert_eq!(identities.want(NEW), NextIdentity::Wait);
            identities.failed();
            assert_eq!(identities.want(NEW), NextIdentity::Ask);
        }
    }

    fn at(host: &str) -> Endpoint {
        Endpoint::new(host, 9092)
    }

    fn cluster(hosts: &[&str]) -> Nodes {
        Nodes {
            by_id: (0..).zip(hosts.iter().map(|host| at(host))).collect(),
            ..Nodes::default()
        }
    }

    /// Has the broker at `host` refuse.
    fn refuse(identities: &mut Identities, code: i16, host: &str, nodes: &Nodes) -> Refusal {
        let why = NoIdentity::Refused(BrokerError::new(code));
        identities.refused(&why, Some(&at(host)), nodes)
    }

    #[test]
    fn a_refusal_for_good_is_final_when_two_brokers_say_so_where_there_are_two() {
        let three = cluster(&["a", "b", "c"]);
        for code in [29, 31, 35, 42, 53, 58, 65] {
            for alone in [cluster(&[]), cluster(&["a"])] {
                let mut identities = Identities::default();
                let refused = refuse(&mut identities, code, "a", &alone);
                assert_eq!(refused, Refusal::Final, "{code}");
            }
            let mut identities = Identities::default();
            let mut refuse = |code, host| refuse(&mut identities, code, host, &three);
            for _ in 0..2 {
                assert_eq!(refuse(code, "a"), Refusal::AskAnother, "{code}");
                assert_eq!(refuse(14, "b"), Refusal::ForNow);
                assert_eq!(refuse(code, "b"), Refusal::Final, "{code}");
            }
            let why = NoIdentity::Refused(BrokerError::new(code));
            assert!(
                why.to_string().contains("enable.idempotence=false"),
                "{why}"
            );
        }
        let alone = cluster(&["a"]);
        for code in [-1, 7, 14, 15, 16, 47, 51, 90, 9_999] {
            let refused = refuse(&mut Identities::default(), code, "a", &alone);
            assert_eq!(refused, Refusal::ForNow, "{code}");
        }
        let not_served = NoIdentity::NotServed("no common version".into());
        let refused = Identities::default().refused(&not_served, Some(&at("a")), &alone);
        assert_eq!(refused, Refusal::Final);
    }

    #[test]
    fn one_broker_that_is_asked_again_is_no_second_one() {
        let (three, mut identities) = (cluster(&["a", "b", "c"]), Identities::default());
        let mut refuse = |host| refuse(&mut identities, 31, host, &three);
        assert_eq!(
            refuse("alias"),
            Refusal::AskAnother,
            "it may be any of them"
        );
        assert_eq!(refuse("a"), Refusal::AskAnother);
        for again in ["a", "alias", "a"] {
            assert_eq!(refuse(again), Refusal::ForNow);
        }
        assert_eq!(refuse("c"), Refusal::Final);
        assert_eq!(identities.refused_by(), []);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 2, 5), 2);
    }
}
