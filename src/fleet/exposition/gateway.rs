//! A gateway's `/metrics` under the names of the llm-d endpoint picker: what waits before any engine sees it.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Families, render};
use crate::fleet::{pool::Pool, replica::ReplicaState};

/// What the gateway of one namespace exports at one moment. Like a real picker's, its series have no `namespace`: that
/// comes from the scrape.
#[derive(Clone, Debug, Default)]
pub struct GatewayScrape(Vec<PoolScrape>);

#[derive(Clone, Debug)]
struct PoolScrape {
    model_name: String,
    queue: u64,
    ready: u64,
    arrived: u64,
}

impl GatewayScrape {
    /// Adds the values of the pool of `model_name`.
    pub fn add(&mut self, model_name: &str, pool: &Pool) {
        let ready = pool.replicas().iter().filter(|replica| replica.state() == ReplicaState::Ready);
        self.0.push(PoolScrape {
            model_name: model_name.to_owned(),
            queue: pool.gateway_queue() as u64,
            ready: ready.count() as u64,
            arrived: pool.attainment().arrived,
        });
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When the text cannot be built, which formatting into memory does not do.
    pub fn render(self) -> Result<String, fmt::Error> {
        render(self)
    }
}

impl Collector for GatewayScrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families(encoder);
        let queues: Vec<_> = self.0.iter().map(|pool| (flow_labels(pool), pool.queue)).collect();
        let pools: Vec<_> = self.0.iter().map(|pool| ([("name", pool.model_name.as_str())], pool.ready)).collect();
        let models: Vec<_> = self.0.iter().map(|pool| (model_labels(pool), pool.arrived)).collect();
        families.gauge(
            "llm_d_epp_flow_control_queue_size",
            "Current number of requests being actively managed by the EPP flow control layer.",
            &queues.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect::<Vec<_>>(),
        )?;
        families.gauge(
            "llm_d_epp_ready_endpoints",
            "The number of ready endpoints in the inference server pool.",
            &pools.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect::<Vec<_>>(),
        )?;
        families.counter(
            "llm_d_epp_request",
            "Counter of inference requests broken out for each model and target model.",
            &models.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect::<Vec<_>>(),
        )
    }
}

fn flow_labels(pool: &PoolScrape) -> [(&str, &str); 5] {
    let model = pool.model_name.as_str();
    [
        ("fairness_id", "default-flow"),
        ("priority", "0"),
        ("inference_pool", model),
        ("model_name", model),
        ("target_model_name", model),
    ]
}

fn model_labels(pool: &PoolScrape) -> [(&str, &str); 2] {
    [("model_name", &pool.model_name), ("target_model_name", &pool.model_name)]
}
