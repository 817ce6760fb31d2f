//! The cheapest replicas that carry a need.
//!
//! The rule for mixed pools: each replica carries what it would carry in a pool of its own kind with as many replicas as the
//! whole pool has. Pooling smooths bursts whatever the replicas are made of.

use std::sync::Arc;

use crate::interfaces::{CapacityCurve, Growth};

/// A variant as planning sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) cost: f64,
    pub(super) curve: Arc<CapacityCurve>,
    /// Factor on the curve: what is not certain of it is not counted on.
    pub(super) trust: f64,
    /// Requests per second that a replica has room for, whatever the curve says.
    pub(super) room: f64,
    pub(super) min: u32,
    pub(super) max: u32,
    /// Replicas set now.
    pub(super) spec: u32,
    pub(super) growth: Growth,
}

impl Candidate {
    /// Requests per second that one replica carries in a pool of `replicas`.
    pub(super) fn rate(&self, replicas: f64) -> f64 {
        /// A rate that was measured while things changed may be far off: no more than this is believed of it.
        const DOUBTED: f64 = 0.5;
        let believed = self.trust * self.curve.rate_per_replica(replicas);
        believed.min(self.room.max(DOUBTED * believed))
    }
}

/// No plan goes beyond this: what asks for more is a wrong number.
const MOST: u32 = 100_000;
/// A new mix must be this much cheaper than the present one adapted: switching costs a cold start.
const WORTH_SWITCHING: f64 = 0.92;

/// What `plan` carries.
pub(super) fn capacity(candidates: &[Candidate], plan: &[u32]) -> f64 {
    let total: f64 = plan.iter().map(|count| f64::from(*count)).sum();
    candidates.iter().zip(plan).map(|(candidate, count)| f64::from(*count) * candidate.rate(total)).sum()
}

fn cost(candidates: &[Candidate], plan: &[u32]) -> f64 {
    candidates.iter().zip(plan).map(|(candidate, count)| candidate.cost * f64::from(*count)).sum()
}

/// Replicas per candidate, in their order, that carry `need`; as much of it as their bounds allow.
pub(super) fn cheapest(candidates: &[Candidate], need: f64) -> Vec<u32> {
    let least: Vec<u32> = candidates.iter().map(|candidate| candidate.min.min(candidate.max)).collect();
    let fresh = completed(candidates, &least, need);
    if candidates.len() == 1 {
        return fresh;
    }
    let present =
        candidates.iter().map(|candidate| candidate.spec.clamp(candidate.min.min(candidate.max), candidate.max));
    let kept = thinned(candidates, grown(candidates, present.collect(), need), need);
    let is_worth_it = capacity(candidates, &kept) + 1e-9 < need.min(capacity(candidates, &fresh))
        || cost(candidates, &fresh) < WORTH_SWITCHING * cost(candidates, &kept);
    if is_worth_it { fresh } else { kept }
}

/// Candidates in the order in which they grow: by what a unit of cost buys, those that bring none last.
fn by_efficiency(candidates: &[Candidate], total: f64) -> Vec<usize> {
    let efficiency = |index: usize| {
        let candidate = &candidates[index];
        candidate.rate(total) / candidate.cost.max(1e-9)
    };
    let mut order: Vec<usize> =
        (0..candidates.len()).filter(|index| candidates[*index].growth != Growth::Impossible).collect();
    order.sort_by(|a, b| {
        let growth = candidates[*a].growth.cmp(&candidates[*b].growth);
        growth.then(efficiency(*b).total_cmp(&efficiency(*a))).then(a.cmp(b))
    });
    order
}

/// `plan` with replicas added, the most efficient first, until it carries `need`.
fn grown(candidates: &[Candidate], mut plan: Vec<u32>, need: f64) -> Vec<u32> {
    let total = |plan: &[u32]| plan.iter().map(|count| f64::from(*count)).sum::<f64>();
    for index in by_efficiency(candidates, total(&plan).max(4.0)) {
        while capacity(candidates, &plan) < need && plan[index] < candidates[index].max.min(MOST) {
            let rate = candidates[index].rate(total(&plan).max(1.0));
            if rate <= 0.0 {
                break;
            }
            // Pooling only helps: so many are needed at least. A tenth at a time keeps it exact and quick.
            let missing = ((need - capacity(candidates, &plan)) / (rate * 4.0)).floor().min(f64::from(MOST)) as u32;
            plan[index] = plan[index].saturating_add(missing.max(1)).min(candidates[index].max);
        }
    }
    plan
}

/// `plan` with what it can spare taken away, the least efficient first.
fn thinned(candidates: &[Candidate], mut plan: Vec<u32>, need: f64) -> Vec<u32> {
    let mut order = by_efficiency(candidates, plan.iter().map(|count| f64::from(*count)).sum::<f64>().max(4.0));
    order.reverse();
    for index in order {
        while plan[index] > candidates[index].min {
            plan[index] -= 1;
            if capacity(candidates, &plan) < need {
                plan[index] += 1;
                break;
            }
        }
    }
    plan
}

/// The cheapest of the plans that fill up with one candidate and finish with another.
fn completed(candidates: &[Candidate], least: &[u32], need: f64) -> Vec<u32> {
    /// Replicas of the most efficient kind that may be given up for a cheaper end.
    const GIVEN_UP: u32 = 3;
    let filled = thinned(candidates, grown(candidates, least.to_vec(), need), need);
    let mut best = filled.clone();
    let order = by_efficiency(candidates, filled.iter().map(|count| f64::from(*count)).sum::<f64>().max(4.0));
    let Some(first) = order.first().copied() else { return best };
    for &other in &order[1..] {
        for given_up in 1..=GIVEN_UP.min(filled[first].saturating_sub(least[first])) {
            let mut plan = filled.clone();
            plan[first] -= given_up;
            while capacity(candidates, &plan) < need && plan[other] < candidates[other].max {
                plan[other] += 1;
                if cost(candidates, &plan) >= cost(candidates, &best) {
                    break;
                }
            }
            if capacity(candidates, &plan) >= need && cost(candidates, &plan) < cost(candidates, &best) {
                best = plan;
            }
        }
    }
    best
}
