//! One model's variants by the part they play. Prefill and decode of a disaggregated model stand in a row: every request
//! passes both, so the model carries what the lesser of them does, and they are scaled together.
//!
//! - **Prefill that is saturated holds requests back from decode.** What it is given lets so much more through, and decode
//!   is sized for that at once rather than after prefill's cold start (and then its own).
//! - **Neither gives up replicas while the other moves.** What one sees while the other is short, starting or newly grown
//!   is not the load that is coming.

use super::{
    Ceilings, Memories,
    group::{self, Decided},
    roster::{Entry, Group, Roster},
};
use crate::interfaces::{Decision, Direction, Outcome, Role, age};

/// Decides on all variants of one model, given by its `groups`.
pub(super) fn decide(
    roster: &Roster<'_>,
    groups: &[Group<'_>],
    ceilings: &Ceilings,
    memories: &mut Memories,
    decisions: &mut [Option<Decision>],
) {
    let mut inflow = 1.0;
    // Prefill comes before decode in the order of roles.
    for group in groups {
        let expected = if group.role == Role::Decode { inflow } else { 1.0 };
        let Decided { decisions: decided, memory, outflow } = group::decide(roster, group, ceilings, expected);
        if group.role == Role::Prefill {
            inflow = outflow;
        }
        if let Some(memory) = memory {
            memories.insert(group.model.clone(), memory.into());
        }
        for (place, decision) in decided {
            decisions[place] = Some(decision);
        }
    }
    let parts: Vec<&Group<'_>> = groups.iter().filter(|group| group.role != Role::Both).collect();
    if let [prefill, decode] = parts[..]
        && prefill.config.upstream.is_none()
    {
        let moving = [prefill, decode].map(|group| movement(roster, group, decisions));
        for (group, other, moving) in [(prefill, decode, &moving[1]), (decode, prefill, &moving[0])] {
            if let Some(what) = moving {
                let remark = format!("; kept, because the {} replicas {what}", name(other.role));
                keep(roster, group, &remark, decisions);
            }
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Prefill => "prefill",
        Role::Decode => "decode",
        Role::Both => "other",
    }
}

/// What a part of the model does at present that changes the load of the other.
fn movement(roster: &Roster<'_>, group: &Group<'_>, decisions: &[Option<Decision>]) -> Option<&'static str> {
    let snapshot = roster.snapshot;
    let grows = |place: &usize| {
        let outcome = decisions[*place].as_ref().map(|decision| &decision.outcome);
        matches!(outcome, Some(Outcome::Desired(desired)) if desired.direction == Direction::Up)
    };
    let starts = |entry: &Entry<'_>| {
        let young = |since: &jiff::Timestamp| age(snapshot.taken_at, *since) <= snapshot.ages.pending;
        entry.scale().is_some_and(|scale| scale.ready < scale.spec && scale.pending_since.iter().any(young))
    };
    let changed = |entry: &Entry<'_>| {
        entry.scale().zip(entry.previous).is_some_and(|(scale, before)| {
            before.ready != scale.ready || age(snapshot.taken_at, before.ready_since) < snapshot.ages.settle
        })
    };
    let entries = || group.places.iter().map(|place| &roster.entries[*place]);
    if group.places.iter().any(grows) {
        Some("are too few")
    } else if entries().any(starts) {
        Some("are still starting")
    } else {
        entries().any(changed).then_some("changed a moment ago")
    }
}

/// Takes back what was to be given up.
fn keep(roster: &Roster<'_>, group: &Group<'_>, remark: &str, decisions: &mut [Option<Decision>]) {
    for &place in &group.places {
        let entry = &roster.entries[place];
        let Some(Decision { outcome: Outcome::Desired(desired), .. }) = &mut decisions[place] else { continue };
        let Some(scale) = entry.scale().filter(|_| desired.direction == Direction::Down) else { continue };
        let range = entry.bounds.range();
        let kept = scale.spec.min(range.max.unwrap_or(u32::MAX)).max(desired.replicas);
        if kept > desired.replicas {
            desired.replicas = kept;
            desired.direction = Direction::between(scale.spec, kept);
            desired.bound_by = entry.bounds.binding(desired.unconstrained).filter(|_| desired.unconstrained > kept);
            desired.reason.text.push_str(remark);
        }
    }
}

#[cfg(test)]
mod tests;
