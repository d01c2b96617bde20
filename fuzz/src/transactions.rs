//! What coordinators answer, and what is read of a log.

use forebay::internals::batch::{Control, HEADER_LEN, LoggedBatches};
use forebay::internals::wire::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, Api, DescribeTransactionsResponse,
    EndTxnResponse, FetchResponse, FindCoordinatorResponse, ListOffsetsResponse,
    TxnOffsetCommitResponse,
};

use super::{bounded, versioned};

/// The partition that Fetch and ListOffsets are asked about.
const PARTITION: i32 = 0;

/// The first byte chooses a request; what follows is read as [`versioned`] does.
pub fn transaction_response(data: &[u8]) {
    let apis = [
        Api::FindCoordinator,
        Api::AddPartitionsToTxn,
        Api::AddOffsetsToTxn,
        Api::EndTxn,
        Api::TxnOffsetCommit,
        Api::ListOffsets,
        Api::Fetch,
        Api::DescribeTransactions,
    ];
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let api = apis[usize::from(*first) % apis.len()];
    let Some((version, body)) = versioned(api, data) else {
        return;
    };
    match api {
        Api::FindCoordinator => {
            if let Ok(answer) = FindCoordinatorResponse::decode(version, &body) {
                assert!(answer.node.is_none() || answer.error_code == 0);
            }
        }
        Api::AddPartitionsToTxn => {
            if let Ok(answer) = AddPartitionsToTxnResponse::decode(version, &body) {
                bounded("partitions", answer.partitions.len(), 6, &body);
            }
        }
        Api::AddOffsetsToTxn => {
            let _ = AddOffsetsToTxnResponse::decode(version, &body);
        }
        Api::EndTxn => {
            if let Ok(answer) = EndTxnResponse::decode(version, &body) {
                let told = answer.next.is_none_or(|(id, epoch)| id >= 0 && epoch >= 0);
                assert!(told && (answer.next.is_none() || answer.error_code == 0));
            }
        }
        Api::DescribeTransactions => {
            if let Ok(answer) = DescribeTransactionsResponse::decode(version, &body) {
                bounded("states", answer.states.len(), 28, &body);
            }
        }
        Api::TxnOffsetCommit => {
            if let Ok(answer) = TxnOffsetCommitResponse::decode(version, &body) {
                bounded("partitions", answer.partitions.len(), 6, &body);
            }
        }
        Api::ListOffsets => {
            if let Ok(answer) = ListOffsetsResponse::decode(version, PARTITION, &body) {
                assert!(answer.offset >= -1);
            }
        }
        _ => {
            if let Ok(answer) = FetchResponse::decode(version, PARTITION, &body) {
                bounded("transactions", answer.aborted.len(), 16, &body);
                bounded("nodes", answer.nodes.len(), 10, &body);
                bounded("bytes", answer.records.len(), 1, &body);
                logged_batches(&answer.records);
            }
        }
    }
}

/// The bytes of a log, as an answer to Fetch has them.
pub fn logged_batches(data: &[u8]) {
    let mut batches = LoggedBatches::new(data);
    let (mut bytes, mut last) = (0, -1);
    while let Some(read) = batches.next() {
        let Ok(batch) = read else {
            assert!(batches.next().is_none(), "an error is the end");
            return;
        };
        assert!(batch.length >= HEADER_LEN && batch.count >= 0);
        assert!(batch.base_offset > last && batch.last_offset() >= batch.base_offset);
        let emptied = batch.control == Some(Control::Emptied);
        assert!(!emptied || batch.count == 0);
        last = batch.last_offset();
        bytes += batch.length;
        assert_eq!(
            bytes + batches.left(),
            data.len(),
            "every byte is somewhere"
        );
    }
}
