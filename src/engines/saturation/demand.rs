//! How many replicas the measured load needs.
//!
//! In the words of every engine: demand D is the load in thresholds (a replica at its threshold carries 1), capacity P is
//! what a replica may carry while it keeps the spare capacity target; ⌈D/P⌉ replicas are needed.

use super::percent;
use crate::{
    interfaces::{ModelSaturationAnalysis, SaturationScalingConfig, SignalAverages},
    saturation::{Replica, relative_spare},
};

/// A shortage of replicas.
#[derive(Debug, PartialEq)]
pub(super) struct Shortage {
    /// Replicas needed in place of those measured: more than there are, at most twice as many.
    pub(super) needed: u32,
    /// Why, with the number that decided.
    pub(super) clause: String,
}

/// The shortage of the measured `replicas`, if there is one.
pub(super) fn shortage(
    analysis: &ModelSaturationAnalysis,
    replicas: &[Replica],
    config: &SaturationScalingConfig,
) -> Option<Shortage> {
    let mean = mean_load(replicas);
    let clause = if analysis.should_scale_up { too_little_spare(analysis, config) } else { overload(mean, config)? };
    let count = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
    let most = count.saturating_mul(2);
    Some(Shortage { needed: needed(mean, count, config).clamp(count.saturating_add(1), most.max(count + 1)), clause })
}

/// The analysis averages over non-saturated replicas, as the reference asks: one drowning replica beside an idle one
/// then looks fine. Averaged over all, it does not.
fn overload(mean: SignalAverages, config: &SaturationScalingConfig) -> Option<String> {
    if config.spare_triggers.is_some() || relative_spare(mean, config) >= config.spare_capacity_target {
        return None;
    }
    Some(format!(
        "with the saturated replicas, the mean load is {} of KV cache and {:.1} waiting requests: less than {} to spare",
        percent(mean.kv_cache),
        mean.queue_depth,
        percent(config.spare_capacity_target)
    ))
}

/// Demand D in thresholds, and the capacity P of all measured replicas while they keep the spare capacity target.
pub(super) fn demand_and_capacity(replicas: &[Replica], config: &SaturationScalingConfig) -> (f64, f64) {
    let (mean, count) = (mean_load(replicas), replicas.len() as f64);
    let load = (mean.kv_cache / config.kv_cache_threshold).max(mean.queue_depth / config.queue_depth_threshold);
    (load * count, (1.0 - config.spare_capacity_target) * count)
}

fn needed(mean: SignalAverages, count: u32, config: &SaturationScalingConfig) -> u32 {
    // Upstream's triggers are absolute: they say that more is needed, not how much.
    if config.spare_triggers.is_some() {
        return count.saturating_add(1);
    }
    let capacity = 1.0 - config.spare_capacity_target;
    // A queue is a stock, not a flow: a long one says that many more are needed, not how many. Twice as many at most, so
    // that it does not ask for more every cycle while pods start: peers are known for cascades of 2, 4, 8, 16.
    let demand = (mean.kv_cache / config.kv_cache_threshold).max(mean.queue_depth / config.queue_depth_threshold);
    (f64::from(count) * demand / capacity - 1e-9).ceil() as u32
}

fn mean_load(replicas: &[Replica]) -> SignalAverages {
    let total = replicas.iter().fold(SignalAverages::default(), |sum, replica| SignalAverages {
        kv_cache: sum.kv_cache + replica.load.kv_cache,
        queue_depth: sum.queue_depth + replica.load.queue_depth,
    });
    total.scaled(1.0 / replicas.len().max(1) as f64)
}

fn too_little_spare(analysis: &ModelSaturationAnalysis, config: &SaturationScalingConfig) -> String {
    if analysis.saturated_replicas == analysis.total_replicas {
        return format!(
            "all {} replicas are saturated (KV cache at {} or {} waiting requests)",
            analysis.total_replicas,
            percent(config.kv_cache_threshold),
            config.queue_depth_threshold
        );
    }
    match config.spare_triggers {
        None => format!(
            "average spare capacity {} is below the target of {}",
            percent(analysis.average_spare_capacity),
            percent(config.spare_capacity_target)
        ),
        Some(triggers) => format!(
            "average spare KV cache {} or queue {:.1} is below the triggers {} and {}",
            percent(analysis.average_spare.kv_cache),
            analysis.average_spare.queue_depth,
            percent(triggers.kv_cache),
            triggers.queue_depth
        ),
    }
}
