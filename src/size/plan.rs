//! Replicas of each variant for a load.

use serde::Serialize;

use crate::{
    analyzer::{Bottleneck, LatencyStatistics, QueueAnalyzer, QueueError, Targets, Workload},
    interfaces::ServiceProfile,
};

/// A kind of replica to choose from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VariantProfile {
    pub(super) name: String,
    pub(super) service: ServiceProfile,
    /// Price of one replica, in any unit.
    pub(super) price: Option<f64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sized {
    /// Requests per second.
    pub(super) rate: f64,
    /// Longest time to first token, seconds.
    pub(super) time_to_first_token_target: f64,
    /// Longest mean time between tokens, seconds.
    pub(super) inter_token_latency_target: f64,
    /// Share of requests that must meet both.
    pub(super) target_share: f64,
    /// One per profile, in the order asked for.
    pub(super) variants: Vec<SizedVariant>,
}

/// What one variant needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SizedVariant {
    pub(super) profile: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", untagged)]
pub(super) enum Outcome {
    #[serde(rename_all = "camelCase")]
    Replicas {
        replicas: u32,
        /// Price of all replicas.
        cost: Option<f64>,
        /// Requests per second that one replica may carry.
        capacity: f64,
        /// What bounds the capacity.
        bound_by: String,
        /// Requests per second of one replica over its rate of saturation.
        utilization: f64,
        /// Share of the KV cache in use.
        kv_cache_usage: f64,
        time_to_first_token: LatencyStatistics,
        inter_token_latency: LatencyStatistics,
    },
    /// Why no number of replicas will do.
    Infeasible { error: String },
}

impl Sized {
    /// Whether some variant meets the targets.
    pub(super) fn is_feasible(&self) -> bool {
        self.variants.iter().any(|variant| matches!(variant.outcome, Outcome::Replicas { .. }))
    }
}

/// Sizes every variant as if it carried the load alone.
///
/// # Errors
/// When a target or a profile makes no sense.
pub(super) fn size(
    rate: f64,
    workload: &Workload,
    targets: &Targets,
    profiles: &[VariantProfile],
) -> Result<Sized, QueueError> {
    let variants = profiles.iter().map(|profile| {
        let outcome = match replicas(rate, workload, targets, profile) {
            Ok(outcome) => outcome,
            Err(error @ QueueError::Infeasible { .. }) => Outcome::Infeasible { error: error.to_string() },
            Err(error) => return Err(error),
        };
        Ok(SizedVariant { profile: profile.name.clone(), outcome })
    });
    Ok(Sized {
        rate,
        time_to_first_token_target: targets.time_to_first_token.unwrap_or_default(),
        inter_token_latency_target: targets.inter_token_latency.unwrap_or_default(),
        target_share: targets.share,
        variants: variants.collect::<Result<_, _>>()?,
    })
}

fn replicas(
    rate: f64,
    workload: &Workload,
    targets: &Targets,
    profile: &VariantProfile,
) -> Result<Outcome, QueueError> {
    let analyzer = QueueAnalyzer::new(profile.service, workload.clone())?;
    let sizing = analyzer.size(targets)?;
    let replicas = (rate / sizing.rate).ceil().max(1.0);
    let at = analyzer.analyze(rate / replicas)?;
    Ok(Outcome::Replicas {
        replicas: replicas as u32,
        cost: profile.price.map(|price| price * replicas),
        capacity: sizing.rate,
        bound_by: sizing
            .bound_by
            .map_or_else(|| saturation(analyzer.saturation().bottleneck), |target| target.to_string()),
        utilization: at.utilization,
        kv_cache_usage: at.kv_cache_usage,
        time_to_first_token: at.time_to_first_token,
        inter_token_latency: at.inter_token_latency,
    })
}

fn saturation(bottleneck: Bottleneck) -> String {
    bottleneck.to_string()
}
