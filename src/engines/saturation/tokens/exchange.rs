//! A cheaper set of replicas in the place of the one that is set: growth goes to what is cheapest at the time, so that what
//! stands in the end can be the dearer of two sets that would do.

use super::{Load, Pool, demanded};
use crate::{
    engines::{
        group::{Case, Member},
        saturation::restraint,
    },
    interfaces::{Growth, ReplicaBounds, TokenThresholds},
    optimizer::{Offer, OptimizerSettings, Supply, optimize},
};

/// The cheaper set must cost no more than this share of what is set, the start of its replicas included: the load wanders,
/// and no set is to be left for another that is hardly better.
const WORTH_IT: f64 = 0.92;

/// Replicas per member of a set that carries the demand below the scale-down boundary for noticeably less than what is
/// set; what goes stays until what comes is ready. `None` where there is no such set, or the signals
/// are not settled.
pub(super) fn cheaper(
    case: &Case<'_, '_>,
    pools: &[Pool],
    capacities: &[f64],
    load: &Load,
    thresholds: TokenThresholds,
) -> Option<Exchange> {
    if case.members.len() < 2 || restraint::why_not_fewer(case, load.measured).is_some() {
        return None;
    }
    let tokens = load.demand / thresholds.scale_down;
    let offers = case.members.iter().zip(capacities).zip(pools).map(|((member, capacity), pool)| {
        let offer = demanded::offer(member, *capacity, 0);
        if pool.per_replica.is_some() && member.growth() == Growth::Likely {
            return offer;
        }
        // What it would carry is only guessed, or may never come: it can go, but nothing is built on it.
        let most = offer.bounds.max.unwrap_or(u32::MAX).min(member.scale.spec);
        Offer { bounds: ReplicaBounds { max: Some(most), ..offer.bounds }, ..offer }
    });
    let demand = demanded::by(case, tokens, offers.collect());
    let answer = optimize(&[demand], &Supply::Unlimited, &OptimizerSettings::default()).pop()?;
    let plan: Vec<u32> = answer.variants.iter().map(|allotment| allotment.desired).collect();
    let cost = |of: &dyn Fn(usize) -> u32| -> f64 {
        let each = case.members.iter().enumerate();
        each.map(|(index, member)| member.observation.variant.cost * f64::from(of(index))).sum()
    };
    let set = |index: usize| case.members[index].scale.spec;
    let starts = cost(&|index| plan[index].saturating_sub(set(index))) * OptimizerSettings::default().switching_cost;
    let (before, after) = (cost(&set), cost(&|index| plan[index]));
    // The last replica is not saturation's to take.
    let serves = plan.iter().any(|replicas| *replicas > 0);
    (answer.is_sufficient && serves && after + starts <= WORTH_IT * before)
        .then(|| Exchange { held: until_ready(case.members, capacities, &plan, tokens), share: after / before })
}

/// A set to be had for less.
pub(super) struct Exchange {
    /// Replicas per member for now.
    pub(super) held: Vec<u32>,
    /// What they cost in the end over what is set.
    pub(super) share: f64,
}

/// `plan`, with as much of what is set beside it as carries `tokens` until the rest of the plan is ready.
fn until_ready(members: &[Member<'_>], capacities: &[f64], plan: &[u32], tokens: f64) -> Vec<u32> {
    let mut held = plan.to_vec();
    let serving = |held: &[u32]| -> f64 {
        let ready = members.iter().zip(held).map(|(member, held)| f64::from(member.scale.ready.min(*held)));
        ready.zip(capacities).map(|(ready, capacity)| ready * capacity).sum()
    };
    for (index, (member, capacity)) in members.iter().zip(capacities).enumerate() {
        let most = member.scale.spec.min(member.scale.ready);
        let missing = (tokens - serving(&held)) / capacity;
        if held[index] < most && missing > 0.0 {
            held[index] += missing.ceil().min(f64::from(most - held[index])) as u32;
        }
    }
    held
}
