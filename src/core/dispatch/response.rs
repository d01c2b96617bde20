//! Assigns the results of a Produce response to the batches of its request.

use super::OutgoingBatch;
use crate::core::broker_error::BrokerError;
use crate::core::ledger::Attempt;
use crate::core::wire::{PartitionResponse, TopicKey};

/// Pairs each batch of a request with its result in the response, by topic and partition. A batch
/// that the response omits gets `None`. Results that belong to no batch are ignored.
pub(crate) fn match_responses<P: OutgoingBatch>(
    batches: Vec<P>,
    mut answers: Vec<PartitionResponse>,
) -> impl Iterator<Item = (P, Option<PartitionResponse>)> {
    // Brokers usually keep the order of the request. Reversed, the result of the next batch is then
    // the last one in the list, where it is cheap to remove.
    answers.reverse();
    batches.into_iter().map(move |batch| {
        let at = answers.iter().rposition(|answer| is_for(answer, &batch));
        (batch, at.map(|at| answers.remove(at)))
    })
}

/// Whether the response tells of every batch of the request, and of nothing else.
pub(crate) fn tells_of_all<P: OutgoingBatch>(batches: &[P], answers: &[PartitionResponse]) -> bool {
    let told = |batch| answers.iter().any(|answer| is_for(answer, batch));
    answers.len() == batches.len() && batches.iter().all(told)
}

fn is_for(answer: &PartitionResponse, batch: &impl OutgoingBatch) -> bool {
    answer.partition == batch.partition()
        && match &answer.topic {
            TopicKey::Name(name) => **name == *batch.topic(),
            TopicKey::Id(id) => *id == batch.topic_id(),
        }
}

impl From<PartitionResponse> for Attempt {
    fn from(answer: PartitionResponse) -> Self {
        let invalid = answer.record_errors.into_iter().filter_map(|error| {
            let why = error
                .message
                .unwrap_or_else(|| "no reason given".to_owned());
            Some((u32::try_from(error.index).ok()?, why.into()))
        });
        Self {
            invalid: invalid.collect(),
            error: BrokerError {
                code: answer.error_code,
                message: answer.error_message.map(Into::into),
                principal: None,
            },
            base_offset: Some(answer.base_offset).filter(|offset| *offset >= 0),
            log_append_time: Some(answer.log_append_time_ms).filter(|time| *time >= 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outgoing_batch::tests::Batch;
    use super::*;

    fn answer(topic: &str, base_offset: i64) -> PartitionResponse {
        PartitionResponse {
            topic: TopicKey::Name(topic.into()),
            partition: 0,
            error_code: 0,
            base_offset,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            leader: None,
        }
    }

    fn offsets(topics: &[&'static str], answers: Vec<PartitionResponse>) -> Vec<Option<i64>> {
        let batches = topics.iter().map(|topic| Batch(topic, 1)).collect();
        let matched = match_responses(batches, answers);
        matched
            .map(|(_, answer)| answer.map(|answer| answer.base_offset))
            .collect()
    }

    #[test]
    fn answers_find_their_batches_in_any_order() {
        let answers = vec![answer("b", 2), answer("a", 1), answer("c", 3)];
        assert_eq!(
            offsets(&["a", "b", "c"], answers),
            [Some(1), Some(2), Some(3)]
        );
    }

    #[test]
    fn a_batch_left_out_and_an_answer_too_much_do_not_meet() {
        let answers = vec![answer("a", 1), answer("x", 9), answer("c", 3)];
        assert_eq!(offsets(&["a", "b", "c"], answers), [Some(1), None, Some(3)]);
        assert_eq!(
            offsets(&["a"], vec![answer("a", 1), answer("a", 2)]),
            [Some(1)]
        );
    }

    #[test]
    fn all_is_told_when_each_batch_has_its_answer_and_no_more() {
        let batches = ["a", "b"].map(|topic| Batch(topic, 1));
        for (topics, all) in [
            (&["b", "a"][..], true),
            (&["a"], false),
            (&["a", "x"], false),
            (&["a", "b", "x"], false),
        ] {
            let answers: Vec<_> = topics.iter().map(|topic| answer(topic, 1)).collect();
            assert_eq!(tells_of_all(&batches, &answers), all, "{topics:?}");
        }
    }

    #[test]
    fn an_offset_or_a_time_that_the_broker_does_not_say_is_none() {
        let attempt = Attempt::from(answer("a", -1));
        assert_eq!((attempt.base_offset, attempt.log_append_time), (None, None));
    }
}
