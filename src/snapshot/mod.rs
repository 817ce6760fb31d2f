//! Takes a [`Snapshot`]: joins what the cluster says with what the metric sources say, at one moment.

mod attribution;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    clock::Clock,
    interfaces::{
        AcceleratorLimits, AgeLimits, CollectorError, EngineOptions, Inventory, MetricsCollector, ModelKey,
        ModelMetrics, ModelObservation, Override, ReplicaMetrics, SNAPSHOT_VERSION, SaturationScalingConfig,
        ServiceObjective, ServiceProfile, Signal, Snapshot, Variant, VariantObservation,
    },
};

/// Knows the variants, their scale targets and their HPAs.
pub trait ClusterObserver: Send + Sync {
    /// Every variant with what is known of it, without replica signals.
    fn observe(&self, now: Timestamp) -> Vec<VariantObservation>;

    /// Accelerators of the cluster; `None` while they are unknown.
    fn inventory(&self) -> Option<Arc<Inventory>> {
        None
    }
}

/// Parameters that go into a snapshot, resolved. What an implementation leaves out has the value that ships.
pub trait Parameters: Send + Sync {
    /// How long observations count.
    fn ages(&self) -> AgeLimits {
        AgeLimits::default()
    }

    /// Saturation thresholds of models without thresholds of their own.
    fn saturation(&self) -> Arc<SaturationScalingConfig> {
        Arc::default()
    }

    /// Saturation thresholds of `model`.
    fn saturation_of(&self, model: &ModelKey) -> Arc<SaturationScalingConfig> {
        let _ = model;
        self.saturation()
    }

    /// What the SLO engine makes use of.
    fn engine(&self) -> EngineOptions {
        EngineOptions::default()
    }

    /// After how long without a request `model` gives up all replicas; `None` where it never does.
    fn retention_of(&self, model: &ModelKey) -> Option<Duration> {
        let _ = model;
        None
    }

    /// What requests of `model` are owed; `None` without a service class for it.
    fn objective_of(&self, model: &ModelKey) -> Option<Arc<ServiceObjective>> {
        let _ = model;
        None
    }

    /// How far decisions are held to the inventory.
    fn limits(&self) -> AcceleratorLimits {
        AcceleratorLimits::default()
    }

    /// Overrides on all variants of `model`.
    fn overrides_of(&self, model: &ModelKey) -> Vec<Override> {
        let _ = model;
        Vec::new()
    }

    /// Whether every variant is in shadow mode, whatever its owner says.
    fn shadow(&self) -> bool {
        false
    }

    /// Service times of `model` on `accelerator`; `None` where nobody gave them.
    fn profile_of(&self, model: &ModelKey, accelerator: &str) -> Option<ServiceProfile> {
        let _ = (model, accelerator);
        None
    }
}

