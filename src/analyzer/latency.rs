//! Distributions of latencies, in seconds.

use statrs::distribution::{Beta, ContinuousCDF};

/// Lower end of the first bin.
const FIRST: f64 = 1e-5;
/// Natural logarithm of how much wider each bin is than the one before: the resolution of a percentile.
const WIDTH: f64 = 0.01;
/// Bins: up to 10⁶ seconds.
const BINS: usize = 2534;
/// Points that stand for an exponential distribution.
const SLICES: u32 = 20;

/// A histogram with an exact mean.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    weights: Vec<f64>,
    sum: f64,
    total: f64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { weights: vec![0.0; BINS], sum: 0.0, total: 0.0 }
    }

    pub(super) fn add(&mut self, seconds: f64, weight: f64) {
        self.weights[(position(seconds) as usize).min(BINS - 1)] += weight;
        self.sum += seconds * weight;
        self.total += weight;
    }

    pub(super) fn mean(&self) -> f64 {
        if self.total > 0.0 { self.sum / self.total } else { 0.0 }
    }

    /// The latency that this share of requests stays within.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let mut below = 0.0;
        let reached = self.weights.iter().position(|weight| {
            below += weight;
            below >= share * self.total
        });
        middle(reached.unwrap_or(BINS))
    }

    /// Share of requests that stay within `seconds`.
    pub(super) fn share_within(&self, seconds: f64) -> f64 {
        let position = position(seconds).min(BINS as f64 - 1.0);
        let whole = position as usize;
        let below: f64 = self.weights[..whole].iter().sum();
        ((below + self.weights[whole] * position.fract()) / self.total).clamp(0.0, 1.0)
    }

    /// These latencies, of which a `share` is instead one of `late` after an exponential delay.
    pub(super) fn delayed(&self, share: f64, mean: f64, late: &Self) -> Self {
        let mut delayed = self.clone();
        for weight in &mut delayed.weights {
            *weight *= 1.0 - share;
        }
        delayed.sum *= 1.0 - share;
        delayed.total *= 1.0 - share;
        let scale = share * self.total / late.total / f64::from(SLICES);
        for (bin, weight) in late.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            for slice in 0..SLICES {
                let rest = 1.0 - (f64::from(slice) + 0.5) / f64::from(SLICES);
                delayed.add(middle(bin) - mean * rest.ln(), weight * scale);
            }
        }
        delayed
    }
}

/// Where in the bins `seconds` lies.
fn position(seconds: f64) -> f64 {
    ((seconds / FIRST).ln() / WIDTH).max(0.0)
}

fn middle(bin: usize) -> f64 {
    FIRST * ((bin as f64 + 0.5) * WIDTH).exp()
}

/// A mixture of beta distributions, each between bounds of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct BetaMixture {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    weight: f64,
    least: f64,
    span: f64,
    mean: f64,
    /// Of where it lies between the bounds, 0 to 1; `None` when it does not vary.
    within: Option<Beta>,
}

/// Least distance of a mean from its bounds, in parts of what is between them.
const MARGIN: f64 = 1e-4;
/// Most variance, in parts of what bounds and mean allow: all at either bound.
const MOST_VARIANCE: f64 = 0.98;
/// Least, in the same parts; below it is none.
const LEAST_VARIANCE: f64 = 1e-9;

impl BetaMixture {
    /// Adds a part with this mean and variance that keeps within `bounds`.
    pub(super) fn add(&mut self, weight: f64, (least, most): (f64, f64), mean: f64, variance: f64) {
        let span = (most - least).max(1e-12);
        let mean = ((mean - least) / span).clamp(MARGIN, 1.0 - MARGIN);
        let relative = (variance / (span * span) / (mean * (1.0 - mean))).min(MOST_VARIANCE);
        // A beta distribution of shapes m·k and (1 − m)·k has the variance m·(1 − m)/(1 + k).
        let shapes = 1.0 / relative - 1.0;
        let varies = relative > LEAST_VARIANCE;
        let within = if varies { Beta::new(mean * shapes, (1.0 - mean) * shapes).ok() } else { None };
        self.parts.push(Part { weight, least, span, mean: least + mean * span, within });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn mean(&self) -> f64 {
        self.averaged(|part| part.mean)
    }

    /// Share of requests that stay within `seconds`.
    pub(super) fn share_within(&self, seconds: f64) -> f64 {
        self.averaged(|part| match &part.within {
            Some(within) => within.cdf(((seconds - part.least) / part.span).clamp(0.0, 1.0)),
            None => f64::from(seconds >= part.mean),
        })
    }

    /// The latency that this share of requests stays within.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let (mut low, mut high) = (0.0, self.parts.iter().map(|part| part.least + part.span).fold(0.0, f64::max));
        // Each halving gives a bit of the answer; a thousandth is far below the error of the model.
        while high - low > 1e-3 * high {
            let middle = f64::midpoint(low, high);
            if self.share_within(middle) < share { low = middle } else { high = middle }
        }
        high
    }

    fn averaged(&self, value: impl Fn(&Part) -> f64) -> f64 {
        let total: f64 = self.parts.iter().map(|part| part.weight).sum();
        if total > 0.0 { self.parts.iter().map(|part| part.weight * value(part)).sum::<f64>() / total } else { 0.0 }
    }
}
