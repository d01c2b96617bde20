//! What a sender needs to know of a batch.

use uuid::Uuid;

use crate::core::batch::HEADER_LEN;

/// A batch that goes into a request.
pub trait OutgoingBatch {
    fn topic(&self) -> &str;
    /// Nil if the brokers are too old to have topic ids.
    fn topic_id(&self) -> Uuid;
    fn partition(&self) -> i32;
    fn header(&self) -> &[u8; HEADER_LEN];
    /// Bytes of the records, without the header.
    fn records_len(&self) -> usize;

    /// Bytes on the wire.
    fn len(&self) -> usize {
        HEADER_LEN + self.records_len()
    }
}

impl<P: OutgoingBatch> OutgoingBatch for Box<P> {
    fn topic(&self) -> &str {
        (**self).topic()
    }

    fn topic_id(&self) -> Uuid {
        (**self).topic_id()
    }

    fn partition(&self) -> i32 {
        (**self).partition()
    }

    fn header(&self) -> &[u8; HEADER_LEN] {
        (**self).header()
    }

    fn records_len(&self) -> usize {
        (**self).records_len()
    }

    fn len(&self) -> usize {
        (**self).len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A batch of partition 0 of a topic, with its length on the wire.
    #[derive(Debug, PartialEq)]
    pub(crate) struct Batch(pub &'static str, pub usize);

    impl OutgoingBatch for Batch {
        fn topic(&self) -> &str {
            self.0
        }

        fn topic_id(&self) -> Uuid {
            Uuid::from_u128(u128::from(self.0.as_bytes()[0]))
        }

        fn partition(&self) -> i32 {
            0
        }

        fn header(&self) -> &[u8; HEADER_LEN] {
            &[0; HEADER_LEN]
        }

        fn records_len(&self) -> usize {
            self.1
        }

        fn len(&self) -> usize {
            self.1
        }
    }
}
