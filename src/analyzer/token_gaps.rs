//! Time between tokens: the mean over one request's tokens, as an objective means it.

use super::{
    Lengths, Workload,
    decode::Population,
    first_token::{SLOWLY, iterations_after},
    iterations::Iterations,
    latency::BetaMixture,
    work::Replica,
};

/// How fast sequences decode.
#[derive(Clone, Debug)]
pub(super) struct Decoding {
    /// What prompts do to the iterations of a request, from its first token on.
    iterations: Iterations,
    /// Duration of those, in parts of what they take beside the usual number of sequences.
    scale: f64,
    /// Variance of the duration of an iteration that changes slowly.
    slow: f64,
    /// Share of time that prompts leave.
    free: f64,
    /// Seconds over which it changes.
    memory: f64,
    /// Variance per iteration where prompts get in one by one, as room becomes free.
    queued: f64,
}

impl Decoding {
    /// How sequences decode at `rate` with such a population.
    pub(super) fn new(replica: &Replica, workload: &Workload, rate: f64, population: &Population) -> Self {
        let (profile, work, outputs) = (&replica.profile, &replica.work, &workload.outputs);
        let most = outputs.values().last().map_or(1.0, |output| output.tokens);
        let iterations = iterations_after(replica, &workload.computed(), rate, population, most);
        let free = 1.0 - replica.prefill_share(rate);
        // The number of sequences and their contexts vary slowly.
        let slow = (replica.sequence_time().powi(2) * population.variance
            + profile.per_kv_token.powi(2) * population.mean * work.context_variance())
            / free.powi(2);
        let pace = population.pace;
        let memory = work.steps_squared / (2.0 * work.steps) * pace * (pace * free / profile.base);
        // As many prompts as sequences leave, so that only their lengths vary.
        let queued =
            rate * pace * profile.per_prefill_token.powi(2) * (work.prefill_squared - work.prefill.powi(2)).max(0.0);
        Self { scale: pace / iterations.pace, iterations, slow, free, memory, queued }
    }

    /// Mean time that sequences decode.
    pub(super) fn time(&self, outputs: &Lengths) -> f64 {
        self.scale * outputs.expected(|tokens| self.iterations.time(tokens - 1.0).0)
    }

    /// The distribution over requests of the mean time between their tokens, where a share of `queued` waited for a seat:
    /// these decode while the replica is full, and its prompts and sequences neither pile up nor vary in number.
    pub(super) fn token_gaps(&self, outputs: &Lengths, queued: f64) -> BetaMixture {
        let Iterations { shortest, longest, pace, .. } = self.iterations;
        let mut gaps = BetaMixture::default();
        for output in outputs.values().iter().filter(|output| output.tokens > 1.0) {
            let steps = output.tokens - 1.0;
            let (time, variance) = self.iterations.time(steps);
            let (mean, variance) = (self.scale * time / steps, (self.scale / steps).powi(2) * variance);
            // A request averages over its own stay.
            let slow = (self.slow * averaging(steps * pace * self.scale / self.memory)).sqrt();
            for (deviations, share) in SLOWLY {
                let shift = (deviations * slow).max(0.9 * (shortest - mean));
                let within = (shortest + shift * self.free, longest + shift * self.free);
                gaps.add(output.weight * (1.0 - queued) * share, within, mean + shift, variance);
            }
            gaps.add(output.weight * queued, (shortest, longest), pace * self.scale, self.queued / steps);
        }
        gaps
    }
}

/// Variance of the average over `span` correlation times, relative to that of a single moment (exponential correlation).
fn averaging(span: f64) -> f64 {
    // Below, the difference of almost equal numbers has no digits left.
    if span < 1e-4 { 1.0 } else { 2.0 * (span + (-span).exp_m1()) / (span * span) }
}
