//! The Go project's versions 1 and 2 as they are, defects included: for those who migrate and want the numbers they know.
//!
//! None of our restraint applies: a decision remembers nothing, a pending replica freezes a model (version 1), peaks that
//! did not coincide are added up (version 2). What differs: without metrics nothing is served, where upstream serves the
//! present number; and `--max-num-batched-tokens` and its like are not read from pod templates, so that version 2 falls back
//! to the memory bound.

use std::collections::BTreeMap;

use super::{Saturation, inputs, percent};
use crate::{
    engines::{
        arbitration::Opinion,
        group::{Case, Member, total, usable},
        roster::{Group, Roster},
    },
    interfaces::{
        EngineName, Growth, ModelSaturationAnalysis, ReplicaBounds, ReplicaMetrics, SaturationAnalyzer,
        SaturationScalingConfig, Signal, Snapshot, UpstreamVersion, Variant, VariantDecision, VariantKey,
    },
    optimizer::upstream::{UpstreamVariant, cost_aware},
    saturation::{
        Replica, UpstreamV1Analyzer, analyze_replicas,
        tokens::{CapacityKey, WorkloadShape},
        upstream_v2::{
            SchedulerQueueDemand, UpstreamV2Config, UpstreamV2Instance, UpstreamV2Store, per_replica_capacity,
            required_and_spare,
        },
    },
};

/// What upstream makes of a group. Version 2 falls back to version 1 where no replica tells the size of its cache.
pub(super) fn judge(case: &Case<'_, '_>, replicas: &[Replica], version: UpstreamVersion) -> Saturation {
    let opinion = match version {
        UpstreamVersion::V1 => None,
        UpstreamVersion::V2 => by_tokens(case),
    };
    Saturation { opinion: opinion.unwrap_or_else(|| by_percentages(case, replicas)), excess: 1.0 }
}

/// Bounds where there are none.
const ANY_NUMBER: ReplicaBounds = ReplicaBounds { min: 0, max: None };

/// Replicas per variant.
type Targets = BTreeMap<VariantKey, u32>;

fn opinion(
    case: &Case<'_, '_>,
    (demand, capacity): (f64, f64),
    clause: String,
    wanted: &Targets,
    free: Targets,
) -> Opinion {
    // Bounds hold here even where upstream forgets them: on a model that is frozen.
    let within = |member: &Member<'_>| {
        let bounds = member.bounds.range();
        let wanted = wanted.get(member.key()).copied().unwrap_or(member.scale.spec);
        (member.key().clone(), wanted.min(bounds.max.unwrap_or(u32::MAX)).max(bounds.min))
    };
    let targets: Targets = case.members.iter().map(within).collect();
    let moved = case.members.iter().find(|member| targets.get(member.key()).is_some_and(|n| *n != member.scale.spec));
    Opinion {
        engine: EngineName::Saturation,
        demand,
        capacity,
        confidence: 1.0,
        first: moved.map(|member| member.key().clone()),
        targets,
        unconstrained: free,
        clause,
        oldest_input: inputs::oldest_sample(case),
    }
}

/// Upstream counts every replica that is not ready, however old.
fn pending(member: &Member<'_>) -> u32 {
    member.scale.spec.saturating_sub(member.scale.ready)
}

fn by_percentages(case: &Case<'_, '_>, replicas: &[Replica]) -> Opinion {
    let mut config = case.config.clone();
    config.spare_triggers = Some(config.spare_triggers.unwrap_or(UpstreamV1Analyzer::TRIGGERS));
    let analysis = analyze_replicas(case.group.model, replicas, &config);
    let targets = |bounds: fn(&Member<'_>) -> ReplicaBounds| -> Targets {
        let variants: Vec<VariantDecision> =
            case.members.iter().map(|member| as_upstream_sees(member, bounds(member))).collect();
        UpstreamV1Analyzer.calculate_capacity_targets(&analysis, &variants)
    };
    let (within, free) = (targets(|member| member.bounds.range()), targets(|_| ANY_NUMBER));
    let numbers = (f64::from(analysis.saturated_replicas), f64::from(analysis.total_replicas));
    let pending = total(case.members.iter().map(pending));
    opinion(case, numbers, v1_clause(&analysis, pending), &within, free)
}

