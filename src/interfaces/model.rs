//! What is known of a model as a whole: its arrivals, what waits before any engine sees it, how long its requests are.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ModelKey, Signal};

/// What metric sources say of one model, beside its replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelMetrics {
    /// Requests held at the gateway (endpoint picker with flow control), before any engine sees them.
    pub gateway_queue: Signal<f64>,
    /// Requests per second that reached the gateway, held or not; the best account of arrivals where it exists.
    pub gateway_arrival_rate: Signal<f64>,
    /// The same over about the newest 20 seconds, where sampling is dense enough.
    pub gateway_recent_arrival_rate: Signal<f64>,
    /// Prompt lengths of recent requests over all replicas; `None` where no source has a histogram.
    pub prompt_lengths: Option<Arc<LengthDistribution>>,
    /// Output lengths, likewise.
    pub output_lengths: Option<Arc<LengthDistribution>>,
}

/// One model of the snapshot and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelObservation {
    /// The model.
    pub model: ModelKey,
    /// Its metrics.
    pub metrics: ModelMetrics,
}

/// Token lengths as a histogram of recent requests: `counts[i]` requests were at most `bounds[i]` and more than
/// `bounds[i - 1]` tokens long; a last count, without a bound, is of the longer ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LengthDistribution {
    /// Upper bounds in tokens, rising.
    pub bounds: Vec<f64>,
    /// Requests per bucket, one more than there are bounds.
    pub counts: Vec<f64>,
    /// Mean length in tokens, from sum and count, which is exact where the buckets are coarse.
    pub mean: f64,
}

impl LengthDistribution {
    /// Requests counted.
    pub fn total(&self) -> f64 {
        self.counts.iter().sum()
    }
}
