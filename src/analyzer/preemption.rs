//! How often a full replica takes room back from sequences that run.
//!
//! Sequences are admitted up to a watermark of the KV cache, and grow on beyond it. So what is free falls by a token for each
//! that is generated, and rises by prompt and output of whoever completes, once per mean output; then those who wait get in
//! as long as the watermark stays free. Where the room is used up before the next one completes, the newest sequence gives
//! back what it has, and is computed again later. What is free is followed from one completion to the next.

use super::{Lengths, Workload};

/// Bins of the watermark.
const BINS: usize = 16;
/// Bins followed at most; what is longer counts as so long.
const MOST: usize = 600;
/// Completions that are gone through: what is free forgets where it began within a few.
const COMPLETIONS: usize = 60;
/// A watermark of so many mean outputs is never used up.
const AMPLE: f64 = 10.0;
/// A prompt that gives its room back helps for a completion with these odds at least.
const LEAST_HELP: f64 = 1e-3;
/// What is less likely is passed over.
const UNLIKELY: f64 = 1e-9;

/// Preemptions per request at a full replica whose `watermark` is so many tokens.
pub(super) fn preemptions(workload: &Workload, watermark: f64) -> f64 {
    let output = workload.outputs.expected(|tokens| tokens - 1.0);
    if output <= 0.0 || watermark > AMPLE * output {
        return 0.0;
    }
    let unit = (watermark / BINS as f64).max(1.0);
    let prompts = bins(&workload.prompts, unit);
    let freed = sum(&prompts, &bins(&workload.outputs, unit));
    let grows_on = (-unit / output).exp();
    // Who is preempted has little more than its prompt to give back, which may be used up in turn.
    let (left_again, out_again) = grown(&prompts, grows_on);
    let rounds = 1.0 / (1.0 - out_again).max(LEAST_HELP);
    let mut free = vec![0.0; BINS + MOST];
    free[BINS] = 1.0;
    let mut preempted = 0.0;
    for _ in 0..COMPLETIONS {
        let (mut left, out) = grown(&free, grows_on);
        preempted = out * rounds;
        for (left, again) in left.iter_mut().zip(&left_again) {
            *left += preempted * again;
        }
        free = admitted(sum(&left, &freed), &prompts);
    }
    preempted
}

/// What is left of what is free when the next sequence completes, and how likely all was used up before: outputs are taken
/// as exponential, so that each bin is used up with the same odds.
fn grown(free: &[f64], grows_on: f64) -> (Vec<f64>, f64) {
    let mut left = vec![0.0; free.len()];
    let mut passing = 0.0;
    for (left, amount) in left.iter_mut().zip(free).skip(1).rev() {
        passing += amount;
        *left = passing * (1.0 - grows_on);
        passing *= grows_on;
    }
    (left, passing + free[0])
}

/// What is free after those who fit got in, first come, first served.
fn admitted(mut free: Vec<f64>, prompts: &[f64]) -> Vec<f64> {
    let mut left = vec![0.0; BINS + MOST];
    let mut longer = 1.0;
    let longer: Vec<f64> = prompts
        .iter()
        .map(|share| {
            longer -= share;
            f64::max(longer, 0.0)
        })
        .collect();
    for bin in (0..free.len()).rev() {
        let above = bin.checked_sub(BINS);
        let stays = above.map_or(1.0, |above| longer.get(above).copied().unwrap_or(0.0));
        left[bin.min(BINS + MOST - 1)] += free[bin] * stays;
        for (prompt, share) in prompts.iter().enumerate().take(above.map_or(0, |above| above + 1)).skip(1) {
            free[bin - prompt] += free[bin] * share;
        }
    }
    left
}

/// Shares of lengths by bin, at least one.
fn bins(lengths: &Lengths, unit: f64) -> Vec<f64> {
    let mut bins = vec![0.0; 1];
    for value in lengths.values() {
        let position = (value.tokens / unit).clamp(1.0, MOST as f64 - 2.0);
        let below = position as usize;
        bins.resize(bins.len().max(below + 2), 0.0);
        bins[below] += value.weight * (1.0 - position.fract());
        bins[below + 1] += value.weight * position.fract();
    }
    bins
}

/// Distribution of the sum of two numbers of bins.
fn sum(one: &[f64], other: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; one.len() + other.len()];
    for (left, p) in one.iter().enumerate().filter(|(_, p)| **p > UNLIKELY) {
        for (right, q) in other.iter().enumerate() {
            sum[left + right] += p * q;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_outputs_are_beside_the_watermark_the_more_are_preempted() {
        let with = |prompt: f64, output: f64, watermark: f64| {
            let lengths = |mean| Lengths::lognormal(mean, 1.0).unwrap();
            preemptions(&Workload::new(lengths(prompt), lengths(output)), watermark)
        };
        let (short, long, longest) =
            (with(1250.0, 200.0, 3720.0), with(1250.0, 1500.0, 3720.0), with(500.0, 4000.0, 3720.0));
        assert_eq!(short, 0.0);
        assert!(0.02 < long && long < 0.5 && longest > 1.0, "{long} {longest}");
        assert!(with(1250.0, 1500.0, 1860.0) > long, "half of the watermark");
    }
}
