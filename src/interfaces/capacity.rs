//! SLO capacity: how much of a workload a pool of replicas carries within its objective, as a function of its size.
//!
//! A curve takes a simulation to compute, so the decision never computes one: it asks ([`CapacityQuestion`]), somebody
//! answers outside the cycle, and the answer ([`CapacityCurve`]) enters with a later snapshot.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LengthDistribution, ServiceObjective, ServiceProfile};

/// What a capacity curve depends on, in whole units: equal questions have equal answers, and a question is a map's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityQuestion {
    /// How fast one replica works.
    pub service: ServiceTimes,
    /// Lengths of prompts.
    pub prompts: LengthShape,
    /// Lengths of outputs.
    pub outputs: LengthShape,
    /// Thousandths of the prompt tokens that are found in the prefix cache and not computed.
    #[serde(default)]
    pub cached_per_mille: u16,
    /// Greatest time to first token in milliseconds; `None` where there is no target.
    pub time_to_first_token_ms: Option<u32>,
    /// Greatest mean time between tokens of one request in microseconds; `None` where there is no target.
    pub inter_token_latency_us: Option<u32>,
    /// Share of requests that must meet the targets, in thousandths.
    pub target_share_milli: u16,
}

/// [`ServiceProfile`] in whole picoseconds with three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTimes {
    /// Fixed time of an iteration.
    pub base: u64,
    /// Per prompt token prefilled in it.
    pub per_prefill_token: u64,
    /// Per sequence that decodes in it.
    pub per_sequence: u64,
    /// Per token resident in the KV cache.
    pub per_kv_token: u64,
    /// KV-cache capacity in tokens.
    pub kv_cache_tokens: u32,
    /// Most sequences in the batch.
    pub max_batch: u16,
    /// Most tokens prefilled in one iteration.
    pub max_batched_tokens: u32,
}

/// A distribution of lengths as shares: `per_mille[i]` of the requests are at most `bounds[i]` and more than
/// `bounds[i - 1]` tokens long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LengthShape {
    /// Upper bounds in tokens, rising.
    pub bounds: Vec<u32>,
    /// Thousandths of the requests per bucket, as many as there are bounds.
    pub per_mille: Vec<u16>,
    /// Mean length in tokens.
    pub mean: u32,
}

/// The answer: what pools of some sizes carry; sizes between are interpolated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityCurve {
    /// By rising number of replicas, and never fewer requests per replica.
    pub points: Vec<CapacityPoint>,
    /// What happens beside those rates, by rising size. Empty where unknown.
    #[serde(default)]
    pub misses: Vec<MissCurve>,
}

/// What load does to requests in a pool of one size. Small pools are gentle: they miss a little long before and after
/// their capacity. Large ones break.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissCurve {
    /// Replicas of the pool.
    pub replicas: u32,
    /// By rising load: the first below capacity, the last far above.
    pub points: Vec<MissPoint>,
}

/// What a load that lasts about as long as a cold start does to requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissPoint {
    /// Rate over the pool's capacity.
    pub load: f64,
    /// Share of requests that miss a target.
    pub share: f64,
}

/// What a pool of this size carries.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacityPoint {
    /// Replicas of the pool.
    pub replicas: u32,
    /// Requests per second and replica: the highest Poisson rate at which the target share meets the targets.
    pub rate: f64,
    /// Requests in flight per replica at that rate.
    pub in_flight: f64,
}

impl CapacityQuestion {
    /// The question for a replica that works like `profile`, under requests of these lengths. `None` where `objective`
    /// names no latency, or a length is unknown.
    pub fn new(
        profile: &ServiceProfile,
        prompts: &LengthDistribution,
        outputs: &LengthDistribution,
        objective: &ServiceObjective,
    ) -> Option<Self> {
        Self::of_requests(prompts, outputs, objective)
            .map(|question| Self { service: ServiceTimes::new(profile), ..question })
    }

