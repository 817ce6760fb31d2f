//! Takes a [`Snapshot`]: joins what the cluster says with what the metric sources say, at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    clock::Clock,
    interfaces::{
        AgeLimits, MetricsCollector, ModelKey, ReplicaMetrics, SNAPSHOT_VERSION, SaturationScalingConfig, Snapshot,
        VariantKey, VariantObservation,
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

    let mut replicas: BTreeMap<VariantKey, Vec<ReplicaMetrics>> = BTreeMap::new();
    for model in &models {
        for collector in collectors {
            // An error here is "nothing fetched yet"; the source's health carries it into the message.
            for replica in collector.fetch_saturation_metrics(model).await.unwrap_or_default() {
                if let Some(variant) = &replica.variant {
                    replicas.entry(variant.clone()).or_default().push(replica);
                }
            }
        }
    }
    for variant in &mut variants {
        variant.replicas = replicas.remove(&variant.variant.key).unwrap_or_default();
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
        ages: parameters.ages(),
        saturation_per_model: own_thresholds.collect(),
        saturation,
    }
}
