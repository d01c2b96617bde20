//! The LookupActor: reads the logs of partitions for what is in doubt. It is there with
//! `forebay.unknown=resolve`, and with transactions.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;

use super::clock::{Alarm, ClockActor};
use super::guard::{self, Guard, Guarded, On, guarded};
use super::messages::*;
use super::now;
use crate::core::cluster::Nodes;
use crate::core::lookup::{Ask, Follows, Lookups, News, Question, Told};
use crate::core::record::TopicPartition;
use crate::meters::LookupMeters;
use crate::net::ConnectOptions;
use crate::net::log::{LeaderOf, LogClient, LogOf, Read, ReadError};

/// Owns what partitions want to know of their logs, and a connection to each leader that is asked.
pub(crate) struct LookupActor {
    guard: Guard,
    lookups: Lookups,
    connect: ConnectOptions,
    nodes: Arc<Nodes>,
    /// By node. One that has been asked is not here.
    clients: BTreeMap<i32, LogClient>,
    /// The requests on their way.
    asking: BTreeMap<i32, SpawnHandle>,
    /// Those who want to know something.
    who: BTreeMap<TopicPartition, PartitionAddr>,
    meters: LookupMeters,
    clock: Addr<ClockActor>,
    alarm: Alarm,
}

/// What a leader has answered.
enum Answer {
    End(Result<i64, ReadError>),
    Read(Result<Read, ReadError>),
}

impl LookupActor {
    pub fn new(
        lookups: Lookups,
        connect: ConnectOptions,
        meters: LookupMeters,
        clock: Addr<ClockActor>,
        guard: Guard,
    ) -> Self {
        Self {
            guard,
            lookups,
            connect,
            nodes: Arc::default(),
            clients: BTreeMap::new(),
            asking: BTreeMap::new(),
            who: BTreeMap::new(),
            meters,
            clock,
            alarm: Alarm::default(),
        }
    }

    /// Asks each leader that can be asked.
    fn work(&mut self, ctx: &mut Context<Self>) {
        while let Some(question) = self.lookups.next(now()) {
            self.ask(question, ctx);
        }
        if let Some(at) = self.lookups.next_at() {
            self.alarm.set(&self.clock, at, || Arc::new(ctx.address()));
        }
    }

    fn ask(&mut self, question: Question, ctx: &mut Context<Self>) {
        let node = question.log.node;
        let Some(endpoint) = self.nodes.by_id.get(&node).cloned() else {
            let why = format!("the address of broker {node} is not known").into();
            let follows = Follows::AskMetadata;
            return self.tell(&question, &Told::Failed { follows, why });
        };
        let client = self.clients.remove(&node);
        let mut client = client.unwrap_or_else(|| LogClient::new(self.connect.clone()));
        client.set_nodes(&self.nodes);
        let asking = async move {
            let (log, ask) = (&question.log, question.ask);
            let of = LogOf {
                topic: Arc::clone(&log.partition.topic),
                topic_id: log.topic_id,
                partition: log.partition.partition,
            };
            let leader = LeaderOf {
                node,
                endpoint,
                epoch: log.leader_epoch,
            };
            let answer = match ask {
                Ask::End => Answer::End(client.end(&of, &leader).await),
                Ask::Read {
                    offset,
                    max_bytes,
                    max_wait,
                } => {
                    let read = client.read(&of, &leader, offset, max_bytes, max_wait);
                    Answer::Read(read.await)
                }
            };
            (client, question, answer)
        };
        let answered =
            move |actor: &mut Self, (client, question, answer), ctx: &mut Context<Self>| {
                actor.asking.remove(&node);
                actor.clients.insert(node, client);
                actor.answered(&question, &answer);
                actor.work(ctx);
            };
        self.asking
            .insert(node, guard::spawn(ctx, asking, answered));
    }

    fn answered(&mut self, question: &Question, answer: &Answer) {
        let failed = |error: &ReadError| Told::Failed {
            follows: error.follows(),
            why: error.to_string().into(),
        };
        let told = match answer {
            Answer::End(Ok(end)) => Told::End(*end),
            Answer::Read(Ok(read)) => Told::Read {
                records: &read.records,
                log_start: read.log_start,
            },
            Answer::End(Err(error)) | Answer::Read(Err(error)) => failed(error),
        };
        self.tell(question, &told);
    }

    fn tell(&mut self, question: &Question, told: &Told<'_>) {
        let partition = &question.log.partition;
        let before = self.lookups.figures();
        let news = self.lookups.answered(question, told, now());
        self.meters.told(&before, &self.lookups.figures());
        let who = match news {
            News::Nothing => return,
            _ if news.is_last() => self.who.remove(partition),
            _ => self.who.get(partition).cloned(),
        };
        if let Some(who) = who {
            who.do_send(LogNews(news));
        }
    }
}

impl Sleeper for Addr<LookupActor> {}

impl Actor for LookupActor {
    type Context = Context<Self>;
}

guarded!(LookupActor: LookUp, ForgetLookUp, Tick, SetNodes, Resync);

impl Guarded for LookupActor {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Requests on their way are cancelled. Partitions ask for all anew.
    fn restart(&mut self, ctx: &mut Context<Self>) -> usize {
        for asking in std::mem::take(&mut self.asking).into_values() {
            ctx.cancel_future(asking);
        }
        self.clients.clear();
        self.lookups.lost();
        self.alarm = Alarm::default();
        self.work(ctx);
        0
    }

    fn fail(&mut self, _: &Arc<str>, _: &mut Context<Self>) {}
}

impl On<Resync> for LookupActor {
    fn on(&mut self, _: Resync, ctx: &mut Context<Self>) {
        self.alarm = Alarm::default();
        self.work(ctx);
    }
}

impl On<LookUp> for LookupActor {
    fn on(&mut self, LookUp { log, wish, who }: LookUp, ctx: &mut Context<Self>) {
        self.who.insert(log.partition.clone(), who);
        self.lookups.want(log, wish);
        self.work(ctx);
    }
}

impl On<ForgetLookUp> for LookupActor {
    fn on(&mut self, ForgetLookUp(partition): ForgetLookUp, _: &mut Context<Self>) {
        self.who.remove(&partition);
        self.lookups.forget(&partition);
    }
}

impl On<Tick> for LookupActor {
    fn on(&mut self, _: Tick, ctx: &mut Context<Self>) {
        self.alarm.rang();
        self.work(ctx);
    }
}

impl On<SetNodes> for LookupActor {
    fn on(&mut self, SetNodes(nodes): SetNodes, ctx: &mut Context<Self>) {
        self.clients
            .retain(|node, _| nodes.by_id.contains_key(node));
        self.nodes = nodes;
        self.work(ctx);
    }
}

impl Handler<GetLookupFigures> for LookupActor {
    type Result = MessageResult<GetLookupFigures>;

    fn handle(&mut self, _: GetLookupFigures, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.lookups.figures())
    }
}

impl Handler<Stop> for LookupActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
