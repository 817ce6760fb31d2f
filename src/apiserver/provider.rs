//! The seam between the API server and whoever knows the values.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

pub use super::{labels::Labels, selector::Selector};

/// Answers reads of metrics, from memory.
pub trait MetricsProvider: Send + Sync + 'static {
    /// Names of the served metrics, for discovery; the first one is advertised.
    fn metric_names(&self) -> &'static [&'static str];

    /// The series that `query` asks for.
    ///
    /// # Errors
    /// When no metric has that name.
    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric>;

    /// Names of the variants known in `namespace`, for the message when nothing matches.
    fn subjects(&self, namespace: &str) -> Vec<Arc<str>>;

    /// What a table shows of a variant beside a value; `None` when it is not known.
    fn summary(&self, namespace: &str, subject: &str) -> Option<Summary> {
        let _ = (namespace, subject);
        None
    }

    /// How the values of a variant came about, as fields of a document; `None` when it is not known.
    fn explain(&self, namespace: &str, subject: &str) -> Option<Value> {
        let _ = (namespace, subject);
        None
    }
}

/// Which series are asked for.
#[derive(Clone, Copy, Debug)]
pub struct SeriesQuery<'a> {
    /// Where; `None` is everywhere.
    pub namespace: Option<&'a str>,
    /// Name of the metric.
    pub metric: &'a str,
    /// Of whom.
    pub of: Of<'a>,
    /// What their labels must meet. A provider may use [`Selector::values_listed_for`] to look no further.
    pub selector: &'a Selector,
}

/// Whose series are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// Anybody's.
    Any,
    /// Those of the variant of this name.
    Subject(&'a str),
    /// Those of variants that are, or scale, an object of this kind; the series then name it ([`Series::object`]).
    Object {
        /// API group of the kind.
        group: &'a str,
        /// Kind.
        kind: &'a str,
        /// Name; `None` is any.
        name: Option<&'a str>,
    },
}

/// One series: its labels, and its value or why there is none.
#[derive(Clone, Debug)]
pub struct Series {
    /// Namespace it lives in.
    pub namespace: Arc<str>,
    /// Variant it speaks of: a selector that matches two subjects is ambiguous, because an HPA adds up what it gets.
    pub subject: Arc<str>,
    /// The object it was asked for as a property of.
    pub object: Option<ObjectReference>,
    /// Labels a selector can match.
    pub labels: Labels,
    /// The value, or why it is withheld.
    pub value: Result<Sample, Refusal>,
}

/// An object of the cluster, in the namespace of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectReference {
    /// API group and version, such as `apps/v1`.
    pub api_version: Arc<str>,
    /// Kind, such as `Deployment`.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
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

/// What a table shows of a variant beside a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The model it serves.
    pub model: Arc<str>,
    /// Its accelerator, where known.
    pub accelerator: Option<Arc<str>>,
    /// Desired replicas, unless they are withheld.
    pub desired: Option<u32>,
    /// Observed replicas, where they can be read.
    pub current: Option<u32>,
    /// Why it is so many, or why there is no number.
    pub reason: String,
    /// How long ago it was decided.
    pub age: Duration,
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
