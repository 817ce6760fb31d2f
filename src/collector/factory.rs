//! From settings to a metric source.

use std::sync::Arc;

use super::{
    Backend, CollectionTracker, CollectorConfig, InvalidCollectorConfig,
    cache::{MemoryCache, NoopCache},
    prometheus::{PrometheusCollector, ReplicaCache},
};
use crate::{
    clock::Clock,
    interfaces::{MetricsCollector, PodDirectory},
};

/// The metric source that `config` describes. It has fetched nothing yet: give it to [`super::background::run`].
///
/// # Errors
/// When a setting cannot work or a file it names cannot be used.
pub fn new_metrics_collector(
    config: &CollectorConfig,
    pods: Arc<dyn PodDirectory>,
    clock: Arc<dyn Clock>,
    tracker: &CollectionTracker,
) -> Result<Arc<dyn MetricsCollector>, InvalidCollectorConfig> {
    let counters = tracker.cache_counters();
    let cache: Arc<ReplicaCache> = match config.cache_capacity {
        0 => Arc::new(NoopCache::new(counters)),
        capacity => Arc::new(MemoryCache::new(capacity, config.retention(), clock.clone(), counters)),
    };
    match config.backend {
        Backend::Prometheus => Ok(Arc::new(PrometheusCollector::new(config, cache, pods, clock, tracker.clone())?)),
    }
}
