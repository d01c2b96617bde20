//! The DeliveryActor: tells the application the outcomes of its records.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Wake, Waker};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::guard::{self, Guard, Guarded, On, Watch, guarded};
use super::lifecycle::Lifecycle;
use super::messages::{AllTold, ComponentFell, Deliver, Stop, TransactionEnded};
use super::now;
use crate::core::batch::Settled;
use crate::core::delivery::{BatchOutcome, Handled, InTurn, Listener};
use crate::core::memory::Buffer;
use crate::core::record::TopicPartition;
use crate::core::supervision::Component;
use crate::core::user_code::{HeldUp, holding_up, shielded};
use crate::intake::deadline::Timer;

impl Message for BatchOutcome {
    type Result = ();
}

/// User code that took longer for the outcomes of one batch is warned of.
const LONG: Duration = Duration::from_secs(1);

/// User code that has run for so long is warned of while it runs.
const STUCK: Duration = Duration::from_secs(10);

/// An outcome that waits for its recipient, and the memory of its batch.
struct Untold {
    outcome: BatchOutcome,
    _memory: Option<Arc<Buffer>>,
}

/// A recipient that has not handled yet what it was told last.
struct Line {
    number: u64,
    recipient: Arc<dyn Listener>,
    outcomes: InTurn<Untold>,
}

/// Runs listeners and callbacks of the application, each under `catch_unwind`. The batches of a
/// partition keep their order.
pub(crate) struct DeliveryActor {
    guard: Guard,
    /// What does not go on while user code runs.
    held_up: HeldUp,
    lines: Vec<Line>,
    /// The number of the next line.
    next: u64,
    /// Batches whose transaction has not ended, in the order in which they came.
    held: Vec<Deliver>,
    /// It ends when every recipient has been told.
    stopping: bool,
    /// Dropped with the actor.
    _alive: oneshot::Sender<()>,
}

/// What is needed to start the DeliveryActor on another thread than that of the runtime.
pub(crate) struct DeliveryElsewhere {
    pub restarts: (u32, Duration),
    pub runtime: Recipient<ComponentFell>,
    pub subscribers: Recipient<Lifecycle>,
    pub lost: Arc<AtomicBool>,
}

impl DeliveryElsewhere {
    /// Starts the actor on this thread, which does nothing else. Returns what resolves when the actor
    /// has ended.
    pub fn start(self) -> (Addr<DeliveryActor>, oneshot::Receiver<()>) {
        let watch = Watch::of_delivery(self.restarts, self.runtime, self.lost);
        let guard = watch.guard(Component::Delivery);
        watch.subscribe(self.subscribers);
        DeliveryActor::start_with(guard, HeldUp::Delivery)
    }
}

impl DeliveryActor {
    pub fn start_with(guard: Guard, held_up: HeldUp) -> (Addr<Self>, oneshot::Receiver<()>) {
        let (alive, ended) = oneshot::channel();
        let actor = Self {
            guard,
            held_up,
            lines: Vec::new(),
            next: 0,
            held: Vec::new(),
            stopping: false,
            _alive: alive,
        };
        (actor.start(), ended)
    }

    /// Calls interceptors and callbacks.
    fn call(&self, at: &TopicPartition, call: impl FnOnce()) {
        let began = now();
        let told = Arc::new(StillRunning(at.clone()));
        let timer = Timer::after(STUCK, Waker::from(told));
        holding_up(self.held_up, call);
        drop(timer);
        let took = now().saturating_duration_since(began);
        if took >= LONG {
            tracing::warn!(
                partition = %at, ?took,
                "callbacks or interceptors took long for the outcomes of one batch, and held up others"
            );
        }
    }

    /// Tells a recipient, or lets the outcome wait until it has handled the one before.
    fn tell(&mut self, recipient: &Arc<dyn Listener>, untold: Untold, ctx: &mut Context<Self>) {
        let same = |line: &Line| Arc::ptr_eq(&line.recipient, recipient);
        let at = self.lines.iter().position(same).unwrap_or_else(|| {
            self.lines.push(Line {
                number: self.next,
                recipient: Arc::clone(recipient),
                outcomes: InTurn::default(),
            });
            self.next += 1;
            self.lines.len() - 1
        });
        if let Some(untold) = self.lines[at].outcomes.offer(untold) {
            self.hand_over(at, untold, ctx);
        }
    }

    fn hand_over(&mut self, at: usize, untold: Untold, ctx: &mut Context<Self>) {
        let line = &self.lines[at];
        let number = line.number;
        let handled = line.recipient.hand_over(untold.outcome);
        guard::spawn(ctx, handled, move |actor: &mut Self, (), ctx| {
            actor.handled(number, ctx);
        });
    }

    /// A recipient has handled an outcome, or is gone.
    fn handled(&mut self, number: u64, ctx: &mut Context<Self>) {
        let Some(at) = self.lines.iter().position(|line| line.number == number) else {
            return;
        };
        match self.lines[at].outcomes.next() {
            Some(untold) if !self.lines[at].recipient.is_gone() => self.hand_over(at, untold, ctx),
            _ => {
                self.lines.remove(at);
                self.stop_if_told(ctx);
            }
        }
    }

    fn stop_if_told(&mut self, ctx: &mut Context<Self>) {
        if self.stopping && self.lines.is_empty() && self.held.is_empty() {
            ctx.stop();
        }
    }
}

