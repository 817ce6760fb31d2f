//! The contract of a metric source.

use std::{net::IpAddr, sync::Arc};

use futures::future::BoxFuture;
use jiff::Timestamp;
use schemars::JsonSchema;
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

    /// Whether the source has signals of engine instances; a gateway has none.
    fn has_replicas(&self) -> bool {
        true
    }

    /// Of the models that are `wanted`, those that engines say they serve, whether or not a variant declares them.
    fn served_models(&self, wanted: &dyn Fn(&ModelKey) -> bool) -> Vec<ServedModel> {
        let _ = wanted;
        Vec::new()
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

    /// How each source is doing, where this one is made of several.
    fn sources(&self) -> Vec<SourceHealth> {
        vec![self.health()]
    }
}

/// A model that an engine says it serves. Beside what variants declare it shows a model name that differs, a pod that
/// serves an unknown model, and a model without pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// The model, in the namespace of the pod.
    pub model: ModelKey,
    /// The pod that serves it.
    pub pod: Arc<str>,
    /// What is known of the pod; `None` where nothing is, as of one that is gone.
    pub identity: Option<PodIdentity>,
    /// When it said so last.
    pub sampled_at: Timestamp,
}

/// Who a pod belongs to, for enrichment of its series.
pub trait PodDirectory: Send + Sync {
    /// The pod's place; `None` while the pod is unknown.
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity>;

    /// The model that the pod's variant declares, for engines whose metrics name none; `None` where that is not known.
    fn declared_model(&self, namespace: &str, pod: &str) -> Option<Arc<str>> {
        let _ = (namespace, pod);
        None
    }

    /// Where the ready pods of variants expose their metrics, and those of no variant that may serve a variant's model.
    fn endpoints(&self) -> Vec<PodEndpoint> {
        Vec::new()
    }

    /// Changes whenever [`Self::endpoints`] may have; `None` where that is not known.
    fn revision(&self) -> Option<u64> {
        None
    }
}

/// Where a pod exposes its metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEndpoint {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Model that its variant declares; `None` where it is of no variant and asks to be scraped all the same.
    pub model_id: Option<Arc<str>>,
    /// Its address.
    pub address: IpAddr,
    /// Ports it names for metrics; empty where it names none.
    pub ports: Box<[u16]>,
    /// Path it names for metrics.
    pub path: Option<Arc<str>>,
    /// KV-cache capacity in tokens it declares, for engines that export none.
    pub kv_cache_tokens: Option<u64>,
}

/// A pod's place among the variants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// Variant whose scale target owns the pod; `None` where that of none does, or of several.
    pub variant: Option<VariantKey>,
    /// Whether the pod is Ready and not on its way out. Signals of one that is not say nothing of what replicas carry.
    pub ready: bool,
    /// KV-cache capacity in tokens it declares, for engines that export none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kv_cache_tokens: Option<u64>,
}

impl PodIdentity {
    /// A ready pod of `variant`.
    pub fn ready(variant: VariantKey) -> Self {
        Self { variant: Some(variant), ready: true, kv_cache_tokens: None }
    }
}

/// How a metric source is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceHealth {
    /// The source with its address, such as `Prometheus at http://prometheus:9090`.
    pub name: Arc<str>,
    /// When the last complete fetch ended.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
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
