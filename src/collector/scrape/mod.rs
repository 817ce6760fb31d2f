//! Direct pod scraping: the fast path that needs no Prometheus.
//!
//! ```text
//! targets ─► GET /metrics ─► mapping (text → one reading per engine) ─► history (peaks, rates, lengths) ─► signals
//! ```
//!
//! Gateways (endpoint pickers) are scraped the same way: only what is read in their answer differs.

mod availability;
mod schedule;
mod targets;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream};
use http::{StatusCode, header::AUTHORIZATION};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::targets::ScrapeTargets;
pub(super) use self::targets::{GatewayTargets, PodTargets};
pub use super::history::ScrapeTarget;
use super::{
    CollectionTracker, InvalidCollectorConfig, bearer,
    history::{ScrapeHistory, Windows},
    mapping::{EngineCatalog, gateway_readings},
    trust::TrustedClients,
    with_causes,
};
use crate::{
    clock::Clock,
    config::{BearerToken, ServerTrust},
    interfaces::{
        AgeLimits, CollectorError, EngineReading, GatewayReading, MetricsCollector, ModelKey, ModelMetrics,
        PodDirectory, ReplicaMetrics, ServedModel, SourceHealth,
    },
};

/// Parameters of direct scraping.
#[derive(Clone, Copy, Debug)]
pub struct ScrapeOptions {
    /// How far back signals look.
    pub windows: Windows,
    /// A signal sampled longer ago counts as missing.
    pub signal_age_limit: Duration,
    /// A pod that takes longer to answer has no sample this time. Wall time.
    pub timeout: Duration,
    /// Pods scraped at once.
    pub concurrency: usize,
    /// A longer answer is cut off and counts as an error.
    pub max_body_bytes: usize,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self {
            windows: Windows::default(),
            signal_age_limit: AgeLimits::default().signal,
            timeout: Duration::from_secs(2),
            concurrency: 64,
            max_body_bytes: 4 << 20,
        }
    }
}

/// What answers are read for.
#[derive(Clone, Debug)]
pub enum ScrapedKind {
    /// Inference servers, of the engines in the catalog.
    Engines(Arc<EngineCatalog>),
    /// Endpoint pickers.
    Gateways,
}

/// A [`MetricsCollector`] that reads the pods themselves.
pub struct ScrapeCollector {
    clients: TrustedClients,
    options: ScrapeOptions,
    kind: ScrapedKind,
    clock: Arc<dyn Clock>,
    targets: Arc<dyn ScrapeTargets>,
    pods: Arc<dyn PodDirectory>,
    tracker: CollectionTracker,
    /// Sent with every scrape.
    token: Option<BearerToken>,
    state: Mutex<Readings>,
}

#[derive(Default)]
struct Readings {
    history: ScrapeHistory,
    /// What became of each target's last scrape: families read, or why there are none.
    outcomes: HashMap<ScrapeTarget, Result<usize, String>>,
    last_success: Option<Timestamp>,
    /// Scrapes that were answered.
    recorded: u64,
}

/// What an answer says.
enum Reading {
    Engines(Vec<EngineReading>),
    Gateways(Vec<GatewayReading>),
}

