//! What collection costs and how it fails: per query and for the cache, as a structure and as metrics.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use serde::{Serialize, Serializer};

use super::cache::CacheCounters;
use crate::{clock::Clock, interfaces::age};

/// Bounds of query durations in seconds, from a lookup in memory to the default timeout.
const DURATION_BOUNDS: [f64; 11] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Keeps account of queries and cache. Clones share the account.
#[derive(Clone, Debug)]
pub struct CollectionTracker {
    shared: Arc<Shared>,
}

/// What became of one logical query so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryStatistics {
    /// Times it was asked, failures included.
    pub count: u64,
    /// Times it failed.
    pub errors: u64,
    /// Time it took in total; in seconds where it is written down.
    #[serde(rename = "totalSeconds", serialize_with = "in_seconds")]
    pub total_duration: Duration,
    /// Series in its last result.
    pub series: usize,
    /// Why it failed last; `None` since it succeeded.
    pub last_error: Option<String>,
}

impl CollectionTracker {
    /// An empty account; `clock` tells the age of the cached values.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            shared: Arc::new(Shared {
                statistics: Mutex::default(),
                duration: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
                errors: Family::default(),
                series: Family::default(),
                unattributable: Gauge::default(),
                cache: CacheCounters::default(),
                last_success: Mutex::default(),
                clock,
            }),
        }
    }

    /// Publishes the account in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let shared = &*self.shared;
        registry.register(
            "wva_metrics_collection_duration_seconds",
            "Duration of queries for engine signals, retries included",
            shared.duration.clone(),
        );
        registry.register(
            "wva_metrics_collection_errors",
            "Queries for engine signals that failed after all retries",
            shared.errors.clone(),
        );
        registry.register(
            "wva_metrics_collection_series",
            "Series in the last result of a query for engine signals",
            shared.series.clone(),
        );
        registry.register(
            "wva_metrics_collection_unattributable_instances",
            "Engine instances whose series lack a label needed to attribute them",
            shared.unattributable.clone(),
        );
        registry.register("wva_metrics_cache_hits", "Reads answered from the cache", shared.cache.hits.clone());
        registry.register("wva_metrics_cache_misses", "Reads the cache could not answer", shared.cache.misses.clone());
        registry.register(
            "wva_metrics_cache_evictions",
            "Entries pushed out of the cache for lack of room",
            shared.cache.evictions.clone(),
        );
        registry.register_collector(Box::new(CacheAge(self.clone())));
    }

    /// What became of each query, by its name.
    pub fn statistics(&self) -> BTreeMap<&'static str, QueryStatistics> {
        self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long ago the last successful fetch of each source ended; without those that had none.
    pub fn cache_ages(&self) -> BTreeMap<&'static str, Duration> {
        let now = self.shared.clock.now();
        let last_success = self.shared.last_success.lock().unwrap_or_else(PoisonError::into_inner);
        last_success.iter().map(|(source, at)| (*source, age(now, *at))).collect()
    }

    /// The counters for the cache to count in.
    pub fn cache_counters(&self) -> CacheCounters {
        self.shared.cache.clone()
    }

    /// A query returned `series` series after `duration`.
    pub(crate) fn query_succeeded(&self, query: &'static str, duration: Duration, series: usize) {
        self.shared.series.get_or_create(&QueryLabels { query_type: query }).set(gauge(series));
        self.record(query, duration, |statistics| {
            statistics.series = series;
            statistics.last_error = None;
        });
    }

    /// A query failed after `duration`; `reason` is one word of a small set.
    pub(crate) fn query_failed(&self, query: &'static str, duration: Duration, reason: &'static str, error: String) {
        self.shared.errors.get_or_create(&ErrorLabels { query_type: query, reason }).inc();
        self.record(query, duration, |statistics| {
            statistics.errors += 1;
            statistics.last_error = Some(error);
        });
    }

    /// A fetch of `source` ended well at `at`.
    pub(super) fn fetched(&self, source: &'static str, at: Timestamp) {
        self.shared.last_success.lock().unwrap_or_else(PoisonError::into_inner).insert(source, at);
    }

    /// The last fetch had this many instances that could not be attributed.
    pub(super) fn unattributable(&self, instances: usize) {
        self.shared.unattributable.set(gauge(instances));
    }

    fn record(&self, query: &'static str, duration: Duration, outcome: impl FnOnce(&mut QueryStatistics)) {
        self.shared.duration.get_or_create(&QueryLabels { query_type: query }).observe(duration.as_secs_f64());
        let mut all = self.shared.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let statistics = all.entry(query).or_default();
        statistics.count += 1;
        statistics.total_duration += duration;
        outcome(statistics);
    }
}

