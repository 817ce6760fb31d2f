//! Decisions within the accelerators that there are.
//!
//! Each group of variants that shares a load is a model to the optimizer, and what was decided for a variant its own
//! demand: with enough for all nothing changes, otherwise the optimizer's policies say who gets what.

use super::{
    Ceilings,
    roster::{Entry, Group, Roster},
};
use crate::{
    interfaces::{AcceleratorMode, Decision, Direction, Growth, Limit, Outcome, ReplicaBounds},
    optimizer::{Bound, CapacityCurve, Choice, ModelDemand, Offer, OptimizerSettings, Supply, optimize},
};

/// Priority of a model without a service class, in the middle.
const DEFAULT_PRIORITY: u32 = 50;

/// The ceilings of variants that cannot have what `decisions` ask for.
pub(super) fn ceilings(roster: &Roster<'_>, decisions: &[Option<Decision>]) -> Ceilings {
    if roster.snapshot.limits.accelerators == AcceleratorMode::Unlimited {
        return Ceilings::new();
    }
    cut(roster, |place| decisions[place].as_ref().map(|decision| &decision.outcome))
}

/// Whether one of a model's variants has a ceiling and others, of its role or of the other one, are to know.
pub(super) fn is_narrowed(groups: &[Group<'_>], ceilings: &Ceilings) -> bool {
    let mut places = groups.iter().flat_map(|group| &group.places);
    !ceilings.is_empty()
        && groups.iter().map(|group| group.places.len()).sum::<usize>() > 1
        && places.any(|place| ceilings.contains_key(place))
}

/// `decisions` as the inventory leaves them.
pub(super) fn apply(roster: &Roster<'_>, decisions: &mut [Decision]) {
    if roster.snapshot.limits.accelerators == AcceleratorMode::Unlimited {
        return;
    }
    for (place, (replicas, limit)) in cut(roster, |place| decisions.get(place).map(|decision| &decision.outcome)) {
        let spec = roster.entries[place].scale().map_or(0, |scale| scale.spec);
        restrict(&mut decisions[place], replicas, &limit, spec);
    }
}

/// The variants that cannot have what was decided for them: what they can have, and why no more.
fn cut<'d>(roster: &Roster<'_>, outcome: impl Fn(usize) -> Option<&'d Outcome>) -> Ceilings {
    let limits = &roster.snapshot.limits;
    let settings = OptimizerSettings {
        choice: Choice::EachVariantAlone,
        switching_cost: 0.0,
        saturation_policy: limits.saturation_policy,
        fit_nodes: limits.fit_nodes,
    };
    // Each replica carries one, of what was decided in replicas.
    let one_each = CapacityCurve::linear(1.0);
    let (mut models, mut places) = (Vec::with_capacity(roster.groups.len()), Vec::with_capacity(roster.entries.len()));
    for group in &roster.groups {
        let offers = group.places.iter().filter_map(|&place| {
            let offer = offer(&roster.entries[place], outcome(place), &one_each)?;
            places.push(place);
            Some(offer)
        });
        models.push(model(group, offers.collect()));
    }
    let supply = roster.snapshot.inventory.as_deref().map_or(Supply::Unknown, Supply::Limited);
    let allotments = optimize(&models, &supply, &settings).into_iter().flat_map(|answer| answer.variants);
    places
        .into_iter()
        .zip(allotments)
        .filter_map(|(place, allotment)| match allotment.bound_by {
            Some(Bound::Inventory(limit)) => Some((place, (allotment.desired, limit))),
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

/// A group as the optimizer sees it.
fn model(group: &Group<'_>, variants: Vec<Offer>) -> ModelDemand {
    ModelDemand {
        model: group.model.clone(),
        role: group.role,
        demand: variants.iter().filter_map(|offer| offer.own_demand).sum(),
        priority: group.objective.map_or(DEFAULT_PRIORITY, |objective| objective.priority),
        variants,
    }
}

/// What was decided, as the demand of the variant alone. One without a decision holds what it has.
fn offer(entry: &Entry<'_>, outcome: Option<&Outcome>, one_each: &CapacityCurve) -> Option<Offer> {
    let scale = entry.scale()?;
    let variant = &entry.observation.variant;
    let replicas = match outcome {
        Some(Outcome::Desired(desired)) => desired.replicas,
        Some(Outcome::Withheld(_)) | None => scale.spec,
    };
    Some(Offer {
        variant: variant.key.clone(),
        cost: variant.cost,
        capacity: one_each.clone(),
        bounds: ReplicaBounds { min: entry.bounds.range().min.min(replicas), max: Some(replicas) },
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
