//! How a producer is built and started.

use std::fmt;
use std::sync::Arc;

use crate::actors::RuntimeSpec;
use crate::api::error::StartError;
use crate::api::placement::Placement;
use crate::api::producer::Producer;
use crate::config::Config;
use crate::core::partitioner::Partitioner;
use crate::intake::interceptor::Interceptor;

/// A producer that has not started yet. Made with [`Producer::builder`].
///
/// ```no_run
/// use forebay::partitioner::RoundRobin;
/// use forebay::{Config, Interceptor, Producer, Record};
///
/// struct Trace;
///
/// impl Interceptor for Trace {
///     fn on_send(&self, record: Record) -> Record {
///         record.header("trace", "4bf92f35")
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Producer::builder()
///     .interceptor(Trace)
///     .partitioner(RoundRobin::new())
///     .start(Config::new("localhost:9092")?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "nothing runs until `start`"]
pub struct ProducerBuilder {
    placement: Placement,
    interceptors: Vec<Arc<dyn Interceptor>>,
    partitioner: Option<Arc<dyn Partitioner>>,
    /// Of everything the runtime leaves to chance.
    seed: Option<u64>,
}

impl ProducerBuilder {
    /// Where the actors run. Default: a thread of their own.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Adds an interceptor behind those already there. Default: none.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Chooses the partition of every record that names none. Default: what `partitioner.class` says.
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Starts the runtime. It contacts no broker before the first record.
    ///
    /// # Errors
    ///
    /// [`StartError`] if there is no thread or no arbiter to run on, or if the program was built with
    /// `panic = "abort"`. Unreachable brokers are no error here.
    pub fn start(self, config: Config) -> Result<Producer, StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        let spec = RuntimeSpec {
            config: Arc::new(config),
            interceptors: self.interceptors.into(),
            partitioner: self.partitioner,
            seed: self.seed.unwrap_or_else(rand::random),
        };
        let (runtime, thread) = self.placement.start(spec)?;
        Ok(Producer::of(runtime, thread))
    }

    /// Has chance repeat itself.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

// Here and not beside the handle, which does not know how it is built.
impl Producer {
    /// Starts a producer with the runtime on a thread of its own. It contacts no broker before the
    /// first record.
    ///
    /// # Errors
    ///
    /// [`StartError`]; see [`ProducerBuilder::start`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::builder().start(config)
    }

    /// For a producer with interceptors, a partitioner, or another placement.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::default()
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}
