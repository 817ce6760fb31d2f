//! The wait for a seat in the batch or for room in the KV cache.

use statrs::distribution::{Continuous, ContinuousCDF, Gamma};

use super::{
    Workload,
    decode::Population,
    residence::{Measure, variation},
    work::{Bottleneck, Replica},
};

/// Who waits, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SeatWait {
    /// Share of requests that wait.
    pub(super) share: f64,
    /// Mean time that these wait, exponentially distributed.
    pub(super) mean: f64,
}

impl SeatWait {
    /// The wait at `rate` with such a population.
    pub(super) fn new(replica: &Replica, workload: &Workload, rate: f64, population: &Population) -> Self {
        let demand = Demand::new(replica, workload, rate, population);
        let share = match replica.seat_bottleneck() {
            Bottleneck::KvCache => workload.prompts.expected(|prompt| demand.beyond(replica.seats_beside(prompt))),
            Bottleneck::Batch | Bottleneck::TokenBudget => demand.beyond(replica.seats()),
        };
        Self { share: share.min(1.0), mean: mean_wait(replica, workload, rate) }
    }
}

/// Seats that sequences would take if there were as many as they like: gamma distributed, shifted to the right skewness.
struct Demand {
    mean: f64,
    variance: f64,
    gamma: Option<(Gamma, f64, f64)>,
    least: f64,
}

/// Least of skewness and standard deviation, in parts of the mean: below, demand is taken as constant.
const LEAST: f64 = 1e-3;

impl Demand {
    fn new(replica: &Replica, workload: &Workload, rate: f64, population: &Population) -> Self {
        let (measure, unit) = match replica.seat_bottleneck() {
            Bottleneck::KvCache => (Measure::TOKENS, replica.work.context_dispersion()),
            Bottleneck::Batch | Bottleneck::TokenBudget => (Measure::SEQUENCES, 1.0),
        };
        let mean = population.mean;
        let variance = variation(replica, workload, rate, measure) * mean * mean;
        let deviation = variance.sqrt();
        // Of a negative binomial number of units: between Poisson's and gamma's, by how far its variance is above Poisson's.
        let skewness = (2.0 - (unit * mean / variance).min(1.0)) * deviation / mean;
        if !(deviation > LEAST * mean && skewness > LEAST) {
            return Self { mean, variance, gamma: None, least: mean };
        }
        let (shape, scale) = (4.0 / (skewness * skewness), deviation * skewness / 2.0);
        let gamma = Gamma::new(shape, 1.0 / scale).ok().map(|gamma| (gamma, shape, scale));
        Self { mean, variance, gamma, least: mean - shape * scale }
    }

    /// How likely all `seats` are taken.
    ///
    /// Where there is no room, demand queues up instead. It drains as fast there as it falls at the last seat, so that it
    /// is distributed exponentially, from the density at the last seat on. It reaches as far as the density is steep there,
    /// or as far as a diffusion of this variance with the drift towards the mean, whichever is further: the former vanishes
    /// before the replica is saturated where demand is widely distributed. And who would find all seats taken if there were
    /// more finds them taken here, too.
    fn beyond(&self, seats: f64) -> f64 {
        let Some((gamma, shape, scale)) = &self.gamma else { return f64::from(self.mean >= seats) };
        let above = (seats - self.least).max(LEAST * self.mean);
        let steepness = (1.0 / scale - (shape - 1.0) / above).max(LEAST / self.mean);
        let drift = (seats - self.mean).max(LEAST * self.mean);
        let queued = gamma.pdf(above) * (1.0 / steepness).max(self.variance / drift);
        let below = gamma.cdf(above);
        (queued / (below + queued)).max(1.0 - below)
    }
}

/// Mean wait of those who wait.
///
/// A full replica is a single server: it serves one request after the other, in iterations of which each has its part by
/// the room that it takes, for so long. So who waits does so as in M/G/1, `E[S²]/(2·E[S])/(1 − ρ)`, with S what the request
/// takes of the replica's time (`1/E[S]` is the rate of saturation by seats). Room for the prompt that is first in line is
/// freed by those who leave, prompt by prompt.
fn mean_wait(replica: &Replica, workload: &Workload, rate: f64) -> f64 {
    let (mut mean, mut square) = (0.0, 0.0);
    for output in workload.outputs.values() {
        for prompt in workload.prompts.values() {
            let time = replica.time_of_full(prompt.tokens, output.tokens - 1.0);
            let weight = prompt.weight * output.weight;
            mean += weight * time;
            square += weight * time * time;
        }
    }
    let limit = replica.seat_limit();
    square / (2.0 * mean * mean) / (limit - rate).max(1e-9) + replica.room_for_first() / limit
}
