//! Signals from Prometheus, or from anything that answers its query API.
//!
//! A fetch sends the queries of [`Query`] side by side, whatever the number of models; a dear one only once a minute. What it found is cached per
//! model and enriched with the owning variant when it is read, so that a pod seen before its owner gets attributed later.

mod availability;
mod client;
mod facts;
mod ingest;
mod models;
mod performance;
mod queries;
mod response;
mod transport;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use jiff::Timestamp;
use tokio::sync::Mutex;

use ingest::SourceClock;
pub use ingest::{Ingested, QueryResults, Reading, Unattributable, ingest};
pub use queries::Query;
pub use response::{InfoLabels, Series, SeriesLabels};

use self::{response::Answer, transport::Transport};
use super::{
    CollectionTracker, CollectorConfig, InvalidCollectorConfig, cache::Cache, history::CacheLoad,
    mapping::EngineCatalog, needed,
};
use crate::{
    clock::Clock,
    interfaces::{
        CollectorError, MetricsCollector, ModelKey, ModelMetrics, PodDirectory, ReplicaMetrics, ServedModel, Signal,
        SourceHealth, age,
    },
};

/// Time between two asks of a dear query.
const RARELY: Duration = Duration::from_secs(60);

/// The cache of a collector: engine instances per model, not yet attributed to variants.
pub type ReplicaCache = dyn Cache<ModelKey, Arc<[ReplicaMetrics]>>;

/// Collects engine signals from one Prometheus.
pub struct PrometheusCollector {
    source_name: Arc<str>,
    transport: Transport,
    catalog: EngineCatalog,
    queries: Vec<(Query, String)>,
    window: Duration,
    signal_age_limit: Duration,
    cache: Arc<ReplicaCache>,
    pods: Arc<dyn PodDirectory>,
    clock: Arc<dyn Clock>,
    tracker: CollectionTracker,
    state: ArcSwap<State>,
    /// One fetch at a time; the state has one writer.
    fetching: Mutex<()>,
}

/// What is known besides the signals themselves.
#[derive(Clone, Debug, Default)]
struct State {
    catalog: Arc<Catalog>,
    /// The last successful fetch, for models the cache is off or too small for. It shares its memory with the cache.
    models: Arc<Models>,
    gateways: Arc<HashMap<ModelKey, ModelMetrics>>,
    learned: Arc<Learned>,
    clock: SourceClock,
    /// Lengths of requests, and when they were asked for.
    lengths: Option<(Timestamp, Arc<models::Lengths>)>,
    last_success: Option<Timestamp>,
    /// Why the last fetch failed.
    failure: Option<CollectorError>,
    /// Why queries of the last fetch were answered in part or not at all.
    incomplete: Option<CollectorError>,
}

/// What exists, as of the last successful fetch.
#[derive(Debug, Default)]
struct Catalog {
    /// Model names by namespace.
    models: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    unattributable: Unattributable,
    nameless: ingest::Nameless,
}

type Models = HashMap<ModelKey, Arc<[ReplicaMetrics]>>;
/// KV-cache capacities in tokens, as far as the load told, of instances that export none.
type Learned = HashMap<ModelKey, HashMap<Arc<str>, f64>>;

impl PrometheusCollector {
    /// A collector that has fetched nothing yet.
    ///
    /// # Errors
    /// When a file or a setting of the connection cannot be used.
    pub fn new(
        config: &CollectorConfig,
        cache: Arc<ReplicaCache>,
        pods: Arc<dyn PodDirectory>,
        clock: Arc<dyn Clock>,
        tracker: CollectionTracker,
    ) -> Result<Self, InvalidCollectorConfig> {
        let transport = Transport::new(&config.prometheus)?;
        let catalog = EngineCatalog::new(&config.collector.engines);
        let promql = |query: Query| (query, query.promql(&catalog, config.collector.peak_window));
        Ok(Self {
            source_name: transport.source_name().into(),
            transport,
            queries: Query::ALL.into_iter().map(promql).collect(),
            catalog,
            window: config.collector.peak_window,
            signal_age_limit: config.signal_age_limit,
            cache,
            pods,
            clock,
            tracker,
            state: ArcSwap::default(),
            fetching: Mutex::default(),
        })
    }

