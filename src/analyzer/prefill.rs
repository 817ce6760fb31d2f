//! Prompts that wait to be computed: a bulk-service queue, solved as a Markov chain.
//!
//! An iteration computes up to a budget of prompt tokens, first come, first served, and what arrives meanwhile waits for
//! the next one. So the backlog at the starts of iterations is a Markov chain: `backlog' = max(backlog − budget, 0) +
//! arrivals during the iteration`, where an iteration lasts `base + per_token·min(backlog, budget)` and arrivals are
//! compound Poisson with the real distribution of prompt lengths. It is the state-dependent analogue of M/G/1: with a
//! large budget it is gated service, with a small one it tends to the Pollaczek–Khinchine queue.

use super::Lengths;

/// Bins of the token budget at most: the resolution.
const FINEST: f64 = 12.0;
/// And at least.
const COARSEST: f64 = 3.0;
/// Bins of the backlog, about.
const BACKLOG_BINS: f64 = 250.0;
/// Backlog looked at, in multiples of its decay length.
const DECAY_LENGTHS: f64 = 8.0;
/// Share of prompts that may be longer than the longest size looked at.
const LONGEST: f64 = 1e-4;
/// Arrivals of one iteration are followed until so little is left.
const REST: f64 = 1e-7;
/// What is less likely is passed over.
const UNLIKELY: f64 = 1e-8;
/// A queue that is fuller for a while is taken as full to this share: it could not last.
const FULLEST: f64 = 0.98;

/// How prompts are served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PrefillService {
    /// Duration of an iteration without prompts.
    pub(super) base: f64,
    /// Added per prompt token.
    pub(super) per_token: f64,
    /// Prompt tokens per iteration at most.
    pub(super) budget: f64,
    /// By how much each iteration of a backlog is longer than the one before: the prompts that it computes join those who
    /// decode faster than others leave.
    pub(super) joining: f64,
}

impl PrefillService {
    fn duration(&self, tokens: f64) -> f64 {
        self.base + self.per_token * tokens
    }

    /// Share of its time that it needs for `rate` prompts per second, when each iteration uses the whole budget.
    pub(super) fn load(&self, rate: f64, prompts: &Lengths) -> f64 {
        rate * prompts.mean() * (self.per_token + self.base / self.budget)
    }

    /// Time for a prompt that waits for nobody.
    pub(super) fn alone(&self, tokens: f64) -> f64 {
        (tokens / self.budget).ceil().max(1.0) * self.base + self.per_token * tokens
    }
}

/// The steady state of the queue.
#[derive(Clone, Debug)]
pub(super) struct PrefillQueue {
    service: PrefillService,
    /// Tokens of one bin.
    unit: f64,
    /// Prompts per second.
    rate: f64,
    /// Mean tokens of a prompt.
    prompt: f64,
    /// Bins of the budget.
    bins: usize,
    /// Prompt sizes in bins.
    sizes: Vec<f64>,
    /// Probability of a backlog at the start of an iteration.
    backlog: Vec<f64>,
    /// Arrivals during an iteration that computes this many bins.
    arrivals: Vec<Vec<f64>>,
}

/// What an arrival met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    /// Time to first token.
    pub(super) time: f64,
    /// Part of it from the start of the first iteration that could compute its prompt.
    pub(super) computing: f64,
    /// Prompt tokens of others that waited at that start and still do when its own prompt is done.
    pub(super) left_behind: f64,
    /// How likely that is.
    pub(super) weight: f64,
}

impl PrefillQueue {
    /// The queue with `rate` prompts per second.
    pub(super) fn new(service: PrefillService, rate: f64, prompts: &Lengths) -> Self {
        let load = service.load(rate, prompts);
        let rate = rate * (FULLEST / load).min(1.0);
        let load = load.min(FULLEST);
        let longest = longest(prompts);
        let decay = prompts.expected(|tokens| tokens * tokens) / prompts.mean() / (2.0 * (1.0 - load));
        let reach = longest + DECAY_LENGTHS * decay * load + service.budget;
        let finest = (4.0 * service.budget / prompts.mean()).clamp(COARSEST, FINEST);
        let bins = (service.budget * BACKLOG_BINS / reach).clamp(COARSEST, finest).round();
        let unit = service.budget / bins;
        let sizes = sizes(prompts, unit, longest);
        let states = ((reach / unit) as usize).clamp(bins as usize + 1, 4 * BACKLOG_BINS as usize);
        let arrivals: Vec<Vec<f64>> = (0..=bins as usize)
            .map(|served| compound_poisson(rate * service.duration(served as f64 * unit), &sizes, states))
            .collect();
        let backlog = stationary(&arrivals, states);
        let prompt = prompts.mean();
        Self { service, unit, rate, prompt, bins: bins as usize, sizes, backlog, arrivals }
    }

