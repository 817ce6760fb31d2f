//! What a request costs a replica, and what a replica can carry: closed forms, no queue yet.

use std::fmt;

use serde::Serialize;

use super::{Lengths, QueueError, Weighted, Workload, error::within};
use crate::interfaces::ServiceProfile;

/// Moments of the work that one request brings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// E[X], prompt tokens that are computed.
    pub(super) prefill: f64,
    /// E[X²].
    pub(super) prefill_squared: f64,
    /// E[D], iterations it decodes in; the first token comes out of the prefill.
    pub(super) steps: f64,
    /// E[D²].
    pub(super) steps_squared: f64,
    /// E[min(D, D')] of two requests.
    steps_in_common: f64,
    /// Resident KV tokens summed over the iterations it decodes in.
    pub(super) resident: f64,
    /// Their squares, likewise summed.
    resident_squared: f64,
    /// Mean prompt length, cached tokens included.
    prompt: f64,
    /// Mean of its square.
    prompt_squared: f64,
}

impl Work {
    pub(super) fn new(workload: &Workload) -> Self {
        let steps = |power: i32| workload.outputs.expected(|tokens| (tokens - 1.0).powi(power));
        let prompt = |power: i32| workload.prompts.expected(|tokens| tokens.powi(power));
        let computed = workload.computed();
        let (d1, d2, d3) = (steps(1), steps(2), steps(3));
        let (x1, x2) = (prompt(1), prompt(2));
        Self {
            prefill: computed.mean(),
            prefill_squared: computed.expected(|tokens| tokens * tokens),
            steps: d1,
            steps_squared: d2,
            steps_in_common: shorter_of_two(&workload.outputs) - 1.0,
            // Σ (X + k) and Σ (X + k)² over k = 0 … D − 1.
            resident: x1 * d1 + (d2 - d1).max(0.0) / 2.0,
            resident_squared: (x2 * d1 + x1 * (d2 - d1) + (2.0 * d3 - 3.0 * d2 + d1) / 6.0).max(0.0),
            prompt: x1,
            prompt_squared: x2,
        }
    }

    /// Mean KV tokens of a decoding sequence; the prompt's where nothing decodes.
    pub(super) fn context(&self) -> f64 {
        if self.steps > 0.0 { self.resident / self.steps } else { self.prompt }
    }

    /// Variance of the KV tokens of a decoding sequence.
    pub(super) fn context_variance(&self) -> f64 {
        if self.steps > 0.0 { (self.resident_squared / self.steps - self.context().powi(2)).max(0.0) } else { 0.0 }
    }

    /// Squared coefficient of variation of the iterations a request decodes in.
    pub(super) fn steps_variation(&self) -> f64 {
        if self.steps > 0.0 { (self.steps_squared / self.steps.powi(2) - 1.0).max(0.0) } else { 0.0 }
    }
}

/// E[min(L, L')] of two lengths.
fn shorter_of_two(lengths: &Lengths) -> f64 {
    let mut longer = 1.0;
    let part = |value: &Weighted| {
        longer -= value.weight;
        // One of them is this long and the other longer, either way round, or both are.
        value.tokens * value.weight * (value.weight + 2.0 * longer)
    };
    lengths.values().iter().map(part).sum()
}

/// What bounds the throughput of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bottleneck {
    /// Tokens computed per iteration (`--max-num-batched-tokens`).
    TokenBudget,
    /// Sequences in the batch (`--max-num-seqs`).
    Batch,
    /// KV-cache tokens.
    KvCache,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenBudget => "token budget",
            Self::Batch => "batch size",
            Self::KvCache => "KV cache",
        })
    }
}

/// Share of the KV cache that sequences are admitted up to (vLLM's watermark).
const ADMISSION_SHARE: f64 = 0.99;

/// A replica that serves such requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Replica {
    pub(super) profile: ServiceProfile,
    pub(super) work: Work,
}

impl Replica {
    pub(super) fn new(profile: ServiceProfile, workload: &Workload) -> Result<Self, QueueError> {
        const TIME: &str = "it must be a number of seconds from 0 to 1000";
        within("profile's base", profile.base, 1e-9, 1e3, "it must be a number of seconds from 1e-9 to 1000")?;
        within("profile's perPrefillToken", profile.per_prefill_token, 0.0, 1e3, TIME)?;
        within("profile's perSequence", profile.per_sequence, 0.0, 1e3, TIME)?;
        within("profile's perKvToken", profile.per_kv_token, 0.0, 1e3, TIME)?;
        let sequences = "it must be a number of sequences from 1 to 100000";
        within("profile's maxBatch", profile.max_batch.into(), 1.0, 1e5, sequences)?;
        let tokens = "it must be a number of tokens from 1 to 1e9";
        within("profile's maxBatchedTokens", profile.max_batched_tokens.into(), 1.0, 1e9, tokens)?;
        let work = Work::new(workload);
        let least = work.context().max(work.prompt) / ADMISSION_SHARE;
        let room = "it must be a number of tokens up to 1e12 and hold at least one mean request";
        within("profile's kvCacheTokens", profile.kv_cache_tokens, least, 1e12, room)?;
        Ok(Self { profile, work })
    }

