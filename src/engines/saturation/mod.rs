//! The saturation engine: one model's load against its replicas, in four questions.
//!
//! 1. Can anything be measured? If not, the decision is withheld and says what is missing ([`inputs`]).
//! 2. Is there too little or too much spare capacity? ([`crate::saturation`])
//! 3. Is what the answer asks for already on its way, or too soon, or too much at once? ([`restraint`])
//! 4. What do the bounds leave of it?

mod inputs;
mod restraint;

use std::collections::BTreeMap;

use super::{
    State,
    group::{self, Member},
};
use crate::{
    interfaces::{
        Decision, Desired, Direction, EngineName, Limit, ModelSaturationAnalysis, Outcome, Reason, ReplicaBounds,
        ReplicaMetrics, SaturationAnalyzer, SaturationLevel, Snapshot, VariantDecision, VariantKey, VariantObservation,
    },
    saturation::PercentageAnalyzer,
};
use restraint::Restrained;

/// Decides on the variants of one model and role.
pub(super) fn decide(state: &State, snapshot: &Snapshot, observations: Vec<&VariantObservation>) -> Vec<Decision> {
    let (members, mut decisions) = group::members(state, snapshot, observations);
    let Some(first) = members.first() else { return decisions };
    let model = &first.observation.variant.model;
    let config = snapshot.saturation_of(model);

    let metrics = group::fresh_metrics(&members, snapshot.taken_at, snapshot.ages.signal);
    let levels = group::levels(&metrics, config.kv_cache_threshold, config.queue_depth_threshold);
    let level_of = |member: &Member<'_>| levels.get(member.key()).copied().unwrap_or_default();

    if let Some(outcomes) = inputs::without_measurement(snapshot, &members, &metrics) {
        decisions.extend(
            members
                .iter()
                .zip(outcomes)
                .map(|(member, outcome)| group::decision(snapshot, member.observation, level_of(member), outcome)),
        );
        return decisions;
    }

    let analysis = PercentageAnalyzer.analyze_model_saturation(model, &metrics, config);
    let restrained = restraint::restrain(snapshot, &members, &metrics, analysis, config);
    decisions.extend(targets(snapshot, &members, &metrics, &restrained, &level_of));
    decisions
}

fn targets(
    snapshot: &Snapshot,
    members: &[Member<'_>],
    metrics: &[ReplicaMetrics],
    restrained: &Restrained,
    level_of: &impl Fn(&Member<'_>) -> SaturationLevel,
) -> Vec<Decision> {
    let bounded: Vec<VariantDecision> =
        members.iter().map(|member| member.as_variant_decision(snapshot.taken_at, snapshot.ages.pending)).collect();
    let desired = PercentageAnalyzer.calculate_capacity_targets(&restrained.analysis, &bounded);
    let unconstrained = unconstrained_targets(&restrained.unrestrained, &bounded);
    let moved = bounded
        .iter()
        .find(|variant| {
            desired.get(&variant.variant).is_some_and(|n| Direction::between(variant.spec, *n) != Direction::Hold)
        })
        .map(|variant| variant.variant.clone());
    let oldest_input = inputs::oldest_sample(metrics);

    members
        .iter()
        .map(|member| {
            let replicas = desired.get(member.key()).copied().unwrap_or(member.scale.spec);
            let unconstrained = unconstrained.get(member.key()).copied().unwrap_or(replicas);
            let bound_by = bound_by(member, unconstrained, replicas, restrained.growth.as_ref());
            let outcome = Outcome::Desired(Desired {
                replicas,
                unconstrained,
                direction: Direction::between(member.scale.spec, replicas),
                reason: reason(member, replicas, &restrained.clause, moved.as_ref(), bound_by.as_ref()),
                bound_by,
                oldest_input,
            });
            group::decision(snapshot, member.observation, level_of(member), outcome)
        })
        .collect()
}

/// The same question without bounds and without restraint.
fn unconstrained_targets(analysis: &ModelSaturationAnalysis, bounded: &[VariantDecision]) -> BTreeMap<VariantKey, u32> {
    let free: Vec<VariantDecision> = bounded
        .iter()
        .map(|variant| VariantDecision { bounds: ReplicaBounds { min: 0, max: None }, ..variant.clone() })
        .collect();
    PercentageAnalyzer.calculate_capacity_targets(analysis, &free)
}

fn bound_by(member: &Member<'_>, unconstrained: u32, replicas: u32, growth: Option<&Limit>) -> Option<Limit> {
    if unconstrained == replicas {
        return None;
    }
    member.bounds.binding(unconstrained).or_else(|| (unconstrained > replicas).then(|| growth.cloned()).flatten())
}

fn reason(
    member: &Member<'_>,
    replicas: u32,
    clause: &str,
    moved: Option<&VariantKey>,
    bound_by: Option<&Limit>,
) -> Reason {
    let direction = Direction::between(member.scale.spec, replicas);
    let mut text = clause.to_owned();
    match (moved, direction) {
        (Some(other), Direction::Hold) if other != member.key() => {
            text.push_str(&format!("; variant {} moves first by its cost", other.name));
        }
        _ => {}
    }
    if let Some(limit) = bound_by {
        text.push_str(&format!("; bound by {limit}"));
    }
    Reason { engine: EngineName::Saturation, text }
}
