//! How much of a replica a request takes, from the profile and the request itself: what no policy but the clairvoyant may
//! know. It also tells when demand rose, which the decision lag is counted from.
//!
//! In a batch of n sequences with a mean context c, an iteration takes T(n) = α + n·(`β_d` + γ·c + `β_p`·p/o), where
//! every sequence brings its share p/o of prompt tokens. The largest n with T(n) within the inter-token objective, the sequence
//! limit and the KV cache gives the rate n/(o·T(n)) that one replica carries on average.

use crate::fleet::{Objective, Profile, Request};

/// Share of one replica's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizing {
    iteration: f64,
    prefill: f64,
    decode: f64,
    kv: f64,
    kv_tokens: f64,
    max_sequences: f64,
    itl: f64,
}

impl Sizing {
    pub(super) fn new(profile: &Profile, objective: &Objective) -> Self {
        Self {
            iteration: profile.iteration_ms / 1e3,
            prefill: profile.prefill_ms_per_token / 1e3,
            decode: profile.decode_ms_per_sequence / 1e3,
            kv: profile.kv_ms_per_token / 1e3,
            kv_tokens: f64::from(profile.kv_tokens) * 0.99,
            max_sequences: f64::from(profile.max_num_seqs),
            itl: objective.tpot.as_secs_f64(),
        }
    }

    /// Seconds of one replica that `request` takes at the largest batch within the objective.
    pub(super) fn seconds(&self, request: &Request) -> f64 {
        let prompt = f64::from(request.prompt_tokens.saturating_sub(request.cached_tokens).max(1));
        let output = f64::from(request.output_tokens);
        let context = f64::from(request.prompt_tokens) + output / 2.0;
        let per_sequence = self.decode + self.kv * context + self.prefill * prompt / output;
        let by_latency = ((self.itl - self.iteration) / per_sequence).max(1.0);
        let batch = by_latency.min(self.kv_tokens / context).min(self.max_sequences).max(1.0);
        output * (self.iteration + batch * per_sequence) / batch
    }

    /// Seconds of one replica that `request` takes at the very least, whatever else is in the batch.
    pub(super) fn least_seconds(&self, request: &Request) -> f64 {
        let prompt = f64::from(request.prompt_tokens.saturating_sub(request.cached_tokens).max(1));
        let decoded = f64::from(request.output_tokens) - 1.0;
        let context = f64::from(request.prompt_tokens) + f64::from(request.output_tokens) / 2.0;
        // Every iteration's α is shared by at most so many sequences, and by no more than fit into the KV cache.
        let share = (1.0 / self.max_sequences).max(context / self.kv_tokens);
        self.prefill * prompt + decoded * (self.decode + self.kv * context) + decoded * self.iteration * share.min(1.0)
    }
}
