//! Saturation by tokens: KV-cache tokens that requests hold and wait for, against those that replicas carry.
//!
//! Unlike percentages, tokens say how much a queue weighs and how much a variant of another size carries: the shortage is
//! covered by the cheapest replicas, exactly ([`crate::optimizer`]). A replica carries what its cache holds under the
//! threshold, or less, where saturated replicas of its kind have shown that their compute is full before their memory.

mod demanded;
mod exchange;

use std::collections::BTreeMap;

use super::{Saturation, percent, restraint};
use crate::{
    engines::{
        arbitration::Opinion,
        group::{Case, Member, total, usable},
        roster::Roster,
    },
    interfaces::{
        EngineName, ReplicaMetrics, Role, SaturationScalingConfig, Signal, Snapshot, TokenThresholds, Variant,
        VariantKey,
    },
    optimizer::{OptimizerSettings, Supply, optimize},
    saturation::tokens::{CapacityKey, LearnedCapacities, TokenLoad, WorkloadShape, memory_bound, waiting_tokens},
};

use exchange::Exchange;

/// A queue is a stock, not a flow: however long, it asks for no more than this factor of what serves.
const MOST_GROWTH: f64 = 2.0;
/// Numbers that differ by less are equal.
const TOLERANCE: f64 = 1e-9;

/// What the tokens of a model's requests call for; `None` where no replica tells the size of its cache.
pub(super) fn judge(case: &Case<'_, '_>, thresholds: TokenThresholds) -> Option<Saturation> {
    let members = case.members;
    let reader = Reader { snapshot: case.snapshot, learned: &case.state.capacities, config: case.config };
    let pools: Vec<Pool> = members.iter().map(|member| reader.pool(member)).collect();
    let least = pools.iter().filter_map(|pool| pool.per_replica).reduce(f64::min)?;
    // A variant that nothing is known of is taken to carry as little as any.
    let capacities: Vec<f64> = pools.iter().map(|pool| pool.per_replica.unwrap_or(least)).collect();
    let sum = |count: fn(&Member<'_>) -> u32| -> f64 {
        members.iter().zip(&capacities).map(|(member, capacity)| f64::from(count(member)) * capacity).sum()
    };
    let held = reader.held_at_gateway(case);
    let load = Load {
        demand: case.inflow * (pools.iter().map(|pool| pool.demand).sum::<f64>() + held),
        supply: sum(|member| member.scale.ready),
        anticipated: sum(|member| member.pending),
        measured: pools.iter().map(|pool| pool.measured).sum(),
    };
    let step = step(case, &pools, &capacities, &load, thresholds);
    let (targets, unconstrained) = step.targets(case, &capacities);
    let moved = members.iter().find(|member| targets.get(member.key()).is_some_and(|n| *n != member.scale.spec));
    let opinion = Opinion {
        engine: EngineName::Saturation,
        demand: load.demand,
        capacity: load.supply,
        // It measures what it judges.
        confidence: 1.0,
        first: moved.map(|member| member.key().clone()),
        clause: step.clause,
        targets,
        unconstrained,
        oldest_input: super::inputs::oldest_sample(case),
    };
    let excess = if load.supply > 0.0 { (load.demand / load.supply).max(1.0) } else { 1.0 };
    Some(Saturation { opinion, excess })
}

/// What the saturated replicas of this cycle add to what is known of capacities, in every model that is judged by tokens.
pub(in crate::engines) fn learn(roster: &Roster<'_>) -> LearnedCapacities {
    let &Roster { state, snapshot, .. } = roster;
    let mut seen: BTreeMap<CapacityKey, Vec<f64>> = BTreeMap::new();
    for group in roster.groups.iter().filter(|group| group.config.tokens.is_some() && group.config.upstream.is_none()) {
        let reader = Reader { snapshot, learned: &state.capacities, config: group.config };
        for place in &group.places {
            let observation = roster.entries[*place].observation;
            for replica in &observation.replicas {
                if let Some((key, tokens)) = reader.shown_by(&observation.variant, replica) {
                    seen.entry(key).or_default().push(tokens);
                }
            }
        }
    }
    let means = seen.into_iter().map(|(key, tokens)| (key, tokens.iter().sum::<f64>() / tokens.len() as f64));
    state.capacities.after(&means.collect::<Vec<_>>(), snapshot.taken_at)
}

/// Tokens of one model and role.
struct Load {
    /// Held and waited for.
    demand: f64,
    /// What ready replicas carry.
    supply: f64,
    /// What pending ones will.
    anticipated: f64,
    /// Replicas that were measured.
    measured: u32,
}

/// Tokens of one variant.
#[derive(Default)]
struct Pool {
    /// Held and waited for, at its ready replicas.
    demand: f64,
    /// What one replica carries; `None` where none was measured.
    per_replica: Option<f64>,
    measured: u32,
}

/// Reads tokens out of signals.
struct Reader<'a> {
    snapshot: &'a Snapshot,
    learned: &'a LearnedCapacities,
    config: &'a SaturationScalingConfig,
}

