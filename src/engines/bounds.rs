//! Bounds compose as a minimum: ours and those of every HPA on the target, with the name of the one that binds.

use crate::interfaces::{HpaObservation, Limit, ReplicaBounds, Variant};

/// The range a variant's replicas may lie in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EffectiveBounds {
    min: (u32, Limit),
    max: Option<(u32, Limit)>,
}

impl EffectiveBounds {
    /// Ours ∩ the HPAs'. Where that is empty the smallest maximum wins: an HPA never goes beyond its own.
    pub(super) fn of(variant: &Variant, autoscalers: &[HpaObservation]) -> Self {
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