impl std::fmt::Debug for ScrapeCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScrapeCollector").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ScrapeCollector {
    /// A collector of the engines built in, with an account of its own, that scrapes `targets` whenever it is refreshed
    /// or while it [runs](Self::run).
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(
        options: ScrapeOptions,
        clock: Arc<dyn Clock>,
        targets: Arc<dyn ScrapeTargets>,
        pods: Arc<dyn PodDirectory>,
    ) -> Result<Self, InvalidCollectorConfig> {
        let clients = clients(ServerTrust::default(), options.timeout)?;
        let state = Readings { history: ScrapeHistory::new(options.windows), ..Readings::default() };
        let tracker = CollectionTracker::new(clock.clone());
        let kind = ScrapedKind::Engines(Arc::default());
        Ok(Self { clients, options, kind, clock, targets, pods, tracker, token: None, state: Mutex::new(state) })
    }

    /// The same, reading answers for something else.
    #[must_use]
    pub fn reading(mut self, kind: ScrapedKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same, keeping account in `tracker`.
    #[must_use]
    pub fn tracked_by(mut self, tracker: CollectionTracker) -> Self {
        self.tracker = tracker;
        self
    }

    /// The same, sending `token` with every scrape.
    #[must_use]
    pub fn authorized_by(mut self, token: Option<BearerToken>) -> Self {
        self.token = token;
        self
    }

    /// The same, trusting servers as `trust` says.
    ///
    /// # Errors
    /// When a file of it cannot be used.
    pub fn trusting(self, trust: ServerTrust) -> Result<Self, InvalidCollectorConfig> {
        Ok(Self { clients: clients(trust, self.options.timeout)?, ..self })
    }

    /// Takes up rotated TLS files.
    fn reload(&self) {
        self.clients.reload();
    }

    /// Scrapes every target each `period` (of the clock), and less often beyond 500 of them, until `shutdown`; a slow or
    /// failing target delays no other. `refreshed` counts the times there were new signals.
    pub async fn run(self: Arc<Self>, period: Duration, shutdown: CancellationToken, refreshed: watch::Sender<u64>) {
        schedule::run(self, period, shutdown, refreshed).await;
    }

    /// Scrapes one target and records what it says. Returns whether it answered.
    async fn scrape_once(&self, target: &ScrapeTarget) -> bool {
        let started = Instant::now();
        let text = self.fetch(&target.url).await;
        // The pod samples its gauges when it answers.
        let sampled_at = self.clock.now();
        let reading = text.map(|text| self.read(&text));
        let duration = started.elapsed();
        let mut state = self.state();
        match reading {
            Ok(reading) => {
                let instances = match reading {
                    Reading::Engines(readings) => {
                        let instances = readings.len();
                        state.history.record(sampled_at, target, readings);
                        instances
                    }
                    Reading::Gateways(readings) => {
                        let models = readings.len();
                        state.history.record_gateway(sampled_at, target, readings);
                        models
                    }
                };
                state.outcomes.insert(target.clone(), Ok(instances));
                state.recorded += 1;
                state.last_success = Some(sampled_at);
                drop(state);
                self.tracker.query_succeeded(self.query_name(), duration, instances);
                self.tracker.fetched(self.source(), sampled_at);
                true
            }
            Err((reason, message)) => {
                let message = format!("{} {}/{}: {message}", self.target_word(), target.namespace, target.pod);
                state.outcomes.insert(target.clone(), Err(message.clone()));
                drop(state);
                self.tracker.query_failed(self.query_name(), duration, reason, message);
                false
            }
        }
    }

    /// Takes in what the engines of `target` said at `at`, without asking them: for benchmarks.
    pub(crate) fn take_in(&self, at: Timestamp, target: &ScrapeTarget, readings: Vec<EngineReading>) {
        let mut state = self.state();
        state.history.record(at, target, readings);
        state.last_success = Some(at);
    }

    /// Scrapes that were answered so far.
    pub fn recorded(&self) -> u64 {
        self.state().recorded
    }

    fn read(&self, text: &str) -> Reading {
        match &self.kind {
            ScrapedKind::Engines(engines) => Reading::Engines(engines.readings(text)),
            ScrapedKind::Gateways => Reading::Gateways(gateway_readings(text)),
        }
    }

    fn name(&self) -> &'static str {
        match self.kind {
            ScrapedKind::Engines(_) => "pod scraping",
            ScrapedKind::Gateways => "endpoint picker scraping",
        }
    }

    fn target_word(&self) -> &'static str {
        match self.kind {
            ScrapedKind::Engines(_) => "pod",
            ScrapedKind::Gateways => "endpoint picker",
        }
    }

    /// As `collector.backend` has it.
    fn source(&self) -> &'static str {
        match self.kind {
            ScrapedKind::Engines(_) => "scrape",
            ScrapedKind::Gateways => "epp",
        }
    }

    /// What to do about refused credentials.
    fn remedy(&self) -> &'static str {
        match self.kind {
            ScrapedKind::Engines(_) => "let wva read the metrics of the pod without credentials",
            ScrapedKind::Gateways => {
                "set collector.epp.bearerTokenPath to a token whose account may get the non-resource URL /metrics"
            }
        }
    }

    fn query_name(&self) -> &'static str {
        match self.kind {
            ScrapedKind::Engines(_) => "pod_scrape",
            ScrapedKind::Gateways => "gateway_scrape",
        }
    }

    /// Tells that targets fail, or that all answer again, where they did not (`was_failing`) before. Whether they fail.
    fn log_failures(&self, was_failing: bool) -> bool {
        let failure = self.state().failure();
        match &failure {
            Some(failure) if !was_failing => {
                tracing::warn!(source = self.name(), failure, "some cannot be read; what is known of them grows old");
            }
            None if was_failing => tracing::info!(source = self.name(), "none fails any more"),
            _ => {}
        }
        failure.is_some()
    }

    /// Forgets all but `targets`.
    fn keep_only(&self, targets: &HashSet<ScrapeTarget>) {
        let now = self.clock.now();
        let mut state = self.state();
        state.history.retain(now, |target| targets.contains(target));
        state.outcomes.retain(|target, _| targets.contains(target));
    }

    /// The answer, or one word for the `reason` label and what went wrong.
    async fn fetch(&self, url: &str) -> Result<String, (&'static str, String)> {
        let failed = |error: reqwest::Error| {
            let reason = if error.is_timeout() { "timeout" } else { "unreachable" };
            let is_refused = error.is_connect() && url.starts_with("https:");
            let remedy = if is_refused { "; check the TLS settings under collector.epp" } else { "" };
            (reason, format!("{}{remedy}", with_causes(&error.without_url())))
        };
        let mut request = if let Some(client) = self.clients.shared() {
            client.get(url)
        } else {
            let parsed = url.parse().map_err(|error| ("unreachable", format!("{url} is no URL: {error}")))?;
            let (client, url) = self.clients.reach(&parsed).map_err(|message| ("unreachable", message))?;
            client.get(url)
        };
        if let Some(token) = &self.token {
            let authorization = bearer::authorization(token).await;
            let authorization =
                authorization.map_err(|error| ("unauthorized", format!("{error}; {}", self.remedy())))?;
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(("unauthorized", format!("it answered {status}; {}", self.remedy())));
        }
        if !status.is_success() {
            return Err(("bad_response", format!("it answered {status}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.options.max_body_bytes {
                return Err(("bad_response", format!("its answer exceeds {} bytes", self.options.max_body_bytes)));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| ("bad_response", "its answer is not UTF-8".to_owned()))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Readings> {
        // A panic while holding the lock leaves readings that are whole: each is inserted at once.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn scrape_all(&self) -> Result<(), CollectorError> {
        self.reload();
        let targets: HashSet<ScrapeTarget> = self.targets.scrape_targets().into_iter().collect();
        let answered: Vec<bool> = stream::iter(targets.clone())
            .map(async |target| self.scrape_once(&target).await)
            .buffer_unordered(self.options.concurrency)
            .collect()
            .await;
        self.keep_only(&targets);
        if answered.iter().any(|answered| *answered) || answered.is_empty() {
            self.state().last_success = Some(self.clock.now());
            return Ok(());
        }
        let message = self.state().failure().unwrap_or_default();
        Err(CollectorError::Unreachable { source_name: self.name().to_owned(), message })
    }
}

/// Clients of targets that `trust` says how to trust, and that may take `timeout`.
fn clients(trust: ServerTrust, timeout: Duration) -> Result<TrustedClients, InvalidCollectorConfig> {
    TrustedClients::new(trust, "collector.epp", move || {
        reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
    })
}

impl Readings {
    /// How many targets failed last time, and why one of them did.
    fn failure(&self) -> Option<String> {
        let failures = || self.outcomes.values().filter_map(|outcome| outcome.as_ref().err());
        let first = failures().min()?;
        Some(format!("{} of {} fail; {first}", failures().count(), self.outcomes.len()))
    }
}

impl MetricsCollector for ScrapeCollector {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        Box::pin(async move {
            // Before anything is asked of the pods: what changes in between is asked again the next time.
            let revision = self.pods.revision();
            let state = self.state();
            if state.last_success.is_none() {
                return Err(CollectorError::NotReadYet { source_name: self.name().to_owned() });
            }
            Ok(state.history.replica_metrics_at(model, revision, |target| {
                self.pods.identify(&target.namespace, &target.pod).filter(|pod| pod.ready)?.variant
            }))
        })
    }

    fn fetch_model_metrics<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, ModelMetrics> {
        Box::pin(async move { self.state().history.model_metrics(model) })
    }

    fn has_replicas(&self) -> bool {
        matches!(self.kind, ScrapedKind::Engines(_))
    }

    fn served_models(&self, wanted: &dyn Fn(&ModelKey) -> bool) -> Vec<ServedModel> {
        let state = self.state();
        let served = state.history.instances(wanted).map(|(model, target, sampled_at)| ServedModel {
            model: model.clone(),
            pod: target.pod.clone(),
            identity: self.pods.identify(&target.namespace, &target.pod),
            sampled_at,
        });
        served.collect()
    }

    fn validate_metrics_availability<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        Box::pin(async move {
            let ScrapedKind::Engines(catalog) = &self.kind else { return Ok(()) };
            let (state, now) = (self.state(), self.clock.now());
            let limit = self.options.signal_age_limit;
            availability::check(model, catalog, &state.history, &state.outcomes, now, limit)
        })
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        Box::pin(self.scrape_all())
    }

    fn health(&self) -> SourceHealth {
        let state = self.state();
        SourceHealth { name: self.name().into(), last_success: state.last_success, last_error: state.failure() }
    }
}

#[cfg(test)]
mod tests;
