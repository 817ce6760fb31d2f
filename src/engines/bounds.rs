//! Bounds compose as a minimum: ours and those of every HPA on the target, with the name of the one that binds.

use super::overrides;
use crate::interfaces::{
    HpaObservation, Limit, OverrideKind, ReplicaBounds, Snapshot, TargetObservation, Variant, VariantObservation,
};

/// The range a variant's replicas may lie in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EffectiveBounds {
    min: (u32, Limit),
    max: Option<(u32, Limit)>,
}

impl EffectiveBounds {
    /// The declared bounds, narrowed by the overrides in force: an engine that plans within them lets other variants
    /// carry what a paused or pinned one may not.
    pub(super) fn of(observation: &VariantObservation, snapshot: &Snapshot) -> Self {
        let declared = Self::declared(&observation.variant, &observation.autoscalers);
        let range = declared.range();
        let within = |replicas: u32| replicas.max(range.min).min(range.max.unwrap_or(u32::MAX));
        let mut bounds = declared.clone();
        // The weakest comes first, so that the strongest has the last word.
        for order in overrides::in_force(observation, snapshot) {
            let limit = overrides::limit(order);
            match order.kind {
                OverrideKind::SpendCap => {
                    if let Some(most) = overrides::affordable(order, observation.variant.cost).map(within)
                        && bounds.max.as_ref().is_none_or(|(max, _)| most < *max)
                    {
                        bounds.max = Some((most, limit));
                    }
                }
                OverrideKind::Minimum => bounds.raise(within(order.replicas.unwrap_or(0)), limit),
                OverrideKind::Pin => bounds.fix(within(order.replicas.unwrap_or(0)), limit),
                OverrideKind::Pause => {
                    if let TargetObservation::Found(scale) = &observation.target {
                        bounds.fix(within(scale.spec), limit);
                    }
                }
            }
        }
        bounds
    }

    /// The same below a ceiling, which takes nobody below the minimum.
    pub(super) fn below(mut self, (most, limit): &(u32, Limit)) -> Self {
        let most = (*most).max(self.min.0);
        if self.max.as_ref().is_none_or(|(max, _)| most < *max) {
            self.max = Some((most, limit.clone()));
        }
        self
    }

    fn raise(&mut self, least: u32, limit: Limit) {
        if self.max.as_ref().is_some_and(|(max, _)| *max < least) {
            self.max = Some((least, limit.clone()));
        }
        if least > self.min.0 {
            self.min = (least, limit);
        }
    }

    fn fix(&mut self, replicas: u32, limit: Limit) {
        self.min = (replicas, limit.clone());
        self.max = Some((replicas, limit));
    }

    /// Ours ∩ the HPAs'. Where that is empty the smallest maximum wins: an HPA never goes beyond its own.
    pub(super) fn declared(variant: &Variant, autoscalers: &[HpaObservation]) -> Self {
        let ours = variant.bounds;
        let mut min = (ours.min, Limit::MinReplicas(ours.min));
        let mut max = ours.max.map(|max| (max, Limit::MaxReplicas(max)));
        for hpa in autoscalers {
            if hpa.bounds.min > min.0 {
                min = (hpa.bounds.min, Limit::HpaMinReplicas(hpa.name.clone(), hpa.bounds.min));
            }
            if let Some(hpa_max) = hpa.bounds.max
                && max.as_ref().is_none_or(|(max, _)| hpa_max < *max)
            {
                max = Some((hpa_max, Limit::HpaMaxReplicas(hpa.name.clone(), hpa_max)));
            }
        }
        if let Some((cap, limit)) = &max
            && *cap < min.0
        {
            min = (*cap, limit.clone());
        }
        Self { min, max }
    }

    /// The range alone.
    pub(super) fn range(&self) -> ReplicaBounds {
        ReplicaBounds { min: self.min.0, max: self.max.as_ref().map(|(max, _)| *max) }
    }

    /// The limit that keeps a variant from having `unconstrained` replicas.
    pub(super) fn binding(&self, unconstrained: u32) -> Option<Limit> {
        if let Some((max, limit)) = &self.max
            && unconstrained > *max
        {
            return Some(limit.clone());
        }
        (unconstrained < self.min.0).then(|| self.min.1.clone())
    }
}
