//! `wva fleet`: kubelet, scheduler, engines and load.

use std::{path::Path, time::Duration};

use serde_json::json;

use super::{Bed, Process};

/// Evenly spaced requests of one length.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests per second.
    pub rate: f64,
    pub prompt_tokens: u32,
}

impl Load {
    /// Saturates any number of replicas used here: one carries 2 requests per second (L40S) or 6 (H100).
    pub const BUSY: Self = Self { rate: 60.0, prompt_tokens: 8000 };
    /// Saturates one H100 at once.
    pub const BURST: Self = Self { rate: 300.0, prompt_tokens: 500 };
    /// No requests at all.
    pub const IDLE: Self = Self { rate: 0.0, prompt_tokens: 1 };
}

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

    /// Puts `model` in `namespace` under `load` from now on.
    pub async fn load(&self, namespace: &str, model: &str, load: Load) {
        let Load { rate, prompt_tokens } = load;
        let load = json!({ "regular": {
            "steps": [{ "rate": rate }],
            "promptTokens": { "fixed": prompt_tokens },
            "outputTokens": { "fixed": 50 },
        }});
        let load = (rate > 0.0).then_some(load);
        let plan = json!({ "models": [{ "model": model, "namespace": namespace, "load": load }] });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.post(&self.load_url).body(plan.to_string()).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "the load was refused, {status}: {}", answer.text().await.unwrap());
    }
}