    /// Fetches everything and stores it.
    async fn fetch(&self) -> Result<(), CollectorError> {
        let _turn = self.fetching.lock().await;
        self.transport.reload();
        let asked: Vec<_> =
            self.queries.iter().filter(|(query, _)| !query.is_rare() || self.is_time_for_rare()).collect();
        let began = self.clock.now();
        let outcomes = join_all(asked.iter().map(|(query, promql)| self.ask(*query, promql))).await;
        let mut results = QueryResults::new();
        // Queries answered in part or not at all.
        let mut gaps = HashSet::new();
        let mut incomplete = None;
        let mut is_partial = false;
        let before = self.state.load_full();
        let mut clock = before.clock;
        for (query, outcome) in asked.iter().map(|(query, _)| *query).zip(outcomes) {
            match outcome {
                Ok(Answer { series, evaluated_at, warning }) => {
                    if let Some(warning) = warning {
                        is_partial = true;
                        gaps.insert(query);
                        incomplete = Some(self.partial(query, &warning));
                    }
                    if query == Query::SampleTime {
                        clock = clock.after(evaluated_at, began, self.clock.now());
                    }
                    results.insert(query, series);
                }
                Err(failure) if query.is_essential() => {
                    self.note_failure(failure.clone());
                    return Err(failure);
                }
                Err(failure) => {
                    gaps.insert(query);
                    incomplete = Some(failure);
                }
            }
        }
        let lengths = models::lengths(&results);
        let model_of = |namespace: &str, pod: &str| self.pods.declared_model(namespace, pod);
        let reading = Reading { catalog: &self.catalog, window: self.window, ahead: clock.ahead, model_of: &model_of };
        let mut ingested = ingest(&results, &reading);
        if !gaps.is_empty() {
            ingest::carry_over(&mut ingested.models, &before.models, &gaps);
        }
        if is_partial {
            ingest::keep_absent(&mut ingested.models, &before.models, self.clock.now(), self.signal_age_limit);
        }
        self.log_clock(before.clock, clock);
        self.store(ingested, clock, lengths, &gaps, incomplete);
        Ok(())
    }

    /// Says that an answer may not be whole, as those of Thanos while one of its stores is away.
    fn partial(&self, query: Query, warning: &str) -> CollectorError {
        CollectorError::Query {
            source_name: self.source_name.to_string(),
            query: query.name(),
            message: format!("it answers in part: {warning}; what it leaves out stays as it was known, and grows old"),
        }
    }

    fn is_time_for_rare(&self) -> bool {
        let asked_at = self.state.load().lengths.as_ref().map(|(at, _)| *at);
        asked_at.is_none_or(|at| age(self.clock.now(), at) >= RARELY)
    }

    async fn ask(&self, query: Query, promql: &str) -> Result<Answer, CollectorError> {
        let started = Instant::now();
        let answer = self.transport.query(promql).await;
        let duration = started.elapsed();
        match answer {
            Ok(answer) => {
                self.tracker.query_succeeded(query.name(), duration, answer.series.len());
                Ok(answer)
            }
            Err(failure) => {
                let reason = failure.reason();
                let error = failure.into_error(&self.source_name, query);
                self.tracker.query_failed(query.name(), duration, reason, error.to_string());
                Err(error)
            }
        }
    }

    fn log_clock(&self, before: SourceClock, now: SourceClock) {
        if now.ahead == before.ahead {
            return;
        }
        if now.ahead.is_zero() {
            tracing::info!(source = %self.source_name, "the clock of this source agrees with ours again");
        } else {
            tracing::warn!(
                source = %self.source_name,
                ahead_seconds = now.ahead.as_secs(),
                "the clock of this source differs from ours; ages of its samples are judged by its own: check time synchronisation"
            );
        }
    }

