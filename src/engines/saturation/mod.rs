//! The saturation engine: one model's load against its replicas, in four questions.
//!
//! 1. Can anything be measured? If not, the decision is withheld and says what is missing (`inputs`).
//! 2. Is there too little or too much spare capacity, and how many replicas does that make? ([`crate::saturation`],
//!    `demand`)
//! 3. Is what the answer asks for already on its way, or its evidence too old? (`restraint`)
//! 4. Which variants does it fall on, and what do the bounds leave of it? (`allocation`)
//!
//! Where the configuration asks for it, KV-cache tokens answer 2 and 4 instead of percentages (`tokens`).

mod allocation;
mod demand;
mod inputs;
mod restraint;
mod tokens;
mod upstream;

use super::{
    arbitration::Opinion,
    group::{Case, Member},
};
use crate::{
    interfaces::{EngineName, Growth, SaturationScalingConfig, VariantDecision, VariantKey},
    saturation::{Replica, analyze_replicas},
};

pub(super) use inputs::{measured, without_measurement};
pub(super) use tokens::learn;
pub(super) use upstream::windows;

/// What the saturation engine makes of a group.
pub(super) struct Saturation {
    pub(super) opinion: Opinion,
    /// How many times what the replicas can take arrives; 1 unless they are saturated.
    pub(super) excess: f64,
}

/// What it makes of the measured `replicas` of a group: by tokens where the configuration says so and replicas tell the
/// size of their caches, else by percentages.
pub(super) fn judge(case: &Case<'_, '_>, replicas: &[Replica]) -> Saturation {
    if let Some(version) = case.config.upstream {
        return upstream::judge(case, replicas, version);
    }
    let by_tokens = case.config.tokens.and_then(|thresholds| tokens::judge(case, thresholds));
    by_tokens.unwrap_or_else(|| by_percentages(case, replicas))
}

fn by_percentages(case: &Case<'_, '_>, replicas: &[Replica]) -> Saturation {
    let Case { snapshot, members, config, .. } = *case;
    let analysis = analyze_replicas(case.group.model, replicas, config);
    let change = restraint::change(case, replicas, &analysis);
    let variants: Vec<VariantDecision> =
        members.iter().map(|member| member.as_variant_decision(snapshot.taken_at, snapshot.ages.pending)).collect();
    let targets = allocation::targets(change.step, &variants);
    let moved = variants.iter().find(|variant| targets.get(&variant.variant).is_some_and(|n| *n != variant.spec));
    let (demand, capacity) = demand::demand_and_capacity(replicas, config);
    let opinion = Opinion {
        engine: EngineName::Saturation,
        demand,
        capacity,
        // It measures what it judges.
        confidence: 1.0,
        unconstrained: allocation::unconstrained(change.step, &variants),
        first: moved.map(|variant| variant.variant.clone()),
        targets,
        clause: change.clause,
        oldest_input: inputs::oldest_sample(case),
    };
    // A replica at its threshold carries 1.
    Saturation { opinion, excess: (demand / replicas.len().max(1) as f64).max(1.0) }
}

/// The thresholds with which it watches over an engine that knows what replicas carry: spare capacity is that engine's
/// business, a full KV cache is not, and a queue only once it is a jam.
pub(super) fn as_guard(config: &SaturationScalingConfig) -> SaturationScalingConfig {
    const JAM: f64 = 10.0;
    const FULL: f64 = 0.95;
    SaturationScalingConfig {
        kv_cache_threshold: config.kv_cache_threshold.max(FULL),
        spare_capacity_target: 0.0,
        safety_margin: 0.0,
        queue_depth_threshold: config.queue_depth_threshold * JAM,
        spare_triggers: None,
        tokens: None,
        upstream: None,
    }
}

/// Why a variant stands still while `first` moves.
pub(super) fn why_not_this_one(member: &Member<'_>, first: &VariantKey) -> String {
    match member.growth() {
        Growth::Likely => format!("; variant {} moves first by its cost", first.name),
        Growth::Doubtful => {
            format!("; variant {} moves first: replicas here have been pending for too long", first.name)
        }
        Growth::Impossible => format!(
            "; variant {} moves first: at zero replicas the HPA here is disabled until {} is scaled up once",
            first.name, member.observation.variant.target
        ),
    }
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

#[cfg(test)]
mod tests;
