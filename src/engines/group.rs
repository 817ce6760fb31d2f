//! The variants that compete for one model's load, with what the snapshot and the state say of each.

use std::{borrow::Cow, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    Ceilings, ModelMemory, State, VariantState, arbitration,
    bounds::EffectiveBounds,
    roster::{Entry, Group, Roster},
    saturation, slo,
};
use crate::interfaces::{
    Decision, Growth, Outcome, PerformanceSignals, ReplicaMetrics, Role, SaturationLevel, SaturationScalingConfig,
    ScaleObservation, Signal, Snapshot, TargetObservation, VariantDecision, VariantKey, VariantObservation, Withheld,
    WithheldKind, age,
};

/// What was decided on one group.
pub(super) struct Decided {
    /// With the places of the variants.
    pub(super) decisions: Vec<(usize, Decision)>,
    /// What the SLO engine remembers of the model, if it looked.
    pub(super) memory: Option<ModelMemory>,
    /// How many times what the replicas let through at present would pass them once they have what was decided; 1 where
    /// they hold nothing back.
    pub(super) outflow: f64,
}

/// What an engine looks at: a group whose targets could be read, and what is known of it.
pub(super) struct Case<'a, 'r> {
    pub(super) state: &'a State,
    pub(super) snapshot: &'a Snapshot,
    pub(super) group: &'r Group<'a>,
    pub(super) members: &'r [Member<'a>],
    pub(super) config: &'r SaturationScalingConfig,
    /// How many times the present load is to be expected, because replicas that hold requests back grow.
    pub(super) inflow: f64,
}

const MOST_OUTFLOW: f64 = 2.0;

/// Decides on the variants of one model and role, to which `inflow` times as much is about to come as does now.
pub(super) fn decide(roster: &Roster<'_>, group: &Group<'_>, ceilings: &Ceilings, inflow: f64) -> Decided {
    let &Roster { state, snapshot, .. } = roster;
    let (members, mut decisions) = members(roster, group, ceilings);
    if members.is_empty() {
        return Decided { decisions, memory: None, outflow: 1.0 };
    }
    let case = Case { state, snapshot, group, members: &members, config: group.config, inflow };
    // Prompts and tokens of disaggregated variants are not one queue: the SLO engine speaks of whole requests only.
    let objective = group.objective.filter(|_| snapshot.engine.slo && group.config.upstream.is_none());
    let (memory, slo) = match objective.filter(|_| group.role == Role::Both) {
        Some(objective) => {
            let instances = instances(&members, snapshot.taken_at, snapshot.ages.signal);
            let world = slo::World { snapshot, curves: &roster.curves, objective, known: group.known };
            slo::consider(&world, &members, &instances, group.remembered)
        }
        None => (None, None),
    };
    let replicas = saturation::measured(&case);
    let mut outflow = 1.0;
    let outcomes = saturation::without_measurement(&case, &replicas).unwrap_or_else(|| {
        let guard = slo.as_ref().filter(|slo| slo.is_confident()).map(|_| saturation::as_guard(group.config));
        let case = Case { config: guard.as_ref().unwrap_or(group.config), ..case };
        let saturation = saturation::judge(&case, &replicas);
        outflow = saturation.excess;
        let has_room = slo.is_some() && has_room(&members);
        let mut outcomes = arbitration::decide(&members, &saturation.opinion, slo.as_ref(), has_room);
        if objective.is_some() && group.role != Role::Both {
            outcomes.iter_mut().for_each(say_that_objectives_are_for_whole_requests);
        }
        outcomes
    });
    decisions.extend(members.iter().zip(outcomes).map(|(member, outcome)| {
        let level = level(member, snapshot, group.config);
        (member.place, decision(snapshot, member.observation, level, outcome))
    }));
    // A queue is a stock, not a flow: however long, it announces no more than twice what comes now.
    let outflow = outflow.min(growth(&members, &decisions)).clamp(1.0, MOST_OUTFLOW);
    Decided { decisions, memory, outflow }
}

fn say_that_objectives_are_for_whole_requests(outcome: &mut Outcome) {
    if let Outcome::Desired(desired) = outcome {
        desired.reason.text.push_str("; its service objective is not aimed at: prefill and decode go by saturation");
    }
}

