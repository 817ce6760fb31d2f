//! What a collector knows of one engine instance.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PerformanceSignals, Signal, VariantKey};

/// The inference server that exports the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EngineKind {
    /// vLLM, either generation of metric names.
    #[default]
    Vllm,
    /// SGLang.
    Sglang,
    /// Hugging Face's Text Generation Inference.
    Tgi,
    /// TensorRT-LLM behind its own server or Dynamo.
    TensorRtLlm,
    /// Triton, with the TensorRT-LLM backend or plain.
    Triton,
    /// One that the configuration describes.
    Custom,
}

/// Signals of one engine instance (a data-parallel rank; most pods hold one).
///
/// KV-cache usage and queue length are one-minute peaks, as the package reference queries them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaMetrics {
    /// Pod that runs the instance.
    pub pod: Arc<str>,
    /// Instance within the pod: the scrape address, with the engine index where one pod holds several.
    pub instance: Arc<str>,
    /// Variant that owns the pod; `None` while the pod is not attributed.
    pub variant: Option<VariantKey>,
    /// Inference server.
    #[serde(default)]
    pub engine: EngineKind,
    /// Peak share of KV-cache blocks in use, a fraction of 1.
    #[serde(default)]
    pub kv_cache_usage: Signal<f64>,
    /// Peak number of requests waiting to be scheduled.
    #[serde(default)]
    pub queue_length: Signal<f64>,
    /// Requests in the batch.
    #[serde(default)]
    pub running: Signal<f64>,
    /// Completed requests per second.
    #[serde(default)]
    pub request_rate: Signal<f64>,
    /// KV-cache capacity in tokens.
    #[serde(default)]
    pub kv_cache_tokens: Signal<f64>,
    /// Rates, latencies and lengths. Shared, because a fleet's are large and only some engines look at them.
    #[serde(default)]
    pub performance: Arc<PerformanceSignals>,
}