    /// The question as far as it is the same for all replicas: of no service times yet.
    pub fn of_requests(
        prompts: &LengthDistribution,
        outputs: &LengthDistribution,
        objective: &ServiceObjective,
    ) -> Option<Self> {
        let time_to_first_token_ms = objective.time_to_first_token.map(|seconds| (seconds * 1e3).round() as u32);
        let inter_token_latency_us = objective.inter_token_latency.map(|seconds| (seconds * 1e6).round() as u32);
        if time_to_first_token_ms.is_none() && inter_token_latency_us.is_none() {
            return None;
        }
        Some(Self {
            service: ServiceTimes::default(),
            prompts: LengthShape::new(prompts)?,
            outputs: LengthShape::new(outputs)?,
            cached_per_mille: 0,
            time_to_first_token_ms,
            inter_token_latency_us,
            target_share_milli: (objective.target_share.clamp(0.5, 0.999) * 1e3).round() as u16,
        })
    }
}

impl ServiceTimes {
    /// `profile` rounded.
    pub fn new(profile: &ServiceProfile) -> Self {
        let picoseconds = |seconds: f64| significant(seconds * 1e12) as u64;
        Self {
            base: picoseconds(profile.base).max(1),
            per_prefill_token: picoseconds(profile.per_prefill_token),
            per_sequence: picoseconds(profile.per_sequence),
            per_kv_token: picoseconds(profile.per_kv_token),
            kv_cache_tokens: significant(profile.kv_cache_tokens) as u32,
            max_batch: u16::try_from(profile.max_batch).unwrap_or(u16::MAX).max(1),
            max_batched_tokens: profile.max_batched_tokens.max(1),
        }
    }
}

impl LengthShape {
    /// `lengths` as shares; `None` when it holds no request.
    pub fn new(lengths: &LengthDistribution) -> Option<Self> {
        let total = lengths.total();
        if !(total.is_finite() && total > 0.0 && lengths.mean.is_finite() && lengths.mean > 0.0) {
            return None;
        }
        let mut bounds: Vec<u32> = lengths.bounds.iter().map(|bound| bound.clamp(1.0, 1e9) as u32).collect();
        // What is longer than every bound is taken to be at most twice as long.
        bounds.push(bounds.last().map_or_else(|| (2.0 * lengths.mean) as u32, |last| last.saturating_mul(2)));
        let per_mille = lengths.counts.iter().map(|count| (count / total * 1e3).round() as u16);
        let (bounds, per_mille): (Vec<u32>, Vec<u16>) = bounds.into_iter().zip(per_mille).unzip();
        // Empty buckets at the ends say nothing.
        let first = per_mille.iter().position(|share| *share > 0)?;
        let last = per_mille.iter().rposition(|share| *share > 0)?;
        let first = first.saturating_sub(1);
        Some(Self {
            bounds: bounds[first..=last].to_vec(),
            per_mille: per_mille[first..=last].to_vec(),
            mean: significant(lengths.mean).max(1.0) as u32,
        })
    }
}

/// `value` with three significant digits; 0 for what is not a positive number.
fn significant(value: f64) -> f64 {
    if !(value.is_finite() && value > 0.0) {
        return 0.0;
    }
    let unit = 10_f64.powf(value.log10().floor() - 2.0);
    (value / unit).round() * unit
}

impl CapacityCurve {
    /// Requests per second that each replica of a pool of `replicas` carries; 0 where nothing is known.
    pub fn rate_per_replica(&self, replicas: f64) -> f64 {
        self.interpolated(replicas, |point| point.rate)
    }

    /// Requests per second that the whole pool carries.
    pub fn rate(&self, replicas: f64) -> f64 {
        replicas.max(0.0) * self.rate_per_replica(replicas)
    }

    /// Requests in flight per replica while the pool carries that.
    pub fn in_flight_per_replica(&self, replicas: f64) -> f64 {
        self.interpolated(replicas, |point| point.in_flight)
    }

