//! The seam between the API server and whoever knows the values.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use thiserror::Error;

/// Answers reads of external metrics, from memory.
pub trait MetricsProvider: Send + Sync + 'static {
    /// Names of the served metrics, for discovery.
    fn metric_names(&self) -> &[&'static str];

    /// Series of `metric` in `namespace` (`None`: in all namespaces) whose labels `matches` accepts.
    ///
    /// # Errors
    /// When no metric has that name.
    fn select(
        &self,
        namespace: Option<&str>,
        metric: &str,
        matches: &dyn Fn(&BTreeMap<String, String>) -> bool,
    ) -> Result<Vec<Series>, UnknownMetric>;

    /// Names of the variants known in `namespace`, for the message when nothing matches.
    fn subjects(&self, namespace: &str) -> Vec<Arc<str>>;
}

/// One series: its labels, and its value or why there is none.
#[derive(Clone, Debug)]
pub struct Series {
    /// Namespace it lives in.
    pub namespace: Arc<str>,
    /// Variant it speaks of: a selector that matches two subjects is ambiguous, because an HPA adds up what it gets.
    pub subject: Arc<str>,
    /// Labels a selector can match.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The value, or why it is withheld.
    pub value: Result<Sample, Refusal>,
}

/// A served value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The value in thousandths; never negative.
    pub milli: u64,
    /// When it was decided.
    pub timestamp: Timestamp,
    /// Period it was computed over, if any.
    pub window: Option<Duration>,
}

/// Why a known series has no value: served as a `503` `Status` whose message the HPA shows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// A sentence: which variant, what is missing or how old, what to check.
    pub message: String,
}

/// No metric has the requested name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no such metric")]
pub struct UnknownMetric;
