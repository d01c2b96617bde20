use std::cell::RefCell;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::asking::UNAWARE;
use super::*;
use crate::core::batch::HEADER_LEN;
use crate::core::ledger::Lent;
use crate::core::memory::blank;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(5);

/// A partition that notes what comes back to it: whether each batch was written, or the error code
/// in the broker's response.
#[derive(Debug, Clone, Default)]
struct Partition {
    number: i32,
    returned: Rc<RefCell<Vec<String>>>,
}

impl LoanHome for Partition {
    fn loan_returned(&self, _: u64, report: Report, _: Arc<()>) {
        self.returned.borrow_mut().push(match report {
            Report::Answered(attempt) => format!("answered {}", attempt.error.code),
            Report::Returned { written, .. } => format!("returned, written {written}"),
            Report::Unasked => "unasked".to_owned(),
        });
    }
}

impl Partition {
    fn returned(&self) -> Vec<String> {
        self.returned.borrow().clone()
    }
}

struct World {
    dispatcher: Dispatcher<Partition>,
    queue: Arc<ReadyQueue<Partition>>,
    demand: Demand,
    partitions: Vec<(Partition, Arc<ReadyHandle<Partition>>)>,
    now: Instant,
}

fn rules() -> DispatchRules {
    DispatchRules {
        client_id: "client".to_owned(),
        principal: Some("User:alice".into()),
        acks: Acks::All,
        oldest_produce: 3,
        transactional_id: None,
        max_in_flight: 2,
        max_request_size: 1 << 20,
        batch_size: 1 << 14,
        linger: LINGER,
        request_timeout: 30 * SECOND,
        link: LinkRules {
            reconnect_backoff: (SECOND, SECOND),
            setup_timeout: (SECOND, SECOND),
            max_idle: Some(60 * SECOND),
            seed: 0,
        },
    }
}

impl World {
    fn new(rules: DispatchRules) -> Self {
        let now = Instant::now();
        let (queue, demand) = (Arc::<ReadyQueue<_>>::default(), Demand::default());
        let shelf = Shelf::new(1 << 20, 1 << 14);
        let shared = (Arc::clone(&queue), demand.clone());
        let partitions = (0..4).map(|number| {
            let partition = Partition {
                number,
                ..Partition::default()
            };
            (partition.clone(), ReadyHandle::new(partition))
        });
        Self {
            dispatcher: Dispatcher::new(rules, shelf, shared, now),
            queue,
            demand,
            partitions: partitions.collect(),
            now,
        }
    }

    /// A dispatcher whose connection is up.
    fn up(rules: DispatchRules) -> Self {
        let mut world = Self::new(rules);
        world.dispatcher.link.connected(3, world.now);
        world.dispatcher.dispatch(world.now);
        world.actions();
        world
    }

    fn handle(&self, number: usize) -> Arc<ReadyHandle<Partition>> {
        Arc::clone(&self.partitions[number].1)
    }

    fn ready(&mut self, number: usize) {
        let handle = self.handle(number);
        self.dispatcher.ready(handle, self.now);
    }

    fn offer(&mut self, number: usize) {
        let owner = self.partitions[number].0.clone();
        let lent = Lent {
            protocol: None,
            id: 1,
            header: [0; HEADER_LEN],
            records: Arc::new(self.dispatcher.shelf.buffer(blank(0)).beside(vec![0; 100])),
            count: 1,
            again: false,
            alive: Arc::default(),
        };
        let topic_partition = TopicPartition::new("t", owner.number);
        let loan = Loan::new(topic_partition, Uuid::nil(), lent, owner);
        self.dispatcher.offered(loan, None, self.now);
    }

