//! The contract of a metric source.

use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ModelKey, ModelMetrics, ReplicaMetrics, VariantKey};

/// A source of replica signals: Prometheus, pod scraping, an endpoint picker.
///
/// A source fetches in the background for all models at once; reads are answered from its cache.
pub trait MetricsCollector: Send + Sync {
    /// Signals of every engine instance that serves `model`, attributed to variants where that is known. Empty when
    /// the source knows of none. Values keep the source's sample times: the caller judges freshness.
    ///
    /// # Errors
    /// When nothing was ever fetched.
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>>;

    /// What the source knows of `model` beside its replicas. A source that knows nothing leaves all missing.
    fn fetch_model_metrics<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, ModelMetrics> {
        let _ = model;
        Box::pin(async { ModelMetrics::default() })
    }

    /// Checks that the series needed to decide on `model` exist.
    ///
    /// # Errors
    /// Names the series that are missing and what exists instead.
    fn validate_metrics_availability<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>>;

    /// Fetches everything once from the backend into the cache.
    ///
    /// # Errors
    /// When the backend cannot be asked or refuses; what was cached stays until it is too old.
    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>>;

    /// How the source is doing, for messages and readiness.
    fn health(&self) -> SourceHealth;
}

/// Who a pod belongs to, for enrichment of its series.
pub trait PodDirectory: Send + Sync {
    /// The pod's variant; `None` while the pod is unknown or belongs to no variant.
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity>;
}

/// A pod's place among the variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Variant whose scale target owns the pod.
    pub variant: VariantKey,
    /// Whether the pod is Ready and not on its way out. Signals of one that is not say nothing of what replicas carry.
    pub ready: bool,
}

/// How a metric source is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceHealth {
    /// The source with its address, such as `Prometheus at http://prometheus:9090`.
    pub name: Arc<str>,
    /// When the last complete fetch ended.
    pub last_success: Option<Timestamp>,
    /// Why the last fetch failed; `None` when it succeeded.
    pub last_error: Option<String>,
}

/// Why a metric source has no answer. Every text names the source, what was wrong and the remedy.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum CollectorError {
    /// The backend could not be reached or did not answer in time.
    #[error("{source_name} cannot be reached: {message}; check its address, TLS settings and network policy")]
    Unreachable {
        /// The source with its address.
        source_name: String,
        /// What failed.
        message: String,
    },
    /// The backend refused our credentials.
    #[error("{source_name} refused our credentials ({status}); check the bearer token and client certificate settings")]
    Unauthorized {
        /// The source with its address.
        source_name: String,
        /// HTTP status code.
        status: u16,
    },
    /// The backend answered something other than a result.
    #[error("{source_name} failed the query {query}: {message}")]
    Query {
        /// The source with its address.
        source_name: String,
        /// Logical name of the query.
        query: &'static str,
        /// What it said.
        message: String,
    },
    /// Series that a decision needs do not exist.
    #[error("model {model} has no series {missing}; {found}")]
    MissingSeries {
        /// The model.
        model: ModelKey,
        /// Names of the missing series.
        missing: String,
        /// What exists instead, as a clause with a remedy.
        found: String,
    },
    /// No fetch has ended yet.
    #[error("{source_name} has not been read yet; this passes within one fetch interval")]
    NotReadYet {
        /// The source with its address.
        source_name: String,
    },
}
