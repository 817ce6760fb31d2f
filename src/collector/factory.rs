//! From settings to metric sources.

use std::{fmt, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    CollectionTracker, CollectorConfig, InvalidCollectorConfig, MergedCollector, background,
    cache::{MemoryCache, NoopCache},
    history::Windows,
    mapping::EngineCatalog,
    prometheus::{PrometheusCollector, ReplicaCache},
    scrape::{GatewayTargets, PodTargets, ScrapeCollector, ScrapeOptions, ScrapeTargets, ScrapedKind},
};
use crate::{
    clock::Clock,
    config::{Backend, BearerToken, GatewaySettings},
    interfaces::{MetricsCollector, PodDirectory},
};

/// The metric sources of a configuration.
#[derive(Debug)]
pub struct Sources {
    /// Reads them all as one.
    pub collector: Arc<MergedCollector>,
    /// Each by itself, to be run.
    pub each: Vec<Source>,
}

/// One metric source that has fetched nothing yet.
pub struct Source {
    /// Which.
    pub backend: Backend,
    kind: Kind,
}

enum Kind {
    /// Fetched as a whole.
    Polled(Arc<dyn MetricsCollector>, Duration, Arc<dyn Clock>),
    /// Many targets, each with its own rhythm.
    Scraped(Arc<ScrapeCollector>, Duration),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Source {
    /// Keeps fetching until `shutdown`; `refreshed` counts the times there were new signals. One source waits for no
    /// other: each has its own task, timeouts and spacing of failures.
    pub fn run(self, shutdown: CancellationToken, refreshed: watch::Sender<u64>) -> BoxFuture<'static, ()> {
        match self.kind {
            Kind::Polled(collector, interval, clock) => {
                background::run(collector, interval, clock, shutdown, refreshed).boxed()
            }
            Kind::Scraped(collector, period) => collector.run(period, shutdown, refreshed).boxed(),
        }
    }
}

/// The metric sources that `config` describes, keeping account in `tracker`.
///
/// # Errors
/// When a setting cannot work or a file it names cannot be used.
pub fn new_metrics_collector(
    config: &CollectorConfig,
    pods: &Arc<dyn PodDirectory>,
    clock: &Arc<dyn Clock>,
    tracker: &CollectionTracker,
) -> Result<Sources, InvalidCollectorConfig> {
    let settings = &config.collector;
    let mut collectors: Vec<Arc<dyn MetricsCollector>> = Vec::new();
    let mut each = Vec::new();
    for backend in settings.backends.iter().copied() {
        let scraped = |targets: Arc<dyn ScrapeTargets>, kind| {
            let collector = ScrapeCollector::new(scrape_options(config), clock.clone(), targets, pods.clone())?;
            Ok::<_, InvalidCollectorConfig>(collector.reading(kind).tracked_by(tracker.clone()))
        };
        let scraper = match backend {
            Backend::Prometheus => {
                let cache = cache(config, clock, tracker);
                let collector: Arc<dyn MetricsCollector> =
                    Arc::new(PrometheusCollector::new(config, cache, pods.clone(), clock.clone(), tracker.clone())?);
                collectors.push(collector.clone());
                let kind = Kind::Polled(collector, settings.fetch_interval, clock.clone());
                each.push(Source { backend, kind });
                continue;
            }
            Backend::Scrape => {
                let targets = PodTargets { pods: pods.clone(), default_port: settings.scrape_port };
                scraped(Arc::new(targets), ScrapedKind::Engines(Arc::new(EngineCatalog::new(&settings.engines))))?
            }
            Backend::Epp => {
                let GatewaySettings { addresses, bearer_token_path, trust } = settings.gateways.clone();
                scraped(Arc::new(GatewayTargets(addresses)), ScrapedKind::Gateways)?
                    .authorized_by(bearer_token_path.map(BearerToken::File))
                    .trusting(trust)?
            }
        };
        let scraper = Arc::new(scraper);
        collectors.push(scraper.clone());
        each.push(Source { backend, kind: Kind::Scraped(scraper, settings.scrape_interval) });
    }
    Ok(Sources { collector: Arc::new(MergedCollector::new(collectors)), each })
}

fn cache(config: &CollectorConfig, clock: &Arc<dyn Clock>, tracker: &CollectionTracker) -> Arc<ReplicaCache> {
    let counters = tracker.cache_counters();
    match config.collector.cache_max_entries {
        0 => Arc::new(NoopCache::new(counters)),
        capacity => Arc::new(MemoryCache::new(capacity, config.retention(), clock.clone(), counters)),
    }
}

fn scrape_options(config: &CollectorConfig) -> ScrapeOptions {
    ScrapeOptions {
        windows: Windows { peak: config.collector.peak_window, ..Windows::default() },
        timeout: config.collector.scrape_timeout,
        signal_age_limit: config.signal_age_limit,
        ..ScrapeOptions::default()
    }
}
