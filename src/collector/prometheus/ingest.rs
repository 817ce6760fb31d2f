//! Query results in, signals per engine instance out. Pure: the simulator feeds the same function.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    facts::{self, Facts},
    models, performance,
    queries::{Query, tag},
    response::{Series, SeriesLabels},
};
use crate::{
    collector::{
        history::{adapters, instance_name},
        mapping::EngineCatalog,
    },
    interfaces::{FinishedRates, ModelKey, ModelMetrics, Quantities, Quantity, ReplicaMetrics, Signal},
};

/// The series each query returned; a query without an entry was not answered.
pub type QueryResults = HashMap<Query, Vec<Series>>;

/// How the results of a fetch are read.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The engines that are understood.
    pub catalog: &'a EngineCatalog,
    /// Rates were asked for over this long.
    pub window: Duration,
    /// How far the clock of the source is ahead of ours.
    pub ahead: SignedDuration,
    /// The model that the variant of a pod (namespace, name) declares, for engines whose series name none.
    pub model_of: &'a dyn Fn(&str, &str) -> Option<Arc<str>>,
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("window", &self.window).field("ahead", &self.ahead).finish_non_exhaustive()
    }
}

impl Reading<'_> {
    /// The moment by our clock that a sample time of the source, in seconds since 1970, stands for.
    pub(super) fn moment(&self, seconds: f64) -> Option<Timestamp> {
        let milliseconds = (seconds * 1000.0).round();
        let there =
            milliseconds.is_finite().then(|| Timestamp::from_millisecond(milliseconds as i64).ok()).flatten()?;
        there.checked_sub(self.ahead).ok()
    }
}

/// Answers take time, and ages are judged in minutes: a difference between two clocks that changed by less is the same.
const SAME_CLOCK: SignedDuration = SignedDuration::from_secs(15);

/// What is known of a source's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SourceClock {
    /// How far it is ahead of ours.
    pub(super) ahead: SignedDuration,
    /// When it last evaluated a query, by itself, in seconds since 1970.
    evaluated_at: Option<f64>,
}

impl SourceClock {
    /// What is known after it evaluated a query at `evaluated_at`, in seconds since 1970, between `asked` and `answered`. How
    /// far it is ahead stays where it hardly changed, so that a sample keeps its time from fetch to fetch; and where it
    /// evaluated at the very moment of the last answer, which is a replay by something in between: that must grow old.
    pub(super) fn after(self, evaluated_at: Option<f64>, asked: Timestamp, answered: Timestamp) -> Self {
        let Some(at) = evaluated_at.filter(|at| at.is_finite()) else { return self };
        let is_replay = self.evaluated_at == Some(at);
        let Some(there) = Timestamp::from_millisecond((at * 1e3) as i64).ok().filter(|_| !is_replay) else {
            return self;
        };
        let ahead = there.duration_since(there.clamp(asked, answered.max(asked)));
        let is_same = (ahead - self.ahead).abs() <= SAME_CLOCK;
        Self { ahead: if is_same { self.ahead } else { ahead }, evaluated_at: Some(at) }
    }
}

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
    /// Engine instances whose model nobody tells.
    pub nameless: Nameless,
}

/// By namespace, the addresses of engine instances that name no model, in pods whose variant declares none either.
pub(super) type Nameless = BTreeMap<Arc<str>, BTreeSet<Arc<str>>>;

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
/// A value that is not a number, and one whose instance has no sample time, is [`Signal::Missing`]; one that the engine
/// never exports is [`Signal::NotDefined`].
pub fn ingest(results: &QueryResults, reading: &Reading<'_>) -> Ingested {
    let sampled_at = sample_times(results, reading);
    let mut replicas = HashMap::<InstanceKey<'_>, ReplicaMetrics>::new();
    let mut unattributable = HashMap::new();
    for query in SIGNALS {
        let all = || results.get(&query).into_iter().flatten();
        // What a part is added to comes first, in whatever order they were answered.
        let parts = all().filter(|series| is_part(&series.labels));
        for series in all().filter(|series| !is_part(&series.labels)).chain(parts) {
            match InstanceKey::of(&series.labels) {
                Ok(key) => {
                    let replica = replicas.entry(key).or_insert_with(|| key.replica());
                    if let (Some(signal), Some(at)) = (signal_of(replica, query), sampled_at.get(&key)) {
                        let whole = if is_part(&series.labels) { signal.value().copied() } else { Some(0.0) };
                        *signal = whole.map_or(Signal::Missing, |whole| Signal::from_sample(whole + series.value, *at));
                    }
                }
                Err(label) => {
                    unattributable.insert(&series.labels, label);
                }
            }
        }
    }
    let (facts, finished, values) =
        (Facts::of(results, reading.catalog), performance::finished(results), performance::values(results));
    for (key, replica) in &mut replicas {
        let engine = facts.engine(key);
        let not_defined = engine.map(|place| reading.catalog.not_defined(place)).unwrap_or_default();
        replica.engine = engine.map(|place| reading.catalog.kind(place)).unwrap_or_default();
        if let Some(at) = sampled_at.get(key) {
            let values = values.get(key);
            let finished = values.map_or(finished.get(key).copied(), |values| values.finished(finished.get(key)));
            if let Some(FinishedRates { stop, length, abort, other }) = finished {
                replica.request_rate = Signal::from_sample(stop + length + abort + other, *at);
            }
            if let Some(tokens) = facts.capacity(key) {
                replica.kv_cache_tokens = Signal::from_sample(tokens, *at);
            }
            if let Some(values) = values {
                let window = reading.window;
                let mut signals = values.signals(finished, *at, window, not_defined);
                signals.lora = adapters(replica.engine, facts.adapters(key), *at);
                replica.performance = Arc::new(signals);
            }
        }
        mark_not_defined(replica, not_defined);
    }
    let (models, nameless) = by_model(replicas, reading.model_of);
    let unattributable = Unattributable::new(&unattributable);
    Ingested { models, gateways: models::gateways(results, reading), unattributable, nameless }
}