    /// Takes all actions, as text.
    fn actions(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.dispatcher.next_action())
            .map(|action| {
                let number = |handle: &Arc<ReadyHandle<Partition>>| handle.partition.number;
                match &action {
                    Action::Take {
                        partition,
                        open: BeforeDue::Never,
                        ..
                    } => format!("take {}", number(partition)),
                    Action::Take {
                        partition,
                        open: BeforeDue::Awaited,
                        ..
                    } => format!("take awaited {}", number(partition)),
                    Action::Take { partition, .. } => format!("take open {}", number(partition)),
                    Action::Wake(partition) => format!("wake {}", number(partition)),
                    Action::TellQueued(partition, queued) => {
                        format!("queued {} {queued}", number(partition))
                    }
                    Action::TellBlocked(partition, why) => {
                        format!("blocked {} {why}", number(partition))
                    }
                    Action::Refuse(partition, why) => {
                        format!("refuse {} {why}", number(partition))
                    }
                    Action::Yield => "yield".to_owned(),
                    Action::Connect(_) => "connect".to_owned(),
                    Action::Disconnect => "disconnect".to_owned(),
                    Action::Write(request) => format!("write {}", request.records.len()),
                    Action::Alarm(at) => {
                        let wait = at.saturating_duration_since(self.now);
                        format!("alarm {}", wait.as_millis())
                    }
                    Action::LeaderMoved { .. } => "leader moved".to_owned(),
                    Action::RefreshMetadata => "refresh".to_owned(),
                }
            })
            .collect()
    }

    /// Sends a batch of each of these partitions in one request.
    fn send(&mut self, numbers: &[usize]) {
        numbers.iter().for_each(|number| self.ready(*number));
        numbers.iter().for_each(|number| self.offer(*number));
        self.dispatcher.turn_over(self.now);
        let actions = self.actions();
        let write = format!("write {}", numbers.len());
        assert!(actions.contains(&write), "{actions:?}");
    }
}

/// A response in version 3 for partition 0 of the topic.
fn response(correlation_id: i32, error_code: i16, throttle_ms: i32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(correlation_id);
    frame.put_i32(1); // topics
    frame.put_i16(1);
    frame.put_slice(b"t");
    frame.put_i32(1); // partitions
    frame.put_i32(0);
    frame.put_i16(error_code);
    frame.put_i64(70); // base offset
    frame.put_i64(-1); // log append time
    frame.put_i32(throttle_ms);
    frame.freeze()
}

#[test]
fn a_connection_is_made_when_there_is_something_to_send() {
    let mut world = World::new(rules());
    world.dispatcher.dispatch(world.now);
    assert!(world.actions().is_empty());
    world.ready(0);
    assert_eq!(world.actions(), ["connect"]);
    world.ready(1);
    assert!(world.actions().is_empty(), "it connects already");
}

#[test]
fn a_detached_partition_is_no_reason_to_connect() {
    let mut world = World::new(rules());
    world.handle(0).detach();
    world.ready(0);
    assert!(world.actions().is_empty());
}

#[test]
fn a_request_waits_for_one_turn_and_takes_what_was_lent() {
    let mut world = World::up(rules());
    world.ready(0);
    assert_eq!(world.actions(), ["take 0", "yield"]);
    world.ready(1);
    assert!(
        world.actions().is_empty(),
        "no partition is asked during the turn"
    );
    world.offer(0);
    assert!(
        world.actions().is_empty(),
        "nothing is sent during the turn"
    );
    world.dispatcher.turn_over(world.now);
    assert_eq!(world.actions()[..1], ["write 1"]);
}

#[test]
fn batches_of_many_partitions_go_in_one_request() {
    let mut world = World::up(rules());
    world.send(&[0, 1, 2]);
    assert_eq!(
        (world.dispatcher.in_flight(), world.dispatcher.loans()),
        (1, 3)
    );
}

#[test]
fn no_more_requests_are_in_flight_than_allowed() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.dispatcher.wrote(1, world.now);
    world.send(&[1]);
    world.dispatcher.wrote(1, world.now);
    assert!(!world.demand.is_some(), "nothing would be sent at once");
    world.ready(2);
    assert!(world.actions().is_empty());
    let times = world.dispatcher.response(response(0, 0, 0), world.now);
    assert_eq!(times.map(|times| times.throttle), Ok(Duration::ZERO));
    assert_eq!(world.partitions[0].0.returned(), ["answered 0"]);
    world.dispatcher.dispatch(world.now);
    assert_eq!(world.actions(), ["take 2", "yield"]);
}

