//! The variants that compete for one model's load, with what the snapshot and the state say of each.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Ceilings, ModelMemory, State, VariantState, arbitration, bounds::EffectiveBounds, saturation, slo};
use crate::interfaces::{
    Decision, Growth, ModelMetrics, Outcome, ReplicaMetrics, Role, SaturationLevel, ScaleObservation, Signal, Snapshot,
    TargetObservation, VariantDecision, VariantKey, VariantObservation, Withheld, WithheldKind, age,
};

/// Decides on the variants of one model and role; gives what the SLO engine remembers of the model, if it looked.
pub(super) fn decide(
    state: &State,
    snapshot: &Snapshot,
    ceilings: &Ceilings,
    role: Role,
    observations: Vec<&VariantObservation>,
    known: Option<&ModelMetrics>,
) -> (Vec<Decision>, Option<ModelMemory>) {
    let (members, mut decisions) = members(state, snapshot, ceilings, observations);
    let Some(first) = members.first() else { return (decisions, None) };
    let model = &first.observation.variant.model;
    let config = snapshot.saturation_of(model);
    let metrics = fresh_metrics(&members, snapshot.taken_at, snapshot.ages.signal);

    // Prompts and tokens of disaggregated variants are not one queue: the SLO engine speaks of whole requests only.
    let objective = snapshot.objectives.get(model).filter(|_| snapshot.engine.slo && role == Role::Both);
    let remembered = state.models.get(model).map(|memory| &**memory);
    let (memory, slo) = match objective {
        Some(objective) => slo::consider(snapshot, &members, &metrics, objective, known, remembered),
        None => (None, None),
    };
    let outcomes = saturation::without_measurement(snapshot, &members, &metrics).unwrap_or_else(|| {
        let guard = slo.as_ref().filter(|slo| slo.is_confident()).map(|_| saturation::as_guard(config));
        let config = guard.as_ref().unwrap_or(config);
        let saturation = saturation::opinion(state, snapshot, model, &members, &metrics, known, config);
        arbitration::decide(&members, &saturation, slo.as_ref(), has_room(&metrics))
    });
    let levels = levels(&metrics, config.kv_cache_threshold, config.queue_depth_threshold);
    decisions.extend(members.iter().zip(outcomes).map(|(member, outcome)| {
        decision(snapshot, member.observation, levels.get(member.key()).copied().unwrap_or_default(), outcome)
    }));
    (decisions, memory)
}

/// Whether some replica could take a request at once: nothing waits there, and its KV cache is not full.
fn has_room(metrics: &[ReplicaMetrics]) -> bool {
    const FULL: f64 = 0.9;
    metrics.iter().any(|replica| {
        let performance = &replica.performance;
        performance.queue_length_now.value() == Some(&0.0)
            && performance.kv_cache_usage_now.value().is_some_and(|usage| *usage < FULL)
    })
}

/// One variant whose scale target could be read.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) observation: &'a VariantObservation,
    pub(super) scale: &'a ScaleObservation,
    pub(super) bounds: EffectiveBounds,
    /// Replicas that are not ready and young enough to count as anticipated supply.
    pub(super) pending: u32,
    pub(super) previous: Option<&'a VariantState>,
}

/// The variants of one model and role, split by whether their targets could be read.
pub(super) fn members<'a>(
    state: &'a State,
    snapshot: &'a Snapshot,
    ceilings: &Ceilings,
    observations: Vec<&'a VariantObservation>,
) -> (Vec<Member<'a>>, Vec<Decision>) {
    let mut members = Vec::with_capacity(observations.len());
    let mut withheld = Vec::new();
    for observation in observations {
        match &observation.target {
            TargetObservation::Found(scale) => {
                let previous = state.variants.get(&observation.variant.key);
                members.push(Member {
                    observation,
                    scale,
                    bounds: EffectiveBounds::of(observation, snapshot).below(ceilings.get(&observation.variant.key)),
                    pending: anticipated(scale, previous, snapshot.taken_at, snapshot.ages.pending),
                    previous,
                });
            }
            TargetObservation::NotFound { message } => withheld.push(decision(
                snapshot,
                observation,
                SaturationLevel::default(),
                Outcome::Withheld(Withheld { kind: WithheldKind::TargetNotFound, message: message.clone() }),
            )),
        }
    }
    members.sort_by(|a, b| a.key().cmp(b.key()));
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

/// What may be decided on: fresh, finite and not negative. Whatever else a source says is missing.
fn usable(signal: Signal<f64>, now: Timestamp, max_age: Duration) -> Signal<f64> {
    match signal.fresh(now, max_age) {
        Signal::Present { value, .. } if !(value.is_finite() && value >= 0.0) => Signal::Missing,
        other => other,
    }
}

/// Replicas of all members with every signal that is too old, or not a number, turned into a missing one.
pub(super) fn fresh_metrics(members: &[Member<'_>], now: Timestamp, max_age: Duration) -> Vec<ReplicaMetrics> {
    members
        .iter()
        .flat_map(|member| &member.observation.replicas)
        .map(|replica| ReplicaMetrics {
            kv_cache_usage: usable(replica.kv_cache_usage, now, max_age),
            queue_length: usable(replica.queue_length, now, max_age),
            running: usable(replica.running, now, max_age),
            request_rate: usable(replica.request_rate, now, max_age),
            kv_cache_tokens: usable(replica.kv_cache_tokens, now, max_age),
            ..replica.clone()
        })
        .collect()
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

/// Saturation per variant from its fresh signals: the greatest load over the threshold, as old as its oldest part.
pub(super) fn levels(
    metrics: &[ReplicaMetrics],
    kv_cache_threshold: f64,
    queue_depth_threshold: f64,
) -> BTreeMap<VariantKey, SaturationLevel> {
    let mut levels: BTreeMap<VariantKey, SaturationLevel> = BTreeMap::new();
    for replica in metrics {
        let Some(variant) = &replica.variant else { continue };
        let level = levels.entry(variant.clone()).or_default();
        level.kv_cache = greater(level.kv_cache, replica.kv_cache_usage.map(|usage| usage / kv_cache_threshold));
        level.queue_depth = greater(level.queue_depth, replica.queue_length.map(|queue| queue / queue_depth_threshold));
    }
    levels
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
