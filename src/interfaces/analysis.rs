//! Results and contract of saturation analysis (`ModelSaturationAnalysis` and friends of the package reference).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ModelKey, ReplicaMetrics, SaturationScalingConfig, VariantDecision, VariantKey};

/// One number per signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignalAverages {
    /// KV cache, a fraction of 1.
    pub kv_cache: f64,
    /// Waiting requests.
    pub queue_depth: f64,
}

/// Saturation of one model over all its variants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSaturationAnalysis {
    /// The model.
    pub model: ModelKey,
    /// Replicas with both signals present.
    pub total_replicas: u32,
    /// Of these, replicas with a signal at or over its threshold.
    pub saturated_replicas: u32,
    /// Average spare capacity of the non-saturated replicas, a fraction of the threshold; 0 when all are saturated.
    pub average_spare_capacity: f64,
    /// Average spare of the non-saturated replicas per signal, in the signal's own unit (threshold − value).
    pub average_spare: SignalAverages,
    /// Whether more replicas are needed.
    pub should_scale_up: bool,
    /// Whether fewer replicas would do.
    pub should_scale_down: bool,
    /// Whether the load, redistributed over one replica less, keeps the spare capacity.
    pub scale_down_safe: bool,
    /// Per variant.
    pub variant_analyses: Vec<VariantSaturationAnalysis>,
}

/// Saturation of one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantSaturationAnalysis {
    /// The variant.
    pub variant: VariantKey,
    /// Replicas with both signals present.
    pub total_replicas: u32,
    /// Of these, saturated ones.
    pub saturated_replicas: u32,
    /// Mean of the replicas' signals.
    pub average: SignalAverages,
    /// Greatest of the replicas' signals.
    pub peak: SignalAverages,
}

/// A saturation algorithm (`interfaces.SaturationAnalyzer` of the package reference). Pure and thread-safe.
pub trait SaturationAnalyzer: Send + Sync {
    /// Analyses the replicas of one model. Replicas that lack a signal are left out.
    fn analyze_model_saturation(
        &self,
        model: &ModelKey,
        metrics: &[ReplicaMetrics],
        config: &SaturationScalingConfig,
    ) -> ModelSaturationAnalysis;

    /// Target replicas per variant.
    fn calculate_capacity_targets(
        &self,
        analysis: &ModelSaturationAnalysis,
        variants: &[VariantDecision],
    ) -> BTreeMap<VariantKey, u32>;
}