#[test]
fn a_sender_that_could_send_has_a_demand() {
    let mut world = World::up(rules());
    assert!(world.demand.is_some());
    world.dispatcher.lost(&"gone".into(), false, world.now);
    assert!(!world.demand.is_some());
    let demand = World::up(rules()).demand.clone();
    assert!(!demand.is_some(), "the dispatcher is dropped");
}

#[test]
fn a_broker_that_throttles_gets_nothing_until_that_is_over() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.dispatcher.wrote(1, world.now);
    let times = world.dispatcher.response(response(0, 0, 500), world.now);
    assert_eq!(times.map(|times| times.throttle), Ok(500 * MS));
    world.ready(1);
    assert_eq!(world.actions(), ["alarm 500", "alarm 500"]);
    assert!(!world.demand.is_some());
    world.now += 500 * MS;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    let actions = world.actions();
    assert!(actions.contains(&"take 1".to_owned()), "{actions:?}");
}

#[test]
fn the_batches_of_a_lost_connection_go_back_and_other_partitions_are_told_why() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.ready(1);
    world.offer(1);
    world.actions();
    world.ready(2);
    let ended = world.dispatcher.lost(&"reset".into(), true, world.now);
    assert!(ended.was_up && !ended.quiet && ended.told.is_some());
    for partition in [0, 1] {
        let returned = world.partitions[partition].0.returned();
        assert_eq!(returned, ["returned, written false"]);
    }
    assert_eq!(
        world.actions(),
        ["disconnect", "blocked 2 reset", "refresh"]
    );
    world.dispatcher.turn_over(world.now);
    let actions = world.actions();
    let alarm = actions[0]
        .strip_prefix("alarm ")
        .expect("an alarm for the backoff");
    let wait: u64 = alarm.parse().expect("milliseconds");
    world.now += Duration::from_millis(wait + 1);
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    assert_eq!(world.actions(), ["connect"]);
}

#[test]
fn partitions_are_refused_when_two_handshakes_in_a_row_find_no_version() {
    let mut world = World::new(rules());
    world.ready(0);
    for (common, expected) in [
        (false, "blocked 0 old"),
        (true, "blocked 0 old"),
        (false, "blocked 0 old"),
        (false, "refuse 0 old"),
    ] {
        world.now += 2 * SECOND;
        assert_eq!(world.dispatcher.tick(world.now), Ok(()));
        assert_eq!(world.actions().last().map(String::as_str), Some("connect"));
        if common {
            world.dispatcher.link.connected(3, world.now);
        } else {
            let none = Versions::default();
            assert!(world.dispatcher.connected(&none, world.now).is_err());
        }
        world.dispatcher.lost(&"old".into(), false, world.now);
        assert_eq!(world.actions()[1], expected);
    }
    world.now += 2 * SECOND;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    assert!(world.actions().is_empty(), "nothing waits, so it is let be");
    world.ready(0);
    assert_eq!(world.actions(), ["connect"]);
    let none = Versions::default();
    assert!(world.dispatcher.connected(&none, world.now).is_err());
    world.dispatcher.lost(&"old".into(), false, world.now);
    assert_eq!(world.actions()[1], "refuse 0 old", "it is known already");
}

#[test]
fn a_batch_behind_an_open_gate_counts_as_written() {
    let mut world = World::up(rules());
    world.ready(0);
    world.offer(0);
    world.dispatcher.turn_over(world.now);
    while let Some(action) = world.dispatcher.next_action() {
        if let Action::Write(request) = action {
            assert!(request.gate.pass());
        }
    }
    world.dispatcher.lost(&"reset".into(), true, world.now);
    let returned = world.partitions[0].0.returned();
    assert_eq!(returned, ["returned, written true"]);
}

#[test]
fn an_offer_after_the_connection_was_lost_goes_back() {
    let mut world = World::new(rules());
    world.offer(0);
    let returned = world.partitions[0].0.returned();
    assert_eq!(returned, ["returned, written false"]);
    assert_eq!(world.dispatcher.loans(), 0);
}

#[test]
fn a_request_without_a_response_in_time_is_a_fault() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.now += 30 * SECOND - MS;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    world.now += MS;
    assert_eq!(world.dispatcher.tick(world.now), Err(Fault::RequestTimeout));
}

