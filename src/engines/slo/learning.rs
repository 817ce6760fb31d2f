//! From replica signals to service times, and from those to the capacity curve that is wanted.

use std::{sync::Arc, time::Duration};

use super::{memory::VariantMemory, slow::Pace};
use crate::{
    engines::group::{Instance, Member},
    estimation::{Estimate, Observation},
    interfaces::{CapacityQuestion, ServiceProfile, ServiceTimes, Snapshot, age},
};

/// Signals are means over a window of a minute: looking more often than this sees the same again.
const EVERY: Duration = Duration::from_secs(15);
/// vLLM's defaults; engines do not export theirs.
const MAX_BATCH: u32 = 256;
const MAX_BATCHED_TOKENS: u32 = 2048;
/// A share of the KV cache below which its size cannot be told from what is resident.
const LEAST_USAGE: f64 = 0.03;
/// Parameters that moved by more are asked for anew.
const MOVED: f64 = 0.04;

/// Learns from the instances of `member`, its `own`, but for those that `pace` calls slow.
pub(super) fn learn(
    memory: &mut VariantMemory,
    snapshot: &Snapshot,
    member: &Member<'_>,
    own: &[Instance<'_>],
    pace: Pace,
) {
    let profile = member.observation.variant.profile.as_ref();
    if memory.estimate.is_none() {
        memory.estimate = profile.map(Estimate::from_profile);
    }
    let is_due = memory.learned_at.is_none_or(|then| age(snapshot.taken_at, then) >= EVERY);
    if !is_due {
        return;
    }
    let own = || own.iter().filter(|instance| instance.variant == Some(member.key()) && !pace.is_slow(instance));
    learn_cache_size(memory, own(), profile);
    if !snapshot.engine.learning && profile.is_some() {
        return;
    }
    let budget = f64::from(profile.map_or(MAX_BATCHED_TOKENS, |profile| profile.max_batched_tokens));
    let Some(observation) = mean_observation(own(), budget) else { return };
    let observation = memory.looks.judged(snapshot.taken_at, own(), observation);
    memory.learned_at = Some(snapshot.taken_at);
    if memory.estimate.is_none() {
        memory.estimate = Estimate::from_observation(&observation);
    }
    if let Some(estimate) = &mut memory.estimate {
        estimate.observe(&observation);
    }
}

fn learn_cache_size<'a>(
    memory: &mut VariantMemory,
    own: impl Iterator<Item = &'a Instance<'a>> + Clone,
    profile: Option<&ServiceProfile>,
) {
    let told = own.clone().filter_map(|instance| instance.kv_cache_tokens.value().copied()).reduce(f64::min);
    let told = told.or(profile.map(|profile| profile.kv_cache_tokens)).filter(|tokens| *tokens > 0.0);
    memory.kv_cache_tokens = told.or_else(|| inferred_cache_size(own)).or(memory.kv_cache_tokens);
}

/// Resident tokens over usage.
fn inferred_cache_size<'a>(own: impl Iterator<Item = &'a Instance<'a>>) -> Option<f64> {
    let sizes = own.filter_map(|instance| {
        let performance = instance.performance;
        let usage = *performance.kv_cache_usage_now.value()?;
        let context = performance.prompt_tokens.value()? + performance.output_tokens.value()? / 2.0;
        (usage > LEAST_USAGE).then(|| instance.running.value().map(|running| running * context / usage))?
    });
    mean(sizes).filter(|size| *size > 0.0)
}

/// The mean over instances that served something.
fn mean_observation<'a>(own: impl Iterator<Item = &'a Instance<'a>> + Clone, budget: f64) -> Option<Observation> {
    let mut observations = Vec::with_capacity(own.clone().count());
    observations.extend(own.filter_map(|instance| observation(instance, budget)).filter(Observation::is_sound));
    let over = |value: fn(&Observation) -> f64| mean(observations.iter().map(value));
    Some(Observation {
        inter_token_latency: over(|o| o.inter_token_latency)?,
        first_token_service: mean(observations.iter().filter_map(|o| o.first_token_service)),
        decoding: over(|o| o.decoding)?,
        kv_tokens: over(|o| o.kv_tokens)?,
        prefill_rate: over(|o| o.prefill_rate)?,
        prompt_tokens: over(|o| o.prompt_tokens)?,
        max_batched_tokens: budget,
        dispersion: 1.0,
        spread: 0.0,
    })
}

