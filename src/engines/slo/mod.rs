//! The SLO engine: as many replicas as keep the target share of requests within their latencies.
//!
//! 1. What arrives, waits and is in flight? (`demand`)
//! 2. How fast do the replicas work, and what does a pool of N of them carry within the objective? (`learning`,
//!    `slow`, [`crate::estimation`], [`crate::capacity`])
//! 3. What may become of the arrivals by the time a replica asked for now serves, and how many replicas is that worth?
//!    (`outlook`, `reversion`, `peaks`)
//! 4. Which replicas carry that at the least cost, and what must stay until they are ready? (`plan`, `supply`)

mod curves;
mod demand;
mod learning;
mod lengths;
mod looks;
mod memory;
mod outlook;
mod peaks;
mod plan;
mod reversion;
mod slow;
mod supply;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    arbitration::Opinion,
    group::{Instance, Member},
};
use crate::{
    capacity,
    interfaces::{
        AcceleratorMode, CapacityCurve, CapacityQuestion, EngineName, ModelMetrics, ServiceObjective, Signal, Snapshot,
        VariantKey, age,
    },
};
use demand::Demand;
use plan::Candidate;
use slow::Pace;

pub(super) use curves::Curves;
pub use lengths::LengthMemory;
pub use looks::Looks;
pub use memory::{ModelMemory, VariantMemory};
pub use outlook::ArrivalHistory;
pub use peaks::PeakMemory;

/// Headroom where there is no outlook.
const CONSTANT_HEADROOM: f64 = 1.2;
/// Parts of a replica in which several variants together are sized.
const PARTS: u32 = 4;
/// Pool size whose capacity holds for all where capacity does not grow with the pool.
const CONSTANT_POOL: f64 = 4.0;
/// A gap between two cycles longer than this is not taken for a time in which things stayed as they were.
const LONGEST_STEP: Duration = Duration::from_secs(60);

/// What a model is judged by, beside its replicas.
pub(super) struct World<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) curves: &'a Curves<'a>,
    pub(super) objective: &'a ServiceObjective,
    pub(super) known: Option<&'a ModelMetrics>,
}

