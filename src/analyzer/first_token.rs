//! Time to first token: wait for a seat, for prompts ahead, and the own prompt.

use super::{
    Lengths,
    decode::Population,
    latency::Histogram,
    prefill::{Passage, PrefillQueue, PrefillService},
    work::{Bottleneck, Replica},
};

/// The prefill of requests that have a seat.
#[derive(Clone, Debug)]
pub(super) struct Prefill {
    /// Time from getting a seat to the first token.
    times: Histogram,
    /// The same where nobody else waits.
    alone: Histogram,
    /// Tokens of prompts that wait when one's own is done: mean and variance.
    pub(super) left_behind: f64,
    pub(super) left_behind_variance: f64,
    /// Mean tokens of prompts waiting at the start of an iteration.
    pub(super) backlog: f64,
    /// By how many tokens an iteration reduces a backlog on average.
    pub(super) drain: f64,
}

/// Three points and weights with the first moments of a normal distribution (Gauss–Hermite), in standard deviations: the
/// population changes slowly, so the prefill queue is solved for few, normal and many decoding sequences.
const POPULATIONS: [(f64, f64); 3] = [(-SQRT_3, 1.0 / 6.0), (0.0, 2.0 / 3.0), (SQRT_3, 1.0 / 6.0)];
const SQRT_3: f64 = 1.732_050_807_568_877_2;
/// A backlog drains at least by this share of the budget per iteration.
const LEAST_DRAIN: f64 = 0.02;

impl Prefill {
    /// The prefill at `rate` with such a population of decoding sequences.
    pub(super) fn new(replica: &Replica, prompts: &Lengths, rate: f64, population: &Population) -> Self {
        let mut prefill = Self {
            times: Histogram::new(),
            alone: Histogram::new(),
            left_behind: 0.0,
            left_behind_variance: 0.0,
            backlog: 0.0,
            drain: 0.0,
        };
        for (deviations, share) in POPULATIONS {
            let sequences = population.mean + deviations * population.variance.sqrt();
            let sequences = sequences.clamp(0.0, replica.seats());
            prefill.add(replica, prompts, rate, sequences, population.empty, share);
        }
        prefill.left_behind_variance = (prefill.left_behind_variance - prefill.left_behind.powi(2)).max(0.0);
        prefill
    }

    fn add(&mut self, replica: &Replica, prompts: &Lengths, rate: f64, sequences: f64, empty: f64, share: f64) {
        let service = PrefillService {
            base: replica.decode_iteration(sequences),
            per_token: replica.profile.per_prefill_token,
            budget: replica.budget() - sequences,
        };
        let idle_service = PrefillService { base: replica.profile.base, budget: replica.budget(), ..service };
        let queue = PrefillQueue::new(service, rate, prompts);
        queue.passages(1.0 - empty, |passage| self.record(passage, share));
        let idle = empty * queue.without_prompts();
        for prompt in prompts.values() {
            self.alone.add(service.alone(prompt.tokens), share * prompt.weight);
            let time = idle_service.alone(prompt.tokens);
            let left_behind = rate * prompts.mean() * time;
            self.record(Passage { time, left_behind, weight: idle * prompt.weight }, share);
        }
        self.backlog += share * queue.mean_backlog();
        self.drain += share * service.budget * (1.0 - service.load(rate, prompts)).max(LEAST_DRAIN);
    }

    fn record(&mut self, passage: Passage, share: f64) {
        let weight = passage.weight * share;
        self.times.add(passage.time, weight);
        self.left_behind += passage.left_behind * weight;
        self.left_behind_variance += passage.left_behind.powi(2) * weight;
    }

    /// Time to first token. Who waits for a seat finds few prompts waiting afterwards, because nobody got in meanwhile.
    pub(super) fn first_token(&self, wait: &SeatWait) -> Histogram {
        if wait.share < 1e-6 { self.times.clone() } else { self.times.delayed(wait.share, wait.mean, &self.alone) }
    }
}

/// The wait for a seat in the batch or room in the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SeatWait {
    /// Share of requests that wait.
    pub(super) share: f64,
    /// Mean time that these wait, exponentially distributed.
    pub(super) mean: f64,
}

/// Sizes and noise of sequences as groups that come and go together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Groups {
    /// Room that a sequence takes varies: as if so many came at once (1 for seats, which are all alike).
    pub(super) size: f64,
    /// The same with what prompts that hold the others back add.
    pub(super) arrivals: f64,
}

impl Groups {
    /// The groups at a `utilization`, where the number of sequences varies `sway` times as much as one by one.
    pub(super) fn new(replica: &Replica, utilization: f64, sway: f64) -> Self {
        let work = &replica.work;
        let size = match replica.seat_bottleneck() {
            Bottleneck::KvCache => 1.0 + work.context_variance() / work.context().powi(2),
            Bottleneck::Batch | Bottleneck::TokenBudget => 1.0,
        };
        // When seats are short, prompts wait outside and no longer disturb who decodes.
        let common = (sway - 1.0) * (1.0 - utilization).max(0.0);
        // More than all seats at once there cannot be.
        let most = replica.seats();
        Self { size: size.min(most), arrivals: (size * (1.0 + common)).min(most) }
    }
}

impl SeatWait {
    /// The wait where groups find all seats taken a `full` share of the time.
    pub(super) fn new(replica: &Replica, rate: f64, groups: &Groups, full: f64) -> Self {
        // M/G/c: the variance of service times enters as half of 1 + cv² (Lee and Longton).
        let variance = f64::midpoint(1.0, replica.work.steps_variation());
        Self { share: full, mean: groups.size * variance / (replica.seat_limit() - rate).max(1e-9) }
    }
}
