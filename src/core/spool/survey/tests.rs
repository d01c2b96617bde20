use super::*;
use crate::core::spool::Line;

fn line(epoch: i16, sequence: i32, position: u64, sent: u64) -> Line {
    Line {
        identity: Identity {
            producer_id: 1,
            epoch,
        },
        sequence,
        position,
        floor: 0,
        sent,
    }
}

fn survey(lines: &[Line], unsettled: &[Range<u64>], end: u64) -> Survey {
    let sent = |at: usize| lines[at + 1..].iter().map(|next| next.sent);
    let sent_under = |(at, line): (usize, &Line)| SentUnder {
        line: *line,
        end: sent(at).fold(end, u64::min),
    };
    Survey::new(&Resume {
        slot: 1,
        topic: None,
        lines: lines.iter().enumerate().map(sent_under).collect(),
        unsettled: unsettled.to_vec(),
        missing: Vec::new(),
        end,
        next_position: end,
    })
}

fn seen(epoch: i16, sequence: i32, count: u32, base_offset: i64) -> Seen {
    Seen {
        identity: Identity {
            producer_id: 1,
            epoch,
        },
        sequence,
        count,
        base_offset,
    }
}

fn at(position: u64, count: u32, base_offset: i64) -> InLog {
    InLog {
        position,
        count,
        base_offset,
    }
}

#[test]
fn batches_are_found_by_their_sequences() {
    let mut survey = survey(&[line(0, 100, 0, 0)], &[10..50], 50);
    for batch in [
        seen(0, 100, 10, 1000), // settled
        seen(0, 110, 5, 1010),
        seen(0, 120, 10, 1020),
        seen(7, 120, 10, 1030),
    ] {
        assert_eq!(survey.see(batch), Ok(()));
    }
    let other = Seen {
        identity: Identity {
            producer_id: 2,
            epoch: 0,
        },
        ..seen(0, 115, 5, 1040)
    };
    assert_eq!(survey.see(other), Ok(()), "somebody else's");
    assert_eq!(survey.found(), [at(10, 5, 1010), at(20, 10, 1020)]);
    assert_eq!(survey.absent(), [15..20, 30..50]);
}

#[test]
fn the_latest_line_of_an_identity_counts_that_begins_there_or_before() {
    // Ten records between ended unsent. The third line takes back what the second had numbered.
    let lines = [
        line(0, 0, 0, 0),
        line(0, 20, 30, 20),
        line(0, 15, 40, 20),
        line(0, 30, 60, 60),
    ];
    let mut survey = survey(&lines, &[0..90], 90);
    for (sequence, position) in [(0, 0), (14, 14), (15, 40), (20, 45), (29, 54), (30, 60)] {
        survey
            .see(seen(0, sequence, 1, position as i64))
            .expect("a place");
        assert_eq!(
            survey.found().last(),
            Some(&at(position, 1, position as i64))
        );
    }
}

#[test]
fn sequences_wrap() {
    let mut survey = survey(&[line(0, i32::MAX - 4, 1000, 0)], &[1000..1100], 1100);
    assert_eq!(survey.see(seen(0, i32::MAX, 3, 70)), Ok(()));
    assert_eq!(survey.see(seen(0, 2, 5, 73)), Ok(()));
    assert_eq!(survey.found(), [at(1004, 3, 70), at(1007, 5, 73)]);
    // A line that begins where another one has wrapped.
    let lines = [line(0, i32::MAX - 4, 1000, 0), line(0, 10, 1020, 1015)];
    let mut survey = self::survey(&lines, &[1000..1100], 1100);
    for (sequence, position) in [(i32::MAX - 4, 1000), (0, 1005), (9, 1014), (10, 1020)] {
        survey.see(seen(0, sequence, 1, 0)).expect("a place");
        assert_eq!(survey.found().last(), Some(&at(position, 1, 0)));
    }
}

