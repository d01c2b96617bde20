//! What an application holds: the producer's handle, how it is built and placed, and the lane.

pub(crate) mod builder;
pub(crate) mod error;
pub(crate) mod lane;
pub(crate) mod placement;
pub(crate) mod producer;
pub(crate) mod serializer;
pub(crate) mod source;
pub(crate) mod transaction;
pub(crate) mod typed_producer;
