//! Not asking twice for the same deficit, not shrinking on old evidence.

use crate::{
    engines::group::Member,
    interfaces::{
        Limit, ModelKey, ModelSaturationAnalysis, ReplicaMetrics, SaturationScalingConfig, SignalAverages, Snapshot,
        age,
    },
    saturation::{Replica, analyze_replicas, replicas_of},
};

/// An analysis after restraint.
pub(super) struct Restrained {
    /// What is acted on.
    pub(super) analysis: ModelSaturationAnalysis,
    /// What the signals alone say.
    pub(super) unrestrained: ModelSaturationAnalysis,
    /// The growth limit, if it bound.
    pub(super) growth: Option<Limit>,
    /// Why, with the number that decided.
    pub(super) clause: String,
}

/// Applies anticipated supply, the growth limit and the conditions of a scale-down.
pub(super) fn restrain(
    snapshot: &Snapshot,
    members: &[Member<'_>],
    metrics: &[ReplicaMetrics],
    analysis: ModelSaturationAnalysis,
    config: &SaturationScalingConfig,
) -> Restrained {
    let replicas = replicas_of(metrics);
    let supply = Supply::of(members);
    let unrestrained = analysis.clone();
    let (analysis, growth, clause) = if analysis.should_scale_up {
        restrain_up(supply, &replicas, analysis, config)
    } else if analysis.scale_down_safe {
        let (analysis, clause) = restrain_down(snapshot, members, supply, analysis, config);
        (analysis, None, clause)
    } else {
        let clause = enough(&analysis, config);
        (analysis, None, clause)
    };
    Restrained { analysis, unrestrained, growth, clause }
}

/// Replicas of a model by what they can carry.
#[derive(Clone, Copy)]
struct Supply {
    ready: u32,
    /// Pending, and young enough to count on.
    anticipated: u32,
}

impl Supply {
    fn of(members: &[Member<'_>]) -> Self {
        Self {
            ready: members.iter().map(|member| member.scale.ready).sum(),
            anticipated: members.iter().map(|member| member.pending).sum(),
        }
    }

    /// At most twice what is ready, so that a queue that grows while pods start does not ask for more every cycle: a
    /// cascade of 2, 4, 8, 16 pending replicas is what the peers are known for.
    fn growth_limit(self) -> u32 {
        self.ready.saturating_mul(2).max(self.ready + 1)
    }
}

fn restrain_up(
    supply: Supply,
    replicas: &[Replica],
    analysis: ModelSaturationAnalysis,
    config: &SaturationScalingConfig,
) -> (ModelSaturationAnalysis, Option<Limit>, String) {
    let need = shortage(&analysis, config);
    if supply.anticipated > 0 && !still_short(&analysis.model, supply.anticipated, replicas, config) {
        let clause = format!("{need}, but {} pending replicas will restore it", supply.anticipated);
        return (held(analysis), None, clause);
    }
    let limit = supply.growth_limit();
    if supply.ready + supply.anticipated >= limit {
        return (held(analysis), Some(Limit::Growth(limit)), need);
    }
    (analysis, None, need)
}

/// Whether the load, spread over the pending replicas too, would still call for more.
fn still_short(model: &ModelKey, anticipated: u32, replicas: &[Replica], config: &SaturationScalingConfig) -> bool {
    let Some(any) = replicas.first() else { return true };
    let total = replicas.iter().fold(SignalAverages::default(), |sum, replica| SignalAverages {
        kv_cache: sum.kv_cache + replica.load.kv_cache,
        queue_depth: sum.queue_depth + replica.load.queue_depth,
    });
    let count = replicas.len() + anticipated as usize;
    let share = Replica { variant: any.variant.clone(), load: total.scaled(1.0 / count as f64) };
    analyze_replicas(model, &vec![share; count], config).should_scale_up
}

fn restrain_down(
    snapshot: &Snapshot,
    members: &[Member<'_>],
    supply: Supply,
    analysis: ModelSaturationAnalysis,
    config: &SaturationScalingConfig,
) -> (ModelSaturationAnalysis, String) {
    let spare = percent(analysis.average_spare_capacity);
    if analysis.total_replicas < supply.ready {
        let clause = format!(
            "spare capacity is {spare}, but only {} of {} ready replicas have fresh metrics, so none is removed",
            analysis.total_replicas, supply.ready
        );
        return (held(analysis), clause);
    }
    if supply.anticipated > 0 {
        let clause = format!(
            "spare capacity is {spare}; {} replicas are still pending, so none is removed yet",
            supply.anticipated
        );
        return (held(analysis), clause);
    }
    if !members.iter().all(|member| is_settled(member, snapshot)) {
        let clause = format!(
            "spare capacity is {spare}; replicas changed within {} s, so the signals are not settled",
            snapshot.ages.settle.as_secs_f64()
        );
        return (held(analysis), clause);
    }
    let clause = format!(
        "average spare capacity {spare} leaves at least {} with one replica less",
        percent(config.spare_capacity_target + config.safety_margin)
    );
    (analysis, clause)
}

/// Whether a variant's replicas, set and ready, are equal and have been for as long as a peak lasts.
fn is_settled(member: &Member<'_>, snapshot: &Snapshot) -> bool {
    let scale = member.scale;
    scale.spec == scale.ready
        && member.previous.is_some_and(|state| {
            let since = state.ready_since.max(state.spec_since);
            (state.ready, state.spec) == (scale.ready, scale.spec)
                && age(snapshot.taken_at, since) >= snapshot.ages.settle
        })
}

fn held(analysis: ModelSaturationAnalysis) -> ModelSaturationAnalysis {
    ModelSaturationAnalysis { should_scale_up: false, should_scale_down: false, scale_down_safe: false, ..analysis }
}

fn shortage(analysis: &ModelSaturationAnalysis, config: &SaturationScalingConfig) -> String {
    if analysis.saturated_replicas == analysis.total_replicas {
        return format!(
            "all {} replicas are saturated (KV cache at {} or {} waiting requests)",
            analysis.total_replicas,
            percent(config.kv_cache_threshold),
            config.queue_depth_threshold
        );
    }
    match config.spare_triggers {
        None => format!(
            "average spare capacity {} is below the target of {}",
            percent(analysis.average_spare_capacity),
            percent(config.spare_capacity_target)
        ),
        Some(triggers) => format!(
            "average spare KV cache {} or queue {:.1} is below the triggers {} and {}",
            percent(analysis.average_spare.kv_cache),
            analysis.average_spare.queue_depth,
            percent(triggers.kv_cache),
            triggers.queue_depth
        ),
    }
}

fn enough(analysis: &ModelSaturationAnalysis, config: &SaturationScalingConfig) -> String {
    format!(
        "average spare capacity {} is enough for the target of {}, and too little to do with one replica less",
        percent(analysis.average_spare_capacity),
        percent(config.spare_capacity_target)
    )
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}
