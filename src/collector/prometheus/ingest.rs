//! Query results in, signals per engine instance out. Pure: the simulator feeds the same function.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    models, performance,
    queries::Query,
    response::{Series, SeriesLabels},
};
use crate::interfaces::{EngineKind, FinishedRates, ModelKey, ModelMetrics, ReplicaMetrics, Signal};

/// The series each query returned; a query without an entry was not answered.
pub type QueryResults = HashMap<Query, Vec<Series>>;

/// Queries whose value is a signal of its own.
const SIGNALS: [Query; 3] = [Query::KvCacheUsage, Query::QueueLength, Query::Running];

/// What one fetch says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingested {
    /// Signals of every engine instance, ordered by pod and instance.
    pub models: HashMap<ModelKey, Vec<ReplicaMetrics>>,
    /// What gateways say of each model.
    pub gateways: HashMap<ModelKey, ModelMetrics>,
    /// Engine instances that cannot be told apart or attributed.
    pub unattributable: Unattributable,
}

/// Engine instances whose series lack a label that is needed to attribute them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unattributable {
    /// How many.
    pub instances: usize,
    /// The scrape address of one of them and the label it lacks.
    pub example: Option<(String, &'static str)>,
}

/// Reads the signals out of the results of one fetch.
///
/// A value that is not a number, and one whose instance has no sample time, is [`Signal::Missing`].
///
/// Rates were asked for over `window`.
pub fn ingest(results: &QueryResults, window: Duration) -> Ingested {
    let sampled_at = sample_times(results);
    let mut replicas = HashMap::<InstanceKey<'_>, ReplicaMetrics>::new();
    let mut unattributable = HashMap::new();
    for query in SIGNALS {
        for series in results.get(&query).into_iter().flatten() {
            match InstanceKey::of(&series.labels) {
                Ok(key) => {
                    let replica = replicas.entry(key).or_insert_with(|| key.replica());
                    if let (Some(signal), Some(at)) = (signal_of(replica, query), sampled_at.get(&key)) {
                        *signal = Signal::from_sample(series.value, *at);
                    }
                }
                Err(label) => {
                    unattributable.insert(&series.labels, label);
                }
            }
        }
    }
    let capacities = cache_capacities(results);
    for (key, replica) in &mut replicas {
        if let (Some(tokens), Some(at)) = (capacities.tokens(key), sampled_at.get(key)) {
            replica.kv_cache_tokens = Signal::from_sample(tokens, *at);
        }
    }
    let finished = performance::finished(results);
    let values = performance::values(results);
    for (key, replica) in &mut replicas {
        let Some(at) = sampled_at.get(key) else { continue };
        let finished = finished.get(key).copied();
        if let Some(FinishedRates { stop, length, abort, other }) = finished {
            replica.request_rate = Signal::from_sample(stop + length + abort + other, *at);
        }
        if let Some(values) = values.get(key) {
            replica.performance = Arc::new(values.signals(finished, *at, window));
        }
    }
    Ingested {
        models: by_model(replicas),
        gateways: models::gateways(results),
        unattributable: Unattributable::new(&unattributable),
    }
}

/// Keeps the signals of queries that were `unanswered` from an earlier fetch; their sample times tell their age.
pub(super) fn carry_over(current: &mut [ReplicaMetrics], earlier: &[ReplicaMetrics], unanswered: &HashSet<Query>) {
    for replica in current {
        let same = |old: &&ReplicaMetrics| old.pod == replica.pod && old.instance == replica.instance;
        let Some(mut old) = earlier.iter().find(same).cloned() else { continue };
        performance::carry_over(replica, &old, unanswered);
        for query in unanswered {
            if let (Some(signal), Some(earlier)) = (signal_of(replica, *query), signal_of(&mut old, *query)) {
                *signal = *earlier;
            }
        }
    }
}

impl Unattributable {
    fn new(instances: &HashMap<&SeriesLabels, &'static str>) -> Self {
        let example = instances
            .iter()
            .map(|(labels, label)| (labels.instance.as_deref().unwrap_or("an unknown address").to_owned(), *label))
            .min();
        Self { instances: instances.len(), example }
    }
}

impl fmt::Display for Unattributable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((instance, label)) = &self.example else { return write!(f, "every engine instance is attributable") };
        write!(
            f,
            "{} engine instance(s), such as {instance}, cannot be attributed: their series have no `{label}` label; ",
            self.instances
        )?;
        match *label {
            MODEL_NAME => write!(f, "check that relabelling does not drop it"),
            _ => write!(
                f,
                "scrape them through a PodMonitor or ServiceMonitor, or relabel __meta_kubernetes_pod_name to pod and \
                 __meta_kubernetes_namespace to namespace"
            ),
        }
    }
}

const MODEL_NAME: &str = "model_name";

/// One engine instance, by the labels of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct InstanceKey<'a> {
    place: Place<'a>,
    model: &'a str,
    engine: &'a str,
}

/// Where an engine instance is scraped. Several data-parallel ranks may share one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place<'a> {
    namespace: &'a str,
    pod: &'a str,
    instance: &'a str,
}