impl Reader<'_> {
    fn fresh(&self, signal: Signal<f64>) -> Option<f64> {
        usable(signal, self.snapshot.taken_at, self.snapshot.ages.signal).value().copied()
    }

    /// The tokens of one variant. An instance that cannot be measured leaves its whole pod out, and ready replicas that
    /// are not measured are taken to hold as much as the others.
    fn pool(&self, member: &Member<'_>) -> Pool {
        let mut pods: BTreeMap<&str, Option<(f64, f64)>> = BTreeMap::new();
        for replica in member.replicas() {
            let instance = self.instance(&member.observation.variant, replica);
            pods.entry(&replica.pod)
                .and_modify(|pod| *pod = pod.zip(instance).map(|((d, c), (demand, bound))| (d + demand, c + bound)))
                .or_insert(instance);
        }
        let measured: Vec<(f64, f64)> = pods.into_values().flatten().collect();
        if measured.is_empty() {
            return Pool::default();
        }
        let count = measured.len() as f64;
        let unmeasured = (f64::from(member.scale.ready) / count).max(1.0);
        Pool {
            demand: measured.iter().map(|(demand, _)| demand).sum::<f64>() * unmeasured,
            per_replica: Some(median(measured.iter().map(|(_, bound)| *bound).collect())).filter(|bound| *bound > 0.0),
            measured: u32::try_from(measured.len()).unwrap_or(u32::MAX),
        }
    }

    /// Demand and bound of one engine instance, in tokens.
    fn instance(&self, variant: &Variant, replica: &ReplicaMetrics) -> Option<(f64, f64)> {
        let cache = self.fresh(replica.kv_cache_tokens)?;
        let peak = TokenLoad::new(cache, self.fresh(replica.kv_cache_usage)?, 0.0).in_use;
        let waiting = |queue: f64| self.waiting(variant.role, replica, queue, peak);
        let performance = &replica.performance;
        let now = self.fresh(performance.kv_cache_usage_now).zip(self.fresh(performance.queue_length_now));
        // Peaks of cache and queue need not coincide: only what is there at one moment is added up.
        let demand = match now {
            Some((usage, queue)) => TokenLoad::new(cache, usage, waiting(queue)?).demand().max(peak),
            None => peak + waiting(self.fresh(replica.queue_length)?)?,
        };
        let memory = memory_bound(cache, self.config.kv_cache_threshold);
        let learned = self.key(variant, replica).and_then(|key| self.learned.capacity(&key, self.snapshot.taken_at));
        Some((demand, learned.map_or(memory, |learned| learned.min(memory))))
    }

    /// Tokens that `queue` requests will need beside what the prefix cache holds: by their mean lengths, else as many
    /// each as running ones hold.
    fn waiting(&self, role: Role, replica: &ReplicaMetrics, queue: f64, in_use: f64) -> Option<f64> {
        if queue <= 0.0 {
            return Some(0.0);
        }
        match self.lengths(replica) {
            Some((prompt, output)) => Some(waiting_tokens(queue, prompt, output, role)),
            None => self
                .fresh(replica.running)
                .filter(|running| *running > 0.0)
                .map(|running| queue * in_use / running.max(1.0)),
        }
    }

    /// Mean prompt length less what the prefix cache holds of it, and mean output length.
    fn lengths(&self, replica: &ReplicaMetrics) -> Option<(f64, f64)> {
        let performance = &replica.performance;
        let hits = self.fresh(performance.prefix_cache_hit_ratio).unwrap_or(0.0).clamp(0.0, 1.0);
        Some((self.fresh(performance.prompt_tokens)? * (1.0 - hits), self.fresh(performance.output_tokens)?))
    }

    /// Tokens of the requests that the gateway holds back.
    fn held_at_gateway(&self, case: &Case<'_, '_>) -> f64 {
        let held = case.group.known.and_then(|known| self.fresh(known.gateway_queue)).unwrap_or(0.0);
        if held <= 0.0 {
            return 0.0;
        }
        let replicas = case.members.iter().flat_map(Member::replicas);
        let lengths: Vec<(f64, f64)> = replicas.filter_map(|replica| self.lengths(replica)).collect();
        let mean =
            |length: fn(&(f64, f64)) -> f64| lengths.iter().map(length).sum::<f64>() / lengths.len().max(1) as f64;
        waiting_tokens(held, mean(|lengths| lengths.0), mean(|lengths| lengths.1), case.group.role)
    }

    fn key(&self, variant: &Variant, replica: &ReplicaMetrics) -> Option<CapacityKey> {
        Some(CapacityKey {
            model_id: variant.model.model_id.clone(),
            accelerator: variant.accelerator.clone()?,
            accelerators: variant.accelerators_per_replica.unwrap_or(1),
            shape: WorkloadShape::of(self.fresh(replica.performance.output_tokens)?),
        })
    }

    /// What a replica with a queue shows of its kind's capacity: a full one would hold no more.
    fn shown_by(&self, variant: &Variant, replica: &ReplicaMetrics) -> Option<(CapacityKey, f64)> {
        let performance = &replica.performance;
        let queue = self.fresh(performance.queue_length_now).or_else(|| self.fresh(replica.queue_length))?;
        let usage = self.fresh(performance.kv_cache_usage_now).or_else(|| self.fresh(replica.kv_cache_usage))?;
        let tokens = TokenLoad::new(self.fresh(replica.kv_cache_tokens)?, usage, 0.0).in_use;
        let is_saturated = queue >= self.config.queue_depth_threshold && tokens > 0.0;
        is_saturated.then(|| self.key(variant, replica)).flatten().map(|key| (key, tokens))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// What is to change, and why.
struct Step {
    change: Change,
    clause: String,
}

enum Change {
    /// The replicas that carry so many tokens.
    Carry(f64),
    Hold,
    /// One less of this variant.
    Remove(VariantKey),
    /// These replicas per member.
    Exchange(Vec<u32>),
}

fn step(case: &Case<'_, '_>, pools: &[Pool], capacities: &[f64], load: &Load, thresholds: TokenThresholds) -> Step {
    let members = case.members;
    let ready = total(members.iter().map(|member| member.scale.ready));
    let pending = total(members.iter().map(|member| member.pending));
    let (up, down) = (percent(thresholds.scale_up), percent(thresholds.scale_down));
    let held = format!(
        "requests hold and wait for {:.0} of the {:.0} tokens that {ready} replicas carry{}",
        load.demand,
        load.supply,
        restraint::expected(case.inflow)
    );
    let hold = |why: String| Step { change: Change::Hold, clause: format!("{held}: {why}") };
    let needed = load.demand / thresholds.scale_up;
    if needed > load.supply * (1.0 + TOLERANCE) {
        if needed <= (load.supply + load.anticipated) * (1.0 + TOLERANCE) {
            return hold(format!("over {up}, but {pending} pending replicas are on their way"));
        }
        let most = (load.supply * MOST_GROWTH).max(load.supply + load.anticipated);
        return Step { change: Change::Carry(needed.min(most)), clause: format!("{held}: over {up}") };
    }
    let spare = load.supply - load.demand / thresholds.scale_down;
    let set = total(members.iter().map(|member| member.scale.spec));
    // Of those that can be spared the dearest for what it carries; of equals the last by name.
    let dear = |(member, capacity): &(&Member<'_>, &f64)| member.observation.variant.cost / **capacity;
    let spared = members.iter().zip(capacities).filter(|(member, capacity)| {
        member.scale.spec > member.bounds.range().min && **capacity <= spare * (1.0 + TOLERANCE)
    });
    let Some((spared, _)) = spared.max_by(|a, b| dear(a).total_cmp(&dear(b))).filter(|_| set > 1) else {
        return match exchange::cheaper(case, pools, capacities, load, thresholds) {
            Some(Exchange { held: replicas, share }) => Step {
                change: Change::Exchange(replicas),
                clause: format!("{held}: other replicas carry them for {} of the cost", percent(share)),
            },
            None => hold(format!("within {up}, and over {down} with one replica less")),
        };
    };
    if let Some(why) = restraint::why_not_fewer(case, load.measured) {
        return hold(why);
    }
    Step { change: Change::Remove(spared.key().clone()), clause: format!("{held}: under {down} with one replica less") }
}

/// Replicas per variant.
type Targets = BTreeMap<VariantKey, u32>;

impl Step {
    /// Replicas within bounds, and without them.
    fn targets(&self, case: &Case<'_, '_>, capacities: &[f64]) -> (Targets, Targets) {
        let members = case.members;
        if let Change::Carry(tokens) = self.change {
            return cover(tokens, case, capacities);
        }
        let wanted = |(index, member): (usize, &Member<'_>)| match &self.change {
            Change::Remove(variant) if variant == member.key() => member.scale.spec.saturating_sub(1),
            Change::Exchange(replicas) => replicas[index],
            _ => member.scale.spec,
        };
        let free: Vec<(VariantKey, u32)> =
            members.iter().enumerate().map(|found| (found.1.key().clone(), wanted(found))).collect();
        let within = |(member, (key, wanted)): (&Member<'_>, &(VariantKey, u32))| {
            let bounds = member.bounds.range();
            let max = bounds.max.unwrap_or(u32::MAX);
            (key.clone(), (*wanted).clamp(bounds.min.min(max), max))
        };
        (members.iter().zip(&free).map(within).collect(), free.into_iter().collect())
    }
}

/// The cheapest replicas beside those that are set, which carry `tokens`.
fn cover(tokens: f64, case: &Case<'_, '_>, capacities: &[f64]) -> (Targets, Targets) {
    let offer = |(member, capacity): (&Member<'_>, &f64)| demanded::offer(member, *capacity, member.scale.spec);
    let demand = demanded::by(case, tokens, case.members.iter().zip(capacities).map(offer).collect());
    let answers = optimize(&[demand], &Supply::Unlimited, &OptimizerSettings::default());
    let allotments = || answers.iter().flat_map(|answer| &answer.variants);
    (
        allotments().map(|allotment| (allotment.variant.clone(), allotment.desired)).collect(),
        allotments().map(|allotment| (allotment.variant.clone(), allotment.unconstrained)).collect(),
    )
}

#[cfg(test)]
mod tests;
