//! Conditions of a `VariantAutoscaling`: their types, and how one is carried on.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::status::whole_seconds;

/// The scale target exists and can be read.
pub const TARGET_RESOLVED: &str = "TargetResolved";
/// The signals that the decision needs are there and fresh.
pub const METRICS_AVAILABLE: &str = "MetricsAvailable";
/// A desired number of replicas is being served.
pub const OPTIMIZATION_READY: &str = "OptimizationReady";
/// A `HorizontalPodAutoscaler` reads that number and will follow it.
pub const AUTOSCALER_READY: &str = "AutoscalerReady";
/// The engines that serve the model are replicas of variants, and the variant's replicas are heard of.
pub const ENGINES_ATTRIBUTED: &str = "EnginesAttributed";

/// The types that wva writes.
pub(super) const OURS: [&str; 5] =
    [TARGET_RESOLVED, METRICS_AVAILABLE, OPTIMIZATION_READY, AUTOSCALER_READY, ENGINES_ATTRIBUTED];

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition without its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) condition: &'static str,
    pub(super) truth: Truth,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(
        condition: &'static str,
        truth: Truth,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { condition, truth, reason: reason.into(), message: message.into() }
    }

    /// The finding as a condition. `lastTransitionTime` moves only when the status flips.
    pub(super) fn carry_on(self, previous: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let status = self.truth.as_str();
        let last_transition_time = find(previous, self.condition)
            .filter(|condition| condition.status == status)
            .map_or_else(|| Time(whole_seconds(now)), |condition| condition.last_transition_time.clone());
        Condition {
            type_: self.condition.to_owned(),
            status: status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation: generation,
            last_transition_time,
        }
    }
}

/// The condition of that type.
pub(super) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
