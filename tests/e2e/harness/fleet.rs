//! `wva fleet`: kubelet, scheduler, engines and load.

use std::{path::Path, time::Duration};

use serde_json::json;

use super::{Bed, MODEL, Process};

/// Requests per second that saturate any number of replicas used here. One carries 2 (L40S) or 6 (H100).
pub const BUSY: f64 = 60.0;
/// No requests at all.
pub const IDLE: f64 = 0.0;

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    _process: Process,
    load_url: String,
}

impl Fleet {
    /// Starts it and waits for its nodes.
    pub async fn start(folder: &Path) -> Self {
        let bed = Bed::get();
        let arguments =
            ["fleet", "--control", "127.0.0.1:0", "--nodes", "NVIDIA-L40S=2x8", "--nodes", "NVIDIA-H100-80GB-HBM3=2x8"];
        let mut process = Process::start("fleet", &arguments, &[("KUBECONFIG", &bed.kubeconfig)], folder);
        let limit = Duration::from_secs(30);
        let address = process.printed("control API on ", limit).await;
        process.printed("nodes are registered", limit).await;
        Self { _process: process, load_url: format!("{address}/load") }
    }

    /// From now on `rate` requests per second arrive for the model in `namespace`, evenly spaced: long prompts, so that
    /// a few requests are a load.
    pub async fn load(&self, namespace: &str, rate: f64) {
        let load = json!({ "regular": {
            "steps": [{ "rate": rate }],
            "promptTokens": { "fixed": 8000 },
            "outputTokens": { "fixed": 50 },
        }});
        let load = (rate > 0.0).then_some(load);
        let plan = json!({ "models": [{ "model": MODEL, "namespace": namespace, "load": load }] });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.post(&self.load_url).body(plan.to_string()).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "the load was refused, {status}: {}", answer.text().await.unwrap());
    }
}