/// What the engine remembers after this snapshot, and what it makes of the model; no opinion while it knows nothing of the
/// arrivals or of what a replica carries.
pub(super) fn consider(
    world: &World<'_>,
    members: &[Member<'_>],
    instances: &[Instance<'_>],
    remembered: Option<&ModelMemory>,
) -> (Option<ModelMemory>, Option<Opinion>) {
    let &World { snapshot, objective, known, .. } = world;
    let mut memory = remembered.cloned().unwrap_or_default();
    let now = snapshot.taken_at;
    let since = memory.updated_at.map_or(Duration::ZERO, |then| age(now, then).min(LONGEST_STEP));
    memory.updated_at = Some(now);
    memory.variants.retain(|key, _| members.iter().any(|member| member.key() == key));

    observe_lengths(&mut memory, instances, known, since.as_secs_f64());
    observe_cached(&mut memory, snapshot, instances, since.as_secs_f64());
    let subjects = subjects(&mut memory, world, members, instances);
    let demand = demand::measure(members, instances, known.unwrap_or(&ModelMetrics::default()), now, &snapshot.ages);
    let Some(subjects) = subjects else { return (Some(memory), None) };
    let opinion = judge(&mut memory, snapshot, members, objective, &demand, &subjects);
    (Some(memory), opinion)
}

fn observe_lengths(memory: &mut ModelMemory, instances: &[Instance<'_>], known: Option<&ModelMetrics>, seconds: f64) {
    let known = known.map(|known| (known.prompt_lengths.as_deref(), known.output_lengths.as_deref()));
    let (prompts, outputs) = known.unwrap_or_default();
    let mean = |value: fn(&Instance<'_>) -> Option<f64>| lengths::around_mean(instances, value);
    let is_steady = is_steady(instances);
    let (mut of_prompts, mut of_outputs) = (None, None);
    let prompts = prompts.or_else(|| {
        of_prompts = mean(|instance| instance.performance.prompt_tokens.value().copied());
        of_prompts.as_ref()
    });
    let outputs = outputs.or_else(|| {
        of_outputs = mean(|instance| instance.performance.output_tokens.value().copied());
        of_outputs.as_ref()
    });
    memory.prompts.observe(prompts, seconds, is_steady);
    memory.outputs.observe(outputs, seconds, is_steady);
}

/// What is in the prefix cache, by prompt tokens. Where nothing tells of hits there are none to count on.
fn observe_cached(memory: &mut ModelMemory, snapshot: &Snapshot, instances: &[Instance<'_>], seconds: f64) {
    let fresh = |signal: Signal<f64>| signal.fresh(snapshot.taken_at, snapshot.ages.signal).value().copied();
    let cached = instances.iter().filter_map(|instance| {
        let tokens = fresh(instance.performance.prompt_token_rate)?;
        Some((fresh(instance.performance.prefix_cache_hit_ratio).unwrap_or(0.0), tokens))
    });
    memory.cached.observe(cached, seconds);
}

/// Whether about as many requests finish as arrive. Unknown rates do not say otherwise.
fn is_steady(instances: &[Instance<'_>]) -> bool {
    const FINISHING: f64 = 0.85;
    let sum = |value: fn(&Instance<'_>) -> Option<f64>| instances.iter().filter_map(value).sum::<f64>();
    let finished = sum(|instance| instance.request_rate.value().copied());
    let arrived = sum(|instance| instance.performance.arrival_rate.value().copied());
    finished >= FINISHING * arrived
}

/// What is known of a variant's capacity.
struct Subject {
    curve: Arc<CapacityCurve>,
    /// What requests that have become longer or shorter since make of it, a factor.
    drift: f64,
    /// Relative standard error of the latency predicted at capacity.
    error: f64,
    /// Requests per second that the KV cache of a replica has room for.
    room: f64,
    /// Replicas that are too slow to count on.
    slow: u32,
}

/// One subject per member; `None` while a member with ready replicas is not understood.
fn subjects(
    memory: &mut ModelMemory,
    world: &World<'_>,
    members: &[Member<'_>],
    instances: &[Instance<'_>],
) -> Option<Vec<Option<Subject>>> {
    let means = memory.prompts.mean().zip(memory.outputs.mean());
    let lengths = memory.prompts.published().zip(memory.outputs.published());
    let question =
        lengths.and_then(|(prompts, outputs)| CapacityQuestion::of_requests(prompts, outputs, world.objective));
    let question =
        question.map(|question| CapacityQuestion { cached_per_mille: memory.cached.per_mille(), ..question });
    let mut subjects = Vec::with_capacity(members.len());
    let mut rest = instances;
    for member in members {
        let own;
        (own, rest) = rest.split_at(member.observation.replicas.len());
        let of_variant = memory.variants.entry(member.key().clone()).or_default();
        let pace = Pace::of(own);
        learning::learn(of_variant, world.snapshot, member, own, pace);
        if let Some(question) = &question {
            learning::ask(of_variant, member.observation.variant.profile.as_ref(), question);
        }
        subjects.push(subject(of_variant, world, means, own, pace.slow_pods(own).min(member.scale.ready)));
    }
    let is_understood =
        members.iter().zip(&subjects).all(|(member, subject)| subject.is_some() || member.scale.ready == 0);
    is_understood.then_some(subjects)
}

fn subject(
    memory: &mut VariantMemory,
    world: &World<'_>,
    means: Option<(f64, f64)>,
    own: &[Instance<'_>],
    slow: u32,
) -> Option<Subject> {
    let snapshot = world.snapshot;
    let question = memory.question.clone()?;
    let exact = if snapshot.engine.percentile_capacity { memory.curve(world.curves) } else { None };
    let (asked, curve) = exact.map_or_else(
        || (&question, Arc::new(capacity::approximated(&question))),
        |(asked, curve)| (asked, curve.clone()),
    );
    let drift = means.map_or(1.0, |(prompts, outputs)| capacity::drift_factor(asked, prompts, outputs));
    let estimate = memory.estimate.as_ref()?;
    let in_flight = curve.in_flight_per_replica(CONSTANT_POOL);
    let context = f64::from(question.prompts.mean) + f64::from(question.outputs.mean) / 2.0;
    let computed = 1.0 - f64::from(question.cached_per_mille.min(1000)) / 1e3;
    let prefill = curve.rate_per_replica(CONSTANT_POOL) * f64::from(question.prompts.mean) * computed;
    let error =
        if snapshot.engine.learning { estimate.relative_error(in_flight, in_flight * context, prefill) } else { 0.0 };
    let curve = if snapshot.engine.pooling { curve } else { Arc::new(without_pooling(&curve)) };
    Some(Subject { curve, drift, error, room: supply::room(own, snapshot), slow })
}

fn without_pooling(curve: &CapacityCurve) -> CapacityCurve {
    let in_flight = curve.in_flight_per_replica(CONSTANT_POOL);
    let point =
        crate::interfaces::CapacityPoint { replicas: 4, rate: curve.rate_per_replica(CONSTANT_POOL), in_flight };
    CapacityCurve { points: vec![point], misses: curve.misses.clone() }
}

fn judge(
    memory: &mut ModelMemory,
    snapshot: &Snapshot,
    members: &[Member<'_>],
    objective: &ServiceObjective,
    demand: &Demand,
    subjects: &[Option<Subject>],
) -> Option<Opinion> {
    let candidates = supply::candidates(members, subjects, snapshot);
    let slow: Vec<u32> = subjects.iter().map(|subject| subject.as_ref().map_or(0, |subject| subject.slow)).collect();
    let ready: Vec<u32> = members.iter().zip(&slow).map(|(member, slow)| member.scale.ready - slow).collect();
    let set: Vec<u32> = candidates.iter().map(|candidate| candidate.spec).collect();
    let reference = reference(&candidates, &ready)?.clone();
    let pool = Pool {
        held: held(&candidates, &set, &reference),
        reference,
        ready: ready.iter().map(|count| f64::from(*count)).sum(),
        carried: plan::capacity(&candidates, &ready),
        is_mixed: candidates.len() > 1,
    };
    let need = need(memory, snapshot, 1.0 - objective.target_share, demand, &pool)?;

    let bounded =
        if is_new(memory, snapshot, &pool.reference) { supply::kept(candidates.clone()) } else { candidates.clone() };
    let plan = plan::cheapest(&bounded, need.rate);
    let held = supply::until_ready(&bounded, &plan, &ready, need.rate, snapshot.engine.make_before_break);
    let free = candidates.into_iter().map(|candidate| Candidate { min: 0, max: u32::MAX, ..candidate });
    let unconstrained = plan::cheapest(&free.collect::<Vec<_>>(), need.rate);
    let error = subjects.iter().flatten().map(|subject| subject.error).fold(0.0, f64::max);
    Some(Opinion {
        engine: EngineName::Slo,
        demand: need.rate,
        capacity: pool.carried,
        confidence: (1.0 - 2.0 * error).clamp(0.0, 1.0),
        targets: keyed(members, &supply::with_slow(&held, &slow)),
        unconstrained: keyed(members, &supply::with_slow(&supply::widened(&held, &plan, &unconstrained), &slow)),
        first: None,
        clause: format!(
            "{}; a replica carries {:.2} req/s within the objective (pool of {:.0}){}",
            need.why,
            pool.rate_per_replica(),
            pool.ready,
            told(slow.iter().sum())
        ),
        oldest_input: demand.oldest,
    })
}

fn told(slow: u32) -> String {
    if slow == 0 { String::new() } else { format!("; ready but many times slower than the others: {slow}") }
}

/// What is ready, seen as one.
struct Pool {
    /// Stands for all where one curve is needed.
    reference: Candidate,
    /// Ready replicas.
    ready: f64,
    /// Requests per second that they carry.
    carried: f64,
    /// What is set, in replicas of the reference.
    held: f64,
    /// Whether there is more than one variant.
    is_mixed: bool,
}

impl Pool {
    fn rate_per_replica(&self) -> f64 {
        self.reference.rate(self.ready.max(1.0))
    }

    /// Requests per second that a pool of so many replicas of the reference carries.
    fn capacity(&self, replicas: f64) -> f64 {
        replicas * self.reference.rate(replicas)
    }

    /// The rate at which as many requests are in flight.
    fn rate_of(&self, in_flight: f64) -> f64 {
        let per_replica = self.reference.curve.in_flight_per_replica(self.ready.max(1.0));
        in_flight / per_replica.max(1e-9) * self.rate_per_replica()
    }
}

/// Requests per second to provide for, with the number that decided.
struct Need {
    rate: f64,
    why: String,
}

fn need(memory: &mut ModelMemory, snapshot: &Snapshot, allowed: f64, demand: &Demand, pool: &Pool) -> Option<Need> {
    // In flight is a stock, and noisy: it speaks only where arrivals cannot be seen.
    let by_flight = demand.in_flight.filter(|_| snapshot.engine.in_flight).map(|in_flight| pool.rate_of(in_flight));
    let arrivals = demand.arrivals.or(by_flight)?;
    // The trend too: what came that near once may come again.
    memory.arrivals.observe(snapshot.taken_at, arrivals + demand.trend);
    let present = if snapshot.engine.outlook {
        let outlook = memory.arrivals.outlook(arrivals);
        // A trend is believed as far as nothing is remembered of what follows such a rate.
        let coming = demand.rate(arrivals + outlook.supposed * demand.trend);
        let outlook = outlook.scaled(coming / arrivals.max(1e-9));
        let parts = if pool.is_mixed { PARTS } else { 1 };
        let capacity = |replicas| pool.capacity(replicas);
        let replicas = outlook.replicas(&pool.reference.curve, capacity, pool.held, allowed, parts);
        // A hair less than they carry: rounding must not ask for one more.
        (pool.capacity(replicas) * 1e6 - 1.0).floor().max(0.0) / 1e6
    } else {
        demand.rate((arrivals + demand.trend) * CONSTANT_HEADROOM)
    };
    // What waits has arrived once, and is gone when it has been served: only arrivals come back.
    memory.peaks.observe(snapshot.taken_at, present * arrivals / demand.rate(arrivals).max(1e-9));
    let kept = if snapshot.engine.peak_memory {
        let contended = snapshot.limits.accelerators == AcceleratorMode::Limited && snapshot.models.len() > 1;
        memory.peaks.kept(snapshot.taken_at, contended)
    } else {
        0.0
    };
    let why = if kept > present * 1.01 {
        format!("{kept:.2} req/s were provided for lately")
    } else if demand.arrivals.is_none() {
        let in_flight = demand.in_flight.unwrap_or(0.0);
        format!(
            "{in_flight:.0} requests are in flight, as many as at {arrivals:.2} req/s; to provide for: {present:.2}"
        )
    } else {
        format!("{arrivals:.2} req/s arrive and {:.0} wait; to provide for: {present:.2}", demand.waiting)
    };
    Some(Need { rate: present.max(kept), why })
}

/// Whether the model has been understood for too short a time to give up replicas: five minutes, and as many times over
/// as it takes for long requests to show.
fn is_new(memory: &mut ModelMemory, snapshot: &Snapshot, reference: &Candidate) -> bool {
    const LEAST: f64 = 300.0;
    const STAYS: f64 = 4.0;
    let since = *memory.understood_since.get_or_insert(snapshot.taken_at);
    let stay = reference.curve.in_flight_per_replica(1.0) / reference.curve.rate_per_replica(1.0).max(1e-9);
    age(snapshot.taken_at, since).as_secs_f64() < LEAST + STAYS * stay
}

/// The candidate that carries most of what is ready: its curve stands for the pool where one is needed.
fn reference<'a>(candidates: &'a [Candidate], ready: &[u32]) -> Option<&'a Candidate> {
    let weight = |(candidate, count): &(&Candidate, &u32)| f64::from(**count) * candidate.rate(CONSTANT_POOL);
    let usable = candidates.iter().zip(ready).filter(|(candidate, _)| candidate.rate(CONSTANT_POOL) > 0.0);
    // Of equals the first, so that the order of variants does not matter beyond their names.
    usable.rev().max_by(|a, b| weight(a).total_cmp(&weight(b))).map(|(candidate, _)| candidate)
}

/// As many of `reference` carry what `set` carries in a pool of the same size.
fn held(candidates: &[Candidate], set: &[u32], reference: &Candidate) -> f64 {
    let size = set.iter().map(|count| f64::from(*count)).sum::<f64>().max(1.0);
    // A little more than it comes to: rounding must not lose one.
    plan::capacity(candidates, set) / reference.rate(size).max(1e-9) + 1e-6
}

fn keyed(members: &[Member<'_>], replicas: &[u32]) -> BTreeMap<VariantKey, u32> {
    members.iter().zip(replicas).map(|(member, count)| (member.key().clone(), *count)).collect()
}

#[cfg(test)]
mod tests;
