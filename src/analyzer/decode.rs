//! How many sequences decode at once.

use super::{
    Workload,
    residence::{Measure, variation},
    work::Replica,
};

/// Sequences in the batch in the steady state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Population {
    /// Probability that nobody decodes.
    pub(super) empty: f64,
    /// Mean number decoding, over time.
    pub(super) mean: f64,
    /// Its variance.
    pub(super) variance: f64,
    /// Mean duration of the iterations that a sequence decodes in.
    pub(super) pace: f64,
}

impl Population {
    /// The population at `rate`, below the rate of saturation.
    pub(super) fn new(replica: &Replica, workload: &Workload, rate: f64) -> Self {
        let work = &replica.work;
        if work.steps <= 0.0 || rate <= 0.0 {
            return Self { empty: 1.0, ..Self::default() };
        }
        let iteration = replica.mean_iteration(rate);
        let mean = rate * iteration * work.steps;
        let variance = variation(replica, workload, rate, Measure::SEQUENCES) * mean * mean;
        // Prompts get in no faster than the token budget lets them, and sequences no more than there are seats: what
        // stays between bounds varies by (greatest − mean)·(mean − least) at most (Bhatia and Davis).
        let crowd = replica.starts_by_budget() * work.steps;
        let variance =
            variance.min(mean * (1.0 + (crowd - mean).max(0.0))).min(mean * (replica.seats() - mean).max(0.0));
        // Sequences decode where there are many of them, and that is where iterations are long: by n·T(n) over n.
        let more = replica.sequence_time() * variance / mean;
        Self { empty: empty(replica, rate), mean, variance, pace: iteration + more }.lasting(1.0 + more / iteration)
    }

    /// The same where sequences stay `longer` times as long, so that there are so many more, with the same variation.
    #[must_use]
    pub(super) fn lasting(self, longer: f64) -> Self {
        Self { mean: self.mean * longer, variance: self.variance * longer * longer, ..self }
    }
}

/// Probability that nobody decodes: all sequences advance alike (processor sharing), so that their number is a birth–death
/// chain with rates `rate` and `n·free/(steps·iteration(n))`, whatever the distribution of lengths: negative binomial.
fn empty(replica: &Replica, rate: f64) -> f64 {
    let offered = rate * replica.work.steps / (1.0 - replica.prefill_share(rate)).max(1e-9);
    let excited = (offered * replica.sequence_time()).min(1.0 - 1e-9);
    if excited < 1e-9 {
        return (-offered * replica.profile.base).exp();
    }
    ((replica.profile.base / replica.sequence_time() + 1.0) * (-excited).ln_1p()).exp()
}
