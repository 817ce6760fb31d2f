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
}

/// `count` requests; the first ones are the same whatever the count.
pub(super) fn samples(question: &CapacityQuestion, count: usize) -> Vec<Sample> {
    const SEED: u64 = 0x5eed;
    let mut random = StdRng::seed_from_u64(SEED);
    let (prompts, outputs) = (Lengths::new(&question.prompts), Lengths::new(&question.outputs));
    let mut arrival = 0.0;
    let sample = |_| {
        let gap: f64 = Exp1.sample(&mut random);
        arrival += gap;
        Sample { arrival, prompt: prompts.draw(random.random()), output: outputs.draw(random.random()) }
    };
    (0..count).map(sample).collect()
}

/// Draws lengths: log-uniform within a bucket, scaled so that the mean is the measured one.
struct Lengths<'a> {
    shape: &'a LengthShape,
    total: f64,
    scale: f64,
}

/// Strata of the distribution over which its mean is taken.
const STRATA: u32 = 2000;

impl<'a> Lengths<'a> {
    fn new(shape: &'a LengthShape) -> Self {
        let total = shape.per_mille.iter().map(|share| f64::from(*share)).sum::<f64>().max(1.0);
        let unscaled = Self { shape, total, scale: 1.0 };
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
