//! A commit in doubt that only the log can tell of.

use uuid::Uuid;

use super::*;
use crate::core::lookup::{Marker, MarkerNews, Witness};

/// A commit whose answer was missed, and which is refused with this code then.
fn in_doubt(protocol: TransactionProtocol, code: i16) -> (Play, Arc<Scope>) {
    let (mut play, scope) = Play::begun(protocol);
    play.join(&scope, 0);
    if protocol == TransactionProtocol::V1 {
        play.done(&Request::AddPartitions(vec![partition(0)]), None);
    }
    scope.bear(Witness {
        partition: partition(0),
        topic_id: Uuid::nil(),
        base_offset: 7,
        producer_id: 9,
        epoch: 0,
    });
    play.end(&scope, true);
    play.unanswered(&COMMIT);
    play.refused(&COMMIT, code);
    assert_eq!(scope.end(), None, "the log is to tell");
    assert!(!play.it.is_idle());
    (play, scope)
}

impl Play {
    fn seeks(&mut self) -> bool {
        self.it.seeks(self.now).is_some()
    }

    fn sought(&mut self, scope: &Arc<Scope>, news: MarkerNews) {
        self.it.sought(scope, news, self.now);
    }
}

/// Of an end that another instance has brought about.
const OTHERS: Marker = Marker::Aborted { epoch: 2 };
const NOT_YET: MarkerNews = MarkerNews::NotYet { refresh: false };

#[test]
fn the_marker_tells_whether_it_was_committed() {
    for protocol in [TransactionProtocol::V1, TransactionProtocol::V2] {
        for (code, fenced) in [(90, true), (47, true), (49, false), (53, false)] {
            for marker in [Marker::Committed, OTHERS] {
                let (mut play, scope) = in_doubt(protocol, code);
                assert!(play.seeks());
                play.sought(&scope, NOT_YET);
                assert_eq!(scope.end(), None, "it is being written");
                play.sought(&scope, MarkerNews::Found(marker));
                match (marker, scope.end()) {
                    (Marker::Committed, Some(End::Committed)) => {}
                    (Marker::Aborted { .. }, Some(End::Aborted(why))) => {
                        assert!(matches!(&*why.cause, Cause::Refused(_)), "{why:?}");
                    }
                    (_, end) => panic!("{marker:?}: {end:?}"),
                }
                assert!(play.it.is_idle());
                assert!(!play.seeks());
                let refused = matches!(play.it.begin(), Begin::Refused(_));
                assert_eq!(refused, fenced, "{code}");
            }
        }
    }
}

/// An abort under the next epoch is the coordinator's own: nothing was committed, and the epoch was given to
/// nobody. So it is asked whether that is still so.
#[test]
fn in_protocol_1_the_marker_tells_time_that_was_over_from_another_instance() {
    for code in [90, 47] {
        for is_time in [true, false] {
            let (mut play, scope) = in_doubt(TransactionProtocol::V1, code);
            // InitProducerId would abort what a newer instance has open.
            assert!(matches!(play.it.begin(), Begin::Wait));
            play.quiet();
            play.sought(&scope, MarkerNews::Found(Marker::Aborted { epoch: 1 }));
            assert!(matches!(scope.end(), Some(End::Aborted(_))));
            assert!(matches!(play.it.begin(), Begin::Wait));
            if is_time {
                play.unanswered(&ABORT);
                play.done(&ABORT, None);
                assert!(matches!(play.it.begin(), Begin::Wait));
                play.done(&BUMP(Some(identity(1))), Some(identity(2)));
                play.begin();
            } else {
                play.refused(&ABORT, 90);
                assert!(matches!(play.it.begin(), Begin::Refused(_)));
                play.quiet();
            }
        }
    }
    // Whatever else there is says that another instance has the id, or does not say.
    let never = MarkerNews::Unknown("no READ on the topic".into());
    for news in [MarkerNews::Found(Marker::Committed), never] {
        let (mut play, scope) = in_doubt(TransactionProtocol::V1, 90);
        play.sought(&scope, news);
        assert!(matches!(play.it.begin(), Begin::Refused(_)));
        play.quiet();
    }
}

#[test]
fn what_the_log_does_not_tell_stays_unknown_and_says_why() {
    let (mut play, scope) = in_doubt(TransactionProtocol::V2, 90);
    play.sought(&scope, MarkerNews::Unknown("no READ on the topic".into()));
    let Some(End::Unknown(why)) = scope.end() else {
        panic!("{scope:?}");
    };
    assert!(why.text.contains("no READ on the topic"), "{}", why.text);
    assert!(why.text.contains("EndTxn"), "{}", why.text);
    assert!(play.it.is_idle());
}

/// Where it can be read, the coordinator is still writing markers.
#[test]
fn a_log_that_can_be_read_is_read_on_and_one_that_cannot_is_given_up() {
    let (mut play, scope) = in_doubt(TransactionProtocol::V2, 90);
    for _ in 0..10 {
        play.now += PATIENCE / 2;
        play.it.expire(play.now);
        play.sought(&scope, NOT_YET);
    }
    assert_eq!(scope.end(), None);
    let read = play.now;
    play.now += PATIENCE / 2;
    play.sought(&scope, MarkerNews::Trouble("it is down".into()));
    play.now = read + PATIENCE - Duration::from_millis(1);
    play.it.expire(play.now);
    assert_eq!(scope.end(), None);
    play.now = read + PATIENCE;
    play.it.expire(play.now);
    let Some(End::Unknown(why)) = scope.end() else {
        panic!("{scope:?}");
    };
    assert!(why.text.contains("it is down"), "{}", why.text);
}

#[test]
fn whoever_looks_is_asked_again_while_nothing_is_heard() {
    let (mut play, scope) = in_doubt(TransactionProtocol::V2, 90);
    assert!(play.seeks());
    assert!(!play.seeks(), "it has been asked");
    let at = play.it.next_at().expect("a time to ask again");
    play.now = at;
    assert!(play.seeks());
    play.sought(&scope, NOT_YET);
    play.now += at - play.now;
    assert!(!play.seeks(), "somebody is at it");
    play.it.seek_anew(play.now);
    assert!(play.seeks(), "messages may have been lost");
    // No broker may be asked for its leader any more.
    play.now = play.it.next_at().expect("a time to ask again");
    play.sought(&scope, MarkerNews::Trouble("no leader".into()));
    assert!(play.seeks(), "trouble is as good as silence");
    let other = Scope::open(TransactionProtocol::V2);
    play.sought(&other, MarkerNews::Found(Marker::Committed));
    assert_eq!((scope.end(), other.end()), (None, None));
}

/// With what another instance is asked for, brokers end what is open.
#[test]
fn whoever_is_not_fenced_has_it_ended_meanwhile_if_another_is_to_begin() {
    let (mut play, scope) = in_doubt(TransactionProtocol::V2, 53);
    play.quiet();
    assert!(matches!(play.it.begin(), Begin::Wait));
    play.done(&BUMP(Some(identity(0))), Some(identity(2)));
    assert!(
        matches!(play.it.begin(), Begin::Wait),
        "one after the other"
    );
    play.sought(&scope, MarkerNews::Found(OTHERS));
    play.begin();
}

#[test]
fn nobody_looks_when_the_producer_ends() {
    let (mut play, scope) = in_doubt(TransactionProtocol::V2, 90);
    play.it.give_up(Cause::Closed);
    assert!(matches!(scope.end(), Some(End::Unknown(_))), "{scope:?}");
    assert!(!play.seeks());
}