fn as_upstream_sees(member: &Member<'_>, bounds: ReplicaBounds) -> VariantDecision {
    VariantDecision {
        variant: member.key().clone(),
        cost: member.observation.variant.cost,
        role: member.observation.variant.role,
        spec: member.scale.spec,
        current: member.scale.spec,
        pending: pending(member),
        // Nothing has persisted it since its version 0.9.
        desired: None,
        bounds,
        growth: Growth::Likely,
    }
}

fn v1_clause(analysis: &ModelSaturationAnalysis, pending: u32) -> String {
    let spare = analysis.average_spare;
    let numbers = format!("average spare KV cache {}, queue {:.1}", percent(spare.kv_cache), spare.queue_depth);
    let verdict = if pending > 0 {
        format!("frozen while {pending} replicas are pending")
    } else if analysis.should_scale_up {
        "below a trigger".to_owned()
    } else if analysis.scale_down_safe {
        "one less is safe".to_owned()
    } else {
        "neither too little nor safe to lower".to_owned()
    };
    format!("upstream version 1: {numbers}: {verdict}")
}

/// What version 2 knows of one variant.
struct Pool {
    demand: f64,
    /// Tokens of one replica; 0 where nothing is known.
    per_replica: f64,
    supply: f64,
    anticipated: f64,
}

fn by_tokens(case: &Case<'_, '_>) -> Option<Opinion> {
    let config = configured(case.config);
    // Windows of its own: what one instance shows counts for the next, within the cycle too.
    let mut store = case.state.upstream_windows.of_model(&case.group.model.model_id);
    let pools: Vec<Pool> = case.members.iter().map(|member| pool(case, member, &mut store, &config)).collect();
    let sum = |of: fn(&Pool) -> f64| pools.iter().map(of).sum::<f64>();
    let supply = sum(|pool| pool.supply);
    if supply <= 0.0 {
        return None;
    }
    let demand = sum(|pool| pool.demand) + held_at_gateway(case);
    let (required, spare) = required_and_spare(demand, supply, sum(|pool| pool.anticipated), &config);
    let offers = |bounds: fn(&Member<'_>) -> ReplicaBounds| -> Vec<UpstreamVariant> {
        case.members.iter().zip(&pools).map(|(member, pool)| offer(member, pool, bounds(member))).collect()
    };
    let keyed = |replicas: Vec<u32>| -> Targets {
        case.members.iter().zip(replicas).map(|(member, n)| (member.key().clone(), n)).collect()
    };
    let within = cost_aware(required, spare, &offers(|member| member.bounds.range()));
    let free = cost_aware(required, spare, &offers(|_| ANY_NUMBER));
    let clause = format!(
        "upstream version 2: {demand:.0} tokens held and waited for, {supply:.0} supplied: {required:.0} are missing, \
         {spare:.0} to spare"
    );
    Some(opinion(case, (demand, supply), clause, &keyed(within), keyed(free)))
}

fn configured(config: &SaturationScalingConfig) -> UpstreamV2Config {
    let thresholds = config.tokens.unwrap_or_default();
    UpstreamV2Config {
        kv_cache_threshold: config.kv_cache_threshold,
        queue_length_threshold: config.queue_depth_threshold,
        scale_up_threshold: thresholds.scale_up,
        scale_down_boundary: thresholds.scale_down,
    }
}

fn offer(member: &Member<'_>, pool: &Pool, bounds: ReplicaBounds) -> UpstreamVariant {
    let variant = &member.observation.variant;
    UpstreamVariant {
        name: variant.key.name.to_string(),
        cost: variant.cost,
        capacity: pool.per_replica,
        current: member.scale.spec,
        min: bounds.min,
        max: bounds.max,
        accelerators: variant.accelerators_per_replica.unwrap_or(1),
    }
}

