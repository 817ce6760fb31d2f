//! Decisions within the accelerators that there are.
//!
//! Each group of variants that shares a load is a model to the optimizer, and what was decided for a variant its own
//! demand: with enough for all nothing changes, otherwise the optimizer's policies say who gets what.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ceilings, bounds::EffectiveBounds};
use crate::{
    interfaces::{
        AcceleratorMode, Decision, Direction, Growth, Limit, ModelKey, Outcome, ReplicaBounds, Role, Snapshot,
        TargetObservation, VariantKey, VariantObservation,
    },
    optimizer::{Bound, CapacityCurve, Choice, ModelDemand, Offer, OptimizerSettings, Supply, optimize},
};

/// Priority of a model without a service class, in the middle.
const DEFAULT_PRIORITY: u32 = 50;

/// Adds the ceilings of variants that cannot have what `decisions` ask for and whose model has others that could carry it;
/// whether there are any.
pub(super) fn find(snapshot: &Snapshot, decisions: &[Decision], ceilings: &mut Ceilings) -> bool {
    let mut members: BTreeMap<(&ModelKey, Role), u32> = BTreeMap::new();
    for observation in &snapshot.variants {
        *members.entry((&observation.variant.model, observation.variant.role)).or_default() += 1;
    }
    let has_others: BTreeSet<&VariantKey> = snapshot
        .variants
        .iter()
        .filter(|found| members.get(&(&found.variant.model, found.variant.role)).is_some_and(|count| *count > 1))
        .map(|found| &found.variant.key)
        .collect();
    let cut = cut(snapshot, decisions).into_iter().filter(|(variant, _)| has_others.contains(variant));
    ceilings.extend(cut);
    !ceilings.is_empty()
}

/// `decisions` as the inventory leaves them.
pub(super) fn apply(snapshot: &Snapshot, decisions: &mut [Decision]) {
    let cut = cut(snapshot, decisions);
    if cut.is_empty() {
        return;
    }
    let specs: BTreeMap<&VariantKey, u32> =
        snapshot.variants.iter().map(|found| (&found.variant.key, spec(found))).collect();
    for decision in decisions {
        let Some((replicas, limit)) = cut.get(&decision.variant) else { continue };
        restrict(decision, *replicas, limit, specs.get(&decision.variant).copied().unwrap_or(0));
    }
}

/// The variants that cannot have what was decided for them: what they can have, and why no more.
fn cut(snapshot: &Snapshot, decisions: &[Decision]) -> Ceilings {
    if snapshot.limits.accelerators == AcceleratorMode::Unlimited {
        return Ceilings::new();
    }
    let models = models(snapshot, decisions);
    let settings = OptimizerSettings {
        choice: Choice::EachVariantAlone,
        switching_cost: 0.0,
        saturation_policy: snapshot.limits.saturation_policy,
        fit_nodes: snapshot.limits.fit_nodes,
    };
    let supply = snapshot.inventory.as_deref().map_or(Supply::Unknown, Supply::Limited);
    let allotments = optimize(&models, &supply, &settings).into_iter().flat_map(|answer| answer.variants);
    allotments
        .filter_map(|allotment| match allotment.bound_by {
            Some(Bound::Inventory(limit)) => Some((allotment.variant, (allotment.desired, limit))),
            _ => None,
        })
        .collect()
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
        let offer = offer(snapshot, observation, decided.get(&variant.key).copied());
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

fn offer(snapshot: &Snapshot, observation: &VariantObservation, outcome: Option<&Outcome>) -> Option<Offer> {
    let TargetObservation::Found(scale) = &observation.target else { return None };
    let variant = &observation.variant;
    let replicas = match outcome {
        Some(Outcome::Desired(desired)) => desired.replicas,
        Some(Outcome::Withheld(_)) | None => scale.spec,
    };
    let min = EffectiveBounds::of(observation, snapshot).range().min.min(replicas);
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
