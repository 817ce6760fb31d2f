//! What requests are owed, and what is known of the hardware beforehand.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Targets of a service class for one model. Without any target the SLO engine has nothing to aim at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceObjective {
    /// Name of the service class.
    pub class: Arc<str>,
    /// Importance: 1 is the highest, 100 the lowest (upstream's order).
    pub priority: u32,
    /// Greatest time to first token, in seconds.
    pub time_to_first_token: Option<f64>,
    /// Greatest mean time between tokens of one request, in seconds.
    pub inter_token_latency: Option<f64>,
    /// Least tokens per second that one replica is run at.
    pub tokens_per_second: Option<f64>,
    /// Share of requests that must meet all targets, a fraction of 1.
    pub target_share: f64,
}

/// Service times of one engine instance of a model on an accelerator:
/// `iteration = base + per_prefill_token · prefill tokens + per_sequence · decoding sequences + per_kv_token · resident
/// KV tokens`, all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProfile {
    /// Fixed time of an iteration.
    pub base: f64,
    /// Per prompt token prefilled in it.
    pub per_prefill_token: f64,
    /// Per sequence that decodes in it.
    pub per_sequence: f64,
    /// Per token resident in the KV cache.
    pub per_kv_token: f64,
    /// KV-cache capacity in tokens.
    pub kv_cache_tokens: f64,
    /// Most sequences in the batch.
    pub max_batch: u32,
    /// Most tokens prefilled in one iteration.
    pub max_batched_tokens: u32,
}
