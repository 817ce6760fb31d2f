//! The requests of a simulation: a Poisson stream of rate 1 with the measured lengths, to be played at any rate.

use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1};

use crate::interfaces::{CapacityQuestion, LengthShape};

/// One request of the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Arrival, at a rate of one per second.
    pub(super) arrival: f64,
    /// Tokens of its prompt.
    pub(super) prompt: u32,
    /// Tokens it generates.
    pub(super) output: u32,
    /// Tokens of its prompt that are in the prefix cache.
    pub(super) cached: u32,
}

/// The stream of one question, drawn as far as it was asked for: the many runs of a search play the same requests.
#[derive(Debug)]
pub(super) struct Stream {
    random: StdRng,
    prompts: Lengths,
    outputs: Lengths,
    /// Share of prompt tokens in the prefix cache.
    cached: f64,
    drawn: Vec<Sample>,
}

impl Stream {
    pub(super) fn new(question: &CapacityQuestion) -> Self {
        const SEED: u64 = 0x5eed;
        Self {
            random: StdRng::seed_from_u64(SEED),
            prompts: Lengths::new(&question.prompts),
            outputs: Lengths::new(&question.outputs),
            cached: f64::from(question.cached_per_mille.min(1000)) / 1e3,
            drawn: Vec::new(),
        }
    }

    /// The first `count` requests.
    pub(super) fn first(&mut self, count: usize) -> &[Sample] {
        self.drawn.reserve(count.saturating_sub(self.drawn.len()));
        let mut arrival = self.drawn.last().map_or(0.0, |sample| sample.arrival);
        while self.drawn.len() < count {
            let gap: f64 = Exp1.sample(&mut self.random);
            arrival += gap;
            let prompt = self.prompts.draw(self.random.random());
            let output = self.outputs.draw(self.random.random());
            let cached = self.cached(prompt);
            self.drawn.push(Sample { arrival, prompt, output, cached });
        }
        &self.drawn[..count]
    }

    /// A prompt is in the cache as a whole or not at all: conversations go on, others begin. Of all ways to spread the same
    /// share this one leaves the work most uneven.
    fn cached(&mut self, prompt: u32) -> u32 {
        if self.cached <= 0.0 {
            return 0;
        }
        if self.random.random::<f64>() < self.cached { prompt } else { 0 }
    }
}

/// Draws lengths: log-uniform within a bucket, scaled so that the mean is the measured one.
#[derive(Debug)]
struct Lengths {
    shape: LengthShape,
    total: f64,
    scale: f64,
}

/// Strata of the distribution over which its mean is taken.
const STRATA: u32 = 2000;

impl Lengths {
    fn new(shape: &LengthShape) -> Self {
        let total = shape.per_mille.iter().map(|share| f64::from(*share)).sum::<f64>().max(1.0);
        let unscaled = Self { shape: shape.clone(), total, scale: 1.0 };
        let strata = (0..STRATA).map(|i| (f64::from(i) + 0.5) / f64::from(STRATA));
        let mean = strata.map(|uniform| unscaled.quantile(uniform)).sum::<f64>() / f64::from(STRATA);
        // Coarse buckets may hide the mean, but not by more than a bucket's width.
        Self { scale: (f64::from(shape.mean) / mean.max(1.0)).clamp(0.4, 2.5), ..unscaled }
    }

    fn draw(&self, uniform: f64) -> u32 {
        (self.quantile(uniform) * self.scale).round().max(1.0) as u32
    }

    fn quantile(&self, uniform: f64) -> f64 {
        let mut left = uniform * self.total;
        let mut lower = 1.0;
        for (bound, share) in self.shape.bounds.iter().zip(&self.shape.per_mille) {
            let (upper, share) = (f64::from(*bound).max(lower), f64::from(*share));
            if left <= share && share > 0.0 {
                return lower * (upper / lower).powf(left / share);
            }
            left -= share;
            lower = upper;
        }
        lower
    }
}
