//! Correlation ids: one per request or decision cycle, on every line logged on its behalf.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::Span;

/// Ties log lines to the request or cycle that caused them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// A new id: one part per process, drawn at random, and a count.
    pub fn next() -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:08x}-{count:x}", *PROCESS >> 32).into())
    }

    /// The id a client sent along (`Audit-ID` of kube-apiserver, `X-Request-Id`).
    ///
    /// `None` when it is empty, long or holds characters that do not belong into a log line.
    pub fn from_header(text: &str) -> Option<Self> {
        /// A UUID has 36 characters; trace ids with a prefix have some more.
        const LONGEST: usize = 64;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = !text.is_empty() && text.len() <= LONGEST && text.chars().all(is_plain);
        valid.then(|| Self(text.into()))
    }

    /// The span of an operation, such as `cycle`, with this id as field `correlation_id`.
    ///
    /// It is a span of level error, so that an event of any level that is logged carries the id.
    pub fn span(&self, operation: &'static str) -> Span {
        tracing::error_span!("operation", operation, correlation_id = %self)
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::capture;

    #[test]
    fn every_line_within_an_operation_carries_its_id() {
        let logs = capture();
        let id = CorrelationId::next();
        id.span("cycle").in_scope(|| tracing::warn!("deciding"));
        tracing::warn!("outside");
        let lines = logs.lines();
        assert!(lines[0].contains(&format!("correlation_id={id}")) && lines[0].contains("deciding"), "{lines:?}");
        assert!(!lines[1].contains("correlation_id"), "{lines:?}");
    }

    #[test]
    fn no_two_ids_are_alike() {
        assert_ne!(CorrelationId::next(), CorrelationId::next());
    }

    #[test]
    fn an_id_that_could_forge_a_log_line_is_not_taken_over() {
        let audit_id = "6d0a3c2e-94b7-4f9b-a2a5-2a1f5b7c9e10";
        assert_eq!(CorrelationId::from_header(audit_id).unwrap().to_string(), audit_id);
        for hostile in ["", "a\nlevel=error", "a b", "\u{1b}[31m", &"a".repeat(65)] {
            assert_eq!(CorrelationId::from_header(hostile), None, "{hostile:?}");
        }
    }
}
