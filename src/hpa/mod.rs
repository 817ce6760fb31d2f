//! The stock HorizontalPodAutoscaler's arithmetic for one External metric, as a pure model.
//!
//! One model, used by the demo, the simulator and the benchmarks, so that a decision is always judged by what the real
//! controller would make of it. Source: `pkg/controller/podautoscaler` of Kubernetes 1.37; the table in the tests was
//! measured on the real controller.

mod behavior;
mod recommendation;

use std::time::Duration;

use jiff::Timestamp;

use behavior::Events;
pub use behavior::{Behavior, Policy, PolicyKind, ScalingRules, Select};
use recommendation::Recommendations;

/// What an HPA with one External metric of target type `AverageValue` is told.
#[derive(Clone, Debug, PartialEq)]
pub struct HpaSpec {
    /// `minReplicas`.
    pub min_replicas: u32,
    /// `maxReplicas`.
    pub max_replicas: u32,
    /// `averageValue`, in thousandths.
    pub average_value_milli: u64,
    /// `behavior`; `None` is the controller's older default rule.
    pub behavior: Option<Behavior>,
}

impl HpaSpec {
    /// The HPA our samples ship: adopts the served value at once, both ways, within its bounds.
    pub fn adopting(min_replicas: u32, max_replicas: u32, scale_down_window: Duration) -> Self {
        Self {
            min_replicas,
            max_replicas,
            average_value_milli: 1000,
            behavior: Some(Behavior::adopting(scale_down_window)),
        }
    }
}

/// Replicas of the scale target as the scale subresource shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`.
    pub spec: u32,
    /// `status.replicas`.
    pub status: u32,
}

/// What one sync did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncOutcome {
    /// `spec.replicas` becomes this; it may be what it was.
    Scaled(u32),
    /// The metric could not be read: nothing is touched. The text is `ScalingActive=False`'s.
    FailedGetExternalMetric(String),
    /// The target stands at zero and this HPA did not put it there.
    ScalingDisabled,
}

/// One HPA with its memory.
#[derive(Clone, Debug)]
pub struct Hpa {
    spec: HpaSpec,
    recommendations: Recommendations,
    events: Events,
}

impl Hpa {
    /// An HPA that has seen nothing yet.
    pub fn new(spec: HpaSpec) -> Self {
        Self { spec, recommendations: Recommendations::default(), events: Events::default() }
    }

    /// One sync: `reading` holds the items of the metric in thousandths, or the error of the read.
    pub fn sync(&mut self, now: Timestamp, scale: Scale, reading: Result<&[u64], String>) -> SyncOutcome {
        let Scale { spec, .. } = scale;
        self.recommendations.seed(now, spec);
        if spec == 0 && self.spec.min_replicas != 0 {
            return SyncOutcome::ScalingDisabled;
        }
        // Bounds are enforced before metrics are read, even while they cannot be.
        let desired = if spec > self.spec.max_replicas {
            self.spec.max_replicas
        } else if spec < self.spec.min_replicas {
            self.spec.min_replicas
        } else {
            match reading {
                Ok(items) if !items.is_empty() => self.normalised(now, scale, items.iter().sum()),
                Ok(_) => return SyncOutcome::FailedGetExternalMetric("no metrics returned".to_owned()),
                Err(message) => return SyncOutcome::FailedGetExternalMetric(message),
            }
        };
        if desired != spec {
            self.events.record(now, spec, desired);
        }
        SyncOutcome::Scaled(desired)
    }

    fn normalised(&mut self, now: Timestamp, scale: Scale, usage_milli: u64) -> u32 {
        let proposal = self.proposal(scale, usage_milli);
        match &self.spec.behavior {
            None => {
                let stable = self.recommendations.stabilised_down(now, proposal, behavior::DEFAULT_DOWN_WINDOW);
                let up_limit = scale.spec.saturating_mul(2).max(4);
                stable.clamp(self.spec.min_replicas, self.spec.max_replicas.min(up_limit).max(self.spec.min_replicas))
            }
            Some(behavior) => {
                let stable = self.recommendations.stabilised(
                    now,
                    scale.spec,
                    proposal,
                    behavior.scale_up.window,
                    behavior.scale_down.window,
                );
                let bounds = (self.spec.min_replicas, self.spec.max_replicas);
                behavior.limited(now, scale.spec, stable, bounds, &self.events)
            }
        }
    }

    /// `GetExternalPerPodMetricReplicas`: the sum over the target, unless that is within tolerance of what is there.
    fn proposal(&self, scale: Scale, usage_milli: u64) -> u32 {
        let target = self.spec.average_value_milli;
        let (up, down) = self
            .spec
            .behavior
            .as_ref()
            .map_or((behavior::DEFAULT_TOLERANCE, behavior::DEFAULT_TOLERANCE), |behavior| {
                (behavior.scale_up.tolerance, behavior.scale_down.tolerance)
            });
        let ratio = usage_milli as f64 / (target as f64 * f64::from(scale.status));
        if ratio >= 1.0 - down && ratio <= 1.0 + up {
            // The controller keeps status.replicas here, not spec.replicas.
            return scale.status;
        }
        u32::try_from(usage_milli.div_ceil(target)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
