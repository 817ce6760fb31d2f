//! The saturation engine: one model's load against its replicas, in four questions.
//!
//! 1. Can anything be measured? If not, the decision is withheld and says what is missing (`inputs`).
//! 2. Is there too little or too much spare capacity, and how many replicas does that make? ([`crate::saturation`],
//!    `demand`)
//! 3. Is what the answer asks for already on its way, or its evidence too old? (`restraint`)
//! 4. Which variants does it fall on, and what do the bounds leave of it? (`allocation`)

mod allocation;
mod demand;
mod inputs;
mod restraint;

use super::{
    State,
    group::{self, Member},
};
use crate::{
    interfaces::{
        Decision, Desired, Direction, EngineName, Growth, Limit, ModelSaturationAnalysis, Outcome, Reason,
        ReplicaMetrics, SaturationAnalyzer, SaturationLevel, Snapshot, VariantDecision, VariantKey, VariantObservation,
    },
    saturation::{PercentageAnalyzer, replicas_of},
};
use restraint::Change;

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
    let change = restraint::change(snapshot, &members, &replicas_of(&metrics), &analysis, config);
    decisions.extend(apply(snapshot, &members, &metrics, &analysis, &change, &level_of));
    decisions
}

fn apply(
    snapshot: &Snapshot,
    members: &[Member<'_>],
    metrics: &[ReplicaMetrics],
    analysis: &ModelSaturationAnalysis,
    change: &Change,
    level_of: &impl Fn(&Member<'_>) -> SaturationLevel,
) -> Vec<Decision> {
    let variants: Vec<VariantDecision> =
        members.iter().map(|member| member.as_variant_decision(snapshot.taken_at, snapshot.ages.pending)).collect();
    let targets = allocation::targets(analysis, change.step, &variants);
    let unconstrained = allocation::unconstrained(analysis, change.step, &variants);
    let moved = variants.iter().find(|variant| targets.get(&variant.variant).is_some_and(|n| *n != variant.spec));
    let moved = moved.map(|variant| &variant.variant);
    let oldest_input = inputs::oldest_sample(metrics);

    members
        .iter()
        .map(|member| {
            let replicas = targets.get(member.key()).copied().unwrap_or(member.scale.spec);
            let unconstrained = unconstrained.get(member.key()).copied().unwrap_or(replicas);
            let bound_by = (unconstrained != replicas).then(|| member.bounds.binding(unconstrained)).flatten();
            let direction = Direction::between(member.scale.spec, replicas);
            let outcome = Outcome::Desired(Desired {
                replicas,
                unconstrained,
                direction,
                reason: reason(member, direction, &change.clause, moved, bound_by.as_ref()),
                bound_by,
                oldest_input,
            });
            group::decision(snapshot, member.observation, level_of(member), outcome)
        })
        .collect()
}

fn reason(
    member: &Member<'_>,
    direction: Direction,
    clause: &str,
    moved: Option<&VariantKey>,
    bound_by: Option<&Limit>,
) -> Reason {
    let first = moved.filter(|first| direction == Direction::Hold && *first != member.key());
    let first = first.map_or_else(String::new, |first| match member.growth() {
        Growth::Likely => format!("; variant {} moves first by its cost", first.name),
        Growth::Doubtful => {
            format!("; variant {} moves first: replicas here have been pending for too long", first.name)
        }
        Growth::Impossible => format!(
            "; variant {} moves first: at zero replicas the HPA here is disabled until {} is scaled up once",
            first.name, member.observation.variant.target
        ),
    });
    let bound = bound_by.map_or_else(String::new, |limit| format!("; bound by {limit}"));
    Reason { engine: EngineName::Saturation, text: format!("{clause}{first}{bound}") }
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}