/// What was decided over what is ready.
fn growth(members: &[Member<'_>], decisions: &[(usize, Decision)]) -> f64 {
    let decided = decisions.iter().map(|(_, decision)| match &decision.outcome {
        Outcome::Desired(desired) => f64::from(desired.replicas),
        Outcome::Withheld(_) => f64::from(decision.ready),
    });
    let ready: f64 = members.iter().map(|member| f64::from(member.scale.ready)).sum();
    if ready > 0.0 { decided.sum::<f64>() / ready } else { 1.0 }
}

/// Whether some replica could take a request at once: nothing waits there, and its KV cache is not full.
fn has_room(members: &[Member<'_>]) -> bool {
    const FULL: f64 = 0.9;
    members.iter().flat_map(|member| &member.observation.replicas).any(|replica| {
        let performance = &replica.performance;
        performance.queue_length_now.value() == Some(&0.0)
            && performance.kv_cache_usage_now.value().is_some_and(|usage| *usage < FULL)
    })
}

/// One variant whose scale target could be read.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// Its place in the roster.
    pub(super) place: usize,
    pub(super) observation: &'a VariantObservation,
    pub(super) scale: &'a ScaleObservation,
    pub(super) bounds: Cow<'a, EffectiveBounds>,
    /// Replicas that are not ready and young enough to count as anticipated supply.
    pub(super) pending: u32,
    pub(super) previous: Option<&'a VariantState>,
}

/// The variants of a group in the order of their names, and a reason for each whose target could not be read.
fn members<'r>(
    roster: &'r Roster<'_>,
    group: &Group<'_>,
    ceilings: &Ceilings,
) -> (Vec<Member<'r>>, Vec<(usize, Decision)>) {
    let snapshot = roster.snapshot;
    let mut members = Vec::with_capacity(group.places.len());
    let mut withheld = Vec::with_capacity(group.places.len());
    for &place in &group.places {
        let Entry { observation, previous, bounds } = &roster.entries[place];
        match &observation.target {
            TargetObservation::Found(scale) => members.push(Member {
                place,
                observation,
                scale,
                bounds: match ceilings.get(&place) {
                    None => Cow::Borrowed(bounds),
                    Some(ceiling) => Cow::Owned(bounds.clone().below(ceiling)),
                },
                pending: anticipated(scale, *previous, snapshot.taken_at, snapshot.ages.pending),
                previous: *previous,
            }),
            TargetObservation::NotFound { message } => {
                let outcome =
                    Outcome::Withheld(Withheld { kind: WithheldKind::TargetNotFound, message: message.clone() });
                withheld.push((place, decision(snapshot, observation, SaturationLevel::default(), outcome)));
            }
        }
    }
    (members, withheld)
}

/// Replicas that are set but not ready, and that can still be hoped for: a pod younger than `patience`, or one that was
/// asked for no longer ago and does not exist yet.
fn anticipated(scale: &ScaleObservation, previous: Option<&VariantState>, now: Timestamp, patience: Duration) -> u32 {
    let is_recent = |then: Timestamp| age(now, then) <= patience;
    let young = scale.pending_since.iter().filter(|since| is_recent(**since)).count();
    let young = u32::try_from(young).unwrap_or(u32::MAX).min(scale.current.saturating_sub(scale.ready));
    let asked_recently = previous.is_none_or(|state| state.spec != scale.spec || is_recent(state.spec_since));
    let not_created = if asked_recently { scale.spec.saturating_sub(scale.current) } else { 0 };
    young.saturating_add(not_created)
}

impl Member<'_> {
    pub(super) fn key(&self) -> &VariantKey {
        &self.observation.variant.key
    }

    /// Its engine instances.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &ReplicaMetrics> + Clone {
        self.observation.replicas.iter().filter(|replica| replica.variant.as_ref() == Some(self.key()))
    }

    /// Whether asking for more replicas will bring some.
    pub(super) fn growth(&self) -> Growth {
        let &ScaleObservation { spec, ready, .. } = self.scale;
        let is_disabled = spec == 0 && self.observation.autoscalers.iter().any(|hpa| hpa.bounds.min > 0);
        if is_disabled {
            Growth::Impossible
        } else if spec > ready.saturating_add(self.pending) {
            Growth::Doubtful
        } else {
            Growth::Likely
        }
    }

    /// The variant's state as a target calculation needs it. An ask that nobody granted for `patience` is dropped.
    pub(super) fn as_variant_decision(&self, now: Timestamp, patience: Duration) -> VariantDecision {
        let asked = self.previous.filter(|state| age(now, state.desired_since) <= patience);
        VariantDecision {
            variant: self.key().clone(),
            cost: self.observation.variant.cost,
            role: self.observation.variant.role,
            spec: self.scale.spec,
            current: self.scale.current,
            pending: self.pending,
            desired: asked.and_then(|state| state.desired),
            bounds: self.bounds.range(),
            growth: self.growth(),
        }
    }
}

