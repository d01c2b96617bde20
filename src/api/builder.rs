//! How a producer is built and started.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use actix::prelude::Recipient;

use crate::actors::{Runtime, RuntimeSpec, open_spool, security};
use crate::api::error::StartError;
use crate::api::placement::{Placement, RuntimeThread};
use crate::api::producer::Producer;
use crate::api::transaction::TransactionalProducer;
use crate::config::Config;
use crate::core::partitioner::Partitioner;
use crate::core::security::{AwsCredentialSource, TokenSource};
use crate::core::spool::Resumed;
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
    in_code: security::InCode,
    resumed_to: Option<Recipient<Resumed>>,
    /// Of everything the runtime leaves to chance.
    seed: Option<u64>,
    #[cfg(feature = "internals")]
    local_set: bool,
    #[cfg(feature = "internals")]
    unchecked: bool,
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

    /// Has an actor hear what becomes of records that former producers left in the spool: one [`Resumed`]
    /// for each batch, or part of one, in the order of each partition. Default: nobody.
    ///
    /// It gets a message when it has handled the one before, and when the journal has the outcome: no later
    /// producer tells of it again. One that is told while the producer ends may be lost with the process, and
    /// a panic of the spool's actor may have one told twice. What waits to be told keeps its part of the
    /// disk. [`Producer::resumed`] waits until all were told.
    pub fn resumed_to(mut self, recipient: Recipient<Resumed>) -> Self {
        self.resumed_to = Some(recipient);
        self
    }

    /// Has connections made with a TLS configuration of your own, in place of what `ssl.*` keys say.
    /// `config` is asked for each connection, so that certificates may change. It runs on a thread that
    /// may wait. An error of it is that of the connection, as [`SecurityError::Tls`]. `security.protocol` has
    /// to be `SSL` or `SASL_SSL`, and `ssl.*` keys beside it are an error of the start; but not those of the
    /// environment, which may be a broker's, and have no effect then.
    ///
    /// [`SecurityError::Tls`]: crate::SecurityError::Tls
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use forebay::{Config, Producer, rustls};
    ///
    /// # fn own() -> Arc<rustls::ClientConfig> { unimplemented!() }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::builder()
    ///     .bootstrap_servers("broker:9093")
    ///     .set("security.protocol", "SSL")
    ///     .build()?;
    /// let tls: Arc<rustls::ClientConfig> = own();
    /// let producer = Producer::builder()
    ///     .tls(move || Ok(Arc::clone(&tls)))
    ///     .start(config)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(
        mut self,
        config: impl Fn() -> Result<Arc<rustls::ClientConfig>, Box<dyn std::error::Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.in_code.tls = Some(Arc::new(config));
        self
    }

    /// Gets tokens for `sasl.mechanism=OAUTHBEARER` from a source of your own, in place of what
    /// `sasl.oauthbearer.*` keys say. [`TokenSource`] has an example.
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        self.in_code.tokens = Some(Arc::new(source));
        self
    }

    /// Signs logins at Amazon MSK with credentials of your own, in place of those of the environment and
    /// of AWS's files. [`AwsCredentialSource`] has an example.
    pub fn aws_credentials(mut self, source: impl AwsCredentialSource) -> Self {
        self.in_code.aws = Some(Arc::new(source));
        self
    }

    /// Starts the runtime. It contacts no broker before the first record. Files with certificates, keys and
    /// passwords are read on the calling thread, and keys are decrypted there, which may take some hundred
    /// milliseconds: in async code `spawn_blocking` is the place for it.
    ///
    /// # Errors
    ///
    /// [`StartError`] if fields of `config` were set to what makes no configuration, if there is no thread
    /// or no arbiter to run on, if a certificate or key cannot be used, or if the program was built with
    /// `panic = "abort"`. Unreachable brokers are no error here.
    pub fn start(self, config: Config) -> Result<Producer, StartError> {
        if config.transactional_id.is_some() {
            return Err(StartError::Transactional);
        }
        let (runtime, thread) = self.start_runtime(config)?;
        Ok(Producer::of(runtime, thread))
    }

    /// Starts a producer that sends in transactions; otherwise as [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`StartError::NoTransactionalId`].
    pub fn start_transactional(self, config: Config) -> Result<TransactionalProducer, StartError> {
        if config.transactional_id.is_none() {
            return Err(StartError::NoTransactionalId);
        }
        let (runtime, thread) = self.start_runtime(config)?;
        let transactions = runtime.transactions.clone();
        let transactions = transactions.ok_or(StartError::NoTransactionalId)?;
        Ok(TransactionalProducer::new(
            Producer::of(runtime, thread),
            transactions,
        ))
    }

    fn start_runtime(self, config: Config) -> Result<(Runtime, Option<RuntimeThread>), StartError> {
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        #[cfg(feature = "internals")]
        let unchecked = self.unchecked;
        #[cfg(not(feature = "internals"))]
        let unchecked = false;
        let config = match unchecked {
            true => config,
            false => config.checked().map_err(StartError::Config)?,
        };
        let has_tokens = self.in_code.tokens.is_some();
        config
            .check_tokens(has_tokens)
            .map_err(StartError::Config)?;
        let security = security::prepare(&config, self.in_code);
        let seed = self.seed.unwrap_or_else(rand::random);
        let spool = open_spool(&config, seed, self.resumed_to);
        let spool = spool.map_err(|error| {
            let directory = config.spool_dir.as_deref().unwrap_or(Path::new(""));
            StartError::spool(&error, directory)
        })?;
        let spec = RuntimeSpec {
            spool,
            security: security.map_err(StartError::KeyMaterial)?,
            config: Arc::new(config),
            interceptors: self.interceptors.into(),
            partitioner: self.partitioner,
            seed,
        };
        #[cfg(feature = "internals")]
        let local_set = self.local_set;
        #[cfg(not(feature = "internals"))]
        let local_set = false;
        self.placement.start(spec, local_set)
    }

    /// Runs in the present `LocalSet`, without a `System`.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn in_local_set(mut self) -> Self {
        (self.placement, self.local_set) = (Placement::CurrentArbiter, true);
        self
    }

    /// Takes times that are shorter than any configuration has.
    #[cfg(feature = "internals")]
    #[doc(hidden)]
    pub fn unchecked(mut self) -> Self {
        self.unchecked = true;
        self
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

impl TransactionalProducer {
    /// Starts a producer that sends in transactions, with the runtime on a thread of its own. It contacts
    /// no broker before the first transaction or the first look at a topic.
    ///
    /// # Errors
    ///
    /// [`StartError`]; see [`ProducerBuilder::start_transactional`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        Producer::builder().start_transactional(config)
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}