/// `None` of nothing.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn observation(instance: &Instance<'_>, budget: f64) -> Option<Observation> {
    let performance = instance.performance;
    let inter_token_latency = performance.inter_token_latency.value()?.mean;
    // Little: tokens per second times the time between them.
    let decoding = performance.generation_token_rate.value()? * inter_token_latency;
    let computed = 1.0 - performance.prefix_cache_hit_ratio.value().copied().unwrap_or(0.0).clamp(0.0, 1.0);
    let prompt_tokens = *performance.prompt_tokens.value()?;
    let context = prompt_tokens + performance.output_tokens.value()? / 2.0;
    let kv_tokens = decoding * context;
    let service = performance.time_to_first_token.value().zip(performance.queue_time.value());
    Some(Observation {
        inter_token_latency,
        first_token_service: service.map(|(first, queue)| first.mean - queue.mean).filter(|seconds| *seconds > 0.0),
        decoding,
        kv_tokens,
        prefill_rate: performance.prompt_token_rate.value()? * computed,
        prompt_tokens: prompt_tokens * computed,
        max_batched_tokens: budget,
        dispersion: 1.0,
        spread: 0.0,
    })
}

/// Brings the question that `memory` asks up to date: `question`, which is the same for all variants of a model, as far as
/// the replica is concerned. It stays while what it would be is close to what it is.
pub(super) fn ask(memory: &mut VariantMemory, profile: Option<&ServiceProfile>, question: &CapacityQuestion) {
    let Some(estimate) = &memory.estimate else { return };
    let [base, per_prefill_token, per_sequence, per_kv_token] = estimate.parameters();
    let believed = ServiceProfile {
        base,
        per_prefill_token,
        per_sequence,
        per_kv_token,
        kv_cache_tokens: memory.kv_cache_tokens.unwrap_or(300_000.0),
        max_batch: profile.map_or(MAX_BATCH, |profile| profile.max_batch),
        max_batched_tokens: profile.map_or(MAX_BATCHED_TOKENS, |profile| profile.max_batched_tokens),
    };
    let service = ServiceTimes::new(&believed);
    if memory.question.as_ref().is_none_or(|asked| differs(asked, question, &service)) {
        memory.question = Some(Arc::new(CapacityQuestion { service, ..question.clone() }));
    }
}

/// Whether what was asked has a noticeably different answer than `question` has for a replica that works like `other`.
fn differs(asked: &CapacityQuestion, question: &CapacityQuestion, other: &ServiceTimes) -> bool {
    let one = &asked.service;
    let moved = |one: f64, other: f64| (one / other.max(1e-9) - 1.0).abs() > MOVED;
    // Parameters trade off against each other: what counts is the iteration with few and with many sequences.
    let context = f64::from(question.prompts.mean) + f64::from(question.outputs.mean) / 2.0;
    let iteration = |service: &ServiceTimes, sequences: f64| {
        service.base as f64 + sequences * (service.per_sequence as f64 + context * service.per_kv_token as f64)
    };
    let times_moved = [8.0, 64.0].iter().any(|n| moved(iteration(one, *n), iteration(other, *n)))
        || moved(one.per_prefill_token as f64, other.per_prefill_token as f64)
        || moved(f64::from(one.kv_cache_tokens), f64::from(other.kv_cache_tokens));
    times_moved
        || (one.max_batch, one.max_batched_tokens) != (other.max_batch, other.max_batched_tokens)
        || (&asked.prompts, &asked.outputs, asked.cached_per_mille)
            != (&question.prompts, &question.outputs, question.cached_per_mille)
        || (asked.time_to_first_token_ms, asked.inter_token_latency_us, asked.target_share_milli)
            != (question.time_to_first_token_ms, question.inter_token_latency_us, question.target_share_milli)
}
