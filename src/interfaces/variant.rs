//! A variant, the object it scales and the HPAs that read its value, reduced to what decisions use.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ModelKey, Override, ServiceProfile, VariantKey};

/// Part of a disaggregated deployment that a variant plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Processes prompts only.
    Prefill,
    /// Generates tokens only.
    Decode,
    /// Does both.
    #[default]
    Both,
}

/// How many replicas a variant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaBounds {
    /// Least number of replicas.
    pub min: u32,
    /// Greatest number of replicas; `None` is unbounded.
    pub max: Option<u32>,
}

impl Default for ReplicaBounds {
    /// At least one replica, as the package reference asks.
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}

/// The object with a scale subresource that a variant scales.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetReference {
    /// API group and version, such as `apps/v1`.
    pub api_version: Arc<str>,
    /// Kind, such as `Deployment`.
    pub kind: Arc<str>,
    /// Name, in the variant's namespace.
    pub name: Arc<str>,
}

impl fmt::Display for TargetReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A variant as its owner declared it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Variant {
    /// Its name.
    pub key: VariantKey,
    /// The model it serves.
    pub model: ModelKey,
    /// Accelerator type; `None` while it cannot be resolved.
    pub accelerator: Option<Arc<str>>,
    /// Accelerators that one replica holds, over all its pods; `None` while unknown.
    #[serde(default)]
    pub accelerators_per_replica: Option<u32>,
    /// Service times of one replica's engine, where its owner knows them.
    #[serde(default)]
    pub profile: Option<ServiceProfile>,
    /// Cost of one replica, in the owner's unit; only ratios matter.
    pub cost: f64,
    /// Part it plays.
    #[serde(default)]
    pub role: Role,
    /// Bounds its owner set.
    #[serde(default)]
    pub bounds: ReplicaBounds,
    /// What it scales.
    pub target: TargetReference,
    /// Overrides its owner declared.
    #[serde(default)]
    pub overrides: Arc<[Override]>,
    /// Shadow mode: it is decided on and shown, but no HPA is served its number.
    #[serde(default)]
    pub shadow: bool,
}

/// Replica counts of a scale target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleObservation {
    /// `spec.replicas`: what was asked for last.
    pub spec: u32,
    /// `status.replicas`: *current* replicas, the number HPA arithmetic uses.
    pub current: u32,
    /// Ready replicas.
    pub ready: u32,
    /// Creation times of the pods that are not ready yet: *pending* replicas with their ages.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub pending_since: Vec<Timestamp>,
}

/// What an HPA does with the metric it reads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HpaTarget {
    /// `AverageValue`, in thousandths: 1000 is the `"1"` that makes the HPA adopt our value as is.
    AverageValue(i64),
    /// `Value`, in thousandths: multiplies by ready pods, which is wrong for a replica count.
    Value(i64),
    /// Neither is set.
    Unset,
}

/// One HPA that scales a variant's target, reduced to what can make it ignore or misread our value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HpaObservation {
    /// Its name, in the variant's namespace.
    pub name: Arc<str>,
    /// Its bounds: `minReplicas` (1 where unset) and `maxReplicas`.
    pub bounds: ReplicaBounds,
    /// Whether one of its metrics is our external metric.
    pub reads_our_metric: bool,
    /// Whether the selector of that metric matches this variant's labels and no other variant's.
    pub selects_this_variant_only: bool,
    /// How that metric's value is compared.
    pub target: HpaTarget,
    /// Scale-up tolerance as a fraction; the cluster default 0.1 where unset.
    pub tolerance_up: f64,
    /// Scale-down tolerance as a fraction; the cluster default 0.1 where unset.
    pub tolerance_down: f64,
}
