//! What was decided, and why.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ModelKey, ReplicaBounds, Role, Signal, VariantKey};

/// A variant's state as a target calculation needs it (`VariantReplicaState` and `VariantDecision` upstream).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantDecision {
    /// The variant.
    pub variant: VariantKey,
    /// Cost of one replica.
    pub cost: f64,
    /// Part it plays.
    #[serde(default)]
    pub role: Role,
    /// `spec.replicas`: what was set last. During a rollout or an eviction `status.replicas` strays from it, and a
    /// decision based on that would adopt the stray number.
    pub spec: u32,
    /// Observed replicas.
    pub current: u32,
    /// Of these, replicas that are not ready but still count as anticipated supply.
    pub pending: u32,
    /// Replicas asked for last, if any.
    pub desired: Option<u32>,
    /// Bounds: ours and the HPA's.
    #[serde(default)]
    pub bounds: ReplicaBounds,
    /// Whether more replicas can be had.
    #[serde(default)]
    pub growth: Growth,
}

/// Whether asking a variant for more replicas will bring some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Growth {
    /// As far as is known.
    #[default]
    Likely,
    /// Replicas it was given have been pending for too long: out of accelerators, perhaps. A last resort.
    Doubtful,
    /// It stands at zero and its HPA, whose minimum is above that, is disabled until somebody scales it up.
    Impossible,
}

/// The decision on one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The variant.
    pub variant: VariantKey,
    /// Its model.
    pub model: ModelKey,
    /// Its accelerator, where known.
    pub accelerator: Option<Arc<str>>,
    /// Observed replicas of its target; `None` when the target cannot be read.
    pub current: Option<u32>,
    /// Ready replicas of its target.
    pub ready: u32,
    /// When it was decided; the time of the snapshot.
    pub decided_at: Timestamp,
    /// How saturated the variant is.
    pub saturation: SaturationLevel,
    /// Desired replicas, or why there are none.
    pub outcome: Outcome,
}

/// Load over threshold per signal: 1 is saturated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SaturationLevel {
    /// Greatest KV-cache usage of its replicas over the threshold.
    pub kv_cache: Signal<f64>,
    /// Greatest queue length of its replicas over the threshold.
    pub queue_depth: Signal<f64>,
}

/// Desired replicas, or the reason to withhold them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Outcome {
    /// Served to the HPA.
    Desired(Desired),
    /// Served as an API error, so that the HPA holds and shows the message.
    Withheld(Withheld),
}

/// How many replicas a variant should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// Within all limits.
    pub replicas: u32,
    /// Before limits.
    pub unconstrained: u32,
    /// Against `spec.replicas`.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
    /// The limit that bound it, if one did.
    pub bound_by: Option<Limit>,
    /// Sample time of the oldest signal used; `None` when no signal was needed.
    pub oldest_input: Option<Timestamp>,
}

/// Which way a decision moves replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// More than is set.
    Up,
    /// Fewer than are set.
    Down,
    /// As set.
    Hold,
}

impl Direction {
    /// The direction from `spec` to `desired` replicas.
    pub fn between(spec: u32, desired: u32) -> Self {
        match desired.cmp(&spec) {
            std::cmp::Ordering::Greater => Self::Up,
            std::cmp::Ordering::Less => Self::Down,
            std::cmp::Ordering::Equal => Self::Hold,
        }
    }

    /// The `direction` label on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Hold => "hold",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EngineName {
    /// The percentage-based saturation engine.
    Saturation,
    /// The engine that aims at the service objective.
    Slo,
    /// The engine that wakes models from zero and puts them to sleep.
    ScaleFromZero,
    /// The bounds alone.
    Bounds,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Saturation => "saturation",
            Self::Slo => "slo",
            Self::ScaleFromZero => "scale from zero",
            Self::Bounds => "bounds",
        })
    }
}

/// Why a decision is what it is: the engine and a clause with the number that decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// Who decided.
    pub engine: EngineName,
    /// The clause, such as `spare capacity 12 % is below the target of 20 %`.
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.engine, self.text)
    }
}

/// A limit that kept a decision from its unconstrained value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// `minReplicas` of the variant.
    MinReplicas(u32),
    /// `maxReplicas` of the variant.
    MaxReplicas(u32),
    /// `minReplicas` of this HPA.
    HpaMinReplicas(Arc<str>, u32),
    /// `maxReplicas` of this HPA.
    HpaMaxReplicas(Arc<str>, u32),
    /// Accelerators of this type: so many could be had in all, own replicas' included.
    Accelerators(Arc<str>, u32),
    /// This quota, of so many accelerators.
    Quota(Arc<str>, u32),
    /// Accelerators are limited, but how many there are is not known.
    UnknownInventory,
    /// Accelerators are limited, but which or how many one replica holds is not known.
    UnknownAccelerator,
    /// A spend cap, as a clause.
    SpendCap(Arc<str>),
    /// An override: what it does and until when, as a clause.
    Override(Arc<str>),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinReplicas(n) => write!(f, "minReplicas {n} of the VariantAutoscaling"),
            Self::MaxReplicas(n) => write!(f, "maxReplicas {n} of the VariantAutoscaling"),
            Self::HpaMinReplicas(hpa, n) => write!(f, "minReplicas {n} of HPA {hpa}"),
            Self::HpaMaxReplicas(hpa, n) => write!(f, "maxReplicas {n} of HPA {hpa}"),
            Self::Accelerators(accelerator, n) => write!(f, "{n} accelerators of type {accelerator}"),
            Self::Quota(name, n) => write!(f, "quota {name} of {n} accelerators"),
            Self::UnknownInventory => f.write_str(
                "an unknown inventory: accelerators are limited, and no nodes can be read; check the rights to list nodes",
            ),
            Self::UnknownAccelerator => f.write_str(
                "an unknown accelerator: accelerators are limited, and which or how many a replica holds cannot be told \
                 from its pod template",
            ),
            Self::SpendCap(clause) => f.write_str(clause),
            Self::Override(clause) => write!(f, "an override: {clause}"),
        }
    }
}

/// Why no number is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withheld {
    /// What kind of reason.
    pub kind: WithheldKind,
    /// A sentence for the reader of `kubectl describe hpa`: which variant, what is missing or how old, what to check.
    pub message: String,
}

/// Kinds of reasons to withhold a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WithheldKind {
    /// The scale target cannot be read.
    TargetNotFound,
    /// No replica of the model is ready, so nothing can be measured.
    NoReadyReplica,
    /// Signals are absent or too old.
    MetricsMissing,
}

impl WithheldKind {
    /// The reason of the `VariantAutoscaling` condition that shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TargetNotFound => "TargetNotFound",
            Self::NoReadyReplica => "NoReadyReplica",
            Self::MetricsMissing => "MetricsMissing",
        }
    }
}
