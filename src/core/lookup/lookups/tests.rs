mod seeds;

use super::*;

fn lookups() -> Lookups {
    let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(1));
    Lookups::new(Backoff::new(shortest, longest, 7), longest, 1 << 20)
}

fn log(partition: i32, node: i32) -> Log {
    Log {
        partition: TopicPartition::new("t", partition),
        topic_id: Uuid::from_u128(1),
        node,
        leader_epoch: 0,
    }
}

fn look(fence: Option<Fence>) -> Look {
    let sought = Sought {
        id: 1,
        producer_id: 77,
        epoch: 4,
        sequence: 6,
        count: 2,
    };
    Look {
        floor: 10,
        fence,
        sought: vec![sought],
        survey: None,
    }
}

const NOTHING: Told<'static> = Told::Read {
    records: &[],
    log_start: 0,
};

fn failed(follows: Follows) -> Told<'static> {
    let why = "no".into();
    Told::Failed { follows, why }
}

#[test]
fn a_leader_is_asked_one_thing_at_a_time_and_holds_up_only_its_own() {
    let (mut lookups, now) = (lookups(), Instant::now());
    for (partition, node) in [(0, 1), (1, 1), (2, 2)] {
        lookups.want(log(partition, node), Wish::End);
    }
    let first = lookups.next(now).expect("a question");
    let other = lookups.next(now).expect("a question");
    assert_eq!((first.log.node, other.log.node), (1, 2));
    assert_eq!(lookups.next(now), None);
    let news = lookups.answered(&first, &Told::End(7), now);
    assert!(matches!(news, News::End(7)));
    let second = lookups.next(now).expect("a question");
    assert_eq!(second.log, log(1, 1));
}

