//! What the owner of a variant declares, and the rules for it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::VariantAutoscalingStatus;
use crate::interfaces::Override;

/// What a variant is: the scale target, the model it serves, the cost and the bounds of its replicas.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "llmd.ai",
    version = "v1alpha1",
    kind = "VariantAutoscaling",
    namespaced,
    status = "VariantAutoscalingStatus",
    shortname = "va",
    doc = "A VariantAutoscaling declares a variant: one scale target that serves a model on one accelerator at one cost. wva decides how many replicas it should have, serves that number to the HorizontalPodAutoscaler (HPA) of the target as the external metric wva_desired_replicas with the label variant_name (the name of this object), and shows it with its reason in the status.",
    validation = kube::core::Rule::new("size(self.metadata.name) <= 63")
        .message("the name must have at most 63 characters: HorizontalPodAutoscalers select it by the label variant_name"),
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
    printcolumn(
        name = "Accelerator",
        type_ = "string",
        json_path = ".status.desiredOptimizedAlloc.accelerator",
        priority = 1
    ),
    printcolumn(name = "Cost", type_ = "string", json_path = ".spec.variantCost", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
    "message": "minReplicas must not exceed maxReplicas",
}]))]
pub struct VariantAutoscalingSpec {
    /// The workload to scale, in the namespace of this object. One workload belongs to one VariantAutoscaling.
    pub scale_target_ref: ScaleTargetRef,
    /// The model served. It must equal the label `model_name` of the engine's metrics, letter for letter; variants with
    /// the same modelID in one namespace share its load.
    #[serde(rename = "modelID")]
    #[schemars(length(min = 1))]
    pub model_id: String,
    /// Cost of one replica: a decimal number of at least 0, in any unit. Only the ratio to the other variants of the
    /// model matters: load goes to the cheapest variants that carry it.
    #[serde(default = "default_variant_cost")]
    #[schemars(length(max = 32), regex(pattern = r"^\d+(\.\d+)?$"))]
    pub variant_cost: String,
    /// Fewest replicas to ask for; 1 where unset. With 0 the variant may be scaled to zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_replicas: Option<i32>,
    /// Most replicas to ask for; unbounded where unset. The HPA's own bounds hold as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replicas: Option<i32>,
    /// Orders over the decisions on this variant, each with an expiry. Where several hold at a time the strongest does:
    /// Pause, then Pin, then Minimum, then `SpendCap`. minReplicas, maxReplicas and the HPA's bounds hold over all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub overrides: Vec<Override>,
    /// Shadow mode: decide, and show the decision here and in wva's own metrics, but serve no HPA the number and scale
    /// nothing, for a trial beside another autoscaler.
    #[serde(default)]
    pub shadow: bool,
}

fn default_variant_cost() -> String {
    "10.0".to_owned()
}

impl VariantAutoscalingSpec {
    /// Checks what the schema checks, for objects that did not pass it: read from a file, or stored under a looser
    /// schema.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        let check = |ok: bool, field, value: &dyn ToString, rule| {
            if ok { Ok(()) } else { Err(InvalidSpec { field, value: value.to_string(), rule }) }
        };
        let target = &self.scale_target_ref;
        check(!target.name.is_empty(), "scaleTargetRef.name", &target.name, "it must name the workload")?;
        check(!target.api_version.is_empty(), "scaleTargetRef.apiVersion", &target.api_version, "this kind needs it")?;
        check(
            api_version_of(&target.kind).is_none_or(|known| group_of(known) == target.group()),
            "scaleTargetRef.apiVersion",
            &target.api_version,
            "it must be of the group of the kind: apps for a Deployment or StatefulSet, leaderworkerset.x-k8s.io for a \
             LeaderWorkerSet, argoproj.io for a Rollout",
        )?;
        check(!self.model_id.is_empty(), "modelID", &self.model_id, "it must name the model")?;
        check(is_decimal(&self.variant_cost), "variantCost", &self.variant_cost, "it must be a decimal of at least 0")?;
        let (min, max) = (self.min_replicas.unwrap_or(0), self.max_replicas.unwrap_or(i32::MAX));
        check(min >= 0, "minReplicas", &min, "it must be at least 0")?;
        check(max >= 1, "maxReplicas", &max, "it must be at least 1")?;
        check(min <= max, "minReplicas", &min, "it must not exceed maxReplicas")?;
        for order in &self.overrides {
            order.validate().map_err(|rule| InvalidSpec { field: "overrides", value: order.to_string(), rule })?;
        }
        Ok(())
    }
}

/// `^\d+(\.\d+)?$`, the schema's pattern.
fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

/// A field of a `VariantAutoscaling` breaks a rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("spec.{field} is {value:?}, but {rule}")]
pub struct InvalidSpec {
    /// Path of the field below `spec`.
    pub field: &'static str,
    /// Value found.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
}

/// The workload to scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", from = "DeclaredTarget")]
pub struct ScaleTargetRef {
    /// API group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl ScaleTargetRef {
    /// API group, such as `apps`; empty for the core group.
    pub fn group(&self) -> &str {
        group_of(&self.api_version)
    }
}

/// The workload to scale, as declared: what follows from the kind may be left out.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.apiVersion) || self.kind in ['Deployment', 'StatefulSet', 'LeaderWorkerSet', 'Rollout']",
        "message": "apiVersion is needed for this kind",
    },
    {
        "rule": "!has(self.apiVersion) || (self.kind in ['Deployment', 'StatefulSet'] ? self.apiVersion.startsWith('apps/') : self.kind == 'LeaderWorkerSet' ? self.apiVersion.startsWith('leaderworkerset.x-k8s.io/') : self.kind == 'Rollout' ? self.apiVersion.startsWith('argoproj.io/') : true)",
        "message": "apiVersion must be of group apps for a Deployment or StatefulSet, of leaderworkerset.x-k8s.io for a LeaderWorkerSet and of argoproj.io for a Rollout",
    },
]))]
struct DeclaredTarget {
    /// API group and version of the workload; where unset, that of the kind: `apps/v1`, `leaderworkerset.x-k8s.io/v1` for a
    /// LeaderWorkerSet, `argoproj.io/v1alpha1` for a Rollout. Other kinds need it.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    api_version: Option<String>,
    /// Kind of the workload: Deployment, StatefulSet, LeaderWorkerSet, Rollout, or any other kind that has a scale
    /// subresource.
    #[serde(default = "default_kind")]
    #[schemars(length(min = 1, max = 63))]
    kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253))]
    name: String,
}

impl From<DeclaredTarget> for ScaleTargetRef {
    fn from(DeclaredTarget { api_version, kind, name }: DeclaredTarget) -> Self {
        let api_version = api_version.unwrap_or_else(|| api_version_of(&kind).unwrap_or_default().to_owned());
        Self { api_version, kind, name }
    }
}

fn default_kind() -> String {
    "Deployment".to_owned()
}

/// API version of a kind that is known by name.
fn api_version_of(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment" | "StatefulSet" => Some("apps/v1"),
        "LeaderWorkerSet" => Some("leaderworkerset.x-k8s.io/v1"),
        "Rollout" => Some("argoproj.io/v1alpha1"),
        _ => None,
    }
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}
