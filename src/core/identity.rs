//! Producer id and epoch: who we are to the brokers (KIP-98, KIP-360).

use std::fmt;

use crate::core::broker_error::BrokerError;
use crate::core::wire::InitProducerIdResponse;

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub producer_id: i64,
    pub epoch: i16,
}

/// Why a broker's response gives no identity.
#[derive(Debug, PartialEq, Eq)]
pub enum NoIdentity {
    /// It is an error.
    Refused(BrokerError),
    /// It is below 0. Brokers take such batches for those of a producer that is not idempotent, and
    /// append them again with every retry.
    Nonsense { producer_id: i64, epoch: i16 },
}

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "the broker answered {error}"),
            Self::Nonsense { producer_id, epoch } => {
                write!(f, "the broker gave {producer_id} with epoch {epoch}")
            }
        }
    }
}

/// The identity of one producer, as the IdentityActor keeps it.
///
/// Invariant: an identity, once given out, is never given out again after a bump.
#[derive(Debug, Default)]
pub struct Identities {
    current: Option<Identity>,
    asking: bool,
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
    /// Somebody needs an identity.
    pub fn want(&mut self) -> NextIdentity {
        match self.current {
            Some(identity) => NextIdentity::Use(identity),
            None => self.ask(),
        }
    }

    /// Somebody cannot go on under `seen`. The bump is local: a producer without a transactional
    /// id owns its epochs. After the last one a broker has to give a new producer id.
    ///
    /// A request that names an identity which is not the current one is late, and gets that.
    pub fn bump(&mut self, seen: Identity) -> NextIdentity {
        match self.current {
            Some(current) if current == seen => match current.epoch.checked_add(1) {
                Some(epoch) => {
                    let next = Identity { epoch, ..current };
                    self.current = Some(next);
                    NextIdentity::Use(next)
                }
                None => {
                    self.current = None;
                    self.ask()
                }
            },
            _ => self.want(),
        }
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
            return Err(NoIdentity::Refused(BrokerError::new(error_code)));
        }
        if producer_id < 0 || epoch < 0 {
            return Err(NoIdentity::Nonsense { producer_id, epoch });
        }
        let identity = Identity { producer_id, epoch };
        self.obtained(identity);
        Ok(identity)
    }

    /// A broker gave an identity.
    pub fn obtained(&mut self, identity: Identity) {
        self.asking = false;
        self.current = Some(identity);
    }

    /// The broker's answer did not come or was an error: it may be asked again.
    pub fn failed(&mut self) -> NextIdentity {
        self.asking = false;
        self.want()
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

/// The sequence that follows `count` records from `sequence` on: it wraps to 0 behind 2^31-1.
pub(crate) fn sequence_after(sequence: i32, count: i32) -> i32 {
    (i64::from(sequence) + i64::from(count)).rem_euclid(1 << 31) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bump_is_local_and_happens_once() {
        let mut identities = Identities::default();
        assert_eq!(identities.want(), NextIdentity::Ask);
        assert_eq!(identities.want(), NextIdentity::Wait);
        let first = Identity {
            producer_id: 9,
            epoch: 0,
        };
        identities.obtained(first);
        let second = Identity {
            producer_id: 9,
            epoch: 1,
        };
        assert_eq!(identities.bump(first), NextIdentity::Use(second));
        assert_eq!(
            identities.bump(first),
            NextIdentity::Use(second),
            "a stale request changes nothing"
        );
    }

    #[test]
    fn behind_the_last_epoch_a_broker_is_asked() {
        let mut identities = Identities::default();
        let last = Identity {
            producer_id: 9,
            epoch: i16::MAX,
        };
        identities.obtained(last);
        assert_eq!(identities.bump(last), NextIdentity::Ask);
        assert_eq!(identities.bump(last), NextIdentity::Wait);
        assert_eq!(identities.failed(), NextIdentity::Ask);
        let fresh = Identity {
            producer_id: 10,
            epoch: 0,
        };
        identities.obtained(fresh);
        assert_eq!(identities.bump(last), NextIdentity::Use(fresh));
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
            assert_eq!(identities.want(), NextIdentity::Ask);
            let given = Identity { producer_id, epoch };
            assert_eq!(
                identities.answered(response(0, producer_id, epoch)),
                Ok(given)
            );
            assert!(!identities.is_asking());
            assert_eq!(identities.want(), NextIdentity::Use(given));
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
            assert_eq!(identities.want(), NextIdentity::Ask);
            assert_eq!(identities.answered(response), Err(why));
            assert_eq!(identities.want(), NextIdentity::Wait);
            assert_eq!(identities.failed(), NextIdentity::Ask);
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 2, 5), 2);
    }
}