    /// Share of requests that miss a target while a pool of `replicas` has `load` times its capacity to carry.
    pub fn miss_share(&self, replicas: f64, load: f64) -> f64 {
        self.misses_of(replicas).share(load)
    }

    /// What load does to requests in a pool of `replicas`, for those who ask of many loads.
    pub fn misses_of(&self, replicas: f64) -> PoolMisses<'_> {
        let Some(above) = self.misses.iter().position(|curve| f64::from(curve.replicas) >= replicas) else {
            return PoolMisses { low: self.misses.last(), high: None };
        };
        let high = &self.misses[above];
        let Some(low) = above.checked_sub(1).map(|below| &self.misses[below]) else {
            return PoolMisses { low: Some(high), high: None };
        };
        let (from, to) = (ln(f64::from(low.replicas)), ln(f64::from(high.replicas)));
        let part = if to > from { ((ln(replicas.max(1.0)) - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
        PoolMisses { low: Some(low), high: Some((high, part)) }
    }

    /// Linear in the logarithm of the size; constant beyond the ends.
    fn interpolated(&self, replicas: f64, value: impl Fn(&CapacityPoint) -> f64) -> f64 {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return 0.0 };
        if replicas <= f64::from(first.replicas) {
            return value(first);
        }
        let above = self.points.iter().position(|point| f64::from(point.replicas) >= replicas);
        let Some(above) = above else { return value(last) };
        let (low, high) = (&self.points[above.saturating_sub(1)], &self.points[above]);
        let (from, to) = (ln(f64::from(low.replicas)), ln(f64::from(high.replicas)));
        let share = if to > from { (ln(replicas) - from) / (to - from) } else { 1.0 };
        value(low) + share * (value(high) - value(low))
    }
}

/// What load does to requests in a pool of one size, between the sizes that are known.
#[derive(Clone, Copy, Debug)]
pub struct PoolMisses<'a> {
    /// `None` where nothing is known.
    low: Option<&'a MissCurve>,
    /// How far towards this one it lies.
    high: Option<(&'a MissCurve, f64)>,
}

impl PoolMisses<'_> {
    /// Share of requests that miss a target at `load` times the capacity.
    pub fn share(&self, load: f64) -> f64 {
        let Some(low) = self.low.map(|curve| curve.share(load)) else { return f64::from(load > 1.0) };
        self.high.map_or(low, |(high, part)| low + part * (high.share(load) - low))
    }
}

impl MissCurve {
    /// Share of requests that miss a target at `load` times the capacity: linear between the points, from nothing at no
    /// load to everything at twice the last one.
    pub fn share(&self, load: f64) -> f64 {
        let Some(last) = self.points.last() else { return f64::from(load > 1.0) };
        let ends = [MissPoint { load: 0.0, share: 0.0 }, MissPoint { load: 2.0 * last.load, share: 1.0 }];
        let Some(above) = self.points.iter().position(|point| point.load >= load) else {
            return between(last, &ends[1], load).min(1.0);
        };
        let low = above.checked_sub(1).map_or(&ends[0], |below| &self.points[below]);
        between(low, &self.points[above], load).max(0.0)
    }
}

/// The natural logarithm of a number of replicas: curves are asked for those of small whole numbers by the hundred thousand.
fn ln(replicas: f64) -> f64 {
    static KNOWN: LazyLock<[f64; 257]> = LazyLock::new(|| std::array::from_fn(|replicas| (replicas as f64).ln()));
    let whole = replicas as usize;
    match KNOWN.get(whole) {
        Some(known) if whole as f64 == replicas => *known,
        _ => replicas.ln(),
    }
}

fn between(low: &MissPoint, high: &MissPoint, load: f64) -> f64 {
    low.share + (high.share - low.share) * (load - low.load) / (high.load - low.load).max(1e-9)
}
