//! Takes a [`Snapshot`]: joins what the cluster says with what the metric sources say, at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    clock::Clock,
    interfaces::{
        AgeLimits, CollectorError, MetricsCollector, ModelKey, ReplicaMetrics, SNAPSHOT_VERSION,
        SaturationScalingConfig, Snapshot, VariantKey, VariantObservation,
    },
};

/// Knows the variants, their scale targets and their HPAs.
pub trait ClusterObserver: Send + Sync {
    /// Every variant with what is known of it, without replica signals.
    fn observe(&self, now: Timestamp) -> Vec<VariantObservation>;
}

/// Parameters that go into a snapshot, resolved.
pub trait Parameters: Send + Sync {
    /// How long observations count.
    fn ages(&self) -> AgeLimits;

    /// Saturation thresholds of models without thresholds of their own.
    fn saturation(&self) -> Arc<SaturationScalingConfig>;

    /// Saturation thresholds of `model`.
    fn saturation_of(&self, model: &ModelKey) -> Arc<SaturationScalingConfig>;
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
    let models: BTreeSet<ModelKey> = variants.iter().map(|variant| variant.variant.model.clone()).collect();

    // By model too: a pod whose engine serves another model than its variant declares says nothing of the variant.
    let mut replicas: BTreeMap<(ModelKey, VariantKey), Vec<ReplicaMetrics>> = BTreeMap::new();
    let mut unavailable = BTreeMap::new();
    for model in &models {
        let mut has_signals = false;
        for collector in collectors {
            // An error here is "nothing fetched yet"; the source's health carries it into the message.
            for replica in collector.fetch_saturation_metrics(model).await.unwrap_or_default() {
                has_signals |= has_sample(&replica);
                if let Some(variant) = &replica.variant {
                    replicas.entry((model.clone(), variant.clone())).or_default().push(replica);
                }
            }
        }
        if !has_signals && let Some(found) = what_is_found(collectors, model).await {
            unavailable.insert(model.clone(), found);
        }
    }
    for variant in &mut variants {
        let key = (variant.variant.model.clone(), variant.variant.key.clone());
        variant.replicas = replicas.remove(&key).unwrap_or_default();
    }

    let saturation = parameters.saturation();
    let own_thresholds = models.into_iter().filter_map(|model| {
        let of_model = parameters.saturation_of(&model);
        (of_model != saturation).then_some((model, of_model))
    });
    Snapshot {
        version: SNAPSHOT_VERSION,
        taken_at,
        variants,
        sources: collectors.iter().map(|collector| collector.health()).collect(),
        unavailable,
        ages: parameters.ages(),
        saturation_per_model: own_thresholds.collect(),
        saturation,
    }
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
