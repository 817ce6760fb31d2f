//! The `VariantAutoscaling` resource, `llmd.ai/v1alpha1`. JSON spelling is upstream's, so that its objects apply unchanged.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A variant: one scale target that serves a model on one accelerator at one cost.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "llmd.ai",
    version = "v1alpha1",
    kind = "VariantAutoscaling",
    namespaced,
    status = "VariantAutoscalingStatus",
    shortname = "va",
    doc = "VariantAutoscaling asks wva for the desired replicas of one scale target that serves a model on one accelerator at one cost.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.modelID"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicas"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicas"),
    printcolumn(name = "Optimized", type_ = "integer", json_path = ".status.desiredOptimizedAlloc.numReplicas"),
    printcolumn(
        name = "MetricsReady",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='MetricsAvailable')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("!has(self.maxReplicas) || !has(self.minReplicas) || self.minReplicas <= self.maxReplicas")
        .message("minReplicas must not exceed maxReplicas")
)]
pub struct VariantAutoscalingSpec {
    /// The object with a scale subresource to scale, in the same namespace.
    pub scale_target_ref: ScaleTargetRef,
    /// The model served; must equal the engine's `model_name` label.
    #[serde(rename = "modelID")]
    #[schemars(length(min = 1))]
    pub model_id: String,
    /// Cost of one replica, a decimal number of at least 0 in any unit; only ratios matter.
    #[serde(default = "default_variant_cost")]
    #[schemars(regex(pattern = r"^\d+(\.\d+)?$"))]
    pub variant_cost: String,
    /// Least number of replicas; 1 where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_replicas: Option<i32>,
    /// Greatest number of replicas; unbounded where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replicas: Option<i32>,
}

fn default_variant_cost() -> String {
    "10.0".to_owned()
}

/// The object to scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// API group and version.
    #[serde(default = "default_api_version")]
    pub api_version: String,
    /// Kind.
    #[serde(default = "default_kind")]
    pub kind: String,
    /// Name.
    #[schemars(length(min = 1))]
    pub name: String,
}

fn default_api_version() -> String {
    "apps/v1".to_owned()
}

fn default_kind() -> String {
    "Deployment".to_owned()
}

/// What was decided last, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariantAutoscalingStatus {
    /// The desired allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_optimized_alloc: Option<OptimizedAlloc>,
    /// Whether the desired replicas are in place.
    #[serde(default)]
    pub actuation: ActuationStatus,
    /// Why the decision is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Conditions: `TargetResolved`, `MetricsAvailable`, `OptimizationReady`, `AutoscalerReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Desired replicas of a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptimizedAlloc {
    /// When this value was first decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_run_time: Option<Timestamp>,
    /// Accelerator of the variant.
    #[schemars(length(min = 2))]
    pub accelerator: String,
    /// Desired replicas.
    #[schemars(range(min = 0))]
    pub num_replicas: i32,
}

/// Whether the scale target follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActuationStatus {
    /// True once observed replicas equal desired replicas.
    #[serde(default)]
    pub applied: bool,
}

/// The label that names a variant's accelerator where the pod template does not.
pub const ACCELERATOR_LABEL: &str = "inference.optimization/acceleratorName";