impl<'a> InstanceKey<'a> {
    /// The key of a series, or the label it lacks.
    pub(super) fn of(labels: &'a SeriesLabels) -> Result<Self, &'static str> {
        Ok(Self {
            place: Place::of(labels)?,
            model: text(labels.model_name.as_deref()).ok_or(MODEL_NAME)?,
            engine: text(labels.engine.as_deref()).or(text(labels.dp_rank.as_deref())).unwrap_or_default(),
        })
    }

    fn replica(&self) -> ReplicaMetrics {
        let instance = match self.engine {
            // The first rank goes by the address alone, so that its name does not depend on whether others are seen.
            "" | "0" => self.place.instance.into(),
            engine => format!("{}/{engine}", self.place.instance).into(),
        };
        ReplicaMetrics {
            pod: self.place.pod.into(),
            instance,
            variant: None,
            engine: EngineKind::Vllm,
            kv_cache_usage: Signal::Missing,
            queue_length: Signal::Missing,
            running: Signal::Missing,
            request_rate: Signal::Missing,
            kv_cache_tokens: Signal::Missing,
            performance: Arc::default(),
        }
    }
}

impl<'a> Place<'a> {
    fn of(labels: &'a SeriesLabels) -> Result<Self, &'static str> {
        let pod = text(labels.pod.as_deref()).or(text(labels.exported_pod.as_deref())).ok_or("pod")?;
        Ok(Self {
            namespace: text(labels.namespace.as_deref())
                .or(text(labels.exported_namespace.as_deref()))
                .ok_or("namespace")?,
            pod,
            instance: text(labels.instance.as_deref()).unwrap_or(pod),
        })
    }
}

/// A label's value; Prometheus takes an empty one for an absent one.
pub(super) fn text(label: Option<&str>) -> Option<&str> {
    label.filter(|value| !value.is_empty())
}

fn signal_of(replica: &mut ReplicaMetrics, query: Query) -> Option<&mut Signal<f64>> {
    match query {
        Query::KvCacheUsage => Some(&mut replica.kv_cache_usage),
        Query::QueueLength => Some(&mut replica.queue_length),
        Query::Running => Some(&mut replica.running),
        Query::RequestRate => Some(&mut replica.request_rate),
        Query::CacheConfig => Some(&mut replica.kv_cache_tokens),
        Query::SampleTime | Query::Rates | Query::Latencies | Query::Moments | Query::Gateways | Query::Lengths => None,
    }
}

fn sample_times(results: &QueryResults) -> HashMap<InstanceKey<'_>, Timestamp> {
    let series = results.get(&Query::SampleTime).into_iter().flatten();
    series.filter_map(|series| Some((InstanceKey::of(&series.labels).ok()?, timestamp(series.value)?))).collect()
}

pub(super) fn timestamp(seconds: f64) -> Option<Timestamp> {
    let milliseconds = (seconds * 1000.0).round();
    milliseconds.is_finite().then(|| Timestamp::from_millisecond(milliseconds as i64).ok()).flatten()
}

/// KV-cache capacity in tokens, per place and engine index. The metric has no `model_name`.
struct CacheCapacities<'a>(HashMap<Place<'a>, Vec<(&'a str, f64)>>);

fn cache_capacities(results: &QueryResults) -> CacheCapacities<'_> {
    let mut capacities = HashMap::<_, Vec<_>>::new();
    for Series { labels, .. } in results.get(&Query::CacheConfig).into_iter().flatten() {
        let number = |label: &Option<Box<str>>| {
            text(label.as_deref())?.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0)
        };
        // `num_gpu_blocks` is "None" until the engine has profiled its memory.
        if let (Ok(place), Some(size), Some(blocks)) =
            (Place::of(labels), number(&labels.block_size), number(&labels.num_gpu_blocks))
        {
            capacities
                .entry(place)
                .or_default()
                .push((text(labels.engine.as_deref()).unwrap_or_default(), size * blocks));
        }
    }
    CacheCapacities(capacities)
}

impl CacheCapacities<'_> {
    /// Capacity of one engine instance. Where only one of the two series has an `engine` label (vLLM's simulator), the
    /// place decides. A restart within the minute leaves two geometries behind: the smaller promises less.
    fn tokens(&self, key: &InstanceKey<'_>) -> Option<f64> {
        let candidates = self.0.get(&key.place)?;
        let least = |fits: &dyn Fn(&str) -> bool| {
            candidates.iter().filter(|(engine, _)| fits(engine)).map(|(_, tokens)| *tokens).reduce(f64::min)
        };
        least(&|engine| engine == key.engine).or_else(|| least(&|engine| engine.is_empty() || key.engine.is_empty()))
    }
}

fn by_model(replicas: HashMap<InstanceKey<'_>, ReplicaMetrics>) -> HashMap<ModelKey, Vec<ReplicaMetrics>> {
    let mut namespaces = HashMap::<&str, Arc<str>>::new();
    let mut models = HashMap::<(&str, &str), Vec<ReplicaMetrics>>::new();
    for (key, replica) in replicas {
        models.entry((key.place.namespace, key.model)).or_default().push(replica);
    }
    let models = models.into_iter().map(|((namespace, model), mut replicas)| {
        replicas.sort_unstable_by(|a, b| (&a.pod, &a.instance).cmp(&(&b.pod, &b.instance)));
        let namespace = namespaces.entry(namespace).or_insert_with(|| namespace.into()).clone();
        (ModelKey::new(namespace, model), replicas)
    });
    models.collect()
}

#[cfg(test)]
mod tests;