/// Takes a snapshot of `cluster` and `collectors`. Reads memory only: no backend is asked.
///
/// A source that knows nothing of a model adds nothing; why, is in its health.
pub async fn take(
    clock: &dyn Clock,
    cluster: &dyn ClusterObserver,
    collectors: &[Arc<dyn MetricsCollector>],
    parameters: &dyn Parameters,
) -> Snapshot {
    let taken_at = clock.now();
    let mut variants = cluster.observe(taken_at);
    // By model: a pod whose engine serves another model than its variant declares says nothing of the variant.
    let mut models: BTreeMap<ModelKey, Vec<usize>> = BTreeMap::new();
    for (index, variant) in variants.iter().enumerate() {
        models.entry(variant.variant.model.clone()).or_default().push(index);
    }

    let mut unavailable = BTreeMap::new();
    let (mut suspects, mut silent) = (BTreeSet::new(), BTreeSet::new());
    let mut observed_models = Vec::with_capacity(models.len());
    for (model, members) in &mut models {
        members.sort_unstable_by(|a, b| variants[*a].variant.key.cmp(&variants[*b].variant.key));
        let mut metrics = ModelMetrics::default();
        let mut has_signals = false;
        for collector in collectors {
            // An error here is "nothing fetched yet"; the source's health carries it into the message.
            let replicas = collector.fetch_saturation_metrics(model).await.unwrap_or_default();
            let share = replicas.len().div_ceil(members.len());
            for replica in replicas {
                match member(&variants, members, &replica) {
                    Some(index) => {
                        has_signals |= has_sample(&replica);
                        let replicas = &mut variants[index].replicas;
                        if replicas.is_empty() {
                            replicas.reserve_exact(share);
                        }
                        replicas.push(replica);
                    }
                    None => {
                        suspects.insert(model.clone());
                    }
                }
            }
            add(&mut metrics, collector.fetch_model_metrics(model).await);
        }
        observed_models.push(ModelObservation { model: model.clone(), metrics });
        if !has_signals {
            silent.insert(model.clone());
            if let Some(found) = what_is_found(collectors, model).await {
                unavailable.insert(model.clone(), found);
            }
        }
    }
    let is_wanted = |model: &ModelKey| suspects.contains(model) || !models.contains_key(model);
    let served = collectors.iter().flat_map(|collector| collector.served_models(&is_wanted));
    let ages = parameters.ages();
    let unattributed = attribution::unattributed(&variants, served, taken_at, ages.signal);
    for engines in unattributed.iter().filter(|engines| engines.variant.is_none() && silent.contains(&engines.model)) {
        unavailable.entry(engines.model.clone()).or_insert_with(|| attribution::served_by_others(engines));
    }
    for variant in &mut variants {
        complete(&mut variant.variant, parameters);
    }
    let models: Vec<ModelKey> = models.into_keys().collect();
    let overrides = models.iter().map(|model| (model.clone(), parameters.overrides_of(model)));
    let overrides = overrides.filter(|(_, overrides)| !overrides.is_empty()).collect();
    let objectives = models.iter().filter_map(|model| Some((model.clone(), parameters.objective_of(model)?)));
    let objectives = objectives.collect();
    let retained = models.iter().filter_map(|model| Some((model.clone(), parameters.retention_of(model)?)));
    let scale_to_zero = retained.collect();
    let saturation = parameters.saturation();
    let own_thresholds = models.into_iter().filter_map(|model| {
        let of_model = parameters.saturation_of(&model);
        (of_model != saturation).then_some((model, of_model))
    });
    Snapshot {
        version: SNAPSHOT_VERSION,
        taken_at,
        variants,
        sources: collectors.iter().flat_map(|collector| collector.sources()).collect(),
        unavailable,
        models: observed_models,
        unattributed,
        inventory: cluster.inventory(),
        objectives,
        scale_to_zero,
        ages,
        engine: parameters.engine(),
        curves: BTreeMap::new(),
        saturation_per_model: own_thresholds.collect(),
        saturation,
        limits: parameters.limits(),
        overrides,
    }
}

/// The variant that owns a replica, of those (in the order of their keys) that serve its model.
fn member(variants: &[VariantObservation], members: &[usize], replica: &ReplicaMetrics) -> Option<usize> {
    let owner = replica.variant.as_ref()?;
    let at = members.binary_search_by(|index| variants[*index].variant.key.cmp(owner)).ok()?;
    members.get(at).copied()
}

/// Adds what the configuration says of a variant.
fn complete(variant: &mut Variant, parameters: &dyn Parameters) {
    if let (None, Some(accelerator)) = (&variant.profile, &variant.accelerator) {
        variant.profile = parameters.profile_of(&variant.model, accelerator);
    }
    variant.shadow |= parameters.shadow();
}

/// Fills what is not known yet from another source: the first source that knows a quantity is believed.
fn add(metrics: &mut ModelMetrics, other: ModelMetrics) {
    let first = |one: Signal<f64>, other: Signal<f64>| if one.value().is_some() { one } else { other };
    metrics.gateway_queue = first(metrics.gateway_queue, other.gateway_queue);
    metrics.gateway_arrival_rate = first(metrics.gateway_arrival_rate, other.gateway_arrival_rate);
    metrics.gateway_recent_arrival_rate = first(metrics.gateway_recent_arrival_rate, other.gateway_recent_arrival_rate);
    metrics.prompt_lengths = metrics.prompt_lengths.take().or(other.prompt_lengths);
    metrics.output_lengths = metrics.output_lengths.take().or(other.output_lengths);
}

fn has_sample(replica: &ReplicaMetrics) -> bool {
    [replica.kv_cache_usage, replica.queue_length].iter().any(|signal| signal.sampled_at().is_some())
}

/// What the sources have instead of the model's series; `None` when they could not look.
async fn what_is_found(collectors: &[Arc<dyn MetricsCollector>], model: &ModelKey) -> Option<String> {
    let mut clauses = Vec::new();
    for collector in collectors {
        if let Err(CollectorError::MissingSeries { found, .. }) = collector.validate_metrics_availability(model).await {
            clauses.push(found);
        }
    }
    (!clauses.is_empty()).then(|| clauses.join("; "))
}

#[cfg(test)]
mod tests;
