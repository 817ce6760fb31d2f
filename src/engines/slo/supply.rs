//! What is there and on its way, and what must stay until it has come.

use std::sync::Arc;

use super::{
    Subject,
    plan::{self, Candidate},
};
use crate::{
    engines::group::{Instance, Member},
    interfaces::{Growth, Signal, Snapshot},
};

/// Members as planning sees them. Replicas that have been pending for too long are no supply, and no room to grow either
/// where another variant has some.
pub(super) fn candidates(members: &[Member<'_>], subjects: &[Option<Subject>], snapshot: &Snapshot) -> Vec<Candidate> {
    let has_other = |index: usize| {
        members.iter().enumerate().any(|(other, member)| other != index && member.growth() == Growth::Likely)
    };
    let anticipates = snapshot.engine.anticipated_supply;
    let mut candidates: Vec<Candidate> = members
        .iter()
        .zip(subjects)
        .enumerate()
        .map(|(index, (member, subject))| {
            let bounds = member.bounds.range();
            let growth = if anticipates { member.growth() } else { Growth::Likely };
            let most = bounds.max.unwrap_or(u32::MAX);
            let room = match growth {
                Growth::Doubtful if has_other(index) => member.scale.ready.saturating_add(member.pending),
                Growth::Impossible => 0,
                Growth::Likely | Growth::Doubtful => most,
            };
            // What is slow stands aside: planning is done without it.
            let slow = subject.as_ref().map_or(0, |subject| subject.slow);
            let (curve, trust) = subject.as_ref().map_or_else(
                || (Arc::default(), 0.0),
                |subject| (subject.curve.clone(), subject.drift / (1.0 + subject.error)),
            );
            Candidate {
                cost: member.observation.variant.cost,
                curve,
                trust,
                room: subject.as_ref().map_or(f64::INFINITY, |subject| subject.room),
                min: bounds.min.min(most).saturating_sub(slow),
                max: room.max(bounds.min).min(most).saturating_sub(slow),
                spec: member.scale.spec.saturating_sub(slow),
                growth,
            }
        })
        .collect();
    guessed(&mut candidates);
    candidates
}

/// Requests per second that the KV cache of one replica has room for, by how full the caches are at the present rate. Where
/// requests are longer than their distribution tells, caches fill long before the curve says so, and what finds no room
/// waits. Infinite while one of them is not half full: then it is for the curve to say.
pub(super) fn room(own: &[Instance<'_>], snapshot: &Snapshot) -> f64 {
    const HALF: f64 = 0.5;
    /// So full they may be: a little more, and requests wait for room.
    const FULL: f64 = 0.85;
    let fresh = |signal: Signal<f64>| signal.fresh(snapshot.taken_at, snapshot.ages.signal).value().copied();
    let (mut arriving, mut used) = (0.0, 0.0);
    for instance in own {
        let performance = instance.performance;
        let Some((rate, usage)) = fresh(performance.arrival_rate).zip(fresh(performance.kv_cache_usage_now)) else {
            continue;
        };
        if !(HALF..=1.0).contains(&usage) {
            return f64::INFINITY;
        }
        (arriving, used) = (arriving + rate, used + usage);
    }
    let room = FULL * arriving / used;
    if room > 0.0 { room } else { f64::INFINITY }
}

/// The same, but nothing is given up.
pub(super) fn kept(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let keep =
        |candidate: Candidate| Candidate { min: candidate.spec.clamp(candidate.min, candidate.max), ..candidate };
    candidates.into_iter().map(keep).collect()
}

/// A variant of which nothing is known is taken to carry, for its cost, half of what the best known one does: it is the
/// last to grow, but it does.
fn guessed(candidates: &mut [Candidate]) {
    const DOUBT: f64 = 0.5;
    const POOL: f64 = 4.0;
    let efficiency = |candidate: &Candidate| candidate.rate(POOL) / candidate.cost.max(1e-9);
    let known = candidates.iter().filter(|candidate| candidate.rate(POOL) > 0.0);
    let Some(best) = known.max_by(|a, b| efficiency(a).total_cmp(&efficiency(b))).cloned() else { return };
    for candidate in candidates.iter_mut().filter(|candidate| candidate.curve.points.is_empty()) {
        candidate.trust = DOUBT * best.trust * candidate.cost / best.cost.max(1e-9);
        candidate.curve = best.curve.clone();
    }
}

/// `plan`, with as much kept of what it gives up as is needed until what it adds is ready.
pub(super) fn until_ready(
    candidates: &[Candidate],
    plan: &[u32],
    ready: &[u32],
    need: f64,
    make_before_break: bool,
) -> Vec<u32> {
    let mut held = plan.to_vec();
    let adds = candidates.iter().zip(plan).any(|(candidate, count)| *count > candidate.spec);
    if !make_before_break || !adds {
        return held;
    }
    let serving = |held: &[u32]| -> Vec<u32> { held.iter().zip(ready).map(|(held, ready)| *held.min(ready)).collect() };
    for index in 0..held.len() {
        let most = candidates[index].spec.min(candidates[index].max);
        while held[index] < most && plan::capacity(candidates, &serving(&held)) < need {
            held[index] += 1;
        }
    }
    held
}

/// `plan`, and beside it the replicas that are too slow to count on.
pub(super) fn with_slow(plan: &[u32], slow: &[u32]) -> Vec<u32> {
    plan.iter().zip(slow).map(|(count, slow)| count.saturating_add(*slow)).collect()
}

/// What is asked for before bounds: what the plan without bounds wants, where bounds were what kept it from that.
pub(super) fn widened(held: &[u32], plan: &[u32], unconstrained: &[u32]) -> Vec<u32> {
    let is_bound = plan != unconstrained;
    held.iter().zip(unconstrained).map(|(held, free)| if is_bound { *free } else { *held }).collect()
}
