//! Lengths of prompts and outputs.

use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal, Uniform};
use serde::Deserialize;

use super::LoadError;

/// A distribution of token counts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum TokenLengths {
    /// Always the same.
    Fixed(u32),
    /// Each length from `min` to `max` as likely.
    Uniform {
        /// Shortest.
        min: u32,
        /// Longest.
        max: u32,
    },
    /// Lognormal, as lengths of real requests roughly are.
    Lognormal {
        /// Mean before the cut at `max`.
        mean: f64,
        /// Standard deviation of the logarithm; 0.9 is typical of conversations.
        sigma: f64,
        /// Longer ones are cut to this.
        max: u32,
    },
}

#[derive(Debug)]
pub(super) struct LengthSampler {
    distribution: Sampled,
    random: StdRng,
}

#[derive(Debug)]
enum Sampled {
    Fixed(u32),
    Uniform(Uniform<u32>),
    Lognormal(LogNormal<f64>, u32),
}

impl LengthSampler {
    pub(super) fn new(field: &'static str, lengths: &TokenLengths, seed: u64) -> Result<Self, LoadError> {
        let distribution = prepare(lengths).map_err(|problem| LoadError::Lengths { field, problem })?;
        Ok(Self { distribution, random: StdRng::seed_from_u64(seed) })
    }

    pub(super) fn sample(&mut self) -> u32 {
        match &self.distribution {
            Sampled::Fixed(length) => *length,
            Sampled::Uniform(uniform) => uniform.sample(&mut self.random),
            Sampled::Lognormal(lognormal, max) => (lognormal.sample(&mut self.random).round() as u32).clamp(1, *max),
        }
    }
}

fn prepare(lengths: &TokenLengths) -> Result<Sampled, &'static str> {
    match *lengths {
        TokenLengths::Fixed(0) => Err("`fixed` must be at least 1 token"),
        TokenLengths::Fixed(length) => Ok(Sampled::Fixed(length)),
        TokenLengths::Uniform { min, max } => {
            let uniform = Uniform::new_inclusive(min.max(1), max).map(Sampled::Uniform);
            uniform.map_err(|_| "`max` must be at least `min` and at least 1 token")
        }
        TokenLengths::Lognormal { mean, sigma, max } => {
            if !(mean.is_finite() && mean >= 1.0 && sigma.is_finite() && sigma >= 0.0 && max >= 1) {
                return Err("`mean` and `max` must be at least 1 token and `sigma` at least 0");
            }
            // The mean of a lognormal is exp(µ + σ²/2).
            let lognormal = LogNormal::new(mean.ln() - sigma * sigma / 2.0, sigma);
            lognormal.map(|lognormal| Sampled::Lognormal(lognormal, max)).map_err(|_| "`sigma` must be a finite number")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(lengths: TokenLengths) -> f64 {
        let mut sampler = LengthSampler::new("promptTokens", &lengths, 7).unwrap();
        (0..50_000).map(|_| f64::from(sampler.sample())).sum::<f64>() / 50_000.0
    }

    #[test]
    fn each_distribution_has_the_mean_it_promises() {
        assert_eq!(mean(TokenLengths::Fixed(42)), 42.0);
        assert!((mean(TokenLengths::Uniform { min: 100, max: 300 }) - 200.0).abs() < 2.0);
        let lognormal = mean(TokenLengths::Lognormal { mean: 1155.0, sigma: 0.9, max: 100_000 });
        assert!((lognormal / 1155.0 - 1.0).abs() < 0.03, "{lognormal}");
    }

    #[test]
    fn no_length_is_zero_or_above_the_maximum() {
        let lengths = TokenLengths::Lognormal { mean: 3.0, sigma: 2.0, max: 50 };
        let mut sampler = LengthSampler::new("outputTokens", &lengths, 7).unwrap();
        assert!((0..10_000).all(|_| (1..=50).contains(&sampler.sample())));
    }

    #[test]
    fn distributions_that_make_no_sense_are_refused() {
        for lengths in [
            TokenLengths::Fixed(0),
            TokenLengths::Uniform { min: 5, max: 4 },
            TokenLengths::Uniform { min: 0, max: 0 },
            TokenLengths::Lognormal { mean: f64::NAN, sigma: 1.0, max: 10 },
            TokenLengths::Lognormal { mean: 10.0, sigma: -1.0, max: 10 },
        ] {
            let error = LengthSampler::new("promptTokens", &lengths, 7).unwrap_err();
            assert!(error.to_string().starts_with("promptTokens: `"), "{error}");
        }
    }
}
