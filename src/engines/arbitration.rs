//! Several engines, one decision.
//!
//! Every engine reduces its signals to demand D and capacity P with a confidence, and to target replicas. The most confident
//! engine that knows capacity leads. Any confident engine may raise a target, and none falls while one wants more.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{group::Member, saturation};
use crate::interfaces::{Desired, Direction, EngineName, Limit, Outcome, Reason, VariantKey};

/// An engine that is less confident than this does not raise targets, and does not lead.
const CONFIDENT: f64 = 0.5;

/// What one engine makes of a model.
#[derive(Debug)]
pub(super) struct Opinion {
    pub(super) engine: EngineName,
    /// Work arriving, D.
    pub(super) demand: f64,
    /// What the ready replicas carry, P, in the same unit.
    pub(super) capacity: f64,
    /// How much its numbers can be relied on, 0 to 1.
    pub(super) confidence: f64,
    /// Target replicas within bounds.
    pub(super) targets: BTreeMap<VariantKey, u32>,
    /// The same without bounds.
    pub(super) unconstrained: BTreeMap<VariantKey, u32>,
    /// The variant that moves while others of the model stand still.
    pub(super) first: Option<VariantKey>,
    /// Why, with the number that decided.
    pub(super) clause: String,
    /// Sample time of the oldest signal used.
    pub(super) oldest_input: Option<Timestamp>,
}

impl Opinion {
    pub(super) fn is_confident(&self) -> bool {
        self.confidence >= CONFIDENT
    }

    fn target(&self, member: &Member<'_>) -> u32 {
        self.targets.get(member.key()).copied().unwrap_or(member.scale.spec)
    }
}

/// One outcome per member. `slo` is what the SLO engine says, where it has something to aim at.
///
/// `has_room` says that some replica could take a request at once.
pub(super) fn decide(
    members: &[Member<'_>],
    saturation: &Opinion,
    slo: Option<&Opinion>,
    has_room: bool,
) -> Vec<Outcome> {
    match slo {
        Some(slo) if slo.is_confident() => {
            // What the leader wants is on its way: until it is there, that it is missing proves nothing. And a queue does
            // not move to another replica: beside one that has room it says what was, not what is needed.
            let is_there = !has_room
                && members.iter().all(|member| member.pending == 0 && slo.target(member) <= member.scale.spec);
            members.iter().map(|member| led(member, slo, saturation, is_there)).collect()
        }
        Some(slo) => members.iter().map(|member| doubted(member, slo, saturation)).collect(),
        None => members.iter().map(|member| outcome(member, saturation, saturation.target(member), "")).collect(),
    }
}

/// The leader's target, raised by a guard that sees more need although all that the leader wants `is_there`.
fn led(member: &Member<'_>, leader: &Opinion, guard: &Opinion, is_there: bool) -> Outcome {
    let (wanted, guarded) = (leader.target(member), guard.target(member));
    if is_there && guarded > wanted.max(member.scale.spec) {
        let overruled = format!("; the {} engine counts {:.2} of {:.2}", leader.engine, leader.demand, leader.capacity);
        return outcome(member, guard, guarded, &overruled);
    }
    let spec = member.scale.spec;
    if wanted < spec && guarded > spec {
        return outcome(member, leader, spec, "; kept because the saturation engine wants more");
    }
    outcome(member, leader, wanted, "")
}

/// Without confidence the leader's numbers lower nothing, and raise nothing either.
fn doubted(member: &Member<'_>, doubtful: &Opinion, guard: &Opinion) -> Outcome {
    let (wanted, guarded) = (doubtful.target(member), guard.target(member));
    if guarded < member.scale.spec && wanted > guarded {
        let held = wanted.min(member.scale.spec);
        return outcome(member, doubtful, held, "; not certain yet, but enough so to keep what is there");
    }
    outcome(member, guard, guarded, "")
}

fn outcome(member: &Member<'_>, opinion: &Opinion, replicas: u32, remark: &str) -> Outcome {
    let unconstrained = opinion.unconstrained.get(member.key()).copied().unwrap_or(replicas);
    let bound_by = (unconstrained != replicas).then(|| member.bounds.binding(unconstrained)).flatten();
    let direction = Direction::between(member.scale.spec, replicas);
    let reason = reason(member, direction, opinion, remark, bound_by.as_ref());
    Outcome::Desired(Desired {
        replicas,
        unconstrained,
        direction,
        reason,
        bound_by,
        oldest_input: opinion.oldest_input,
    })
}

fn reason(
    member: &Member<'_>,
    direction: Direction,
    opinion: &Opinion,
    remark: &str,
    bound_by: Option<&Limit>,
) -> Reason {
    let first = opinion.first.as_ref().filter(|first| direction == Direction::Hold && *first != member.key());
    let first = first.map_or_else(String::new, |first| saturation::why_not_this_one(member, first));
    let bound = bound_by.map_or_else(String::new, |limit| format!("; bound by {limit}"));
    Reason { engine: opinion.engine, text: format!("{}{remark}{first}{bound}", opinion.clause) }
}
