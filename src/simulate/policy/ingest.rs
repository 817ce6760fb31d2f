//! The scrape history of production, fed by simulated engines: what `wva` and upstream's versions see.

use std::sync::Arc;

use jiff::Timestamp;

use super::ModelSample;
use crate::{
    collector::history::{ScrapeHistory, ScrapeTarget, Windows},
    fleet::{EngineScrape, Exposition},
    interfaces::{GatewayReading, ModelKey, ModelMetrics, ReplicaMetrics, VariantKey},
};

/// What was scraped of one model.
#[derive(Debug)]
pub(super) struct Ingest {
    key: ModelKey,
    history: ScrapeHistory,
    gateway: ScrapeTarget,
}

impl Ingest {
    pub(super) fn new(key: ModelKey) -> Self {
        let gateway = ScrapeTarget::new(key.namespace.clone(), "gateway", "http://gateway/metrics");
        Self { key, history: ScrapeHistory::new(Windows::default()), gateway }
    }

    /// Adds one round of samples. A replica that is gone is forgotten; one whose scrape failed keeps its old samples.
    pub(super) fn record(&mut self, at: Timestamp, model: &ModelSample<'_>) {
        for replica in &model.replicas {
            let pod = format!("{}-{}", model.variant_of(replica), replica.id());
            let scrape = EngineScrape::new(Exposition::default(), &self.key.model_id, replica.engine());
            self.history.record(at, &self.target(&pod), [scrape.reading()]);
        }
        let gateway = GatewayReading {
            model: self.key.model_id.clone(),
            queue: Some(model.gateway_queue() as f64),
            requests: Some(model.arrived() as f64),
        };
        self.history.record_gateway(at, &self.gateway, [gateway]);
        let pods: Vec<Arc<str>> =
            model.ready().map(|replica| format!("{}-{}", model.variant_of(replica), replica.id()).into()).collect();
        let gateway = &self.gateway;
        self.history.retain(at, |target| target == gateway || pods.contains(&target.pod));
    }

    fn target(&self, pod: &str) -> ScrapeTarget {
        ScrapeTarget::new(self.key.namespace.clone(), pod, format!("http://{pod}:8000/metrics"))
    }

    /// Signals of every replica.
    pub(super) fn replicas(&self) -> Vec<ReplicaMetrics> {
        let namespace = self.key.namespace.clone();
        self.history.replica_metrics(&self.key, |target| {
            target.pod.rsplit_once('-').map(|(variant, _)| VariantKey::new(namespace.clone(), variant))
        })
    }

    /// What is known of the model beside its replicas.
    pub(super) fn model(&self) -> ModelMetrics {
        self.history.model_metrics(&self.key)
    }
}