/// What waits behind is more than there are sequence numbers.
#[test]
fn what_was_sent_long_ago_is_not_taken_for_what_waits() {
    let far = 5 << 31;
    let mut survey = survey(&[line(0, 0, 0, 0)], &[far + 1000..far * 2], far * 2);
    assert_eq!(survey.see(seen(0, 500, 10, 1)), Ok(()));
    assert_eq!(survey.found(), []);
    assert_eq!(survey.see(seen(0, 1500, 10, 2)), Ok(()));
    assert_eq!(survey.found(), [at(far + 1500, 10, 2)]);
    // From before the first line that is known.
    let mut survey = self::survey(&[line(0, 1000, 0, 0)], &[0..far], far);
    assert_eq!(survey.see(seen(0, 990, 10, 1)), Ok(()));
    assert_eq!(survey.found(), []);
}

/// A process that ended before it sent anything has left records of its own behind those in doubt.
#[test]
fn what_waits_of_a_later_process_hides_nothing_of_an_earlier_one() {
    let gap = (1 << 32) + 1_000_003;
    let (left, waits) = (100..150, gap + 150..gap + 200);
    let mut survey = Survey::new(&Resume {
        slot: 1,
        topic: None,
        lines: vec![SentUnder {
            line: line(0, 0, 40, 40),
            end: 150,
        }],
        unsettled: vec![left, waits.clone()],
        missing: Vec::new(),
        end: waits.end,
        next_position: waits.end,
    });
    assert_eq!(survey.see(seen(0, 60, 10, 7)), Ok(()));
    assert_eq!(survey.found(), [at(100, 10, 7)]);
}

/// A process that ended while it sent what a former one had left has accepted records of its own, and sent
/// none of them.
#[test]
fn what_was_left_out_hides_nothing_that_was_sent_before_it() {
    let gap = (1 << 32) + 1_000_003;
    let (left, waits) = (100..150, gap + 150..gap + 200);
    let mut survey = survey(&[line(0, 0, 90, 90)], &[left, waits.clone()], waits.end);
    assert_eq!(survey.see(seen(0, 0, 10, 6)), Ok(()), "settled");
    assert_eq!(survey.see(seen(0, 10, 20, 7)), Ok(()));
    assert_eq!(survey.found(), [at(100, 20, 7)]);
}

#[test]
fn what_does_not_agree_is_told_and_found() {
    let lines = [line(0, 0, 0, 0), line(1, 0, 10, 30)];
    let mut survey = survey(&lines, &[10..40], 40);
    let partly = Mismatch::Partly {
        base_offset: 100,
        from: 5,
        to: 15,
    };
    assert_eq!(survey.see(seen(0, 5, 10, 100)), Err(partly));
    assert_eq!(survey.found(), [at(10, 5, 105)]);
    let twice = Mismatch::Twice {
        base_offset: 200,
        from: 12,
        to: 18,
    };
    assert_eq!(survey.see(seen(1, 2, 6, 200)), Err(twice));
    assert_eq!(survey.found().last(), Some(&at(15, 3, 203)));
    let beyond = |base_offset, from, to, end| {
        Err(Mismatch::Beyond {
            base_offset,
            from,
            to,
            end,
        })
    };
    // The second line says that the first went no further than to 30.
    assert_eq!(survey.see(seen(0, 25, 10, 300)), beyond(300, 25, 35, 30));
    assert_eq!(survey.see(seen(1, 28, 5, 400)), beyond(400, 38, 43, 40));
    assert_eq!(survey.absent(), [18..25, 35..38]);
}

#[test]
fn a_logged_batch_has_the_records_that_it_was_appended_with() {
    let batch = LoggedBatch {
        base_offset: 9,
        length: 100,
        leader_epoch: 0,
        attributes: 0,
        last_offset_delta: 4,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: 1,
        epoch: 3,
        base_sequence: 7,
        count: 2,
        control: None,
    };
    assert_eq!(Seen::from(&batch), seen(3, 7, 5, 9));
}
