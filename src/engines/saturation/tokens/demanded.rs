//! Tokens and replicas as the optimizer sees them.

use crate::{
    engines::group::{Case, Member},
    optimizer::{CapacityCurve, ModelDemand, Offer},
};

/// What a member offers when each of its replicas carries `capacity` tokens, of which `keep` replicas stay.
pub(super) fn offer(member: &Member<'_>, capacity: f64, keep: u32) -> Offer {
    let variant = &member.observation.variant;
    Offer {
        variant: member.key().clone(),
        cost: variant.cost,
        capacity: CapacityCurve::linear(capacity),
        bounds: member.bounds.range(),
        keep,
        spec: member.scale.spec,
        ready: member.scale.ready,
        pending: member.pending,
        growth: member.growth(),
        own_demand: None,
        accelerator: variant.accelerator.clone(),
        accelerators_per_replica: variant.accelerators_per_replica,
    }
}

/// So many tokens of a group, to be carried by `variants`.
pub(super) fn by(case: &Case<'_, '_>, tokens: f64, variants: Vec<Offer>) -> ModelDemand {
    ModelDemand { model: case.group.model.clone(), role: case.group.role, demand: tokens, priority: 1, variants }
}
