//! What wva last decided on a variant, and what stands in the way.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was decided last, and why. Written by wva.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariantAutoscalingStatus {
    /// The desired allocation. While no decision can be made it keeps its last value, and the condition
    /// `OptimizationReady` is False.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_optimized_alloc: Option<OptimizedAlloc>,
    /// Whether the desired replicas are in place.
    #[serde(default)]
    pub actuation: ActuationStatus,
    /// Why the decision is what it is, or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Conditions: `TargetResolved`, `MetricsAvailable`, `OptimizationReady` (a desired number is being served),
    /// `AutoscalerReady` (an HPA reads that number and will follow it) and `EnginesAttributed` (engines that serve the model
    /// are replicas of variants).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Desired replicas of a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptimizedAlloc {
    /// When the decision shown here was made. It does not advance while nothing else in the status changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub last_run_time: Option<Timestamp>,
    /// Accelerator of the variant; `unresolved` while it is unknown.
    #[schemars(length(min = 1))]
    pub accelerator: String,
    /// Desired replicas within all limits: what the HPA reads.
    #[schemars(range(min = 0))]
    pub num_replicas: i32,
    /// Desired replicas before limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub unconstrained_replicas: Option<i32>,
    /// The limit that bound the decision, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_by: Option<String>,
}

/// Whether the scale target follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActuationStatus {
    /// True once observed replicas equal desired replicas.
    #[serde(default)]
    pub applied: bool,
}
