//! A sender's connection: starts and stops its task, writes requests to it, and handles its events.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::{FromLink, SenderActor};
#[cfg(feature = "internals")]
use crate::actors::guard;
use crate::actors::guard::On;
use crate::actors::messages::{MoveTo, Rebootstrap};
use crate::actors::now;
use crate::core::dial::Learned;
use crate::core::dispatch::{Connect, Fault, OutgoingRequest};
use crate::core::panics;
use crate::core::troubles::Told;
use crate::core::user_code::{HeldUp, polled};
use crate::core::wire::{Addressee, Api};
use crate::net::{self, ConnectOptions, LinkEvent, NetError};

impl SenderActor {
    /// Starts the task that connects, writes and reads.
    pub(super) fn connect(&mut self, connect: Connect, ctx: &mut Context<Self>) {
        let Connect {
            number,
            setup_timeout,
        } = connect;
        let me = ctx.address();
        let (outbox, inbox) = mpsc::unbounded_channel();
        let report = {
            let me = me.clone();
            move |event| me.do_send(FromLink { number, event })
        };
        let options = ConnectOptions {
            setup_timeout,
            ..self.connect.clone()
        };
        let addressee = self.cluster_id.as_ref().map(|cluster_id| Addressee {
            cluster_id: Arc::clone(cluster_id),
            node: self.node,
        });
        let (endpoint, learned) = (self.endpoint.clone(), self.learned.clone());
        let link = async move {
            #[cfg(feature = "internals")]
            guard::faults::strike::<Self, guard::faults::Link>();
            net::run_link((endpoint, addressee), options, learned, inbox, report).await;
        };
        let endpoint = self.endpoint.clone();
        let task = AssertUnwindSafe(link).catch_unwind().map(move |ended| {
            if let Err(panic) = ended {
                let why = panics::message(&*panic).into();
                let event = LinkEvent::Lost(NetError::Panicked { endpoint, why });
                me.do_send(FromLink { number, event });
            }
        });
        let task = polled(HeldUp::Runtime, task);
        self.task = Some(ctx.spawn(task.into_actor(self)));
        self.outbox = Some(outbox);
    }

    /// Cancels the connection's task.
    pub(super) fn disconnect(&mut self, ctx: &mut Context<Self>) {
        if let Some(task) = self.task.take() {
            ctx.cancel_future(task);
        }
        self.outbox = None;
    }

    /// Hands a request to the connection's task.
    pub(super) fn write(&mut self, request: OutgoingRequest) {
        self.meters.sent(request.records.len());
        self.meters.in_flight(self.dispatcher.in_flight());
        if let Some(outbox) = &self.outbox {
            // If the task has ended, a `Lost` event is on its way. The loans go back then.
            let _ = outbox.send(request);
        }
    }

    /// Drops the connection, because it cannot be trusted any more.
    pub(super) fn fault(&mut self, fault: Fault, ctx: &mut Context<Self>) {
        let endpoint = self.endpoint.clone();
        let error = match fault {
            Fault::Wire(error) => NetError::wire(&endpoint, error),
            Fault::Correlation { expected, got } => NetError::Correlation {
                endpoint,
                expected: expected.unwrap_or(-1),
                got,
            },
            Fault::RequestTimeout => NetError::RequestTimeout {
                endpoint,
                api: Api::Produce,
                after: self.connect.request_timeout,
            },
        };
        self.lost(&error, ctx);
    }

    /// Handles the loss of the connection.
    pub(super) fn lost(&mut self, error: &NetError, ctx: &mut Context<Self>) {
        let text: Arc<str> = error.to_string().into();
        let certain = error.security().filter(|(_, certain)| *certain);
        self.locked_out = certain.map(|(error, _)| Arc::new(error));
        let lost = self.dispatcher.lost(&text, error.is_closed(), now());
        if lost.quiet {
            tracing::debug!(node = self.node, %error, "an idle connection ended");
        } else if let Some(Told { times, within }) = lost.told {
            let (node, error) = (self.node, self.dispatcher.link().last_error());
            let error = error.map_or(&*text, |error| &**error);
            tracing::warn!(node, %error, times, ?within, "the connection to a broker failed");
        }
        self.meters.in_flight(self.dispatcher.in_flight());
        self.act(ctx);
    }

    fn responses(&mut self, frames: Vec<Bytes>, ctx: &mut Context<Self>) {
        for frame in frames {
            match self.dispatcher.response(frame, now()) {
                Ok(times) => self.meters.answered(times.latency, times.throttle),
                Err(fault) => return self.fault(fault, ctx),
            }
        }
        self.meters.in_flight(self.dispatcher.in_flight());
        self.dispatcher.dispatch(now());
        self.act(ctx);
    }
}

impl On<FromLink> for SenderActor {
    fn on(&mut self, FromLink { number, event }: FromLink, ctx: &mut Context<Self>) {
        if !self.dispatcher.is_current(number) {
            return;
        }
        match event {
            LinkEvent::Learned(learned) => self.learned = learned,
            LinkEvent::Connected(versions) => {
                tracing::debug!(node = self.node, endpoint = %self.endpoint, "connected");
                match self.dispatcher.connected(&versions, now()) {
                    Ok(()) => self.act(ctx),
                    Err(fault) => self.fault(fault, ctx),
                }
            }
            LinkEvent::Wrote(count) => {
                self.dispatcher.wrote(count, now());
                self.meters.in_flight(self.dispatcher.in_flight());
                self.act(ctx);
            }
            LinkEvent::Answers(frames) if !self.dispatcher.wants_responses() => {
                let mut frames = frames.iter();
                if let Err(fault) = frames.try_for_each(|it| self.dispatcher.response_unasked(it)) {
                    self.fault(fault, ctx);
                }
            }
            LinkEvent::Answers(frames) => self.responses(frames, ctx),
            LinkEvent::Lost(error) => {
                if matches!(error, NetError::NotAddressed { .. }) {
                    self.services.metadata.do_send(Rebootstrap);
                }
                self.lost(&error, ctx);
            }
        }
    }
}

impl On<MoveTo> for SenderActor {
    fn on(&mut self, message: MoveTo, ctx: &mut Context<Self>) {
        let MoveTo {
            endpoint,
            cluster_id,
        } = message;
        let former = std::mem::replace(&mut self.cluster_id, cluster_id);
        let error = match (former, &self.cluster_id) {
            _ if endpoint != self.endpoint => NetError::Moved {
                from: self.endpoint.clone(),
                to: endpoint.clone(),
            },
            (Some(from), Some(to)) if from != *to => NetError::ClusterChanged {
                endpoint: endpoint.clone(),
                from,
                to: Arc::clone(to),
            },
            _ => return,
        };
        tracing::info!(node = self.node, "{error}");
        self.endpoint = endpoint;
        self.learned = Learned::default();
        self.lost(&error, ctx);
        self.dispatcher.moved(now());
        self.act(ctx);
    }
}
