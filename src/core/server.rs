//! Inference servers and their load.

use serde::{Deserialize, Serialize};

use super::Allocation;

/// What serves one model to one service class, on whatever accelerators.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// The model it serves.
    pub model: String,
    /// Its service class; [`super::DEFAULT_SERVICE_CLASS`] where absent.
    #[serde(default)]
    pub class: Option<String>,
    /// Whether it may only run on the accelerators that it runs on now.
    #[serde(default)]
    pub keep_accelerator: bool,
    /// Least replicas, over all accelerators.
    #[serde(default)]
    pub min_replicas: u32,
    /// Most replicas on one accelerator; `None` is unbounded.
    #[serde(default)]
    pub max_replicas: Option<u32>,
    /// What arrives.
    #[serde(default)]
    pub load: Load,
    /// What it has now.
    #[serde(default)]
    pub current: Vec<Allocation>,
}

impl Server {
    /// A server of `model` without load.
    pub fn new(name: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: model.into(),
            class: None,
            keep_accelerator: false,
            min_replicas: 0,
            max_replicas: None,
            load: Load::default(),
            current: Vec::new(),
        }
    }

    /// The same under `load`.
    #[must_use]
    pub fn with_load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    /// The same in the service class `class`.
    #[must_use]
    pub fn with_class(mut self, class: impl Into<String>) -> Self {
        self.class = Some(class.into());
        self
    }

    /// The same with replicas on an accelerator.
    #[must_use]
    pub fn with_current(mut self, allocation: Allocation) -> Self {
        self.current.push(allocation);
        self
    }

    /// Replicas that it has on `accelerator`.
    pub fn replicas_on(&self, accelerator: &str) -> u32 {
        let on = self.current.iter().filter(|allocation| allocation.accelerator == accelerator);
        on.fold(0, |sum, allocation| sum.saturating_add(allocation.replicas))
    }
}

/// What arrives at a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Load {
    /// Requests per second.
    pub arrival_rate: f64,
    /// Mean prompt length in tokens.
    pub mean_input_tokens: f64,
    /// Mean output length in tokens.
    pub mean_output_tokens: f64,
}

impl Load {
    /// Requests of unknown length.
    pub fn requests_per_second(arrival_rate: f64) -> Self {
        Self { arrival_rate, ..Self::default() }
    }
}