/// Whether the series adds to the one without the label.
fn is_part(labels: &SeriesLabels) -> bool {
    text(labels.quantity.as_deref()) == Some(tag(Quantity::Preallocating))
}

/// What an engine never exports is not missing.
fn mark_not_defined(replica: &mut ReplicaMetrics, not_defined: Quantities) {
    for (signal, quantity) in [
        (&mut replica.kv_cache_usage, Quantity::KvCacheUsage),
        (&mut replica.queue_length, Quantity::Waiting),
        (&mut replica.running, Quantity::Running),
        (&mut replica.request_rate, Quantity::Finished),
    ] {
        if *signal == Signal::Missing && not_defined.contains(quantity) {
            *signal = Signal::NotDefined;
        }
    }
}

/// Keeps from an earlier fetch what queries with `gaps`, which were answered in part or not at all, leave out of instances
/// that are there; sample times tell its age.
pub(super) fn carry_over(
    current: &mut HashMap<ModelKey, Vec<ReplicaMetrics>>,
    earlier: &HashMap<ModelKey, Arc<[ReplicaMetrics]>>,
    gaps: &HashSet<Query>,
) {
    // Without its sample time nothing of an instance is known.
    let gaps: HashSet<Query> =
        if gaps.contains(&Query::SampleTime) { Query::ALL.into() } else { gaps.iter().copied().collect() };
    for (model, replicas) in current {
        let Some(earlier) = earlier.get(model) else { continue };
        for replica in replicas {
            let same = |old: &&ReplicaMetrics| old.pod == replica.pod && old.instance == replica.instance;
            if let Some(old) = earlier.iter().find(same).cloned() {
                fill(replica, old, &gaps);
            }
        }
    }
}

fn fill(replica: &mut ReplicaMetrics, mut old: ReplicaMetrics, gaps: &HashSet<Query>) {
    performance::carry_over(replica, &old, gaps);
    facts::carry_over(replica, &old, gaps);
    for query in Query::ALL {
        if let (Some(signal), Some(earlier)) = (signal_of(replica, query), signal_of(&mut old, query)) {
            // That an engine has no such thing is known of the engine alone.
            let is_by_engine = *earlier == Signal::NotDefined && gaps.contains(&Query::Engines);
            if *signal == Signal::Missing && (is_by_engine || gaps.contains(&query)) {
                *signal = *earlier;
            }
        }
    }
}

/// Keeps the instances of an earlier fetch that a partial one leaves out, until their signals are too old to count.
pub(super) fn keep_absent(
    current: &mut HashMap<ModelKey, Vec<ReplicaMetrics>>,
    earlier: &HashMap<ModelKey, Arc<[ReplicaMetrics]>>,
    now: Timestamp,
    age_limit: Duration,
) {
    for (model, replicas) in earlier {
        let known = current.get(model).map(Vec::as_slice).unwrap_or_default();
        let is_absent = |old: &&ReplicaMetrics| {
            let counts = [old.kv_cache_usage, old.queue_length]
                .iter()
                .any(|signal| signal.fresh(now, age_limit).value().is_some());
            counts && !known.iter().any(|replica| replica.pod == old.pod && replica.instance == old.instance)
        };
        let absent: Vec<ReplicaMetrics> = replicas.iter().filter(is_absent).cloned().collect();
        if !absent.is_empty() {
            let all = current.entry(model.clone()).or_default();
            all.extend(absent);
            all.sort_unstable_by(|a, b| (&a.pod, &a.instance).cmp(&(&b.pod, &b.instance)));
        }
    }
}

