//! What engines said over the last while, reduced to signals. Pure: the collectors feed it from HTTP, a simulator feeds
//! it with readings it made itself, and both get the same signals.
//!
//! ```text
//! /metrics ─► mapping::EngineCatalog::readings ─► EngineReading ─► ScrapeHistory::record ─► replica_metrics, model_metrics
//!  (text)      (names of each engine → quantities)    ▲
//!                                    a simulated engine┘
//! ```
//!
//! For each scrape, give [`ScrapeHistory::record`] the moment, the pod and what its engines said; forget pods that are
//! gone with [`ScrapeHistory::retain`]; read signals with [`ScrapeHistory::replica_metrics`] and
//! [`ScrapeHistory::model_metrics`] whenever a snapshot is taken. Nothing here reads a clock or allocates per sample in
//! the steady state: a day of ten replicas at a period of five seconds costs about a second.

mod gateway;
mod instance;
mod lengths;
mod signals;
mod totals;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use self::{gateway::GatewayHistory, instance::Instance, lengths::Lengths};
pub(super) use self::{
    instance::CacheLoad,
    signals::{absent, adapters},
};
use crate::interfaces::{
    EngineReading, GatewayReading, LengthDistribution, ModelKey, ModelMetrics, ReplicaMetrics, VariantKey, age,
};

/// Recent rates are taken over this long: a surge shows in them earlier than in rates over the peak window.
pub(in crate::collector) const RECENT: Duration = Duration::from_secs(20);

/// Lengths of requests change slowly: for this long they are not counted again.
const SAME_LENGTHS: Duration = Duration::from_secs(5);

/// One pod, or one gateway, to scrape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScrapeTarget {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Where it exposes its metrics.
    pub url: Arc<str>,
    /// The model its variant declares, for engines whose metrics name none.
    pub model_id: Option<Arc<str>>,
    /// KV-cache capacity in tokens that is declared for it, for engines that export none.
    pub kv_cache_tokens: Option<u64>,
}

impl ScrapeTarget {
    /// The pod `pod` in `namespace`, which exposes its metrics at `url`.
    pub fn new(namespace: impl Into<Arc<str>>, pod: impl Into<Arc<str>>, url: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), pod: pod.into(), url: url.into(), model_id: None, kv_cache_tokens: None }
    }

    /// Host and port of the URL, which is what Prometheus calls `instance`; the pod where there is none.
    fn address(&self) -> &str {
        let after_scheme = self.url.split_once("://").map(|(_, rest)| rest);
        after_scheme.and_then(|rest| rest.split('/').next()).filter(|host| !host.is_empty()).unwrap_or(&self.pod)
    }
}

/// How far back signals look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// KV-cache usage and queue length are peaks over this long.
    pub peak: Duration,
    /// Rates, latencies and means are over this long.
    pub rate: Duration,
    /// Lengths of requests are counted over this long; until it has passed, since the engine started.
    pub lengths: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self { peak: Duration::from_secs(60), rate: Duration::from_secs(60), lengths: Duration::from_secs(900) }
    }
}

/// The recent past of every engine and gateway.
#[derive(Debug, Default)]
pub struct ScrapeHistory {
    windows: Windows,
    models: HashMap<ModelKey, ModelHistory>,
    gateways: BTreeMap<ScrapeTarget, GatewayHistory>,
}

#[derive(Debug, Default)]
struct ModelHistory {
    instances: BTreeMap<InstanceKey, Instance>,
    /// Lengths as they were when an instance was last forgotten, for the time with few or no replicas.
    remembered: Lengths,
    /// When the newest reading was taken.
    newest: Option<Timestamp>,
    /// Prompt and output lengths as of a moment, once somebody asked.
    distributions: Mutex<Option<(Timestamp, Distributions)>>,
}

type Distributions = [Option<Arc<LengthDistribution>>; 2];

/// A pod and its data-parallel engine.
type InstanceKey = (ScrapeTarget, Arc<str>);

impl ScrapeHistory {
    /// An empty history.
    pub fn new(windows: Windows) -> Self {
        Self { windows, ..Self::default() }
    }

    /// Adds what the engines of `target` said at `at`. A reading without a model is taken for the one the target
    /// declares, and left out if it declares none.
    pub fn record(&mut self, at: Timestamp, target: &ScrapeTarget, readings: impl IntoIterator<Item = EngineReading>) {
        for reading in readings {
            let named = Some(&reading.model).filter(|model| !model.is_empty());
            let Some(model_id) = named.or(target.model_id.as_ref()) else { continue };
            let model = ModelKey { namespace: target.namespace.clone(), model_id: model_id.clone() };
            let history = self.models.entry(model).or_default();
            history.newest = Some(at);
            let instances = &mut history.instances;
            let key = (target.clone(), reading.rank.clone());
            if let Some(instance) = instances.get_mut(&key) {
                instance.record(at, reading, &self.windows);
            } else {
                instances.insert(key, Instance::new(at, target, reading));
            }
        }
    }

