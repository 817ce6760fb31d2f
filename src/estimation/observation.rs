//! What one look at a replica says about its service times.

use serde::{Deserialize, Serialize};

/// Means of one replica over one window, in seconds and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Mean time between tokens.
    pub inter_token_latency: f64,
    /// Mean time from being scheduled to the first token; `None` where queueing cannot be told apart.
    pub first_token_service: Option<f64>,
    /// Sequences that decode, averaged over time.
    pub decoding: f64,
    /// Tokens resident in the KV cache, averaged over time.
    pub kv_tokens: f64,
    /// Prompt tokens computed per second.
    pub prefill_rate: f64,
    /// Mean prompt tokens computed per request.
    pub prompt_tokens: f64,
    /// Most tokens prefilled in one iteration.
    pub max_batched_tokens: f64,
    /// Variance over mean of the sequences at one replica: 1 where requests go anywhere, 0 where all replicas have the same.
    pub dispersion: f64,
    /// How far the load moved within the window, over its mean.
    pub spread: f64,
}

/// Parameters in the order of the filter's state: base, per prefill token, per sequence, per KV token.
pub(super) type Row = [f64; 4];

impl Observation {
    /// Whether every number is usable.
    pub fn is_sound(&self) -> bool {
        let numbers =
            [self.decoding, self.kv_tokens, self.prefill_rate, self.prompt_tokens, self.dispersion, self.spread];
        self.inter_token_latency > 1e-5
            && self.inter_token_latency < 60.0
            && self.decoding > 0.01
            && self.max_batched_tokens >= 1.0
            && numbers.iter().all(|number| number.is_finite() && *number >= 0.0)
            && self.first_token_service.is_none_or(|seconds| seconds.is_finite() && seconds >= 0.0)
    }

    /// Coefficients of the time between tokens. A token sees more company than time does: by the variance of their number
    /// over its mean. With Poisson arrivals that is one sequence more, itself.
    pub(super) fn token_row(&self) -> Row {
        let company = (self.decoding + self.dispersion.min(1.0)).max(1.0);
        let resident = self.kv_tokens * company / self.decoding;
        [1.0, self.met() * self.prefill_rate * self.inter_token_latency, company, resident]
    }

    /// Coefficients of the time from being scheduled to the first token: as many iterations as the prompt has chunks, with
    /// the prompt and what else arrived during the iteration before.
    pub(super) fn first_token_row(&self) -> Row {
        let (chunks, met) = (self.chunks(), self.met());
        let prompts = self.prompt_tokens + self.prefill_rate * self.inter_token_latency;
        [chunks, prompts, chunks * met * self.decoding, chunks * met * self.kv_tokens]
    }

    /// What a request meets where it goes, over what a replica has on average. A router that keeps replicas even sends it
    /// where there is a sequence less than elsewhere.
    fn met(&self) -> f64 {
        1.0 - (1.0 - self.dispersion.min(1.0)) * (1.0 / self.decoding).min(1.0)
    }

    fn chunks(&self) -> f64 {
        let full = self.prompt_tokens / self.max_batched_tokens;
        if full < 0.5 { 1.0 } else { full + 0.5 }
    }
}
