//! Keeps records that came as messages in the order of the mailbox.

use std::convert::Infallible;

use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

/// The order of records that came as messages. The actor itself does not wait: it has to handle the
/// acks that free memory.
pub(super) struct Turns {
    /// Resolves when the last record that came is accepted or refused.
    last: Option<oneshot::Receiver<Infallible>>,
    /// Resolves when its other end is dropped, because the partition takes no more records.
    down: Shared<oneshot::Receiver<Infallible>>,
    _up: oneshot::Sender<Infallible>,
}

/// The turn of one record.
pub(super) struct Turn {
    /// Resolves when the record before it is accepted or refused.
    pub before: Option<oneshot::Receiver<Infallible>>,
    /// Resolves when it must not wait any longer.
    pub down: Shared<oneshot::Receiver<Infallible>>,
    /// Its turn is over when this is dropped.
    pub over: oneshot::Sender<Infallible>,
}

impl Default for Turns {
    fn default() -> Self {
        let (up, down) = oneshot::channel();
        Self {
            last: None,
            down: down.shared(),
            _up: up,
        }
    }
}

impl Turns {
    /// The turn of a record that comes now.
    pub fn next(&mut self) -> Turn {
        let (over, last) = oneshot::channel();
        Turn {
            before: self.last.replace(last),
            down: self.down.clone(),
            over,
        }
    }

    /// Refuses all that wait.
    pub fn refuse(&mut self) {
        *self = Self::default();
    }
}
