//! How much running sequences hold, and how much that varies.
//!
//! Counted in iterations, sequences excite themselves (a Hawkes process): the longer an iteration, the more requests arrive
//! in it, and those make later iterations longer. An iteration without any lets `rate·base` requests arrive. A sequence with
//! prompt X that decodes in D iterations lets `rate·per_prefill_token·X` more arrive while it is computed, and
//! `rate·(per_sequence + per_kv_token·(X + s))` in iteration s of its stay.
//!
//! So with F(s) what a sequence, and all that it lets arrive, hold after s iterations, what all hold together has the
//! variance `starts per iteration · ∑ E[F(s)²]` (Campbell's theorem for what such a process adds of its own). F follows from
//! its mean, which solves a renewal equation.

use super::{Lengths, Workload, work::Replica};

/// What is counted: `per_sequence` for each sequence and `per_token` for each of its resident tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measure {
    pub(super) per_sequence: f64,
    pub(super) per_token: f64,
}

impl Measure {
    pub(super) const SEQUENCES: Self = Self { per_sequence: 1.0, per_token: 0.0 };
    pub(super) const TOKENS: Self = Self { per_sequence: 0.0, per_token: 1.0 };
}

/// Cells that time is divided into.
const CELLS: usize = 300;
/// Mean remaining stays, at the pace at which load fades, that are looked at.
const REACH: f64 = 4.0;
/// Cells per mean remaining stay at least.
const FINEST: f64 = 10.0;

/// Squared coefficient of variation of what running sequences hold.
pub(super) fn variation(replica: &Replica, workload: &Workload, rate: f64, measure: Measure) -> f64 {
    let excitation = Excitation::new(replica, workload, rate);
    let held = excitation.held(measure);
    let response = excitation.response(&held);
    let squares: f64 = (0..CELLS).map(|cell| excitation.square(cell, &response, measure)).sum();
    let mean = excitation.starts * held.iter().sum::<f64>() * excitation.width;
    if mean > 0.0 { excitation.starts * squares * excitation.width / (mean * mean) } else { 0.0 }
}

/// What lets requests arrive.
struct Excitation<'a> {
    outputs: &'a Lengths,
    /// Mean prompt, and mean of its square.
    prompt: f64,
    prompt_squared: f64,
    /// Arrivals per prompt token while it is computed, those in the cache counted as nothing.
    by_prompt: f64,
    /// Arrivals per iteration and sequence.
    by_sequence: f64,
    /// Arrivals per iteration and resident token.
    by_token: f64,
    /// Sequences that start per iteration.
    starts: f64,
    /// Width of a cell in iterations.
    width: f64,
    /// Share of sequences that still decode, by cell.
    alive: Vec<f64>,
}

impl<'a> Excitation<'a> {
    fn new(replica: &Replica, workload: &'a Workload, rate: f64) -> Self {
        let (profile, work, outputs) = (&replica.profile, &replica.work, &workload.outputs);
        let remaining = work.steps_squared / work.steps;
        let calm = (profile.base / replica.mean_iteration(rate)).max(0.02);
        let longest = outputs.values().last().map_or(1.0, |weighted| weighted.tokens);
        let reach = (REACH * remaining / calm).max(longest);
        let width = (reach / CELLS as f64).min(remaining / FINEST);
        let mut values = outputs.values().iter().rev().peekable();
        let mut share = 0.0;
        let mut alive: Vec<f64> = (0..CELLS)
            .rev()
            .map(|cell| {
                while let Some(value) = values.next_if(|value| value.tokens - 1.0 > middle(cell, width)) {
                    share += value.weight;
                }
                share
            })
            .collect();
        alive.reverse();
        Self {
            outputs,
            prompt: workload.prompts.mean(),
            prompt_squared: workload.prompts.expected(|tokens| tokens * tokens),
            by_prompt: rate * profile.per_prefill_token * work.prefill / workload.prompts.mean(),
            by_sequence: rate * profile.per_sequence,
            by_token: rate * profile.per_kv_token,
            starts: rate * replica.mean_iteration(rate),
            width,
            alive,
        }
    }

    /// What a sequence holds itself on average, by cell.
    fn held(&self, measure: Measure) -> Vec<f64> {
        let context = |cell| self.prompt + middle(cell, self.width);
        (0..CELLS).map(|cell| (measure.per_sequence + measure.per_token * context(cell)) * self.alive[cell]).collect()
    }