    /// Duration of an iteration that starts with such a backlog.
    pub(super) fn duration(&self, backlog: usize) -> f64 {
        self.service.duration(backlog.min(self.bins) as f64 * self.unit)
    }

    /// Duration of an iteration that uses the whole budget.
    pub(super) fn longest(&self) -> f64 {
        self.duration(self.bins)
    }

    /// What an iteration that starts with such a backlog leaves of it, and what arrives meanwhile, in bins.
    pub(super) fn after(&self, backlog: usize) -> (usize, &[f64]) {
        (backlog.saturating_sub(self.bins), &self.arrivals[backlog.min(self.bins)])
    }

    /// Adds to a distribution of backlogs one of `tokens`, and of what arrives within `time`: with luck, nothing.
    pub(super) fn add_backlog(&self, distribution: &mut Vec<f64>, tokens: f64, time: f64, weight: f64) {
        distribution.resize(self.backlog.len(), 0.0);
        let nothing = (-self.rate * time).exp();
        let arrived = self.rate * self.prompt * time / (1.0 - nothing).max(1e-9);
        for (tokens, weight) in [(tokens, weight * nothing), (tokens + arrived, weight * (1.0 - nothing))] {
            let position = (tokens / self.unit).min(self.backlog.len() as f64 - 2.0);
            distribution[position as usize] += weight * (1.0 - position.fract());
            distribution[position as usize + 1] += weight * position.fract();
        }
    }

    /// Mean duration of an iteration.
    pub(super) fn mean_duration(&self) -> f64 {
        self.backlog.iter().enumerate().map(|(backlog, p)| p * self.duration(backlog)).sum()
    }

    /// Share of time in iterations that compute no prompt.
    pub(super) fn without_prompts(&self) -> f64 {
        self.backlog[0] * self.duration(0) / self.mean_duration()
    }

    /// Calls `each` for what an arrival at a random time of a never idle replica meets. Of the time in iterations
    /// without prompts only the share `running` counts; in the rest the replica is idle.
    pub(super) fn passages(&self, running: f64, mut each: impl FnMut(Passage)) {
        let mean_duration = self.mean_duration();
        for served in 0..=self.bins {
            let duration = self.duration(served);
            let counted = if served == 0 { running } else { 1.0 };
            let later = mean(&self.arrivals[served]);
            for (waiting, probability) in self.waiting(served).into_iter().enumerate() {
                let weight = counted * probability * duration / mean_duration / MOMENTS.len() as f64;
                if weight < UNLIKELY {
                    continue;
                }
                for residual in MOMENTS {
                    let ahead = if served < self.bins {
                        waiting as f64 * (1.0 - residual)
                    } else {
                        (waiting as f64 - later * residual).max(0.0)
                    };
                    self.own(waiting as f64, ahead, |time, left_behind, share| {
                        if weight * share > UNLIKELY {
                            let (computing, time) = (time, duration * residual + time);
                            each(Passage { time, computing, left_behind, weight: weight * share });
                        }
                    });
                }
            }
        }
    }

    /// Bins of others that wait after an iteration that computes `served` bins, with what arrives in it.
    fn waiting(&self, served: usize) -> Vec<f64> {
        let arrivals = &self.arrivals[served];
        if served < self.bins {
            return arrivals.iter().map(|p| p * self.backlog[served]).collect();
        }
        let mut waiting = vec![0.0; self.backlog.len() + arrivals.len()];
        for (left, p) in self.backlog.iter().skip(self.bins).enumerate().filter(|(_, p)| **p > UNLIKELY) {
            for (arrived, q) in arrivals.iter().enumerate() {
                waiting[left + arrived] += p * q;
            }
        }
        waiting
    }