    /// Duration of an iteration with `sequences` decoding and no prompt.
    pub(super) fn decode_iteration(&self, sequences: f64) -> f64 {
        self.profile.base + sequences * self.sequence_time()
    }

    /// Duration of the longest iteration: all seats taken and the whole budget used.
    pub(super) fn longest_iteration(&self) -> f64 {
        self.decode_iteration(self.seats()) + self.profile.per_prefill_token * self.budget()
    }

    /// What one decoding sequence adds to an iteration.
    pub(super) fn sequence_time(&self) -> f64 {
        self.profile.per_sequence + self.profile.per_kv_token * self.work.context()
    }

    /// Prefill time per second at this rate: the share of the time that prompts take from decoding.
    pub(super) fn prefill_share(&self, rate: f64) -> f64 {
        rate * self.profile.per_prefill_token * self.work.prefill
    }

    /// Variance of the number of sequences over what it would be if prompts did not hold them back; at least 1.
    ///
    /// A prompt of X tokens stops all decoding for `per_token·X`, and as many sequences as would have left meanwhile,
    /// `rate·per_token·X/free`, are there still. So each arrival weighs 1 + that, which fades as the sequences of that time
    /// leave: Campbell's theorem with the tail of D for the own stay and its square for what all share,
    /// ∫ P(D > v)² dv = E[min(D, D')].
    pub(super) fn sway(&self, rate: f64) -> f64 {
        if self.work.steps <= 0.0 {
            return 1.0;
        }
        let per_token = rate * self.profile.per_prefill_token / (1.0 - self.prefill_share(rate)).max(1e-9);
        let held = 2.0 * per_token * self.work.prefill + per_token.powi(2) * self.work.prefill_squared;
        1.0 + held * self.work.steps_in_common / self.work.steps
    }

    /// Tokens computed in one iteration at most. Every sequence of a full batch can decode.
    pub(super) fn budget(&self) -> f64 {
        f64::from(self.profile.max_batched_tokens.max(self.profile.max_batch.saturating_add(1)))
    }

    /// Most sequences that decode at once: seats in the batch, or what the KV cache holds.
    pub(super) fn seats(&self) -> f64 {
        (self.starts_by_seats().0 * self.work.steps).clamp(1.0, self.profile.max_batch.into())
    }

    /// Which of batch and KV cache bounds the seats.
    pub(super) fn seat_bottleneck(&self) -> Bottleneck {
        self.starts_by_seats().1
    }

    /// Highest rate that seats alone allow.
    pub(super) fn seat_limit(&self) -> f64 {
        self.rate_at(self.starts_by_seats().0)
    }

    /// Highest rate that can be carried at all, and what bounds it.
    ///
    /// With x requests starting (and ending) per iteration, an iteration takes base + x·(work of a request), so the rate
    /// x / iteration rises with x up to the first limit.
    pub(super) fn saturation(&self) -> (f64, Bottleneck) {
        let by_budget = self.budget() / (self.work.prefill + self.work.steps);
        let (by_seats, bottleneck) = self.starts_by_seats();
        if by_budget < by_seats {
            (self.rate_at(by_budget), Bottleneck::TokenBudget)
        } else {
            (self.rate_at(by_seats), bottleneck)
        }
    }

    /// Requests that may start per iteration on average, as batch and KV cache allow.
    fn starts_by_seats(&self) -> (f64, Bottleneck) {
        let by_batch = f64::from(self.profile.max_batch) / self.work.steps.max(1e-9);
        // A prompt also holds its blocks while it is computed, and one that does not fit yet leaves room unused.
        let held = self.work.resident + self.work.prompt_squared / self.budget() + self.work.prompt;
        let unused = self.work.prompt_squared / self.work.prompt / 2.0;
        let room = self.profile.kv_cache_tokens * ADMISSION_SHARE;
        let by_cache = (room - unused).max(room / 2.0) / held;
        if by_batch <= by_cache { (by_batch, Bottleneck::Batch) } else { (by_cache, Bottleneck::KvCache) }
    }

    fn rate_at(&self, starts: f64) -> f64 {
        let profile = &self.profile;
        let work = profile.per_prefill_token * self.work.prefill
            + profile.per_sequence * self.work.steps
            + profile.per_kv_token * self.work.resident;
        starts / (profile.base + starts * work)
    }
}