fn in_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[derive(Debug)]
struct Shared {
    statistics: Mutex<BTreeMap<&'static str, QueryStatistics>>,
    duration: Family<QueryLabels, Histogram, fn() -> Histogram>,
    errors: Family<ErrorLabels, Counter>,
    series: Family<QueryLabels, Gauge>,
    unattributable: Gauge,
    cache: CacheCounters,
    last_success: Mutex<BTreeMap<&'static str, Timestamp>>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    query_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    query_type: &'static str,
    reason: &'static str,
}

/// Computes the age when it is read.
#[derive(Debug)]
struct CacheAge(CollectionTracker);

impl Collector for CacheAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ages = self.0.cache_ages();
        if ages.is_empty() {
            return Ok(());
        }
        let help = "Time since the last successful fetch of engine signals, by source";
        let mut family = encoder.encode_descriptor("wva_metrics_cache_age_seconds", help, None, MetricType::Gauge)?;
        for (source, age) in ages {
            ConstGauge::new(age.as_secs_f64()).encode(family.encode_family(&[("source", source)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SimulatedClock, telemetry::MetricsRegistry};

    #[test]
    fn statistics_keep_count_duration_series_and_the_last_error() {
        let tracker = CollectionTracker::new(Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH)));
        tracker.query_succeeded("running", Duration::from_millis(10), 7);
        tracker.query_failed("running", Duration::from_millis(30), "timeout", "no answer".into());
        let expected = QueryStatistics {
            count: 2,
            errors: 1,
            total_duration: Duration::from_millis(40),
            series: 7,
            last_error: Some("no answer".into()),
        };
        assert_eq!(tracker.statistics()["running"], expected);
        tracker.query_succeeded("running", Duration::ZERO, 7);
        assert_eq!(tracker.statistics()["running"].last_error, None, "an error is over once the query succeeds");
    }

    #[test]
    fn the_account_is_published_under_the_documented_names() {
        let clock = Arc::new(SimulatedClock::new(Timestamp::UNIX_EPOCH));
        let tracker = CollectionTracker::new(clock.clone());
        let mut registry = MetricsRegistry::new();
        tracker.register(registry.registry_mut());
        assert!(!registry.encode().unwrap().contains("wva_metrics_cache_age_seconds"), "nothing fetched has no age");

        tracker.query_succeeded("running", Duration::from_millis(10), 7);
        tracker.query_failed("running", Duration::from_millis(30), "timeout", "no answer".into());
        tracker.fetched("prometheus", clock.now());
        tracker.unattributable(3);
        tracker.cache_counters().hits.inc();
        clock.advance(Duration::from_secs(1));
        tracker.fetched("scrape", clock.now());
        clock.advance(Duration::from_secs(2));

        let text = registry.encode().unwrap();
        for line in [
            r#"wva_metrics_collection_duration_seconds_count{query_type="running"} 2"#,
            r#"wva_metrics_collection_errors_total{query_type="running",reason="timeout"} 1"#,
            r#"wva_metrics_collection_series{query_type="running"} 7"#,
            "wva_metrics_collection_unattributable_instances 3",
            "wva_metrics_cache_hits_total 1",
            "wva_metrics_cache_misses_total 0",
            r#"wva_metrics_cache_age_seconds{source="prometheus"} 3.0"#,
            r#"wva_metrics_cache_age_seconds{source="scrape"} 2.0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