#[test]
fn a_response_out_of_order_or_cut_short_is_a_fault() {
    let mut world = World::up(rules());
    let none = world.dispatcher.response(response(7, 0, 0), world.now);
    let (expected, got) = (None, 7);
    assert_eq!(none, Err(Fault::Correlation { expected, got }));
    world.send(&[0]);
    world.dispatcher.wrote(1, world.now);
    let short = response(0, 0, 0).slice(..20);
    let short = world.dispatcher.response(short, world.now);
    assert!(matches!(short, Err(Fault::Wire(_))), "{short:?}");
    assert_eq!(world.partitions[0].0.returned().len(), 1, "it went back");
}

#[test]
fn a_batch_that_the_response_omits_goes_back() {
    let mut world = World::up(rules());
    world.send(&[0, 1]);
    world.dispatcher.wrote(1, world.now);
    assert!(
        world
            .dispatcher
            .response(response(0, 6, 0), world.now)
            .is_ok()
    );
    assert_eq!(world.partitions[0].0.returned(), ["answered 6"]);
    assert_eq!(world.partitions[1].0.returned().len(), 1);
}

#[test]
fn a_stopped_sender_sends_nothing_and_says_why() {
    let mut world = World::up(rules());
    world.dispatcher.stop("retired".into());
    world.ready(0);
    assert_eq!(world.actions(), ["blocked 0 retired"]);
    world.dispatcher.resume(world.now);
    world.ready(0);
    assert_eq!(world.actions(), ["take 0", "yield"]);
}

#[test]
fn a_batch_whose_linger_is_over_is_asked_for() {
    let mut world = World::up(rules());
    assert!(world.queue.batch_opened(world.now, &world.handle(0)));
    world.dispatcher.dispatch(world.now);
    assert_eq!(world.actions(), ["alarm 5"]);
    world.now += LINGER;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    let actions = world.actions();
    assert!(actions.contains(&"take 0".to_owned()), "{actions:?}");
}

#[test]
fn a_partition_that_cannot_be_asked_soon_is_woken() {
    let mut world = World::new(rules());
    world.queue.batch_opened(world.now, &world.handle(0));
    world.now += LINGER;
    world.dispatcher.dispatch(world.now);
    assert_eq!(world.actions(), ["wake 0"]);
}

#[test]
fn a_partition_that_waits_for_long_is_told_that_it_is_queued() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.dispatcher.wrote(1, world.now);
    world.send(&[1]);
    world.dispatcher.wrote(1, world.now);
    world.queue.batch_opened(world.now, &world.handle(2));
    world.now += LINGER;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    let actions = world.actions();
    assert!(
        !actions.iter().any(|it| it.starts_with("queued")),
        "{actions:?}"
    );
    world.now += UNAWARE;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    let actions = world.actions();
    assert!(actions.contains(&"queued 2 true".to_owned()), "{actions:?}");
}

#[test]
fn open_batches_go_along_in_a_request_that_is_sent_anyway() {
    let mut world = World::up(rules());
    world.queue.batch_opened(world.now, &world.handle(1));
    world.ready(0);
    let actions = world.actions();
    assert!(actions.contains(&"take open 1".to_owned()), "{actions:?}");
}

#[test]
fn without_acks_a_batch_goes_back_when_it_is_written() {
    let mut world = World::up(DispatchRules {
        acks: Acks::None,
        ..rules()
    });
    assert!(!world.dispatcher.wants_responses());
    world.send(&[0]);
    assert!(world.partitions[0].0.returned().is_empty());
    world.dispatcher.wrote(1, world.now);
    assert_eq!(world.partitions[0].0.returned(), ["unasked"]);
    assert_eq!(world.dispatcher.in_flight(), 0);
}

#[test]
fn a_connection_that_is_idle_ends() {
    let mut world = World::up(rules());
    world.now += 60 * SECOND - MS;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    assert_eq!(world.actions(), ["alarm 1000"], "it is checked again");
    world.now += MS;
    assert_eq!(world.dispatcher.tick(world.now), Ok(()));
    assert_eq!(world.actions(), ["disconnect"]);
    assert!(world.dispatcher.link().is_down());
}

