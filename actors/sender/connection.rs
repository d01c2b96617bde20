//! A sender's connection: how it comes about, what it says, and its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::{Link, SenderActor};
#[cfg(feature = "internals")]
use crate::actors::guard;
use crate::actors::guard::On;
use crate::actors::loan::Loan;
use crate::actors::metadata::{LeaderMoved, RefreshMetadata};
use crate::actors::now;
use crate::actors::partition::BlockedBy;
use crate::core::acks::Acks;
use crate::core::dispatch::{Request, match_responses};
use crate::core::endpoint::Endpoint;
use crate::core::ledger::Report;
use crate::core::panics;
use crate::core::wire::{self, Api, ProduceResponse};
use crate::net::{self, ConnectOptions, LinkEvent, NetError};

/// The broker has moved to another address.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MoveTo(pub Endpoint);

/// The connection of this number says something.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct FromLink {
    number: u64,
    event: LinkEvent,
}

impl SenderActor {
    pub(super) fn connect(&mut self, now: Instant, ctx: &mut Context<Self>) {
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return self.set_alarm(at, ctx);
        }
        self.number += 1;
        let (number, me) = (self.number, ctx.address());
        let (outbox, inbox) = mpsc::unbounded_channel();
        let tell = {
            let me = me.clone();
            move |event| me.do_send(FromLink { number, event })
        };
        let setup_timeout = self.setup_timeout.next();
        let options = ConnectOptions {
            setup_timeout,
            ..self.rules.connect.clone()
        };
        let endpoint = self.endpoint.clone();
        let link = async move {
            #[cfg(feature = "internals")]
            guard::faults::strike::<Self, guard::faults::Link>();
            net::run_link(endpoint, options, inbox, tell).await;
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
        self.link = Link::Connecting;
    }

    fn answers(&mut self, frames: Vec<Bytes>, ctx: &mut Context<Self>) {
        for frame in frames {
            if let Err(error) = self.settle(frame, ctx) {
                let node = self.node;
                tracing::error!(%error, node, "the connection is not to be trusted any more");
                return self.lost(&error, ctx);
            }
        }
        self.pump(ctx);
    }

    fn settle(&mut self, frame: Bytes, ctx: &mut Context<Self>) -> Result<(), NetError> {
        let endpoint = &self.endpoint;
        let wire_error = |error| NetError::wire(endpoint, error);
        let got = wire::correlation_id(&frame).map_err(wire_error)?;
        let request = self
            .in_flight
            .answered(got)
            .map_err(|unexpected| NetError::Correlation {
                endpoint: endpoint.clone(),
                expected: unexpected.expected.unwrap_or(-1),
                got,
            })?;
        let version = request.version;
        // Whatever goes wrong from here on drops the loans: they go back as written, unanswered.
        let (_, body) = wire::split_response(Api::Produce, version, frame).map_err(wire_error)?;
        let answer = ProduceResponse::decode(version, &body).map_err(wire_error)?;
        let now = now();
        self.last_used = now;
        self.backoff.reset();
        self.last_error = None;
        self.meters.answered(
            now.saturating_duration_since(request.sent_at),
            answer.throttle,
        );
        if !answer.throttle.is_zero() {
            self.throttled_until = Some(now + answer.throttle);
            self.in_flight.postpone(answer.throttle);
            self.set_alarm(now + answer.throttle, ctx);
        }
        self.settle_each(request, answer);
        Ok(())
    }

    fn settle_each(&self, request: Request<Box<Loan>>, answer: ProduceResponse) {
        let ProduceResponse {
            partitions, nodes, ..
        } = answer;
        for (loan, answer) in match_responses(request.loans, partitions) {
            let Some(answer) = answer else {
                tracing::warn!(partition = %loan.topic_partition, "the answer leaves a batch out");
                loan.give_back(&"the broker's answer left the batch out".into());
                continue;
            };
            if let Some(leader) = answer.leader {
                self.services.metadata.do_send(LeaderMoved {
                    topic_partition: loan.topic_partition.clone(),
                    leader,
                    nodes: nodes.clone(),
                });
            }
            loan.settle(Report::Answered(answer.into()));
        }
    }

    /// The connection is gone: what was on it goes back, in the order of its batches.
    pub(super) fn lost(&mut self, error: &NetError, ctx: &mut Context<Self>) {
        if let Some(task) = self.task.take() {
            ctx.cancel_future(task);
        }
        self.outbox = None;
        let was_up = self.is_up();
        self.link = Link::Down;
        self.number += 1; // what the old connection still says is not heard
        let idle = self.in_flight.is_empty() && self.taken.is_empty();
        let text: Arc<str> = error.to_string().into();
        if was_up && idle && error.is_closed() {
            tracing::debug!(node = self.node, %error, "an idle connection ended");
        } else {
            if self.last_error.as_ref() != Some(&text) {
                tracing::warn!(node = self.node, %error, "the connection to a broker failed");
            }
            self.not_before = Some(now() + self.backoff.next());
            self.last_error = Some(Arc::clone(&text));
        }
        self.meters.lost(self.in_flight.len());
        self.ready_queue.answer(&mut self.ring);
        self.tidy_ring();
        for handle in &self.ring {
            handle.partition.do_send(BlockedBy(Arc::clone(&text)));
        }
        for request in self.in_flight.drain() {
            request
                .loans
                .into_iter()
                .for_each(|loan| loan.give_back(&text));
        }
        for loan in self.taken.drain(..) {
            loan.give_back(&text);
        }
        if !idle || !was_up {
            self.services.metadata.do_send(RefreshMetadata);
        }
        self.pump(ctx);
    }
}

impl On<FromLink> for SenderActor {
    fn on(&mut self, FromLink { number, event }: FromLink, ctx: &mut Context<Self>) {
        if number != self.number {
            return;
        }
        match event {
            LinkEvent::Connected(versions) => {
                tracing::debug!(node = self.node, endpoint = %self.endpoint, "connected");
                self.link = Link::Up { versions };
                self.setup_timeout.reset();
                self.not_before = None;
                self.last_used = now();
                if let Some(idle) = self.rules.max_idle {
                    self.set_alarm(self.last_used + idle, ctx);
                }
                self.pump(ctx);
            }
            LinkEvent::Wrote(count) => {
                self.in_flight.wrote(count);
                if self.rules.acks == Acks::None {
                    while let Some(request) = self.in_flight.pop_written() {
                        self.meters.lost(1);
                        request
                            .loans
                            .into_iter()
                            .for_each(|loan| loan.settle(Report::Unasked));
                    }
                }
                self.pump(ctx);
            }
            // Some brokers answer acks=0 too; nothing waits for that.
            LinkEvent::Answers(_) if self.rules.acks == Acks::None => {}
            LinkEvent::Answers(frames) => self.answers(frames, ctx),
            LinkEvent::Lost(error) => self.lost(&error, ctx),
        }
    }
}

impl On<MoveTo> for SenderActor {
    fn on(&mut self, MoveTo(endpoint): MoveTo, ctx: &mut Context<Self>) {
        if endpoint != self.endpoint {
            tracing::info!(node = self.node, from = %self.endpoint, to = %endpoint, "a broker moved");
            let error = NetError::Moved {
                from: self.endpoint.clone(),
                to: endpoint.clone(),
            };
            self.endpoint = endpoint;
            self.lost(&error, ctx);
            self.not_before = None;
            self.pump(ctx);
        }
    }
}
