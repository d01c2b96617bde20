use std::cell::Cell;
use std::rc::Rc;

use uuid::Uuid;

use super::*;
use crate::actors::guard::Watch;
use crate::core::endpoint::Endpoint;
use crate::core::partitioner::{RoundRobin, Sticky};
use crate::core::record::TopicPartition;
use crate::core::supervision::Component;
use crate::core::wire::metadata::PartitionInfo;
use crate::core::wire::{LeaderHint, Node, TopicMetadata};
use crate::intake::topics::Topic;
use crate::net::{ConnectOptions, Observer, Security};

const SECOND: Duration = Duration::from_secs(1);

/// Writes the routes as the RuntimeActor does, and counts the views of topics that come.
struct Routes {
    topics: Arc<Topics>,
    views: Rc<Cell<usize>>,
}

impl Actor for Routes {
    type Context = Context<Self>;
}

impl Handler<InstallMetadata> for Routes {
    type Result = ();

    fn handle(&mut self, install: InstallMetadata, _: &mut Context<Self>) {
        for view in install.topics {
            self.views.set(self.views.get() + 1);
            let sticky = Arc::new(Sticky::new(false, 1, 1));
            let topic = Topic::new(
                view.name,
                vec![],
                vec![],
                sticky,
                Arc::new(RoundRobin::new()),
            );
            self.topics.insert(topic);
        }
        for topic in install.gone {
            self.topics.remove(&topic);
        }
    }
}

impl Handler<SetNodes> for Routes {
    type Result = ();

    fn handle(&mut self, _: SetNodes, _: &mut Context<Self>) {}
}

fn node(id: i32) -> Node {
    Node {
        id,
        host: format!("broker-{id}"),
        port: 9092,
        rack: None,
    }
}

fn response(topic: &str, id: Uuid) -> MetadataResponse {
    let partition = PartitionInfo {
        error_code: 0,
        partition: 0,
        leader: 1,
        leader_epoch: 1,
        replicas: 3,
        in_sync: 3,
    };
    MetadataResponse {
        throttle: Duration::ZERO,
        nodes: vec![node(1), node(2)],
        cluster_id: None,
        controller_id: 1,
        topics: vec![TopicMetadata {
            error_code: 0,
            name: topic.to_owned(),
            id,
            partitions: vec![partition],
            operations: None,
        }],
        error_code: 0,
    }
}

/// A MetadataActor that lets go of a topic as soon as it is not used. No broker can be reached.
fn actor(topics: &Arc<Topics>, routes: &Addr<Routes>) -> MetadataActor {
    let rules = MetadataRules {
        bootstrap: "localhost:1".to_owned(),
        principal: None,
        max_age: SECOND * 300,
        max_idle: Duration::ZERO,
        backoff: (SECOND, SECOND),
        seed: 1,
    };
    let dial = || {
        let options = ConnectOptions {
            client_id: String::new(),
            setup_timeout: SECOND,
            request_timeout: SECOND,
            send_buffer: None,
            receive_buffer: None,
            security: Security::default(),
            names_addressee: true,
            observer: Observer::default(),
        };
        let bootstrap = vec![Endpoint::new("localhost", 1)];
        ControlClient::new(bootstrap, options, (SECOND, SECOND), 1)
    };
    let watch = Watch::new(0, Duration::ZERO, None);
    let clock = ClockActor::new(watch.guard(Component::Clock)).start();
    let tells = (vec![routes.clone().recipient()], routes.clone().recipient());
    let guard = watch.guard(Component::Metadata);
    MetadataActor::new(&rules, dial, Arc::clone(topics), clock, tells, guard)
}

/// The hint's view is under way when the topic is given up. Were the routes written here, that view
/// would put the topic back, and nobody would keep it up to date.
#[actix::test]
async fn a_view_that_was_sent_before_a_topic_was_given_up_does_not_bring_it_back() {
    let (topics, views) = (Topics::new(), Rc::new(Cell::new(0)));
    let routes = Routes {
        topics: Arc::clone(&topics),
        views: Rc::clone(&views),
    };
    let routes = routes.start();
    let mut actor = actor(&topics, &routes);
    let (now, id) = (now(), Uuid::from_u128(1));
    let wish = Wish {
        partition: None,
        asked: now,
        deadline: now + SECOND,
        ticket: None,
    };
    actor.metadata.want("a".into(), wish, now);
    let request = actor.metadata.next_request(now, |_| true);
    assert_eq!(request.expect("due").topics, ["a"]);
    actor.answered(response("a", id));
    routes.send(SetNodes(Arc::default())).await.expect("alive");
    assert!(topics.is_used("a"), "it is among the routes, and new");

    let metadata = actor.start();
    metadata.do_send(LeaderMoved {
        topic_partition: TopicPartition::new("a", 0),
        topic_id: id,
        leader: LeaderHint {
            node_id: 2,
            epoch: 2,
        },
        nodes: vec![node(2)],
    });
    metadata.send(RefreshMetadata).await.expect("alive");
    routes.send(SetNodes(Arc::default())).await.expect("alive");
    assert_eq!(views.get(), 2, "the answer's, and the hint's");
    assert!(topics.get("a").is_none(), "it was given up");
}
