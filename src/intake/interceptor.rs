//! Code of the application on a record's way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::core::delivery::{BatchOutcome, Listener};
use crate::core::panics;
use crate::core::record::Record;
use crate::intake::error::SendError;

/// Sees records when they are sent, and batches when they have their outcome; Java's
/// `ProducerInterceptor`. Set by [`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor).
///
/// Interceptors are called in the order in which they were given. A panic in one is caught: in
/// `on_send` it refuses the record with [`SendError::Panicked`], elsewhere it is logged.
///
/// ```
/// use forebay::{Interceptor, Record};
///
/// struct Trace;
///
/// impl Interceptor for Trace {
///     fn on_send(&self, record: Record) -> Record {
///         record.header("trace", "4bf92f35")
///     }
/// }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// A record is about to be sent. What is returned goes on in its place. Runs on the caller,
    /// and for a [`SendRecord`](crate::SendRecord) on the runtime's thread: it should not block.
    fn on_send(&self, record: Record) -> Record {
        record
    }

    /// A run of records has its outcome. Unlike in Java this is one call per batch, not per
    /// record. Runs where callbacks run, and must not wait either: see
    /// [`Producer::send_with`](crate::Producer::send_with).
    fn on_acknowledgement(&self, _delivered: &BatchOutcome) {}

    /// A record was refused; it was never accepted. Runs on the caller.
    fn on_error(&self, _topic: &str, _error: &SendError) {}
}

/// Tells interceptors of outcomes.
pub(crate) struct Acknowledge(pub Arc<[Arc<dyn Interceptor>]>);

impl Listener for Acknowledge {
    fn delivered(&self, delivered: &BatchOutcome) {
        for interceptor in self.0.iter() {
            let call = AssertUnwindSafe(|| interceptor.on_acknowledgement(delivered));
            if let Err(panic) = catch_unwind(call) {
                let panic = panics::message(&*panic);
                tracing::error!(panic, "an interceptor's on_acknowledgement panicked");
            }
        }
    }
}
