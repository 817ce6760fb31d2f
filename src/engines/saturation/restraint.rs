//! Not asking twice for the same deficit, not shrinking on old evidence.

use super::{demand, percent};
use crate::{
    engines::group::{Case, Member, total},
    interfaces::{ModelSaturationAnalysis, SaturationScalingConfig, Snapshot, age},
    saturation::Replica,
};

/// How a model's replicas are to change.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    /// Which way, and by how many.
    pub(super) step: Step,
    /// Why, with the number that decided.
    pub(super) clause: String,
}

/// A change of the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many more.
    Grow(u32),
    /// As they are set.
    Hold,
    /// One less: what one less does to the rest shows before the next.
    Shrink,
}

/// The change that the analysis calls for, less what is on its way already.
pub(super) fn change(case: &Case<'_, '_>, replicas: &[Replica], analysis: &ModelSaturationAnalysis) -> Change {
    let Case { members, config, .. } = *case;
    let ready = total(members.iter().map(|member| member.scale.ready));
    let pending = total(members.iter().map(|member| member.pending));
    if let Some(mut shortage) = demand::shortage(analysis, replicas, config) {
        shortage.clause.push_str(&expected(case.inflow));
        grow(shortage, analysis.total_replicas, ready, pending)
    } else if analysis.scale_down_safe {
        shrink(case, analysis)
    } else {
        Change { step: Step::Hold, clause: enough(analysis, config) }
    }
}

/// Ready replicas that were not measured are taken to carry as much as the measured ones.
fn grow(shortage: demand::Shortage, measured: u32, ready: u32, pending: u32) -> Change {
    let needed = u64::from(shortage.needed) * u64::from(ready.max(measured));
    let needed = u32::try_from(needed.div_ceil(u64::from(measured.max(1)))).unwrap_or(u32::MAX);
    match needed.saturating_sub(ready.max(measured).saturating_add(pending)) {
        0 => Change {
            step: Step::Hold,
            clause: format!("{}, but {pending} pending replicas are on their way", shortage.clause),
        },
        missing => Change { step: Step::Grow(missing), clause: shortage.clause },
    }
}

/// Where the load is not the measured one alone: why not.
pub(super) fn expected(inflow: f64) -> String {
    if inflow <= 1.0 {
        return String::new();
    }
    format!(", with the {inflow:.2} times as much that prefill will let through once it has its replicas")
}

fn shrink(case: &Case<'_, '_>, analysis: &ModelSaturationAnalysis) -> Change {
    let config = case.config;
    let spare = percent(analysis.average_spare_capacity);
    let hold = |why: String| Change { step: Step::Hold, clause: format!("spare capacity is {spare}, but {why}") };
    if let Some(why) = why_not_fewer(case, analysis.total_replicas) {
        return hold(why);
    }
    let left = percent(config.spare_capacity_target + config.safety_margin);
    Change {
        step: Step::Shrink,
        clause: format!("average spare capacity {spare} leaves at least {left} with one replica less"),
    }
}

/// Why none of the `members` gives up a replica, of which `measured` have fresh metrics; `None` if nothing is in the way.
pub(super) fn why_not_fewer(case: &Case<'_, '_>, measured: u32) -> Option<String> {
    let Case { snapshot, members, .. } = *case;
    let ready = total(members.iter().map(|member| member.scale.ready));
    let pending = total(members.iter().map(|member| member.pending));
    if measured < ready {
        return Some(format!("only {measured} of {ready} ready replicas have fresh metrics, so none is removed"));
    }
    if pending > 0 {
        return Some(format!("{pending} replicas are still pending, so none is removed yet"));
    }
    let is_unsettled = !members.iter().all(|member| is_settled(member, snapshot));
    is_unsettled.then(|| {
        format!("replicas changed within {} s, so the signals are not settled", snapshot.ages.settle.as_secs_f64())
    })
}

/// Whether a variant's replicas, set and ready, have stood for as long as a peak lasts. They need not be equal: a pod that
/// never becomes ready must not keep the others from going.
fn is_settled(member: &Member<'_>, snapshot: &Snapshot) -> bool {
    member.previous.is_some_and(|state| {
        let since = state.ready_since.max(state.spec_since);
        (state.ready, state.spec) == (member.scale.ready, member.scale.spec)
            && age(snapshot.taken_at, since) >= snapshot.ages.settle
    })
}

fn enough(analysis: &ModelSaturationAnalysis, config: &SaturationScalingConfig) -> String {
    format!(
        "average spare capacity {} is enough for the target of {}, and too little to do with one replica less",
        percent(analysis.average_spare_capacity),
        percent(config.spare_capacity_target)
    )
}
