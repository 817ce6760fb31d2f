//! What a request costs a replica, and what a replica can carry: closed forms, no queue yet.

use std::fmt;

use serde::Serialize;

use super::{QueueError, Workload, error::within, preemption::preemptions};
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

    /// E[c²]/E[c]² of the KV tokens c of a decoding sequence: in how large units they come.
    pub(super) fn context_dispersion(&self) -> f64 {
        1.0 + self.context_variance() / self.context().powi(2)
    }
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
    /// Prompt tokens per request that a full replica computes again, because it ran out of room.
    recomputed: f64,
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
        let watermark = profile.kv_cache_tokens * (1.0 - ADMISSION_SHARE);
        let recomputed = preemptions(workload, watermark) * work.prompt;
        Ok(Self { profile, work, recomputed })
    }

    /// Duration of an iteration with `sequences` decoding and no prompt.
    pub(super) fn decode_iteration(&self, sequences: f64) -> f64 {
        self.profile.base + sequences * self.sequence_time()
    }

    /// What one decoding sequence adds to an iteration.
    pub(super) fn sequence_time(&self) -> f64 {
        self.profile.per_sequence + self.profile.per_kv_token * self.work.context()
    }

    /// Prefill time per second at this rate: the share of the time that prompts take from decoding.
    pub(super) fn prefill_share(&self, rate: f64) -> f64 {
        rate * self.profile.per_prefill_token * self.work.prefill
    }

    /// Mean duration of an iteration at `rate`, if the replica never idled: what arrives in one has to be served in one.
    pub(super) fn mean_iteration(&self, rate: f64) -> f64 {
        self.profile.base / (1.0 - rate * self.time_of_request()).max(1e-6)
    }

    /// What a request adds to iterations, all in all.
    fn time_of_request(&self) -> f64 {
        self.profile.per_prefill_token * self.work.prefill
            + self.profile.per_sequence * self.work.steps
            + self.profile.per_kv_token * self.work.resident
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
        let (starts, _) = self.starts_by_seats();
        let again = self.profile.per_prefill_token * self.recomputed;
        1.0 / (1.0 / self.rate_at(starts) + again)
    }

    /// Highest rate that can be carried at all, and what bounds it.
    ///
    /// With x requests starting (and ending) per iteration, an iteration takes base + x·(work of a request), so the rate
    /// x / iteration rises with x up to the first limit.
    pub(super) fn saturation(&self) -> (f64, Bottleneck) {
        let by_budget = self.starts_by_budget();
        let (by_seats, bottleneck) = self.starts_by_seats();
        if by_budget < by_seats {
            (self.rate_at(by_budget), Bottleneck::TokenBudget)
        } else {
            (self.seat_limit(), bottleneck)
        }
    }

    /// Requests that may start per iteration on average, as the token budget allows.
    pub(super) fn starts_by_budget(&self) -> f64 {
        self.budget() / (self.work.prefill + self.work.steps)
    }

    /// Requests that may start per iteration on average, as batch and KV cache allow.
    fn starts_by_seats(&self) -> (f64, Bottleneck) {
        let by_batch = f64::from(self.profile.max_batch) / self.work.steps.max(1e-9);
        let held = self.work.resident + self.work.prompt_squared / self.budget() + self.work.prompt;
        let by_cache = self.usable_room() / held;
        if by_batch <= by_cache { (by_batch, Bottleneck::Batch) } else { (by_cache, Bottleneck::KvCache) }
    }

    /// KV tokens that sequences are admitted up to.
    fn room(&self) -> f64 {
        self.profile.kv_cache_tokens * ADMISSION_SHARE
    }

    /// What of it is in use when replicas are full: a prompt that does not fit yet leaves half of itself unused.
    fn usable_room(&self) -> f64 {
        (self.room() - self.work.prompt_squared / self.work.prompt / 2.0).max(self.room() / 2.0)
    }

    /// Seats that may be taken where a prompt of so many tokens still gets in.
    pub(super) fn seats_beside(&self, prompt: f64) -> f64 {
        self.seats() * ((self.room() - prompt) / self.usable_room()).max(0.01)
    }

    /// How many mean prompts have to leave before the one that is first in line gets in; none where seats are all alike.
    pub(super) fn room_for_first(&self) -> f64 {
        match self.seat_bottleneck() {
            Bottleneck::KvCache => self.work.prompt_squared / (2.0 * self.work.prompt.powi(2)),
            Bottleneck::Batch | Bottleneck::TokenBudget => 0.0,
        }
    }

    /// What a request takes of the time of a full replica: what it adds to iterations, and a part of what they take
    /// anyway, by the seats or the room that it holds for so many of them.
    pub(super) fn time_of_full(&self, prompt: f64, steps: f64) -> f64 {
        let profile = &self.profile;
        let resident = prompt * steps + steps * (steps - 1.0).max(0.0) / 2.0;
        let part = match self.seat_bottleneck() {
            // A prompt also holds its blocks while it is computed.
            Bottleneck::KvCache => (resident + prompt * prompt / self.budget() + prompt) / self.usable_room(),
            Bottleneck::Batch | Bottleneck::TokenBudget => steps / f64::from(profile.max_batch),
        };
        profile.base * part
            + profile.per_prefill_token * (prompt * self.work.prefill / self.work.prompt + self.recomputed)
            + profile.per_sequence * steps
            + profile.per_kv_token * resident
    }

    fn rate_at(&self, starts: f64) -> f64 {
        starts / (self.profile.base + starts * self.time_of_request())
    }
}