#[test]
fn after_a_resync_partitions_announce_themselves_again() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.dispatcher.wrote(1, world.now);
    world.send(&[1]);
    world.dispatcher.wrote(1, world.now);
    world.ready(2);
    world.actions();
    world.dispatcher.resync(world.now);
    assert_eq!(world.actions(), ["queued 2 false", "alarm 30000"]);
    world.ready(2);
    world.actions();
    world.dispatcher.reset();
    assert_eq!(world.actions(), ["queued 2 false"]);
}

#[test]
fn events_of_an_old_connection_are_ignored() {
    let mut world = World::new(rules());
    world.ready(0);
    let Some(Action::Connect(connect)) = world.dispatcher.next_action() else {
        panic!("it connects");
    };
    assert!(world.dispatcher.is_current(connect.number));
    world.dispatcher.lost(&"refused".into(), false, world.now);
    assert!(!world.dispatcher.is_current(connect.number));
}

#[test]
fn what_is_waited_for_goes_at_once_where_nothing_is_in_flight() {
    let mut world = World::up(rules());
    let awaits = |world: &World, number: usize| {
        let handle = world.handle(number);
        world.queue.batch_opened(world.now, &handle);
        world.queue.batch_awaited(world.now, &handle)
    };
    world.queue.batch_opened(world.now, &world.handle(3));
    assert!(awaits(&world, 0), "it has to be woken");
    world.dispatcher.dispatch(world.now);
    // What nobody waits for stays open.
    assert_eq!(world.actions(), ["alarm 5", "take awaited 0", "yield"]);
    assert!(!awaits(&world, 1), "it is at work");
    world.offer(0);
    world.dispatcher.turn_over(world.now);
    assert_eq!(world.actions(), ["write 1", "alarm 30000", "alarm 5"]);
    assert!(!awaits(&world, 2), "something is in flight");
    world.dispatcher.dispatch(world.now + MS);
    assert_eq!(world.actions(), ["alarm 5"]);
    // They have filled in the meantime, and go together.
    let answered = world.dispatcher.response(response(0, 0, 0), world.now);
    answered.expect("a response");
    world.dispatcher.dispatch(world.now);
    assert_eq!(
        world.actions(),
        ["alarm 5", "take awaited 1", "take awaited 2", "yield"]
    );
}

#[test]
fn what_is_waited_for_lingers_while_something_is_in_flight() {
    let mut world = World::up(rules());
    world.send(&[0]);
    world.queue.batch_opened(world.now, &world.handle(1));
    world.queue.batch_awaited(world.now, &world.handle(1));
    world.now += LINGER;
    world.dispatcher.dispatch(world.now);
    assert_eq!(world.actions(), ["alarm 100", "take 1", "yield"]);
}

#[test]
fn what_is_waited_for_goes_along_with_what_goes() {
    let mut world = World::up(rules());
    world.queue.batch_opened(world.now, &world.handle(2));
    world.queue.batch_awaited(world.now, &world.handle(1));
    world.queue.batch_full(1, Some(world.handle(0)));
    world.dispatcher.dispatch(world.now);
    let actions = [
        "alarm 5",
        "take awaited 1",
        "take 0",
        "take open 2",
        "yield",
    ];
    assert_eq!(world.actions(), actions);
}

#[test]
fn a_connection_is_made_for_what_is_waited_for() {
    let mut world = World::new(rules());
    world.dispatcher.dispatch(world.now);
    world.queue.batch_opened(world.now, &world.handle(0));
    world.queue.batch_opened(world.now, &world.handle(1));
    world.dispatcher.dispatch(world.now);
    assert_eq!(world.actions(), ["alarm 5"]);
    assert!(
        world.queue.batch_awaited(world.now, &world.handle(1)),
        "it has to be woken"
    );
    world.dispatcher.dispatch(world.now);
    assert_eq!(world.actions(), ["alarm 5", "connect"]);
    assert!(!world.queue.batch_awaited(world.now, &world.handle(2)));
    world.dispatcher.link.connected(3, world.now);
    world.dispatcher.dispatch(world.now);
    assert_eq!(
        world.actions(),
        [
            "alarm 5",
            "take awaited 2",
            "take 1",
            "take open 0",
            "yield"
        ]
    );
}
