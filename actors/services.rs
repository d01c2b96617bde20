//! What all partitions and senders of a producer share.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;

use super::clock::ClockActor;
use super::delivery::DeliveryActor;
use super::fence::FenceActor;
use super::lookup::LookupActor;
use super::messages::IdentityPeer;
use super::metadata::MetadataActor;
use crate::core::compress::Compressor;
use crate::core::ledger::Rules;
use crate::core::memory::Shelf;

/// What all partitions and senders of a producer share. There is one of each.
pub(crate) struct SharedServices {
    pub shelf: Arc<Shelf>,
    pub compressor: Rc<RefCell<Compressor>>,
    pub linger: Duration,
    pub rules: Rc<Rules>,
    /// How often the RuntimeActor has freed partitions. It counts before it makes one again:
    /// see [`Wanted::freed`](crate::core::identity::Wanted::freed).
    pub freed: Cell<u64>,
    /// Why this producer has to end, once another has taken the transactional ids of its spool.
    pub taken: OnceCell<Arc<str>>,
    pub clock: Addr<ClockActor>,
    /// Who gives partitions their identity.
    pub identity: Box<dyn IdentityPeer>,
    /// Who has markers written behind batches in doubt, with `forebay.unknown=resolve`.
    pub fences: Option<Addr<FenceActor>>,
    /// Who reads logs, with `forebay.unknown=resolve` or with transactions.
    pub lookups: Option<Addr<LookupActor>>,
    pub metadata: Addr<MetadataActor>,
    pub delivery: Addr<DeliveryActor>,
}
