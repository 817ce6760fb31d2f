//! Time between tokens: the mean over one request's tokens, as an objective means it.

use super::{Lengths, decode::Population, first_token::Prefill, latency::GammaMixture, work::Replica};

/// How fast sequences decode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decoding {
    /// Mean time between tokens in the long run.
    pace: f64,
    /// The same without the prompts computed in between.
    steady: f64,
    /// Share of time that prompts leave.
    free: f64,
    /// Extra time of a whole request: it begins to decode right after its own prefill, when more prompts wait than on
    /// average over iterations.
    extra: f64,
    /// Iterations over which that extra backlog drains.
    relaxation: f64,
    /// Variance of the time for one iteration, per second of decoding.
    noise: f64,
    /// Variance of the extra time.
    extra_variance: f64,
    /// Variance per iteration where prompts get in one by one, as room becomes free.
    queued_noise: f64,
    /// How much longer a sequence decodes than its tokens take in the long run; at least 1.
    pub(super) stretch: f64,
}

impl Decoding {
    /// How sequences decode at `rate`, with a population that was found with the given `stretch`.
    pub(super) fn new(
        replica: &Replica,
        outputs: &Lengths,
        rate: f64,
        stretch: f64,
        population: &Population,
        prefill: &Prefill,
    ) -> Self {
        let per_token = replica.profile.per_prefill_token;
        let work = &replica.work;
        let free = 1.0 - replica.prefill_share(rate);
        // Little's law: the mean number is the rate times the mean stay.
        let pace = population.mean / (rate * work.steps * stretch);
        let decoding = Self {
            pace,
            steady: pace * free,
            free,
            extra: (per_token * (prefill.left_behind - prefill.backlog) / free).max(0.0),
            relaxation: prefill.left_behind / prefill.drain + 1e-9,
            // Prompts prolong iterations, which lets more prompts arrive: the variance of an M/G/1 busy period.
            noise: rate * per_token.powi(2) * work.prefill_squared / free.powi(3),
            extra_variance: (per_token / free).powi(2) * prefill.left_behind_variance,
            // As many prompts as sequences leave, so that only their lengths vary.
            queued_noise: rate * pace * per_token.powi(2) * (work.prefill_squared - work.prefill.powi(2)).max(0.0),
            stretch: 1.0,
        };
        let extra = outputs.expected(|tokens| decoding.extra_time(tokens - 1.0));
        Self { stretch: 1.0 + extra / (work.steps * pace), ..decoding }
    }

    /// Share of a drained extra backlog after `steps` iterations.
    fn drained(&self, steps: f64) -> f64 {
        -(-steps / self.relaxation).exp_m1()
    }

    fn extra_time(&self, steps: f64) -> f64 {
        self.extra * self.drained(steps)
    }

    /// Variance, among requests of `steps` iterations, of the time between tokens that prompts cause.
    fn variance(&self, steps: f64) -> f64 {
        (self.noise * self.steady * steps + self.extra_variance * self.drained(steps)) / (steps * steps)
    }

    /// The distribution over requests of the mean time between their tokens, where a share of `queued` waited for a seat:
    /// these decode while the replica is full, and its prompts and sequences neither pile up nor vary in number.
    pub(super) fn token_gaps(
        &self,
        replica: &Replica,
        outputs: &Lengths,
        population: &Population,
        queued: f64,
    ) -> GammaMixture {
        let work = &replica.work;
        let least = replica.decode_iteration(1.0).min(self.pace);
        // The number of sequences and their contexts vary slowly; a request averages over its own stay.
        let slow = (replica.sequence_time().powi(2) * population.variance
            + replica.profile.per_kv_token.powi(2) * population.mean * work.context_variance())
            / self.free.powi(2);
        let memory = work.steps_squared / (2.0 * work.steps) * self.pace * (self.steady / replica.profile.base);
        let mut gaps = GammaMixture::new(replica.longest_iteration());
        for output in outputs.values() {
            let steps = output.tokens - 1.0;
            if steps > 0.0 {
                let mean = self.pace + self.extra_time(steps) / steps;
                let variance = self.variance(steps) + slow * averaging(steps * self.pace / memory);
                gaps.add(output.weight * (1.0 - queued), least, mean, variance);
                gaps.add(output.weight * queued, least, self.pace, self.queued_noise / steps);
            }
        }
        gaps
    }
}

/// Variance of the average over `span` correlation times, relative to that of a single moment (exponential correlation).
fn averaging(span: f64) -> f64 {
    // Below, the difference of almost equal numbers has no digits left.
    if span < 1e-4 { 1.0 } else { 2.0 * (span + (-span).exp_m1()) / (span * span) }
}
