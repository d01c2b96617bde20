//! Logs in again on a sender's connection (KIP-368), between requests that are in flight.
//!
//! While it goes on no further request is written. Responses to those before arrive first, in their
//! order, and go their usual way.

use std::cell::Cell;
use std::io::IoSlice;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::login::{Ask, LoginCall, log_in};
use super::term::Term;
use super::{ConnectOptions, FrameWriter, NetError};
use crate::core::wire::{self, Api, Versions, WireError};

/// What both sides know. They are one task.
#[derive(Default)]
struct Shared {
    /// The correlation id of the login's response that is waited for.
    expected: Cell<Option<i32>>,
    /// Requests that were written, or are about to be, and have no response yet.
    unanswered: Cell<usize>,
    answered: Notify,
}

/// The reader's side: takes the responses to a login out of the others.
pub(super) struct LoginResponses {
    shared: Rc<Shared>,
    responses: UnboundedSender<Bytes>,
}

/// The writer's side.
pub(super) struct Renewal {
    options: ConnectOptions,
    versions: Versions,
    /// `None` once it does not end any more.
    term: Option<Term>,
    shared: Rc<Shared>,
    responses: UnboundedReceiver<Bytes>,
}

/// Both sides, for a login that ends.
pub(super) fn renewal(
    options: ConnectOptions,
    versions: Versions,
    term: Term,
) -> (Renewal, LoginResponses) {
    let shared = Rc::new(Shared::default());
    let (to_writer, responses) = unbounded_channel();
    let renewal = Renewal {
        options,
        versions,
        term: Some(term),
        shared: Rc::clone(&shared),
        responses,
    };
    let responses = LoginResponses {
        shared,
        responses: to_writer,
    };
    (renewal, responses)
}

impl LoginResponses {
    /// Keeps what is no response to a login.
    pub fn take_from(&self, frames: &mut Vec<Bytes>) {
        let shared = &self.shared;
        frames.retain(|frame| {
            let expected = shared.expected.get();
            let is_login = expected.is_some() && wire::correlation_id(frame).ok() == expected;
            if is_login {
                shared.expected.set(None);
                // The writer is there: both are one task.
                let _ = self.responses.send(frame.clone());
            }
            !is_login
        });
        let unanswered = shared.unanswered.get().saturating_sub(frames.len());
        shared.unanswered.set(unanswered);
        shared.answered.notify_one();
    }
}

impl Renewal {
    /// Resolves when it is time.
    pub async fn due(&self) {
        match &self.term {
            Some(term) => sleep_until(term.renew_at()).await,
            None => std::future::pending().await,
        }
    }

    /// So many requests that get responses are about to be written.
    pub fn writes(&self, count: usize) {
        let unanswered = &self.shared.unanswered;
        unanswered.set(unanswered.get() + count);
    }

    /// Logs in again. If that takes another connection it waits for what is in flight on this one, as long
    /// as the login is good, and returns the error of it.
    pub async fn renew(&mut self, writer: &mut FrameWriter) -> Result<(), NetError> {
        let (Some(login), Some(term)) = (self.options.security.login.clone(), &mut self.term)
        else {
            return Ok(());
        };
        let endpoint = writer.endpoint().clone();
        let limit = self.options.request_timeout;
        let proof = match term.prove_again(&login, &endpoint, limit).await {
            Ok(Some(proof)) => proof,
            Ok(None) => return Ok(()),
            Err(error) => {
                let drained = async {
                    while self.shared.unanswered.get() > 0 {
                        self.shared.answered.notified().await;
                    }
                };
                // What has no response by then comes to be in doubt.
                let _ = timeout_at(term.ends_at(), drained).await;
                return Err(error);
            }
        };
        let asked = Instant::now();
        let mut way = Between {
            writer,
            shared: &self.shared,
            responses: &mut self.responses,
        };
        let limits = (self.options.client_id.as_str(), limit);
        let with = (&login, &proof, true);
        let logged_in = log_in(with, &endpoint, limits, &self.versions, &mut way).await?;
        tracing::debug!(%endpoint, lifetime = ?logged_in.lifetime, "logged in again");
        self.term = Term::new(asked, &logged_in);
        Ok(())
    }
}

/// The way to a broker on a connection whose responses another reads.
struct Between<'a> {
    writer: &'a mut FrameWriter,
    shared: &'a Shared,
    responses: &'a mut UnboundedReceiver<Bytes>,
}

impl Ask for Between<'_> {
    /// Only SaslAuthenticate says that a login ends.
    async fn ask_bare(&mut self, _: &[u8]) -> Result<Option<Bytes>, NetError> {
        let (ours_min, ours_max) = Api::SaslAuthenticate.ours();
        let error = WireError::NoCommonVersion {
            api: Api::SaslAuthenticate,
            theirs: None,
            ours_min,
            ours_max,
        };
        Err(NetError::wire(self.writer.endpoint(), error))
    }

    async fn ask(&mut self, call: LoginCall<'_>) -> Result<Bytes, NetError> {
        self.shared.expected.set(Some(call.correlation_id));
        self.writer.write(&mut call.parts.map(IoSlice::new)).await?;
        let endpoint = self.writer.endpoint();
        let Some(frame) = self.responses.recv().await else {
            return Err(NetError::Closed {
                endpoint: endpoint.clone(),
                partial: 0,
            });
        };
        let (_, body) = wire::split_response(call.api, call.version, frame)
            .map_err(|error| NetError::wire(endpoint, error))?;
        Ok(body)
    }
}