/// A sum that stays at the greatest number rather than overflow.
pub(super) fn total(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}

/// What is larger counts nothing that there is: sums over any number of replicas stay finite.
const MOST: f64 = 1e15;

/// What may be decided on: fresh, not negative, and of this world. Whatever else a source says is missing.
pub(super) fn usable(signal: Signal<f64>, now: Timestamp, max_age: Duration) -> Signal<f64> {
    match signal.fresh(now, max_age) {
        Signal::Present { value, .. } if !(0.0..=MOST).contains(&value) => Signal::Missing,
        other => other,
    }
}

/// An engine instance as the SLO engine sees it: a signal that is too old, or not a number, is missing.
pub(super) struct Instance<'a> {
    /// Its pod: instances of one pod, and only those, have the same number.
    pub(super) pod: usize,
    pub(super) variant: Option<&'a VariantKey>,
    pub(super) running: Signal<f64>,
    pub(super) request_rate: Signal<f64>,
    pub(super) kv_cache_tokens: Signal<f64>,
    pub(super) performance: &'a PerformanceSignals,
}

/// The instances of all members, one after the other.
fn instances<'a>(members: &[Member<'a>], now: Timestamp, max_age: Duration) -> Vec<Instance<'a>> {
    let replicas = || members.iter().flat_map(|member| &member.observation.replicas);
    let mut instances = Vec::with_capacity(replicas().count());
    instances.extend(replicas().map(|replica| Instance {
        pod: 0,
        variant: replica.variant.as_ref(),
        running: usable(replica.running, now, max_age),
        request_rate: usable(replica.request_rate, now, max_age),
        kv_cache_tokens: usable(replica.kv_cache_tokens, now, max_age),
        performance: &replica.performance,
    }));
    let mut by_pod: Vec<(&Arc<str>, usize)> = Vec::with_capacity(instances.len());
    by_pod.extend(replicas().enumerate().map(|(index, replica)| (&replica.pod, index)));
    by_pod.sort_by_key(|(pod, _)| *pod);
    for (number, same) in by_pod.chunk_by(|(pod, _), (next, _)| pod == next).enumerate() {
        for (_, index) in same {
            instances[*index].pod = number;
        }
    }
    instances
}

/// A decision on `observation`.
pub(super) fn decision(
    snapshot: &Snapshot,
    observation: &VariantObservation,
    saturation: SaturationLevel,
    outcome: Outcome,
) -> Decision {
    let (current, ready) = match &observation.target {
        TargetObservation::Found(scale) => (Some(scale.current), scale.ready),
        TargetObservation::NotFound { .. } => (None, 0),
    };
    Decision {
        variant: observation.variant.key.clone(),
        model: observation.variant.model.clone(),
        accelerator: observation.variant.accelerator.clone(),
        current,
        ready,
        decided_at: snapshot.taken_at,
        saturation,
        outcome,
    }
}

/// How saturated a variant is by its fresh signals: the greatest load over the threshold, as old as its oldest part.
fn level(member: &Member<'_>, snapshot: &Snapshot, config: &SaturationScalingConfig) -> SaturationLevel {
    let fresh = |signal: Signal<f64>| usable(signal, snapshot.taken_at, snapshot.ages.signal);
    let mut level = SaturationLevel::default();
    for replica in member.replicas() {
        let kv_cache = fresh(replica.kv_cache_usage).map(|usage| usage / config.kv_cache_threshold);
        let queue_depth = fresh(replica.queue_length).map(|queue| queue / config.queue_depth_threshold);
        level.kv_cache = greater(level.kv_cache, kv_cache);
        level.queue_depth = greater(level.queue_depth, queue_depth);
    }
    level
}

/// The greater of two values, as old as the older; a present one where the other is not.
fn greater(one: Signal<f64>, other: Signal<f64>) -> Signal<f64> {
    match (one, other) {
        (
            Signal::Present { value, sampled_at },
            Signal::Present { value: other_value, sampled_at: other_sampled_at },
        ) => Signal::present(value.max(other_value), sampled_at.min(other_sampled_at)),
        (Signal::Present { .. }, _) => one,
        _ => other,
    }
}