#[test]
fn those_with_the_same_leader_take_turns() {
    let (mut lookups, now) = (lookups(), Instant::now());
    let fence = Fence::Marker {
        producer_id: 77,
        above: 4,
    };
    for partition in 0..3 {
        lookups.want(log(partition, 1), Wish::Look(look(Some(fence))));
    }
    let mut asked = Vec::new();
    for _ in 0..6 {
        let question = lookups.next(now).expect("a question");
        let offset = match question.ask {
            Ask::Read { offset, .. } => offset,
            Ask::End => panic!("{question:?}"),
        };
        assert_eq!(offset, 10);
        let news = lookups.answered(&question, &NOTHING, now);
        assert!(matches!(news, News::Nothing), "{news:?}");
        asked.push(question.log.partition.partition);
    }
    assert_eq!(asked, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn what_passes_is_asked_again_after_a_wait_and_what_does_not_is_told() {
    let (mut lookups, now) = (lookups(), Instant::now());
    lookups.want(log(0, 1), Wish::Look(look(None)));
    let question = lookups.next(now).expect("a question");
    let news = lookups.answered(&question, &failed(Follows::AskMetadata), now);
    assert!(
        matches!(news, News::Trouble { refresh: true, .. }),
        "{news:?}"
    );
    assert_eq!(lookups.next(now), None);
    let at = lookups.next_at().expect("a wait");
    let question = lookups.next(at).expect("again");
    let news = lookups.answered(&question, &failed(Follows::Never), at);
    assert!(matches!(news, News::Unreadable(..)), "{news:?}");
    assert_eq!((lookups.next(at), lookups.next_at()), (None, None));
}

#[test]
fn an_answer_to_what_is_not_wanted_any_more_says_nothing() {
    let (mut lookups, now) = (lookups(), Instant::now());
    lookups.want(log(0, 1), Wish::End);
    let question = lookups.next(now).expect("a question");
    lookups.want(log(0, 2), Wish::Look(look(Some(Fence::Offset(10)))));
    let news = lookups.answered(&question, &Told::End(7), now);
    assert!(matches!(news, News::Nothing), "{news:?}");
    let question = lookups.next(now).expect("a question");
    lookups.forget(&question.log.partition);
    let news = lookups.answered(&question, &NOTHING, now);
    assert!(matches!(news, News::Nothing), "{news:?}");
}

#[test]
fn a_look_goes_on_with_another_leader() {
    let (mut lookups, now) = (lookups(), Instant::now());
    let wish = Wish::Look(look(Some(Fence::Offset(12))));
    lookups.want(log(0, 1), wish.clone());
    let question = lookups.next(now).expect("a question");
    // The log begins behind the floor by now.
    let told = Told::Read {
        records: &[],
        log_start: 11,
    };
    lookups.answered(&question, &told, now);
    lookups.want(log(0, 2), wish);
    let question = lookups.next(now).expect("a question");
    let Ask::Read { offset, .. } = question.ask else {
        panic!("{question:?}");
    };
    assert_eq!((question.log.node, offset), (2, 11));
}

#[test]
fn without_a_fence_the_log_is_looked_at_from_time_to_time() {
    let (mut lookups, now) = (lookups(), Instant::now());
    lookups.want(log(0, 1), Wish::Look(look(None)));
    let question = lookups.next(now).expect("a question");
    lookups.answered(&question, &NOTHING, now);
    assert_eq!(lookups.next(now), None);
    assert_eq!(lookups.next_at(), Some(now + Duration::from_secs(1)));
}

fn witness() -> Witness {
    Witness {
        partition: TopicPartition::new("t", 0),
        topic_id: Uuid::from_u128(1),
        base_offset: 10,
        producer_id: 77,
        epoch: 4,
    }
}

#[test]
fn a_marker_is_waited_for_and_another_leader_looked_for_when_nothing_comes() {
    let (mut lookups, now) = (lookups(), Instant::now());
    lookups.want(log(0, 1), Wish::Marker(witness()));
    let mut refreshes = Vec::new();
    for tenth in 0..25 {
        let at = now + tenth * PATIENCE;
        let question = lookups.next(at).expect("at once: the leader waits");
        let Ask::Read { offset: 10, .. } = question.ask else {
            panic!("{question:?}");
        };
        let news = lookups.answered(&question, &NOTHING, at);
        assert!(!news.is_last());
        match news {
            News::Marker(MarkerNews::NotYet { refresh: false }) => {}
            News::Marker(MarkerNews::NotYet { refresh: true }) => refreshes.push(tenth),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refreshes, [10, 20]);
}

#[test]
fn a_log_that_may_not_be_read_tells_of_no_marker() {
    let (mut lookups, now) = (lookups(), Instant::now());
    lookups.want(log(0, 1), Wish::Marker(witness()));
    let question = lookups.next(now).expect("a question");
    let news = lookups.answered(&question, &failed(Follows::AskMetadata), now);
    assert!(
        matches!(news, News::Trouble { refresh: true, .. }),
        "{news:?}"
    );
    let at = lookups.next_at().expect("a wait");
    let question = lookups.next(at).expect("again");
    let news = lookups.answered(&question, &failed(Follows::Never), at);
    let unknown = matches!(&news, News::Marker(MarkerNews::Unknown(why)) if &**why == "no");
    assert!(unknown && news.is_last(), "{news:?}");
    assert_eq!(lookups.next(at), None);
}

#[test]
fn a_log_that_does_not_reach_so_far_is_asked_for_again_before_that_is_believed() {
    let (mut lookups, mut now) = (lookups(), Instant::now());
    let ends_before = failed(Follows::AskMetadataFirst);
    lookups.want(log(0, 1), Wish::Look(look(None)));
    for _ in 0..DISBELIEVED {
        let question = lookups.next(now).expect("a question");
        let news = lookups.answered(&question, &ends_before, now);
        assert!(
            matches!(news, News::Trouble { refresh: true, .. }),
            "{news:?}"
        );
        now = lookups.next_at().expect("a wait");
    }
    // Another one leads, and has it.
    lookups.want(log(0, 2), Wish::Look(look(None)));
    let question = lookups.next(now).expect("a question");
    let news = lookups.answered(&question, &NOTHING, now);
    assert!(matches!(news, News::Nothing), "{news:?}");
    for _ in 0..DISBELIEVED {
        now += Duration::from_secs(2);
        let question = lookups.next(now).expect("a question");
        lookups.answered(&question, &ends_before, now);
    }
    now += Duration::from_secs(2);
    let question = lookups.next(now).expect("a question");
    let news = lookups.answered(&question, &ends_before, now);
    assert!(matches!(news, News::Unreadable(..)), "{news:?}");
}
