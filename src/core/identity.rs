//! Producer id and epoch: who we are to the brokers (KIP-98, KIP-360).

/// A producer id with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub producer_id: i64,
    pub epoch: i16,
}

impl Identity {
    /// What a broker gave. With anything below 0 brokers take batches for those of a producer that
    /// is not idempotent, and append them again with every retry.
    pub fn given(producer_id: i64, epoch: i16) -> Option<Self> {
        (producer_id >= 0 && epoch >= 0).then_some(Self { producer_id, epoch })
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

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 2, 5), 2);
    }
}
