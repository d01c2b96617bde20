//! Implements [`Sink`] for a lane.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Sink;

use super::Lane;
use super::sink_state::SinkError;
use crate::core::record::Record;
use crate::core::stage::AppendOptions;
use crate::intake::Admission;

/// Takes records, and reports at a flush whether all of them were written.
///
/// If a record has to wait for its topic or for memory, the sink is not ready until the record is
/// accepted. `flush` sends all records at once and waits for their outcomes. The first failure is
/// the error of the next call, whichever that is, and the sink can be used after it. `close` is the
/// same as `flush`: the producer stays open.
impl Sink<Record> for Lane {
    type Error = SinkError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        ready!(self.sunk.poll_accepted(context))?;
        self.sunk.check_outcomes()?;
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, record: Record) -> Result<(), SinkError> {
        let record = self.producer.intake().intercepted(record)?;
        let mut borrowed = record.borrowed();
        match self.admit_now(&mut borrowed) {
            Ok(Admission::Accepted(slot)) => {
                let Self { routes, sunk, .. } = &mut *self;
                sunk.receipts.push(routes.receipt(slot));
                Ok(())
            }
            Ok(Admission::Missing(missing)) => {
                let producer = self.producer.clone();
                self.sunk.waiting = Some(Box::pin(async move {
                    let mut options = AppendOptions::for_listeners(producer.listeners());
                    let (intake, mut recent) = (producer.intake(), &producer.recent);
                    let record = record.borrowed();
                    let admitted = intake.admit_later(&mut recent, record, &mut options, missing);
                    let admitted = admitted.await;
                    admitted.inspect_err(|error| intake.refused(record.topic, error))
                }));
                Ok(())
            }
            Err(error) => {
                self.producer.intake().refused(record.topic(), &error);
                Err(error.into())
            }
        }
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SinkError>> {
        ready!(self.sunk.poll_accepted(context))?;
        let Self { producer, sunk, .. } = &mut *self;
        if sunk.flush.is_none() && !sunk.receipts.is_empty() {
            let producer = producer.clone();
            sunk.flush = Some(Box::pin(async move { producer.flush().await.map(drop) }));
        }
        if let Some(flush) = &mut sunk.flush {
            let flushed = ready!(flush.as_mut().poll(context));
            sunk.flush = None;
            flushed?;
        }
        sunk.check_outcomes()?;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_flush(context)
    }
}
