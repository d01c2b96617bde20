//! A limit on the size of requests that a broker does not tell.

use std::sync::Arc;

/// No broker is known that takes less. A smaller request that meets the end of a connection was there by
/// chance.
const LEAST: usize = 64 << 10;

/// Finds out that a broker ends the connection on requests above some size. Event Hubs do, and Kafka
/// itself above `socket.request.max.bytes`; neither says a word of it.
#[derive(Debug, Default)]
pub(crate) struct UnsaidLimit {
    /// The largest request that the broker has answered.
    answered: usize,
    /// The smallest of the larger ones that a connection ended on, and how many did.
    ended: Option<(usize, u32)>,
}

impl UnsaidLimit {
    /// The broker has answered a request of so many bytes.
    pub fn answered(&mut self, bytes: usize) {
        self.answered = self.answered.max(bytes);
        self.ended = self.ended.filter(|(ended, _)| *ended > self.answered);
    }

    /// The broker closed the connection; `bytes` is the largest request without an answer. Returns the
    /// error, and what is likely to be its cause if that is not the first time.
    pub fn closed(&mut self, error: &Arc<str>, bytes: usize) -> Arc<str> {
        if bytes < LEAST || bytes <= self.answered {
            return Arc::clone(error);
        }
        let (least, times) = self.ended.unwrap_or((bytes, 0));
        let least = least.min(bytes);
        self.ended = Some((least, times.saturating_add(1)));
        if times == 0 {
            return Arc::clone(error);
        }
        format!(
            "{error}; it does so again and again on requests of {least} bytes or more, and has answered \
             none of that size, so it may take only smaller ones: lower max.request.size and batch.size"
        )
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn names_a_limit(limit: &mut UnsaidLimit, bytes: usize) -> bool {
        let said = limit.closed(&"closed".into(), bytes);
        assert!(said.starts_with("closed"));
        said.contains("max.request.size")
    }

    #[test]
    fn the_second_connection_that_ends_on_a_large_request_names_the_limit() {
        let mut limit = UnsaidLimit::default();
        assert!(!names_a_limit(&mut limit, MIB));
        // Small ones go through meanwhile.
        limit.answered(1000);
        assert!(names_a_limit(&mut limit, MIB + 1));
        let said = limit.closed(&"closed".into(), 2 * MIB);
        assert!(said.contains("of 1048576 bytes or more"), "{said}");
    }

    #[test]
    fn a_size_that_was_answered_is_no_reason() {
        let mut limit = UnsaidLimit::default();
        for _ in 0..3 {
            assert!(!names_a_limit(&mut limit, MIB));
            limit.answered(MIB);
        }
        for _ in 0..3 {
            assert!(!names_a_limit(&mut limit, MIB), "others of the size went");
        }
    }

    #[test]
    fn small_requests_are_no_reason() {
        let mut limit = UnsaidLimit::default();
        for _ in 0..3 {
            assert!(!names_a_limit(&mut limit, LEAST - 1));
        }
    }
}