impl Unattributable {
    /// Of instances by what they lack.
    fn new(lacking: &HashMap<&SeriesLabels, &'static str>) -> Self {
        let address = |labels: &SeriesLabels| labels.instance.as_deref().unwrap_or("an unknown address").to_owned();
        let example = lacking.iter().map(|(labels, label)| (address(labels), *label)).min();
        Self { instances: lacking.len(), example }
    }
}

impl fmt::Display for Unattributable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((instance, label)) = &self.example else { return write!(f, "every engine instance is attributable") };
        write!(
            f,
            "{} engine instance(s), such as {instance}, cannot be attributed: their series have no `{label}` label; scrape \
             them through a PodMonitor or ServiceMonitor, or relabel __meta_kubernetes_pod_name to pod and \
             __meta_kubernetes_namespace to namespace",
            self.instances
        )
    }
}

/// One engine instance, by the labels of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct InstanceKey<'a> {
    pub(super) place: Place<'a>,
    /// Empty where the engine names none.
    model: &'a str,
    /// Index of the data-parallel engine; empty where there is only one.
    pub(super) engine: &'a str,
}

/// Where an engine instance is scraped. Several data-parallel ranks may share one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place<'a> {
    namespace: &'a str,
    pod: &'a str,
    instance: &'a str,
}

impl<'a> InstanceKey<'a> {
    /// The key of a series, or the label it lacks.
    pub(super) fn of(labels: &'a SeriesLabels) -> Result<Self, &'static str> {
        Ok(Self {
            place: Place::of(labels)?,
            model: text(labels.model_name.as_deref()).unwrap_or_default(),
            engine: rank(labels),
        })
    }

    fn replica(&self) -> ReplicaMetrics {
        ReplicaMetrics {
            pod: self.place.pod.into(),
            instance: instance_name(self.place.instance, self.engine),
            ..ReplicaMetrics::default()
        }
    }
}

/// Index of the data-parallel engine that a series is of; empty where there is only one.
pub(super) fn rank(labels: &SeriesLabels) -> &str {
    text(labels.engine.as_deref()).or(text(labels.dp_rank.as_deref())).unwrap_or_default()
}

impl<'a> Place<'a> {
    pub(super) fn of(labels: &'a SeriesLabels) -> Result<Self, &'static str> {
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
        Query::Engines => Some(&mut replica.kv_cache_tokens),
        Query::SampleTime | Query::Rates | Query::Latencies | Query::Moments | Query::Gateways | Query::Lengths => None,
    }
}

fn sample_times<'r>(results: &'r QueryResults, reading: &Reading<'_>) -> HashMap<InstanceKey<'r>, Timestamp> {
    let series = results.get(&Query::SampleTime).into_iter().flatten();
    series.filter_map(|series| Some((InstanceKey::of(&series.labels).ok()?, reading.moment(series.value)?))).collect()
}

/// Instances by the model they serve, and by namespace the addresses of those that serve an unknown one.
fn by_model(
    replicas: HashMap<InstanceKey<'_>, ReplicaMetrics>,
    model_of: &dyn Fn(&str, &str) -> Option<Arc<str>>,
) -> (HashMap<ModelKey, Vec<ReplicaMetrics>>, Nameless) {
    let mut named = HashMap::<(&str, &str), Vec<ReplicaMetrics>>::new();
    let mut models = HashMap::<ModelKey, Vec<ReplicaMetrics>>::new();
    let mut nameless = Nameless::new();
    for (key, replica) in replicas {
        let Place { namespace, pod, instance } = key.place;
        if !key.model.is_empty() {
            named.entry((namespace, key.model)).or_default().push(replica);
        } else if let Some(model) = model_of(namespace, pod) {
            models.entry(ModelKey::new(namespace, model)).or_default().push(replica);
        } else {
            nameless.entry(namespace.into()).or_default().insert(instance.into());
        }
    }
    let mut namespaces = HashMap::<&str, Arc<str>>::new();
    for ((namespace, model), mut replicas) in named {
        let namespace = namespaces.entry(namespace).or_insert_with(|| namespace.into()).clone();
        models.entry(ModelKey::new(namespace, model)).or_default().append(&mut replicas);
    }
    for replicas in models.values_mut() {
        replicas.sort_unstable_by(|a, b| (&a.pod, &a.instance).cmp(&(&b.pod, &b.instance)));
    }
    (models, nameless)
}

#[cfg(test)]
mod tests;