fn pool(case: &Case<'_, '_>, member: &Member<'_>, store: &mut UpstreamV2Store, config: &UpstreamV2Config) -> Pool {
    let variant = &member.observation.variant;
    let (mut demand, mut effective) = (0.0, Vec::new());
    let mut pods: Vec<&str> = Vec::new();
    for replica in member.replicas() {
        let Some((key, instance)) = instance(case.snapshot, variant, replica) else { continue };
        let analysis = store.analyze(&key, &instance, config);
        demand += analysis.demand;
        effective.push(analysis.effective);
        pods.push(&replica.pod);
    }
    pods.sort_unstable();
    pods.dedup();
    let instances = effective.len() as f64;
    let per_pod = instances / pods.len().max(1) as f64;
    let per_replica = per_replica_capacity(&effective, per_pod);
    Pool {
        demand,
        per_replica,
        supply: per_replica_capacity(&effective, 1.0) * instances,
        anticipated: per_replica * f64::from(pending(member)),
    }
}

fn instance(
    snapshot: &Snapshot,
    variant: &Variant,
    replica: &ReplicaMetrics,
) -> Option<(CapacityKey, UpstreamV2Instance)> {
    let fresh = |signal| fresh(snapshot, signal);
    let lengths = &replica.performance;
    let output_tokens = fresh(lengths.output_tokens).unwrap_or(0.0);
    let key = CapacityKey {
        model_id: variant.model.model_id.clone(),
        accelerator: variant.accelerator.clone().unwrap_or_else(|| "unresolved".into()),
        accelerators: variant.accelerators_per_replica.unwrap_or(1),
        shape: WorkloadShape::of(output_tokens),
    };
    let instance = UpstreamV2Instance {
        capacity: fresh(replica.kv_cache_tokens)?,
        usage: fresh(replica.kv_cache_usage)?,
        queue: fresh(replica.queue_length)?,
        prompt_tokens: fresh(lengths.prompt_tokens).unwrap_or(0.0),
        output_tokens,
        role: variant.role,
        arguments: None,
    };
    Some((key, instance))
}

fn fresh(snapshot: &Snapshot, signal: Signal<f64>) -> Option<f64> {
    usable(signal, snapshot.taken_at, snapshot.ages.signal).value().copied()
}

fn held_at_gateway(case: &Case<'_, '_>) -> f64 {
    let fresh = |signal| fresh(case.snapshot, signal);
    let Some(held) = case.group.known.and_then(|known| fresh(known.gateway_queue)) else { return 0.0 };
    let mean = |of: fn(&ReplicaMetrics) -> Signal<f64>| {
        let values: Vec<f64> =
            case.members.iter().flat_map(Member::replicas).filter_map(|replica| fresh(of(replica))).collect();
        if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
    };
    let prompt = mean(|replica| replica.performance.prompt_tokens);
    let output = mean(|replica| replica.performance.output_tokens);
    let hits = mean(|replica| replica.performance.prefix_cache_hit_ratio);
    SchedulerQueueDemand::new(held, 0.0, prompt, output, hits).of(case.group.role)
}

/// The windows of version 2 after this cycle.
pub(in crate::engines) fn windows(roster: &Roster<'_>) -> UpstreamV2Store {
    let mut store = roster.state.upstream_windows.clone();
    let is_v2 = |group: &&Group<'_>| group.config.upstream == Some(UpstreamVersion::V2);
    for group in roster.groups.iter().filter(is_v2) {
        let config = configured(group.config);
        for place in &group.places {
            let observation = roster.entries[*place].observation;
            for replica in &observation.replicas {
                if let Some((key, instance)) = instance(roster.snapshot, &observation.variant, replica) {
                    store.analyze(&key, &instance, &config);
                }
            }
        }
    }
    store
}

#[cfg(test)]
mod tests;
