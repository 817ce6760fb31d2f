//! Distributions of token lengths as a few weighted values.

use statrs::distribution::{ContinuousCDF, Normal};

use super::{QueueError, error::within};
use crate::interfaces::LengthDistribution;

const TOKENS: &str = "it must be a number of tokens from 1 to 1e7";
/// Standard scores between which a lognormal is cut into slices; what lies beyond is a slice of its own on each side.
const REACH: f64 = 4.0;
/// Slices per standard deviation. A percentile of a latency that hangs on the own length is no finer than they are: at 4,
/// one slice near the 95th percentile held 2.7 % of the requests, and a rate that 95 % must meet was off by a quarter.
const SLICES: u32 = 16;

/// Token lengths as weighted values: fine enough for means, variances and the 99th percentile.
///
/// ```
/// use wva::analyzer::Lengths;
///
/// let prompts = Lengths::lognormal(1155.0, 1.1)?;
/// assert!((prompts.mean() - 1155.0).abs() < 1e-6);
/// assert!((prompts.variation() - 1.1).abs() < 0.02);
/// # Ok::<(), wva::analyzer::QueueError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// Ascending; weights are positive and sum to 1.
    values: Vec<Weighted>,
}

/// A length and how often it occurs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighted {
    /// Tokens.
    pub tokens: f64,
    /// Share of requests.
    pub weight: f64,
}

impl Lengths {
    /// Always the same length.
    ///
    /// # Errors
    /// When it is no number of tokens.
    pub fn fixed(tokens: f64) -> Result<Self, QueueError> {
        let tokens = within("token length", tokens, 1.0, 1e7, TOKENS)?;
        Ok(Self { values: vec![Weighted { tokens, weight: 1.0 }] })
    }

    /// Lognormal, as lengths of real requests roughly are, with this mean and coefficient of variation. Each slice of
    /// the distribution stands at its own mean, so that the mean is exact.
    ///
    /// # Errors
    /// When the mean is no number of tokens, or the variation none from 0 to 10.
    pub fn lognormal(mean: f64, variation: f64) -> Result<Self, QueueError> {
        within("mean token length", mean, 1.0, 1e7, TOKENS)?;
        within("coefficient of variation of token lengths", variation, 0.0, 10.0, "it must be a number from 0 to 10")?;
        if variation < 1e-6 {
            return Self::fixed(mean);
        }
        let sigma = (variation * variation).ln_1p().sqrt();
        let normal = Normal::standard();
        let slices = (2.0 * REACH) as u32 * SLICES;
        let edge = |index: u32| match index {
            0 => f64::NEG_INFINITY,
            last if last == slices + 2 => f64::INFINITY,
            inner => f64::from(inner - 1) / f64::from(SLICES) - REACH,
        };
        let values = (0..slices + 2).map(|index| {
            let (low, high) = (edge(index), edge(index + 1));
            let weight = normal.cdf(high) - normal.cdf(low);
            // E[X; low < Z < high] of a lognormal is E[X] times the same slice of a normal shifted by σ.
            let share = normal.cdf(high - sigma) - normal.cdf(low - sigma);
            Weighted { tokens: mean * share / weight, weight }
        });
        Ok(Self::new(values.collect()))
    }

    /// The lengths of a histogram: each bucket at its middle, all scaled to the histogram's mean. `None` when it counted
    /// nothing or makes no sense.
    pub fn from_histogram(histogram: &LengthDistribution) -> Option<Self> {
        let total = histogram.total();
        let makes_sense = histogram.counts.len() == histogram.bounds.len() + 1
            && histogram.bounds.is_sorted()
            && histogram.bounds.iter().all(|bound| bound.is_finite() && *bound >= 0.0)
            && histogram.counts.iter().all(|count| count.is_finite() && *count >= 0.0)
            && total > 0.0
            && (1.0..=1e7).contains(&histogram.mean);
        if !makes_sense {
            return None;
        }
        let mut lower = 0.0;
        let mut values = Vec::with_capacity(histogram.counts.len());
        for (index, &count) in histogram.counts.iter().enumerate() {
            // What is longer than the last bound is taken to be half as long again.
            let upper = histogram.bounds.get(index).copied().unwrap_or(lower * 2.0);
            if count > 0.0 {
                values.push(Weighted { tokens: f64::midpoint(lower, upper).max(1.0), weight: count / total });
            }
            lower = upper;
        }
        let lengths = Self::new(values);
        let factor = histogram.mean / lengths.mean();
        Some(lengths.scaled(factor))
    }

    /// The same lengths times `factor`.
    #[must_use]
    pub(super) fn scaled(self, factor: f64) -> Self {
        self.map(|tokens| tokens * factor)
    }

    /// The same lengths, none above `most` tokens.
    #[must_use]
    pub fn capped(self, most: f64) -> Self {
        self.map(|tokens| tokens.min(most))
    }

    /// Lengths with their shares, ascending.
    pub fn values(&self) -> &[Weighted] {
        &self.values
    }

    /// Mean length in tokens.
    pub fn mean(&self) -> f64 {
        self.expected(|tokens| tokens)
    }

    /// Standard deviation over mean.
    pub fn variation(&self) -> f64 {
        let mean = self.mean();
        let variance = self.expected(|tokens| (tokens - mean) * (tokens - mean));
        variance.sqrt() / mean
    }

    /// Mean of a function of the length.
    pub fn expected(&self, value: impl Fn(f64) -> f64) -> f64 {
        self.values.iter().map(|weighted| weighted.weight * value(weighted.tokens)).sum()
    }

    fn new(mut values: Vec<Weighted>) -> Self {
        values.retain(|weighted| weighted.weight > 0.0);
        let total: f64 = values.iter().map(|weighted| weighted.weight).sum();
        for weighted in &mut values {
            weighted.weight /= total;
        }
        Self { values }.map(|tokens| tokens)
    }

    /// No length is below one token: an engine computes and generates at least one.
    fn map(mut self, change: impl Fn(f64) -> f64) -> Self {
        for weighted in &mut self.values {
            weighted.tokens = change(weighted.tokens).max(1.0);
        }
        self
    }
}