    /// The same with all that it lets arrive: the mean of F.
    fn response(&self, held: &[f64]) -> Vec<f64> {
        let kernel = |cell: usize| {
            let per_iteration = self.by_sequence + self.by_token * (self.prompt + middle(cell, self.width));
            per_iteration * self.alive[cell] * self.width
        };
        let kernel: Vec<f64> = (0..CELLS).map(kernel).collect();
        let mut response: Vec<f64> = Vec::with_capacity(CELLS);
        // What an arrival excites in its own cell is half of that cell's.
        let own = (1.0 - self.by_prompt * self.prompt - kernel[0] / 2.0).max(1e-3);
        for cell in 0..CELLS {
            let earlier: f64 =
                kernel[1..].iter().zip(between(&response)).map(|(kernel, response)| kernel * response).sum();
            let newest = if cell > 0 { kernel[0] / 2.0 * response[cell - 1] } else { 0.0 };
            response.push((held[cell] + earlier + newest) / own);
        }
        response
    }

    /// E[F²] in a cell.
    fn square(&self, cell: usize, response: &[f64], measure: Measure) -> f64 {
        let since = middle(cell, self.width);
        // ∫ F̄(cell − u) du and ∫ u·F̄(cell − u) du, up to each cell.
        let (mut sums, mut sum, mut moment) = (Vec::with_capacity(cell + 1), 0.0, 0.0);
        sums.push((sum, moment));
        for (back, response) in between(&response[..=cell]).enumerate() {
            sum += response * self.width;
            moment += response * self.width * middle(back, self.width);
            sums.push((sum, moment));
        }
        let at_once = self.by_prompt * response[cell];
        self.outputs.expected(|tokens| {
            let steps = tokens - 1.0;
            let alive = f64::from(steps > since);
            let (sum, moment) = sums[((steps / self.width) as usize).min(cell)];
            // F is linear in the prompt.
            let slope = alive * measure.per_token + self.by_token * sum + at_once;
            let rest = alive * (measure.per_sequence + measure.per_token * since)
                + self.by_sequence * sum
                + self.by_token * moment;
            slope * slope * self.prompt_squared + 2.0 * slope * rest * self.prompt + rest * rest
        })
    }
}

/// Iterations at the middle of a cell.
fn middle(cell: usize, width: f64) -> f64 {
    (cell as f64 + 0.5) * width
}

/// Values halfway between neighbours, the last first.
fn between(values: &[f64]) -> impl Iterator<Item = f64> {
    values.windows(2).rev().map(|pair| f64::midpoint(pair[0], pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::ServiceProfile;

    fn replica(per_token: f64, workload: &Workload) -> Replica {
        let profile = ServiceProfile {
            base: 7e-3,
            per_prefill_token: 19e-6 * per_token,
            per_sequence: 6.3e-6 * per_token,
            per_kv_token: 41.3e-9 * per_token,
            kv_cache_tokens: 372_000.0,
            max_batch: 256,
            max_batched_tokens: 2048,
        };
        Replica::new(profile, workload).unwrap()
    }

    #[test]
    fn sequences_that_cost_nothing_are_poisson_and_costs_make_them_vary_more() {
        let workload =
            Workload::new(Lengths::lognormal(1250.0, 1.1).unwrap(), Lengths::lognormal(1524.0, 1.1).unwrap());
        let over_poisson = |per_token: f64, rate: f64| {
            let replica = replica(per_token, &workload);
            let mean = rate * replica.mean_iteration(rate) * replica.work.steps;
            let sequences = variation(&replica, &workload, rate, Measure::SEQUENCES) * mean;
            let tokens = variation(&replica, &workload, rate, Measure::TOKENS) * mean;
            (sequences, tokens / replica.work.context_dispersion())
        };
        let (sequences, tokens) = over_poisson(0.0, 3.0);
        assert!((sequences - 1.0).abs() < 0.02 && (tokens - 1.0).abs() < 0.02, "{sequences} {tokens}");
        let (light, heavy) = (over_poisson(1.0, 0.3).0, over_poisson(1.0, 3.0).0);
        assert!(1.0 < light && light < 1.5 && heavy > 2.0, "{light} {heavy}");
    }
}
