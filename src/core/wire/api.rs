//! The requests that this producer sends, and their versions.

use std::fmt;

/// The requests this producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Produce,
    Metadata,
    Versions,
    InitProducerId,
    SaslHandshake,
    SaslAuthenticate,
    FindCoordinator,
    AddPartitionsToTxn,
    AddOffsetsToTxn,
    EndTxn,
    TxnOffsetCommit,
    ListOffsets,
    Fetch,
    DescribeTransactions,
    /// Of `forebay check` alone.
    #[cfg_attr(
        not(any(test, feature = "cli", feature = "internals")),
        expect(dead_code, reason = "of the command alone")
    )]
    DescribeConfigs,
}

impl Api {
    pub const fn key(self) -> i16 {
        match self {
            Api::Produce => 0,
            Api::Metadata => 3,
            Api::Versions => 18,
            Api::InitProducerId => 22,
            Api::SaslHandshake => 17,
            Api::SaslAuthenticate => 36,
            Api::FindCoordinator => 10,
            Api::AddPartitionsToTxn => 24,
            Api::AddOffsetsToTxn => 25,
            Api::EndTxn => 26,
            Api::TxnOffsetCommit => 28,
            Api::ListOffsets => 2,
            Api::Fetch => 1,
            Api::DescribeTransactions => 65,
            Api::DescribeConfigs => 32,
        }
    }

    /// The versions supported here, from lowest to highest.
    pub const fn ours(self) -> (i16, i16) {
        match self {
            Api::Produce => (3, 13),
            Api::Metadata => (4, 13),
            Api::Versions => (0, 5),
            Api::InitProducerId => (0, 5),
            Api::SaslHandshake => (0, 1),
            Api::SaslAuthenticate => (0, 2),
            Api::FindCoordinator => (0, 6),
            // Later ones are for brokers: they ask for CLUSTER_ACTION.
            Api::AddPartitionsToTxn => (0, 3),
            Api::AddOffsetsToTxn => (0, 4),
            Api::EndTxn | Api::TxnOffsetCommit => (0, 5),
            Api::ListOffsets => (1, 10),
            // Version 18 says what only followers know.
            Api::Fetch => (4, 17),
            Api::DescribeTransactions => (0, 0),
            // Later ones tell what nobody here wants to know.
            Api::DescribeConfigs => (1, 1),
        }
    }

    /// Flexible versions have compact lengths and tagged fields (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        let first = match self {
            Api::Produce | Api::Metadata => 9,
            Api::Versions => 3,
            Api::InitProducerId | Api::SaslAuthenticate => 2,
            Api::FindCoordinator
            | Api::AddPartitionsToTxn
            | Api::AddOffsetsToTxn
            | Api::EndTxn
            | Api::TxnOffsetCommit => 3,
            Api::ListOffsets => 6,
            Api::Fetch => 12,
            Api::DescribeTransactions => 0,
            Api::SaslHandshake | Api::DescribeConfigs => i16::MAX,
        };
        version >= first
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Api::Produce => "Produce",
            Api::Metadata => "Metadata",
            Api::Versions => "ApiVersions",
            Api::InitProducerId => "InitProducerId",
            Api::SaslHandshake => "SaslHandshake",
            Api::SaslAuthenticate => "SaslAuthenticate",
            Api::FindCoordinator => "FindCoordinator",
            Api::AddPartitionsToTxn => "AddPartitionsToTxn",
            Api::AddOffsetsToTxn => "AddOffsetsToTxn",
            Api::EndTxn => "EndTxn",
            Api::TxnOffsetCommit => "TxnOffsetCommit",
            Api::ListOffsets => "ListOffsets",
            Api::Fetch => "Fetch",
            Api::DescribeTransactions => "DescribeTransactions",
            Api::DescribeConfigs => "DescribeConfigs",
        })
    }
}
