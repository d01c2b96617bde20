//! Tests of MESSAGE_TOO_LARGE, which splits a batch.

use super::*;

fn values(lent: &Lent) -> Vec<u32> {
    let values = super::values(lent);
    let records = values.iter().enumerate();
    records
        .map(|(at, (offset, timestamp, value))| {
            assert_eq!(*offset, at as i64);
            assert_eq!(*timestamp, 1_000 + i64::from(*value));
            *value
        })
        .collect()
}

#[test]
fn halves_share_the_sequences_and_the_receipts_follow() {
    let mut line = Line::proven();
    let sent = line.push(5);
    let next = line.push(1);
    let lent = line.take_many(2);
    line.error(&lent[0], MESSAGE_TOO_LARGE);
    assert_eq!(line.ledger.splits, 1);
    line.error(&lent[1], OUT_OF_ORDER);
    line.back_off();
    let head = line.take();
    assert_eq!((sequence(&head), values(&head)), (1, vec![0, 1]));
    assert!(line.try_take().is_none(), "the head goes alone");
    line.acked(&head, 10);
    assert_eq!(
        sent.receipts[1]
            .outcome()
            .expect("settled")
            .expect("acked")
            .offset,
        Some(11)
    );
    assert!(sent.receipts[2].outcome().is_none());
    let tail = line.take();
    assert_eq!((sequence(&tail), values(&tail)), (3, vec![2, 3, 4]));
    line.acked(&tail, 70);
    let behind = line.take();
    assert_eq!(behind.header, lent[1].header);
    line.acked(&behind, 73);
    let offsets = [10, 11, 70, 71, 72].map(Some);
    assert_eq!(sent.offsets(), offsets);
    assert!(next.is_acked());
    assert!(line.left.is_empty());
    // Both halves are reported with the id of the batch they come from.
    assert_eq!(line.told, [sent.batch, sent.batch, next.batch]);
}

#[test]
fn halves_are_split_again_down_to_single_records() {
    let mut line = Line::proven();
    let sent = line.push(4);
    let mut seen = Vec::new();
    loop {
        line.back_off();
        let Some(lent) = line.try_take() else { break };
        let values = values(&lent);
        seen.push((sequence(&lent), values.clone()));
        // Only record 2 is too large by itself.
        match values.contains(&2) {
            true => drop(line.error(&lent, MESSAGE_TOO_LARGE)),
            false => line.acked(&lent, i64::from(values[0])),
        }
    }
    assert_eq!(
        seen[..4],
        [
            (1, vec![0, 1, 2, 3]),
            (1, vec![0, 1]),
            (3, vec![2, 3]),
            (3, vec![2])
        ]
    );
    let outcomes: Vec<_> = sent
        .receipts
        .iter()
        .map(|receipt| receipt.outcome())
        .collect();
    assert!(matches!(outcomes[2], Some(Err(Unconfirmed::NotWritten(_)))));
    assert!(outcomes[0].as_ref().is_some_and(|outcome| outcome.is_ok()));
    // Record 3 comes after a gap and waits for a new identity.
    assert_eq!(line.left, [FIRST]);
    assert!(outcomes[3].is_none());
    line.adopt(SECOND);
    let last = line.take();
    assert_eq!((stamp(&last), values(&last)), ((7, 1, 0), vec![3]));
    line.acked(&last, 3);
    let acked = sent.receipts[3].outcome().expect("settled").expect("acked");
    assert_eq!(acked.offset, Some(3));
}

#[test]
fn a_single_record_cannot_be_split() {
    let mut line = Line::proven();
    let sent = line.push(1);
    let lent = line.take();
    line.error(&lent, MESSAGE_TOO_LARGE);
    assert!(sent.is_not_written());
    assert!(line.left.is_empty() && line.ledger.splits == 0);
}

#[test]
fn an_unresolved_batch_is_not_split() {
    let mut line = Line::proven();
    let sent = line.push(4);
    let lent = line.take();
    line.lost(&lent);
    line.back_off();
    let again = line.take();
    line.error(&again, MESSAGE_TOO_LARGE);
    assert!(sent.is_unknown(), "in parts it could be written twice");
    assert_eq!(line.left, [FIRST]);
}

#[test]
fn a_batch_that_has_its_outcome_is_not_split() {
    let mut line = Line::proven();
    let sent = line.push(4);
    let lent = line.take();
    line.time_out();
    line.error(&lent, MESSAGE_TOO_LARGE);
    assert!(sent.is_unknown());
    assert_eq!((line.ledger.len(), line.ledger.splits), (0, 0));
}

#[test]
fn a_compressed_batch_is_split_by_its_records() {
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let codec = Compression::from_name(codec).expect("a codec");
        if !codec.is_built_in() {
            continue;
        }
        let mut line = Line::with(Rules { codec, ..rules() });
        line.adopt(FIRST);
        let sent = line.push(64);
        let lent = line.take();
        assert_eq!(i16::from(lent.header[22]), codec.attribute_bits());
        line.error(&lent, MESSAGE_TOO_LARGE);
        line.back_off();
        for (offset, expected) in [(0, 0..32), (32, 32..64)] {
            let half = line.take();
            assert!(values(&half).into_iter().eq(expected));
            line.acked(&half, offset);
        }
        let offsets: Vec<_> = (0..64).map(Some).collect();
        assert_eq!(sent.offsets(), offsets);
    }
}

#[test]
fn without_idempotence_halves_go_side_by_side() {
    let mut line = Line::with(Rules {
        idempotent: false,
        ..rules()
    });
    let sent = line.push(2);
    let lent = line.take();
    line.error(&lent, MESSAGE_TOO_LARGE);
    let halves = line.take_many(2);
    line.acked(&halves[1], 1);
    line.acked(&halves[0], 0);
    assert_eq!(sent.offsets(), [Some(0), Some(1)]);
}