    /// Adds what the gateway `target` said at `at` of the models in its namespace.
    pub fn record_gateway(
        &mut self,
        at: Timestamp,
        target: &ScrapeTarget,
        readings: impl IntoIterator<Item = GatewayReading>,
    ) {
        let gateway = self.gateways.entry(target.clone()).or_default();
        readings.into_iter().for_each(|reading| gateway.record(at, &reading, self.windows.rate));
    }

    /// Forgets targets that are not to be kept, and at `now` engines that have said nothing for longer than any window.
    pub fn retain(&mut self, now: Timestamp, keep: impl Fn(&ScrapeTarget) -> bool) {
        let longest = self.windows.lengths.max(self.windows.rate).max(self.windows.peak);
        for model in self.models.values_mut() {
            let stays =
                |key: &InstanceKey, instance: &Instance| keep(&key.0) && age(now, instance.sampled_at()) <= longest;
            if model.instances.iter().any(|(key, instance)| !stays(key, instance)) {
                model.remembered = model.lengths(self.windows.lengths);
                *model.distributions() = None;
                model.instances.retain(|key, instance| stays(key, instance));
            }
        }
        self.gateways.retain(|target, _| keep(target));
    }

    /// Signals of the engines that serve `model`, in the order of pods and ranks, attributed by `variant_of`.
    pub fn replica_metrics(
        &self,
        model: &ModelKey,
        variant_of: impl Fn(&ScrapeTarget) -> Option<VariantKey>,
    ) -> Vec<ReplicaMetrics> {
        self.replica_metrics_at(model, None, variant_of)
    }

    /// The same, where variants stay the same as long as the cluster's `revision` does.
    pub(super) fn replica_metrics_at(
        &self,
        model: &ModelKey,
        revision: Option<u64>,
        variant_of: impl Fn(&ScrapeTarget) -> Option<VariantKey>,
    ) -> Vec<ReplicaMetrics> {
        let Some(history) = self.models.get(model) else { return Vec::new() };
        let instances = history.instances.iter();
        instances
            .map(|((target, _), instance)| ReplicaMetrics {
                variant: instance.owner(revision, || variant_of(target)),
                ..instance.metrics(target, &self.windows).clone()
            })
            .collect()
    }

    /// What is known of `model` beside its replicas.
    pub fn model_metrics(&self, model: &ModelKey) -> ModelMetrics {
        let mut metrics = ModelMetrics::default();
        let gateways = self.gateways.iter().filter(|(target, _)| target.namespace == model.namespace);
        gateway::sum(gateways.map(|(_, gateway)| gateway), &model.model_id, &mut metrics);
        if let Some(history) = self.models.get(model) {
            [metrics.prompt_lengths, metrics.output_lengths] = history.current_distributions(self.windows.lengths);
        }
        metrics
    }

    /// Every engine instance known of the models that are `wanted`: the model, the pod, and when it said so last.
    pub fn instances(
        &self,
        wanted: impl Fn(&ModelKey) -> bool,
    ) -> impl Iterator<Item = (&ModelKey, &ScrapeTarget, Timestamp)> {
        self.models.iter().filter(move |(model, _)| wanted(model)).flat_map(|(model, history)| {
            history.instances.iter().map(move |((target, _), instance)| (model, target, instance.sampled_at()))
        })
    }
}

impl ModelHistory {
    /// Those of the newest reading, or of one shortly before.
    fn current_distributions(&self, window: Duration) -> Distributions {
        let Some(newest) = self.newest else { return Distributions::default() };
        let mut known = self.distributions();
        if let Some((at, distributions)) = &*known
            && age(newest, *at).max(age(*at, newest)) < SAME_LENGTHS
        {
            return distributions.clone();
        }
        let lengths = self.lengths(window);
        let distributions = [lengths.prompt.distribution(), lengths.output.distribution()].map(|of| of.map(Arc::new));
        *known = Some((newest, distributions.clone()));
        distributions
    }

    fn distributions(&self) -> MutexGuard<'_, Option<(Timestamp, Distributions)>> {
        // Whole at any time: replaced at once.
        self.distributions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lengths(&self, window: Duration) -> Lengths {
        Lengths::of(|| self.instances.values(), window, &self.remembered)
    }
}

/// The address and, for all but the first rank, the rank: so the name of the first does not depend on whether others are
/// seen.
pub(super) fn instance_name(address: &str, rank: &str) -> Arc<str> {
    match rank {
        "" | "0" => address.into(),
        rank => format!("{address}/{rank}").into(),
    }
}

#[cfg(test)]
mod tests;
