//! Decisions within the accelerators that there are.
//!
//! Each group of variants that shares a load is a model to the optimizer, and what was decided for a variant its own
//! demand: with enough for all nothing changes, otherwise the optimizer's policies say who gets what.

use std::collections::BTreeMap;

use super::bounds::EffectiveBounds;
use crate::{
    interfaces::{
        AcceleratorMode, Decision, Direction, Growth, Limit, ModelKey, Outcome, ReplicaBounds, Role, Snapshot,
        TargetObservation, VariantKey, VariantObservation,
    },
    optimizer::{Allotment, Bound, CapacityCurve, Choice, ModelDemand, Offer, OptimizerSettings, Supply, optimize},
};

/// Priority of a model without a service class, in the middle.
const DEFAULT_PRIORITY: u32 = 50;

/// `decisions` as the inventory leaves them.
pub(super) fn apply(snapshot: &Snapshot, decisions: &mut [Decision]) {
    if snapshot.planning.accelerators == AcceleratorMode::Unlimited {
        return;
    }
    let models = models(snapshot, decisions);
    let settings = OptimizerSettings {
        choice: Choice::EachVariantAlone,
        switching_cost: 0.0,
        saturation_policy: snapshot.planning.saturation_policy,
        fit_nodes: snapshot.planning.fit_nodes,
    };
    let supply = snapshot.inventory.as_deref().map_or(Supply::Unknown, Supply::Limited);
    let allotments: BTreeMap<VariantKey, Allotment> = optimize(&models, &supply, &settings)
        .into_iter()
        .flat_map(|answer| answer.variants)
        .map(|allotment| (allotment.variant.clone(), allotment))
        .collect();
    let specs: BTreeMap<&VariantKey, u32> =
        snapshot.variants.iter().map(|found| (&found.variant.key, spec(found))).collect();
    for decision in decisions {
        let Some(allotment) = allotments.get(&decision.variant) else { continue };
        let Some(Bound::Inventory(limit)) = &allotment.bound_by else { continue };
        restrict(decision, allotment.desired, limit, specs.get(&decision.variant).copied().unwrap_or(0));
    }
}

fn restrict(decision: &mut Decision, replicas: u32, limit: &Limit, spec: u32) {
    let Outcome::Desired(desired) = &mut decision.outcome else { return };
    desired.reason.text =
        format!("{}; {replicas} of {} can be had: bound by {limit}", desired.reason.text, desired.replicas);
    desired.replicas = replicas;
    desired.direction = Direction::between(spec, replicas);
    desired.bound_by = Some(limit.clone());
}

fn spec(observation: &VariantObservation) -> u32 {
    match &observation.target {
        TargetObservation::Found(scale) => scale.spec,
        TargetObservation::NotFound { .. } => 0,
    }
}

/// One model per group. A variant without a decision holds what it has.
fn models(snapshot: &Snapshot, decisions: &[Decision]) -> Vec<ModelDemand> {
    let decided: BTreeMap<&VariantKey, &Outcome> =
        decisions.iter().map(|decision| (&decision.variant, &decision.outcome)).collect();
    let mut groups: BTreeMap<(&ModelKey, Role), Vec<Offer>> = BTreeMap::new();
    for observation in &snapshot.variants {
        let variant = &observation.variant;
        let offer = offer(observation, decided.get(&variant.key).copied());
        groups.entry((&variant.model, variant.role)).or_default().extend(offer);
    }
    let model = |((model, role), variants): ((&ModelKey, Role), Vec<Offer>)| ModelDemand {
        model: model.clone(),
        role,
        demand: variants.iter().filter_map(|offer| offer.own_demand).sum(),
        priority: snapshot.objectives.get(model).map_or(DEFAULT_PRIORITY, |objective| objective.priority),
        variants,
    };
    groups.into_iter().map(model).collect()
}

fn offer(observation: &VariantObservation, outcome: Option<&Outcome>) -> Option<Offer> {
    let TargetObservation::Found(scale) = &observation.target else { return None };
    let variant = &observation.variant;
    let replicas = match outcome {
        Some(Outcome::Desired(desired)) => desired.replicas,
        Some(Outcome::Withheld(_)) | None => scale.spec,
    };
    let min = EffectiveBounds::of(variant, &observation.autoscalers).range().min.min(replicas);
    Some(Offer {
        variant: variant.key.clone(),
        cost: variant.cost,
        capacity: CapacityCurve::linear(1.0),
        bounds: ReplicaBounds { min, max: Some(replicas) },
        keep: 0,
        spec: scale.spec,
        ready: scale.ready,
        pending: scale.current.saturating_sub(scale.ready).min(scale.spec.saturating_sub(scale.ready)),
        growth: Growth::Likely,
        own_demand: Some(f64::from(replicas)),
        accelerator: variant.accelerator.clone(),
        accelerators_per_replica: variant.accelerators_per_replica,
    })
}

#[cfg(test)]
mod tests;
