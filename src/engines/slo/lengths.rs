//! Token lengths, smoothed, and published only when they have moved: each published change costs a capacity curve.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{engines::group::Instance, interfaces::LengthDistribution};

/// Seconds over which shares are smoothed.
const SMOOTHING: f64 = 600.0;
/// A published mean that the smoothed one has left by more is replaced; until then capacity is scaled by the drift.
const MEAN_MOVED: f64 = 0.15;
/// Likewise for the shares: half the sum of their differences.
const SHARES_MOVED: f64 = 0.1;
/// Likewise for the share of prompts in the prefix cache.
const CACHED_MOVED: f64 = 0.05;
/// Fewer requests say nothing of a distribution.
const LEAST_REQUESTS: f64 = 30.0;
/// Lengths seen for a shorter time are not believed.
const TRUSTED_AFTER: f64 = 30.0;

/// Lengths of a model's prompts or outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LengthMemory {
    smoothed: Option<LengthDistribution>,
    published: Option<Arc<LengthDistribution>>,
    /// Seconds for which lengths have been seen.
    seen_for: f64,
}

impl LengthMemory {
    /// What capacity is asked for with.
    pub(super) fn published(&self) -> Option<&Arc<LengthDistribution>> {
        self.published.as_ref()
    }

    /// The mean length at present.
    pub(super) fn mean(&self) -> Option<f64> {
        self.smoothed.as_ref().map(|smoothed| smoothed.mean)
    }

    /// Takes in what was seen lately, `seconds` after the last time. As long as fewer requests finish than arrive
    /// (`is_steady` is false) only the short ones are through: what is seen then is not believed.
    pub(super) fn observe(&mut self, seen: Option<&LengthDistribution>, seconds: f64, is_steady: bool) {
        let Some(seen) = seen.filter(|seen| seen.total() >= LEAST_REQUESTS && seen.mean > 0.0 && seen.mean.is_finite())
        else {
            return;
        };
        if !is_steady && self.published.is_none() {
            return;
        }
        self.seen_for += seconds.max(0.0);
        // Until the memory is full it is the mean of what was seen since it could be believed.
        let believed_for = self.seen_for - TRUSTED_AFTER;
        let share = if believed_for <= 0.0 { 1.0 } else { (seconds / believed_for.min(SMOOTHING)).min(1.0) };
        let smoothed = match self.smoothed.take() {
            Some(before) if before.bounds == seen.bounds && before.counts.len() == seen.counts.len() => {
                blend(before, seen, share)
            }
            _ => normalised(seen),
        };
        let is_believed = self.seen_for >= TRUSTED_AFTER;
        if is_believed && self.published.as_ref().is_none_or(|published| has_moved(published, &smoothed)) {
            self.published = Some(Arc::new(smoothed.clone()));
        }
        self.smoothed = Some(smoothed);
    }
}

fn normalised(lengths: &LengthDistribution) -> LengthDistribution {
    let total = lengths.total();
    let counts = lengths.counts.iter().map(|count| count / total).collect();
    LengthDistribution { bounds: lengths.bounds.clone(), counts, mean: lengths.mean }
}

fn blend(mut before: LengthDistribution, seen: &LengthDistribution, share: f64) -> LengthDistribution {
    let total = seen.total();
    for (kept, count) in before.counts.iter_mut().zip(&seen.counts) {
        *kept += share * (count / total - *kept);
    }
    before.mean += share * (seen.mean - before.mean);
    before
}

fn has_moved(published: &LengthDistribution, smoothed: &LengthDistribution) -> bool {
    if published.bounds != smoothed.bounds {
        return true;
    }
    let differences = published.counts.iter().zip(&smoothed.counts).map(|(one, other)| (one - other).abs());
    (smoothed.mean / published.mean - 1.0).abs() > MEAN_MOVED || differences.sum::<f64>() / 2.0 > SHARES_MOVED
}

/// Share of prompt tokens that are found in the prefix cache, smoothed like lengths and published when it has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedShare {
    smoothed: f64,
    published: f64,
    /// Seconds for which it has been seen.
    seen_for: f64,
}

impl CachedShare {
    /// Takes in hit ratios and the rates of the prompt tokens that they are of, `seconds` after the last time.
    pub(super) fn observe(&mut self, seen: impl Iterator<Item = (f64, f64)>, seconds: f64) {
        let (hits, tokens) = seen
            .filter(|(hits, tokens)| (0.0..=1.0).contains(hits) && *tokens > 0.0 && tokens.is_finite())
            .fold((0.0, 0.0), |(sum, total), (hits, tokens)| (sum + hits * tokens, total + tokens));
        if tokens <= 0.0 {
            return;
        }
        self.seen_for += seconds.max(0.0);
        let share = (seconds / self.seen_for.clamp(1.0, SMOOTHING)).min(1.0);
        self.smoothed += share * (hits / tokens - self.smoothed);
        if self.seen_for >= TRUSTED_AFTER && (self.smoothed - self.published).abs() > CACHED_MOVED {
            self.published = self.smoothed;
        }
    }

    /// What capacity is asked for with, in thousandths.
    pub(super) fn per_mille(self) -> u16 {
        (self.published.clamp(0.0, 1.0) * 1e3) as u16
    }
}

/// A distribution around the mean that instances report, where no source has a histogram: lengths of real requests are
/// roughly lognormal, with a standard deviation of the logarithm near 1.
pub(super) fn around_mean(
    instances: &[Instance<'_>],
    mean: impl Fn(&Instance<'_>) -> Option<f64>,
) -> Option<LengthDistribution> {
    /// Quantiles of the lognormal, over its mean, and the shares between them.
    const SHAPE: [(f64, f64); 7] =
        [(0.117, 5.0), (0.309, 20.0), (0.607, 25.0), (1.19, 25.0), (2.18, 15.0), (3.15, 5.0), (6.2, 5.0)];
    let (mut sum, mut weight) = (0.0, 0.0);
    for instance in instances {
        let rate = instance.request_rate.value().copied().unwrap_or(1.0).max(1e-6);
        if let Some(mean) = mean(instance).filter(|mean| *mean > 0.0) {
            sum += rate * mean;
            weight += rate;
        }
    }
    let mean = (weight > 0.0).then(|| sum / weight)?;
    let (bounds, mut counts): (Vec<f64>, Vec<f64>) = SHAPE.iter().map(|(bound, share)| (bound * mean, *share)).unzip();
    counts.push(0.0);
    Some(LengthDistribution { bounds, counts, mean })
}
