//! Direct pod scraping: the fast path that needs no Prometheus.
//!
//! ```text
//! targets ─► GET /metrics ─► mapping (text → one reading per engine) ─► history (peaks, rates, lengths) ─► signals
//! ```

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream};
use jiff::Timestamp;

pub use super::history::ScrapeTarget;
use super::{
    history::{ScrapeHistory, Windows},
    mapping::EngineCatalog,
};
use crate::{
    clock::Clock,
    interfaces::{
        CollectorError, EngineReading, MetricsCollector, ModelKey, ModelMetrics, PodDirectory, ReplicaMetrics,
        SourceHealth,
    },
};

/// Knows which pods to scrape now.
pub trait ScrapeTargets: Send + Sync {
    /// The pods that should answer: running, and of a variant.
    fn scrape_targets(&self) -> Vec<ScrapeTarget>;
}

/// Parameters of direct scraping.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeOptions {
    /// How far back signals look.
    pub windows: Windows,
    /// A pod that takes longer to answer has no sample this time. Wall time.
    pub timeout: Duration,
    /// Pods scraped at once.
    pub concurrency: usize,
    /// A longer answer is cut off and counts as an error.
    pub max_body_bytes: usize,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self { windows: Windows::default(), timeout: Duration::from_secs(2), concurrency: 64, max_body_bytes: 4 << 20 }
    }
}

/// A [`MetricsCollector`] that reads the pods themselves.
pub struct ScrapeCollector {
    http: reqwest::Client,
    options: ScrapeOptions,
    clock: Arc<dyn Clock>,
    targets: Arc<dyn ScrapeTargets>,
    pods: Arc<dyn PodDirectory>,
    engines: EngineCatalog,
    state: Mutex<Readings>,
}

#[derive(Default)]
struct Readings {
    history: ScrapeHistory,
    last_success: Option<Timestamp>,
    last_error: Option<String>,
}

impl std::fmt::Debug for ScrapeCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScrapeCollector").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ScrapeCollector {
    /// A collector that scrapes `targets` whenever it is refreshed.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(
        options: ScrapeOptions,
        clock: Arc<dyn Clock>,
        targets: Arc<dyn ScrapeTargets>,
        pods: Arc<dyn PodDirectory>,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(options.timeout).no_proxy().build()?;
        let state = Readings { history: ScrapeHistory::new(options.windows), ..Readings::default() };
        let engines = EngineCatalog::default();
        Ok(Self { http, options, clock, targets, pods, engines, state: Mutex::new(state) })
    }

    async fn scrape(&self, target: ScrapeTarget) -> (ScrapeTarget, Timestamp, Result<Vec<EngineReading>, String>) {
        let text = self.fetch(&target.url).await;
        // The pod samples its gauges when it answers.
        let sampled_at = self.clock.now();
        let readings = text.map(|text| self.engines.readings(&text));
        (target, sampled_at, readings)
    }

    async fn fetch(&self, url: &str) -> Result<String, String> {
        let response = self.http.get(url).send().await.map_err(|error| describe(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        let mut body = Vec::new();
        let mut chunks = response;
        while let Some(chunk) = chunks.chunk().await.map_err(|error| describe(&error))? {
            if body.len() + chunk.len() > self.options.max_body_bytes {
                return Err(format!("its answer exceeds {} bytes", self.options.max_body_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| "its answer is not UTF-8".to_owned())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Readings> {
        // A panic while holding the lock leaves readings that are whole: each is inserted at once.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn scrape_all(&self) -> Result<(), CollectorError> {
        let targets = self.targets.scrape_targets();
        let expected = targets.len();
        let results: Vec<_> = stream::iter(targets)
            .map(|target| self.scrape(target))
            .buffer_unordered(self.options.concurrency)
            .collect()
            .await;

        let mut failures = Vec::new();
        let mut answered = HashSet::with_capacity(expected);
        let mut state = self.state();
        for (target, sampled_at, outcome) in results {
            match outcome {
                Ok(readings) => state.history.record(sampled_at, &target, readings),
                Err(message) => failures.push(format!("pod {}/{}: {message}", target.namespace, target.pod)),
            }
            answered.insert(target);
        }
        // Kept after a failure: its samples age until they are missing. Dropped with its target.
        state.history.retain(self.clock.now(), |target| answered.contains(target));
        let failed = failures.len();
        state.last_error = failures.into_iter().next().map(|first| format!("{failed} of {expected} pods; {first}"));
        if failed < expected || expected == 0 {
            state.last_success = Some(self.clock.now());
            return Ok(());
        }
        let message = state.last_error.clone().unwrap_or_default();
        Err(CollectorError::Unreachable { source_name: NAME.to_owned(), message })
    }
}

const NAME: &str = "pod scraping";

fn describe(error: &reqwest::Error) -> String {
    use std::error::Error;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

impl MetricsCollector for ScrapeCollector {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        Box::pin(async move {
            let state = self.state();
            if state.last_success.is_none() {
                return Err(CollectorError::NotReadYet { source_name: NAME.to_owned() });
            }
            Ok(state.history.replica_metrics(model, |target| {
                let pod = self.pods.identify(&target.namespace, &target.pod).filter(|pod| pod.ready);
                pod.map(|pod| pod.variant)
            }))
        })
    }

    fn fetch_model_metrics<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, ModelMetrics> {
        Box::pin(async move { self.state().history.model_metrics(model) })
    }

    fn validate_metrics_availability<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        Box::pin(async move {
            let state = self.state();
            let in_namespace = state.history.instances().filter(|(known, ..)| known.namespace == model.namespace);
            let served: BTreeSet<&str> = in_namespace.map(|(known, ..)| &*known.model_id).collect();
            if served.contains(&*model.model_id) {
                return Ok(());
            }
            let served: Vec<&str> = served.into_iter().collect();
            let found = if served.is_empty() {
                "no pod there answers with metrics; check that its pods run and expose /metrics".to_owned()
            } else {
                format!("pods there serve {}; set spec.modelID to the model_name label", served.join(", "))
            };
            let missing = crate::constants::VLLM_KV_CACHE_USAGE_PERC.to_owned();
            Err(CollectorError::MissingSeries { model: model.clone(), missing, found })
        })
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        Box::pin(self.scrape_all())
    }

    fn health(&self) -> SourceHealth {
        let state = self.state();
        SourceHealth { name: NAME.into(), last_success: state.last_success, last_error: state.last_error.clone() }
    }
}

#[cfg(test)]
mod tests;
