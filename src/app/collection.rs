//! From configuration to metric sources.

use std::sync::Arc;

use anyhow::Context;

use crate::{
    clock::Clock,
    collector::{self, CollectionTracker, CollectorConfig, new_metrics_collector},
    config::{self, BearerToken, Config},
    interfaces::{MetricsCollector, PodDirectory},
};

/// The metric source that the configuration describes.
pub(super) fn collector(
    config: &Config,
    pods: Arc<dyn PodDirectory>,
    clock: Arc<dyn Clock>,
    tracker: &CollectionTracker,
) -> anyhow::Result<Arc<dyn MetricsCollector>> {
    let collector = CollectorConfig {
        backend: match config.collector.backend {
            config::Backend::Prometheus => collector::Backend::Prometheus,
        },
        prometheus: prometheus(config)?,
        fetch_interval: config.collector.fetch_interval,
        cache_ttl: config.collector.cache_ttl,
        cache_capacity: config.collector.cache_max_entries,
        signal_age_limit: config.ages.signal,
    };
    new_metrics_collector(&collector, pods, clock, tracker).context("cannot collect metrics")
}

fn prometheus(config: &Config) -> anyhow::Result<collector::PrometheusConfig> {
    let settings = &config.prometheus;
    let url = settings.url.as_ref().context("prometheus.url is not set; set it to the address of Prometheus")?;
    let mut prometheus = collector::PrometheusConfig::new(url.as_str());
    prometheus.ca_certificate = settings.ca_cert_path.clone();
    if let Some(pair) = &settings.client_certificate {
        prometheus.client_certificate = Some(pair.certificate.clone());
        prometheus.client_key = Some(pair.key.clone());
    }
    match &settings.bearer_token {
        Some(BearerToken::File(path)) => prometheus.bearer_token_file = Some(path.clone()),
        Some(BearerToken::Literal(token)) => {
            prometheus.add_header("authorization", &format!("Bearer {}", token.expose()))?;
        }
        None => {}
    }
    prometheus.server_name = settings.server_name.clone();
    prometheus.insecure_skip_verify = settings.insecure_skip_verify;
    prometheus.query_timeout = settings.query_timeout;
    for (name, value) in &settings.headers {
        prometheus.add_header(name, value.expose())?;
    }
    Ok(prometheus)
}
