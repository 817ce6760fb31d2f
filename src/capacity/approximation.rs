//! Capacity in closed form, from means.

use crate::interfaces::{CapacityCurve, CapacityPoint, CapacityQuestion, MissCurve, MissPoint};

/// Share of the mean-value capacity that pools of these sizes carry at a share of 99 %, where nothing better is known:
/// the lowest of four workloads on real traces.
const POOLING: [(u32, f64); 4] = [(1, 0.5), (4, 0.75), (8, 0.85), (16, 0.9)];

/// What overload does, where nothing better is known.
const MISSES: [MissPoint; 4] = [
    MissPoint { load: 0.7, share: 0.001 },
    MissPoint { load: 1.0, share: 0.01 },
    MissPoint { load: 1.1, share: 0.1 },
    MissPoint { load: 1.4, share: 1.0 },
];

/// The curve by mean values: the rate at which the *average* request just meets its targets, less a margin for the others.
pub fn approximated(question: &CapacityQuestion) -> CapacityCurve {
    let mean = mean_value(question);
    let residence = residence(question, mean);
    let points = POOLING.iter().map(|&(replicas, share)| {
        let rate = mean * share;
        CapacityPoint { replicas, rate, in_flight: rate * residence }
    });
    CapacityCurve { points: points.collect(), misses: vec![MissCurve { replicas: 8, points: MISSES.to_vec() }] }
}

/// The rate per replica at which the mean request meets its targets.
pub(super) fn mean_value(question: &CapacityQuestion) -> f64 {
    greatest_rate(question, &Means::of(question))
}

fn greatest_rate(question: &CapacityQuestion, means: &Means) -> f64 {
    let latency = means.latency;
    // At rate λ and latency x per token, λ·outputs·x sequences decode and λ·prompts·x tokens are prefilled per iteration:
    // x = base + λ·x·(outputs·(sequence + context·kv) + prompts·prefill).
    let per_request = means.outputs * (means.sequence + means.context * means.kv) + means.prompts * means.prefill;
    let by_latency = (latency - means.base) / (latency * per_request).max(1e-12);
    // Prefill beyond this share leaves a queue of prompts that one burst makes miss.
    let by_prefill = 0.85 / (means.prompts * means.prefill).max(1e-12);
    let sequences = f64::from(question.service.max_batch)
        .min(0.95 * f64::from(question.service.kv_cache_tokens) / means.context.max(1.0));
    let by_room = sequences / (means.outputs * latency).max(1e-12);
    by_latency.min(by_prefill).min(by_room).max(0.0)
}

/// What capacity is multiplied by when mean lengths are these instead of the question's, by mean values.
pub fn drift_factor(question: &CapacityQuestion, prompts: f64, outputs: f64) -> f64 {
    let drifted = Means::with_lengths(question, prompts.max(1.0) as u32, outputs.max(1.0) as u32);
    let (before, after) = (mean_value(question), greatest_rate(question, &drifted));
    if before > 0.0 && after > 0.0 { (after / before).clamp(0.5, 2.0) } else { 1.0 }
}

/// Seconds a request stays at that rate.
pub(super) fn residence(question: &CapacityQuestion, rate: f64) -> f64 {
    let means = Means::of(question);
    let per_request = means.outputs * (means.sequence + means.context * means.kv) + means.prompts * means.prefill;
    let busy = (rate * per_request).min(0.95);
    let iteration = means.base / (1.0 - busy);
    means.outputs * iteration + means.prompts * means.prefill + iteration
}

/// Seconds and tokens.
struct Means {
    base: f64,
    prefill: f64,
    sequence: f64,
    kv: f64,
    prompts: f64,
    outputs: f64,
    /// KV tokens of a sequence, averaged over its decoding.
    context: f64,
    /// Time per token that the targets allow.
    latency: f64,
}

impl Means {
    fn of(question: &CapacityQuestion) -> Self {
        Self::with_lengths(question, question.prompts.mean, question.outputs.mean)
    }

    /// With these mean lengths in place of the question's.
    fn with_lengths(question: &CapacityQuestion, prompts: u32, outputs: u32) -> Self {
        let service = &question.service;
        let seconds = |picoseconds: u64| picoseconds as f64 * 1e-12;
        let (prompts, outputs) = (f64::from(prompts), f64::from(outputs));
        let base = seconds(service.base);
        // Without a target per token, the first token's leaves room for as many iterations as prompts take.
        let latency = question.inter_token_latency_us.map_or_else(
            || question.time_to_first_token_ms.map_or(10.0 * base, |target| f64::from(target) * 1e-3 / 4.0),
            |target| f64::from(target) * 1e-6,
        );
        Self {
            base,
            prefill: seconds(service.per_prefill_token) * (1.0 - f64::from(question.cached_per_mille.min(1000)) / 1e3),
            sequence: seconds(service.per_sequence),
            kv: seconds(service.per_kv_token),
            prompts,
            outputs,
            context: prompts + outputs / 2.0,
            latency,
        }
    }
}
