//! How long the next iterations take together, given the prompts that wait.

use super::prefill::PrefillQueue;

/// Iterations that are gone through at most; what follows is taken to go on like the last of them.
const MOST: usize = 400;
/// And with so many multiplications: where it takes more, so much arrives in one iteration that few are enough.
const MOST_WORK: usize = 100_000_000;
/// So many iterations in a row must be like those before.
const CALM: usize = 8;
/// And by so little their mean duration may differ from that in the long run,
const SETTLED_MEAN: f64 = 2e-3;
/// and by so little their growth of variance.
const SETTLED_VARIANCE: f64 = 5e-3;
/// What is less likely is passed over.
const UNLIKELY: f64 = 1e-10;

/// Time that a number of iterations takes.
#[derive(Clone, Debug)]
pub(super) struct Iterations {
    /// Mean and variance of the first 0, 1, … iterations.
    sums: Vec<(f64, f64)>,
    /// Mean duration in the long run.
    pub(super) pace: f64,
    /// Duration without prompts.
    pub(super) shortest: f64,
    /// Duration when the budget is used up.
    pub(super) longest: f64,
}

/// Probability of each backlog, and with it the first two moments of the time so far.
type Moments = [Vec<f64>; 3];

impl Iterations {
    /// The next iterations, at most `most` of them, from such a backlog at the start of the first.
    pub(super) fn new(queue: &PrefillQueue, backlog: &[f64], most: f64) -> Self {
        let total: f64 = backlog.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let none = vec![0.0; backlog.len()];
        let mut moments = [backlog.iter().map(|p| p / total).collect(), none.clone(), none];
        let pace = queue.mean_duration();
        let mut sums: Vec<(f64, f64)> = vec![(0.0, 0.0)];
        let work = 3 * backlog.len() * queue.after(usize::MAX).1.len();
        let affordable = (MOST_WORK / work.max(1)).clamp(2 * CALM, MOST);
        let (mut calm, mut growth) = (0, 0.0);
        while sums.len() <= affordable.min(most as usize + 1) && calm < CALM {
            moments = next(queue, moments);
            let sum: f64 = moments[1].iter().sum();
            let variance = (moments[2].iter().sum::<f64>() - sum * sum).max(0.0);
            let (before, variance_before) = sums[sums.len() - 1];
            let settled = ((sum - before) / pace - 1.0).abs() < SETTLED_MEAN
                && (variance - variance_before - growth).abs() <= SETTLED_VARIANCE * growth;
            calm = if settled { calm + 1 } else { 0 };
            growth = variance - variance_before;
            sums.push((sum, variance));
        }
        Self { sums, pace, shortest: queue.duration(0), longest: queue.longest() }
    }

    /// Mean and variance of the time that so many iterations take.
    pub(super) fn time(&self, iterations: f64) -> (f64, f64) {
        let last = self.sums.len() - 1;
        let below = (iterations as usize).min(last);
        let (mean, variance) = self.sums[below];
        if below == last {
            let growth = (variance - self.sums[last / 2].1) / (last - last / 2).max(1) as f64;
            let more = iterations - last as f64;
            return (mean + more * self.pace, variance + more * growth);
        }
        let (next_mean, next_variance) = self.sums[below + 1];
        let part = iterations - below as f64;
        (mean + part * (next_mean - mean), variance + part * (next_variance - variance))
    }
}

fn next(queue: &PrefillQueue, [probabilities, mut times, mut squares]: Moments) -> Moments {
    for (state, probability) in probabilities.iter().enumerate() {
        let duration = queue.duration(state);
        squares[state] += duration * (2.0 * times[state] + duration * probability);
        times[state] += duration * probability;
    }
    [probabilities, times, squares].map(|from| {
        let mut to = vec![0.0; from.len()];
        for (state, &amount) in from.iter().enumerate().filter(|(_, amount)| **amount > UNLIKELY) {
            let (left, arrivals) = queue.after(state);
            let (within, beyond) = arrivals.split_at(arrivals.len().min(to.len() - left));
            for (to, p) in to[left..].iter_mut().zip(within) {
                *to += amount * p;
            }
            if let Some(last) = to.last_mut() {
                *last += amount * beyond.iter().sum::<f64>();
            }
        }
        to
    })
}
