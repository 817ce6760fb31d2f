//! What an engine instance says of its work beyond saturation: rates, latencies, token lengths, admission.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Signal;

/// Signals of one engine instance that the model-based engines reduce to demand and capacity. Rates are per second over
/// the collector's rate window; means are over the requests of that window, and missing when there were none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PerformanceSignals {
    /// Requests arriving per second, whether served, queued or rejected. An engine without an arrival counter gets it
    /// from first tokens + change in waiting + rejections.
    pub arrival_rate: Signal<f64>,
    /// The same over about the newest 20 seconds, where sampling is dense enough: it shows a surge earlier.
    pub recent_arrival_rate: Signal<f64>,
    /// Share of KV-cache blocks in use at the newest sample (the peak is in `ReplicaMetrics`), a fraction of 1.
    pub kv_cache_usage_now: Signal<f64>,
    /// Requests waiting at the newest sample.
    pub queue_length_now: Signal<f64>,
    /// Of these, the ones that wait for capacity and not for something transient.
    pub waiting_for_capacity: Signal<f64>,
    /// Requests in the batch, averaged over the rate window.
    pub mean_running: Signal<f64>,
    /// Mean prompt length in tokens of the requests that finished.
    pub prompt_tokens: Signal<f64>,
    /// Mean output length in tokens of the requests that finished.
    pub output_tokens: Signal<f64>,
    /// Prompt tokens processed per second.
    pub prompt_token_rate: Signal<f64>,
    /// Tokens generated per second.
    pub generation_token_rate: Signal<f64>,
    /// Time to first token.
    pub time_to_first_token: Signal<Latency>,
    /// Time between two tokens of a request.
    pub inter_token_latency: Signal<Latency>,
    /// Time from arrival to being scheduled, where the engine tells it apart.
    pub queue_time: Signal<Latency>,
    /// Share of prompt tokens found in the prefix cache, a fraction of 1.
    pub prefix_cache_hit_ratio: Signal<f64>,
    /// Requests preempted per second: a KV cache that is full.
    pub preemption_rate: Signal<f64>,
    /// Requests the engine refused per second.
    pub rejection_rate: Signal<f64>,
    /// Finished requests per second by reason.
    pub finished: Signal<FinishedRates>,
    /// 1 while the engine sleeps; a sleeping engine carries nothing.
    pub asleep: Signal<f64>,
    /// `LoRA` adapters with running and with waiting requests.
    pub lora: Signal<LoraAdapters>,
}

/// A latency in seconds over the rate window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Sum over count.
    pub mean: f64,
    /// Observations per second.
    pub rate: f64,
    /// 95th percentile, interpolated in whatever buckets exist; `None` without buckets.
    pub p95: Option<f64>,
    /// 99th percentile, likewise.
    pub p99: Option<f64>,
}

/// Finished requests per second by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FinishedRates {
    /// The model ended it.
    pub stop: f64,
    /// It reached its length limit.
    pub length: f64,
    /// The client went away.
    pub abort: f64,
    /// The engine failed, and all other reasons.
    pub other: f64,
}

/// `LoRA` adapters in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoraAdapters {
    /// With running requests.
    pub running: u32,
    /// With requests that wait for an adapter slot.
    pub waiting: u32,
    /// Slots.
    pub max: u32,
}