    /// Puts a fetch into the cache. `incomplete` says why queries have `gaps`.
    fn store(
        &self,
        ingested: Ingested,
        clock: SourceClock,
        lengths: Option<models::Lengths>,
        gaps: &HashSet<Query>,
        incomplete: Option<CollectorError>,
    ) {
        let now = self.clock.now();
        let mut catalog =
            Catalog { models: BTreeMap::new(), unattributable: ingested.unattributable, nameless: ingested.nameless };
        let mut models = Models::new();
        let before = self.state.load_full();
        let mut learned = Learned::new();
        for (model, replicas) in ingested.models {
            let capacities = learn(&replicas, before.learned.get(&model));
            if !capacities.is_empty() {
                learned.insert(model.clone(), capacities);
            }
            let replicas: Arc<[ReplicaMetrics]> = replicas.into();
            catalog.models.entry(model.namespace.clone()).or_default().insert(model.model_id.clone());
            self.cache.insert(model.clone(), replicas.clone());
            models.insert(model, replicas);
        }
        for gone in before.catalog.keys().filter(|model| !models.contains_key(model)) {
            self.cache.remove(&gone);
        }
        log_unattributable(&before.catalog.unattributable, &catalog.unattributable);
        self.tracker.fetched("prometheus", now);
        self.tracker.unattributable(catalog.unattributable.instances);
        let catalog = Arc::new(catalog);
        let models = Arc::new(models);
        let known_lengths = before.lengths.as_ref().map(|(_, lengths)| &**lengths);
        let lengths = lengths.map(|lengths| (now, over(known_lengths, lengths, gaps.contains(&Query::Lengths))));
        let lengths = lengths.or_else(|| before.lengths.clone());
        let gateways = over(Some(&before.gateways), ingested.gateways, gaps.contains(&Query::Gateways));
        let last_success = Some(now);
        self.state.store(Arc::new(State {
            catalog,
            models,
            gateways,
            learned: Arc::new(learned),
            clock,
            lengths,
            last_success,
            failure: None,
            incomplete,
        }));
    }

    /// Engine instances of `model` as cached; as last fetched, where the cache is off or too small. A read never asks the
    /// backend: the number of queries must not grow with the number of models.
    fn replicas(&self, model: &ModelKey) -> Result<Arc<[ReplicaMetrics]>, CollectorError> {
        if let Some(replicas) = self.cache.get(model) {
            return Ok(replicas);
        }
        let state = self.state.load_full();
        match &*state {
            State { failure: Some(error), catalog, last_success, .. } => {
                // A model unknown to the last good fetch is not served; a known one has outlived the cache.
                if last_success.is_some() && !catalog.contains(model) { Ok(Arc::default()) } else { Err(error.clone()) }
            }
            State { last_success: None, .. } => {
                Err(CollectorError::NotReadYet { source_name: self.source_name.to_string() })
            }
            State { catalog, .. } if !catalog.contains(model) => Ok(Arc::default()),
            State { models, .. } => Ok(models.get(model).cloned().unwrap_or_default()),
        }
    }

    fn note_failure(&self, failure: CollectorError) {
        let state = State::clone(&self.state.load());
        self.state.store(Arc::new(State { failure: Some(failure), ..state }));
    }
}

impl MetricsCollector for PrometheusCollector {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        async move {
            let mut replicas = self.replicas(model)?.to_vec();
            let learned = self.state.load().learned.clone();
            let learned = learned.get(model);
            for replica in &mut replicas {
                let identity = self.pods.identify(&model.namespace, &replica.pod).filter(|pod| pod.ready);
                let declared = identity.as_ref().and_then(|pod| pod.kv_cache_tokens).map(|tokens| tokens as f64);
                complete_capacity(replica, declared.or_else(|| learned?.get(&replica.instance).copied()));
                replica.variant = identity.and_then(|pod| pod.variant);
            }
            Ok(replicas)
        }
        .boxed()
    }

    fn fetch_model_metrics<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, ModelMetrics> {
        async move {
            let state = self.state.load();
            let mut metrics = state.gateways.get(model).cloned().unwrap_or_default();
            if let Some([prompt, output]) = state.lengths.as_ref().and_then(|(_, lengths)| lengths.get(model)) {
                metrics.prompt_lengths.clone_from(prompt);
                metrics.output_lengths.clone_from(output);
            }
            metrics
        }
        .boxed()
    }

    fn served_models(&self, wanted: &dyn Fn(&ModelKey) -> bool) -> Vec<ServedModel> {
        let state = self.state.load();
        let served = state.models.iter().filter(|(model, _)| wanted(model)).flat_map(|(model, replicas)| {
            replicas.iter().filter_map(|replica| {
                let sampled_at = replica.queue_length.sampled_at().or(replica.kv_cache_usage.sampled_at())?;
                let identity = self.pods.identify(&model.namespace, &replica.pod);
                Some(ServedModel { model: model.clone(), pod: replica.pod.clone(), identity, sampled_at })
            })
        });
        served.collect()
    }

    fn validate_metrics_availability<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        async move {
            let replicas = self.replicas(model)?;
            let catalog = &self.state.load().catalog;
            let now = self.clock.now();
            let missing = needed::missing(&replicas, &self.catalog, now, self.signal_age_limit);
            missing.or_error(model, || availability::found(&missing, model, &replicas, catalog, &self.source_name, now))
        }
        .boxed()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        self.fetch().boxed()
    }

    fn health(&self) -> SourceHealth {
        let state = self.state.load();
        let nothing_usable = state.catalog.models.is_empty() && state.catalog.unattributable.instances > 0;
        SourceHealth {
            name: self.source_name.clone(),
            last_success: state.last_success,
            last_error: match state.failure.as_ref().or(state.incomplete.as_ref()) {
                Some(error) => Some(error.to_string()),
                None => nothing_usable.then(|| state.catalog.unattributable.to_string()),
            },
        }
    }
}