impl Actor for DeliveryActor {
    type Context = Context<Self>;
}

guarded!(DeliveryActor: Deliver, TransactionEnded, AllTold);

impl Guarded for DeliveryActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Each call of user code is guarded by itself. The news that a recipient has handled an outcome may
    /// be lost, so each of them is told the next one.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        let numbers: Vec<_> = self.lines.iter().map(|line| line.number).collect();
        for number in numbers {
            self.handled(number, ctx);
        }
        // So may the news of a transaction's end.
        self.tell_held(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {}
}

impl DeliveryActor {
    /// Tells of what was held and whose transaction has ended.
    fn tell_held(&mut self, ctx: &mut Context<Self>) {
        for held in std::mem::take(&mut self.held) {
            self.on(held, ctx);
        }
    }

    /// Tells all who are to know of a batch.
    fn deliver(&mut self, message: Deliver, ctx: &mut Context<Self>) {
        let Deliver {
            topic_partition,
            settled,
        } = message;
        let Settled {
            first,
            count,
            settlement,
            scope,
            listeners,
            tokens,
            memory,
        } = settled;
        let settlement = match &scope {
            Some(scope) => settlement.at_the_end_of(scope),
            None => settlement,
        };
        let outcome = BatchOutcome::new(topic_partition.clone(), first, count, &settlement);
        if let Some(outcome) = &outcome {
            let by_message = listeners.listeners().iter().filter(|it| it.is_recipient());
            for recipient in by_message {
                let untold = Untold {
                    outcome: outcome.clone(),
                    _memory: memory.clone(),
                };
                self.tell(recipient, untold, ctx);
            }
        }
        self.call(&topic_partition, || {
            if let Some(outcome) = &outcome {
                let called = listeners.listeners().iter().filter(|it| !it.is_recipient());
                called.for_each(|it| shielded("a delivery listener", || it.delivered(outcome)));
            }
            for (receipt, callback) in listeners.into_callbacks() {
                // What the callback owns is dropped in there, too.
                shielded("a callback", || {
                    if let Some(outcome) = receipt.final_outcome() {
                        callback(outcome);
                    }
                });
            }
        });
        drop(memory);
        drop(tokens); // a flush may have waited for these calls
    }
}

impl On<Deliver> for DeliveryActor {
    /// A batch of a transaction is kept until that has ended. Its memory is not, as many batches may wait
    /// so, and whoever waits for a flush is not to wait for the end.
    fn on(&mut self, mut message: Deliver, ctx: &mut Context<Self>) {
        let settled = &mut message.settled;
        if settled.scope.as_ref().is_some_and(|it| it.end().is_none()) {
            settled.memory = None;
            settled.tokens.clear();
            self.held.push(message);
        } else {
            self.deliver(message, ctx);
        }
    }
}

impl On<TransactionEnded> for DeliveryActor {
    fn on(&mut self, _: TransactionEnded, ctx: &mut Context<Self>) {
        self.tell_held(ctx);
        self.stop_if_told(ctx);
    }
}

impl On<AllTold> for DeliveryActor {
    fn on(&mut self, AllTold(done): AllTold, _: &mut Context<Self>) {
        let _ = done.send(());
    }
}

impl Handler<Stop> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.stopping = true;
        self.tell_held(ctx);
        self.stop_if_told(ctx);
    }
}

/// Woken when user code has not returned for long.
struct StillRunning(TopicPartition);

impl Wake for StillRunning {
    fn wake(self: Arc<Self>) {
        // A subscriber that waits would hold up the thread that keeps all deadlines, its own, too.
        holding_up(HeldUp::Runtime, || {
            tracing::warn!(
                partition = %self.0,
                "callbacks or interceptors have not returned for {STUCK:?}: they hold up the outcomes of \
                 all records"
            );
        });
    }
}

/// Sends each [`BatchOutcome`] to an actor of the application.
pub(crate) struct ToRecipient(Recipient<BatchOutcome>);

impl ToRecipient {
    pub fn new(recipient: Recipient<BatchOutcome>) -> Self {
        Self(recipient)
    }
}

impl Listener for ToRecipient {
    fn delivered(&self, delivered: &BatchOutcome) {
        self.0.do_send(delivered.clone());
    }

    fn is_recipient(&self) -> bool {
        true
    }

    fn is_gone(&self) -> bool {
        !self.0.connected()
    }

    fn hand_over(&self, delivered: BatchOutcome) -> Handled {
        let handled = self.0.send(delivered);
        Box::pin(async move {
            // An error says that nobody is left to handle it.
            let _ = handled.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::core::user_code::must_not_wait;

    /// Tells whether what is logged may wait.
    struct Probe(Sender<bool>);

    impl io::Write for Probe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(must_not_wait());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// It is woken by the thread that would have to end the wait.
    #[test]
    fn the_warning_of_user_code_that_is_stuck_may_not_wait() {
        let (tell, told) = channel();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || Probe(tell.clone()))
            .finish();
        let stuck = Arc::new(StillRunning(TopicPartition::new("t", 0)));
        tracing::subscriber::with_default(subscriber, || Waker::from(stuck).wake());
        assert_eq!(told.try_recv(), Ok(true));
    }
}