    /// For each size of the own prompt, with `ahead` bins before it and `waiting` bins of others in all: the time until
    /// it is computed, the tokens left behind, and the share of such prompts.
    fn own(&self, waiting: f64, ahead: f64, mut each: impl FnMut(f64, f64, f64)) {
        let bins = self.bins as f64;
        let full = self.service.duration(self.service.budget);
        for (size, &share) in self.sizes.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let size = size as f64;
            let before = ((ahead + size) / bins).ceil().max(1.0) - 1.0;
            let last = (waiting + size - before * bins).clamp(0.0, bins) * self.unit;
            // The prompts ahead join those who decode. A backlog that is to last for so long has lasted as long on average,
            // so that as many have joined already.
            let others = (ahead / bins).min(before);
            let joined = 2.0 * (before + 1.0) - others / 2.0;
            let time = before * full + self.service.duration(last) + self.service.joining * others * joined;
            let computed = before * self.service.budget + last;
            each(time, ((waiting + size) * self.unit - computed).max(0.0), share);
        }
    }
}

/// Parts of an iteration that are still to come when an arrival is looked at: the points of a Gauss–Legendre rule.
const MOMENTS: [f64; 2] = [0.211_324_865_405_187_1, 0.788_675_134_594_812_9];

fn mean(distribution: &[f64]) -> f64 {
    distribution.iter().enumerate().map(|(n, p)| n as f64 * p).sum()
}

/// The length that all but a negligible share of prompts keep below.
fn longest(prompts: &Lengths) -> f64 {
    let mut above = 0.0;
    let values = prompts.values().iter().rev();
    let mut rest = values.skip_while(|weighted| {
        above += weighted.weight;
        above < LONGEST
    });
    rest.next().map_or(1.0, |weighted| weighted.tokens)
}

/// Prompt lengths in bins; one that falls between two is split so that the mean stays.
fn sizes(prompts: &Lengths, unit: f64, longest: f64) -> Vec<f64> {
    let mut sizes = vec![0.0; (longest / unit).floor() as usize + 2];
    for weighted in prompts.values() {
        let position = weighted.tokens.min(longest) / unit;
        let below = position.floor();
        sizes[below as usize] += weighted.weight * (1.0 - (position - below));
        sizes[below as usize + 1] += weighted.weight * (position - below);
    }
    sizes
}

/// Sum of a Poisson number of sizes (Panjer's recursion), up to `most` bins.
fn compound_poisson(expected: f64, sizes: &[f64], most: usize) -> Vec<f64> {
    let weighted: Vec<(usize, f64)> =
        sizes.iter().enumerate().skip(1).filter(|(_, p)| **p > 0.0).map(|(size, p)| (size, size as f64 * p)).collect();
    let mut probabilities = vec![(-expected * (1.0 - sizes[0])).exp()];
    let mut left = 1.0 - probabilities[0];
    for total in 1..=most {
        if left < REST {
            break;
        }
        let within = weighted.iter().take_while(|(size, _)| *size <= total);
        let sum: f64 = within.map(|(size, weight)| weight * probabilities[total - size]).sum();
        let probability = expected / total as f64 * sum;
        left -= probability;
        probabilities.push(probability);
    }
    if let Some(last) = probabilities.last_mut() {
        *last += left.max(0.0);
    }
    probabilities
}

/// Stationary distribution of the backlog by Grassmann, Taksar and Heyman's elimination, which subtracts nothing and so
/// loses no digits. A backlog falls by at most the budget, which keeps the elimination within a band.
fn stationary(arrivals: &[Vec<f64>], states: usize) -> Vec<f64> {
    let bins = arrivals.len() - 1;
    let mut rows: Vec<Vec<f64>> = (0..states)
        .map(|backlog| {
            let mut row = vec![0.0; states];
            let left = backlog.saturating_sub(bins);
            for (arrived, p) in arrivals[backlog.min(bins)].iter().enumerate() {
                row[(left + arrived).min(states - 1)] += p;
            }
            row
        })
        .collect();
    let mut exits = vec![0.0; states];
    for state in (1..states).rev() {
        let lowest = state.saturating_sub(bins);
        let down: Vec<f64> = rows[state][lowest..state].to_vec();
        let exit: f64 = down.iter().sum();
        exits[state] = exit.max(f64::MIN_POSITIVE);
        for row in &mut rows[..state] {
            let up = row[state] / exits[state];
            if up > 0.0 {
                for (offset, p) in down.iter().enumerate() {
                    row[lowest + offset] += up * p;
                }
            }
        }
    }
    let mut probabilities = vec![0.0; states];
    probabilities[0] = 1.0;
    let mut total = 1.0;
    for state in 1..states {
        let into: f64 = (0..state).map(|from| probabilities[from] * rows[from][state]).sum();
        probabilities[state] = into / exits[state];
        total += probabilities[state];
    }
    for probability in &mut probabilities {
        *probability /= total;
    }
    probabilities
}