impl fmt::Debug for PrometheusCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusCollector").field("source", &self.source_name).finish_non_exhaustive()
    }
}

impl Catalog {
    fn contains(&self, model: &ModelKey) -> bool {
        self.models.get(&model.namespace).is_some_and(|models| models.contains(&model.model_id))
    }

    fn keys(&self) -> impl Iterator<Item = ModelKey> {
        self.models.iter().flat_map(|(namespace, models)| {
            models.iter().map(|model| ModelKey { namespace: namespace.clone(), model_id: model.clone() })
        })
    }
}

/// Capacities of instances that export none, learned from what they hold.
fn learn(replicas: &[ReplicaMetrics], known: Option<&HashMap<Arc<str>, f64>>) -> HashMap<Arc<str>, f64> {
    let of_replica = |replica: &ReplicaMetrics| {
        let performance = &replica.performance;
        let load = || {
            Some(CacheLoad {
                usage: *performance.kv_cache_usage_now.value()?,
                running: *replica.running.value()?,
                prompt: *performance.prompt_tokens.value()?,
                output: *performance.output_tokens.value()?,
            })
        };
        let known = known.and_then(|known| known.get(&replica.instance)).copied();
        Some((replica.instance.clone(), load().map_or(known, |load| load.learn(known))?))
    };
    replicas.iter().filter(|replica| replica.kv_cache_tokens == Signal::Missing).filter_map(of_replica).collect()
}

/// Sets the capacity that is declared or learned where none is exported.
fn complete_capacity(replica: &mut ReplicaMetrics, tokens: Option<f64>) {
    if let (None, Some(tokens)) = (replica.kv_cache_tokens.value(), tokens)
        && let Some(at) = replica.queue_length.sampled_at().or(replica.kv_cache_usage.sampled_at())
    {
        replica.kv_cache_tokens = Signal::from_sample(tokens, at);
    }
}

/// What is known now, over what was known before where the answer may have left something out.
fn over<T: Clone>(
    before: Option<&HashMap<ModelKey, T>>,
    now: HashMap<ModelKey, T>,
    has_gaps: bool,
) -> Arc<HashMap<ModelKey, T>> {
    let Some(before) = before.filter(|_| has_gaps) else { return Arc::new(now) };
    let mut all = before.clone();
    all.extend(now);
    Arc::new(all)
}

fn log_unattributable(before: &Unattributable, now: &Unattributable) {
    match (before.instances, now.instances) {
        (0, 1..) => tracing::warn!("{now}"),
        (1.., 0) => tracing::info!("{now}"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::PerformanceSignals;

    #[test]
    fn capacity_that_is_not_exported_is_learned_from_what_requests_hold() {
        let at = Timestamp::from_second(1).unwrap();
        let present = |value| Signal::present(value, at);
        let replica = |usage, kv_cache_tokens| ReplicaMetrics {
            instance: "10.0.0.1:8000".into(),
            running: present(10.0),
            kv_cache_tokens,
            performance: Arc::new(PerformanceSignals {
                kv_cache_usage_now: present(usage),
                prompt_tokens: present(1_000.0),
                output_tokens: present(400.0),
                ..PerformanceSignals::default()
            }),
            ..ReplicaMetrics::default()
        };
        let first = learn(&[replica(0.5, Signal::Missing)], None);
        assert_eq!(first["10.0.0.1:8000"], 24_000.0);
        let later = learn(&[replica(0.25, Signal::Missing)], Some(&first));
        assert_eq!(later["10.0.0.1:8000"], 24_000.0 + 0.2 * 24_000.0);
        assert_eq!(learn(&[replica(0.01, Signal::Missing)], Some(&later)), later, "too little in use to tell");
        assert_eq!(learn(&[replica(0.5, present(5_000.0))], Some(&later)), HashMap::new(), "it exports its own");
    }
}
