//! A sender's connection: starts and stops its task, writes requests to it, and handles its events.

use std::panic::AssertUnwindSafe;

use actix::prelude::*;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::{FromLink, SenderActor};
#[cfg(feature = "internals")]
use crate::actors::guard;
use crate::actors::guard::On;
use crate::actors::messages::MoveTo;
use crate::actors::now;
use crate::core::dispatch::{Connect, Fault, OutgoingRequest};
use crate::core::panics;
use crate::core::wire::Api;
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
        let endpoint = self.endpoint.clone();
        let link = async move {
            #[cfg(feature = "internals")]
            guard::faults::strike::<Self, guard::faults::Link>();
            net::run_link(endpoint, options, inbox, report).await;
        };
        let endpoint = self.endpoint.clone();
        let task = AssertUnwindSafe(link).catch_unwind().map(move |ended| {
            if let Err(panic) = ended {
                let why = panics::message(&*panic).into();
                let event = LinkEvent::Lost(NetError::Panicked { endpoint, why });
                me.do_send(FromLink { number, event });
            }
        });
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
        let text = error.to_string().into();
        let lost = self.dispatcher.lost(&text, error.is_closed(), now());
        if lost.quiet {
            tracing::debug!(node = self.node, %error, "an idle connection ended");
        } else if lost.is_news {
            tracing::warn!(node = self.node, %error, "the connection to a broker failed");
        }
        self.meters.in_flight(self.dispatcher.in_flight());
        self.act(ctx);
    }

    fn responses(&mut self, frames: Vec<Bytes>, ctx: &mut Context<Self>) {
        for frame in frames {
            match self.dispatcher.response(frame, now()) {
                Ok(times) => self.meters.answered(times.latency, times.throttle),
                Err(fault) => {
                    let node = self.node;
                    tracing::error!(?fault, node, "the connection is not to be trusted any more");
                    return self.fault(fault, ctx);
                }
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
            // Some brokers respond even with `acks=0`. No request waits for these responses.
            LinkEvent::Answers(_) if !self.dispatcher.wants_responses() => {}
            LinkEvent::Answers(frames) => self.responses(frames, ctx),
            LinkEvent::Lost(error) => self.lost(&error, ctx),
        }
    }
}

impl On<MoveTo> for SenderActor {
    fn on(&mut self, MoveTo(endpoint): MoveTo, ctx: &mut Context<Self>) {
        if endpoint != self.endpoint {
            let (node, from) = (self.node, &self.endpoint);
            tracing::info!(node, %from, to = %endpoint, "a broker moved");
            let error = NetError::Moved {
                from: self.endpoint.clone(),
                to: endpoint.clone(),
            };
            self.endpoint = endpoint;
            self.lost(&error, ctx);
            self.dispatcher.moved(now());
            self.act(ctx);
        }
    }
}
