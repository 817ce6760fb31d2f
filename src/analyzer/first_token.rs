//! Time to first token: wait for a seat, for prompts ahead, and the own prompt.

use super::{
    Lengths,
    decode::Population,
    iterations::Iterations,
    latency::Histogram,
    prefill::{Passage, PrefillQueue, PrefillService},
    seats::SeatWait,
    work::Replica,
};

/// Three points and weights with the first moments of a normal distribution (Gauss–Hermite), in standard deviations: what
/// changes slowly is looked at when there is little, as usual, and much of it.
pub(super) const SLOWLY: [(f64, f64); 3] = [(0.0, 2.0 / 3.0), (-SQRT_3, 1.0 / 6.0), (SQRT_3, 1.0 / 6.0)];
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// The prefill of requests that have a seat.
#[derive(Clone, Debug)]
pub(super) struct Prefill {
    /// Time from getting a seat to the first token.
    times: Histogram,
    /// The same where nobody else waits.
    alone: Histogram,
}

/// The queue of prompts beside so many decoding sequences.
struct Beside<'a> {
    replica: &'a Replica,
    prompts: &'a Lengths,
    queue: PrefillQueue,
    service: PrefillService,
    /// Probability that nobody decodes.
    empty: f64,
}

impl Prefill {
    /// The prefill at `rate` with such a population of decoding sequences, which changes slowly.
    pub(super) fn new(replica: &Replica, prompts: &Lengths, rate: f64, population: &Population) -> Self {
        let mut prefill = Self { times: Histogram::new(), alone: Histogram::new() };
        for (deviations, share) in SLOWLY {
            let sequences = population.mean + deviations * population.variance.sqrt();
            let beside = Beside::new(replica, prompts, rate, sequences, population.empty);
            beside.passages(|passage| prefill.times.add(passage.time, share * passage.weight));
            for prompt in prompts.values() {
                prefill.alone.add(beside.service.alone(prompt.tokens), share * prompt.weight);
            }
        }
        prefill
    }

    /// Time to first token. Who waits for a seat finds few prompts waiting afterwards, because nobody got in meanwhile.
    pub(super) fn first_token(&self, wait: &SeatWait) -> Histogram {
        if wait.share < 1e-6 { self.times.clone() } else { self.times.delayed(wait.share, wait.mean, &self.alone) }
    }
}

/// The iterations after a request's first token, at most `most` of them, beside the usual number of sequences.
pub(super) fn iterations_after(
    replica: &Replica,
    prompts: &Lengths,
    rate: f64,
    population: &Population,
    most: f64,
) -> Iterations {
    let beside = Beside::new(replica, prompts, rate, population.mean, population.empty);
    let mut backlog = Vec::new();
    beside.passages(|passage| {
        beside.queue.add_backlog(&mut backlog, passage.left_behind, passage.computing, passage.weight);
    });
    Iterations::new(&beside.queue, &backlog, most)
}

impl<'a> Beside<'a> {
    fn new(replica: &'a Replica, prompts: &'a Lengths, rate: f64, sequences: f64, empty: f64) -> Self {
        let sequences = sequences.clamp(0.0, replica.seats());
        let budget = replica.budget() - sequences;
        let leaving = if replica.work.steps > 0.0 { sequences / replica.work.steps } else { f64::INFINITY };
        let service = PrefillService {
            base: replica.decode_iteration(sequences),
            per_token: replica.profile.per_prefill_token,
            budget,
            joining: replica.sequence_time() * (budget / prompts.mean() - leaving).max(0.0),
        };
        Self { replica, prompts, queue: PrefillQueue::new(service, rate, prompts), service, empty }
    }

    /// What arrivals meet, those at an idle replica included.
    fn passages(&self, mut each: impl FnMut(Passage)) {
        self.queue.passages(1.0 - self.empty, &mut each);
        let idle = self.empty * self.queue.without_prompts();
        let service = PrefillService { base: self.replica.profile.base, budget: self.replica.budget(), ..self.service };
        for prompt in self.prompts.values() {
            let time = service.alone(prompt.tokens);
            each(Passage { time, computing: time, left_behind: 0.0, weight: idle * prompt.weight });
        }
    }
}
