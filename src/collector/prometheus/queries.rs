//! What we ask Prometheus, for all models at once: the number of queries does not depend on their number.
//!
//! Every query groups by [`GROUPING`]. Joining old and new metric names after the aggregation (`new or old`) keeps a
//! server that exports both from being counted twice, and taking the maximum over all other labels does the same for a
//! pod that two scrape jobs or two replicas of Prometheus see.
//!
//! Range functions look back one minute, so a target that fails a scrape (Prometheus then ends its series at once) keeps
//! its last values for that long; their sample time tells how old they are. `max_over_time` and the like return the time
//! of evaluation instead, hence the separate query for it.

use crate::constants::{
    VLLM_CACHE_CONFIG_INFO, VLLM_GPU_CACHE_USAGE_PERC, VLLM_KV_CACHE_USAGE_PERC, VLLM_NUM_REQUESTS_RUNNING,
    VLLM_NUM_REQUESTS_WAITING, VLLM_REQUEST_SUCCESS, VLLM_REQUEST_SUCCESS_TOTAL,
};

/// Labels that identify an engine instance. The `exported_*` ones stand in where the scrape sets no `namespace` or `pod`.
const GROUPING: &str = "namespace, pod, exported_namespace, exported_pod, model_name, engine, instance";

/// One logical query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Peak share of KV-cache blocks in use over one minute.
    KvCacheUsage,
    /// Peak number of waiting requests over one minute.
    QueueLength,
    /// Requests in the batch.
    Running,
    /// Completed requests per second over one minute.
    RequestRate,
    /// Cache geometry, in labels.
    CacheConfig,
    /// When the newest sample was scraped, in seconds since 1970.
    SampleTime,
}

impl Query {
    /// Every query of a fetch.
    pub const ALL: [Self; 6] =
        [Self::KvCacheUsage, Self::QueueLength, Self::Running, Self::RequestRate, Self::CacheConfig, Self::SampleTime];

    /// Its name in messages and in the `query_type` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::KvCacheUsage => "kv_cache_usage",
            Self::QueueLength => "queue_length",
            Self::Running => "running",
            Self::RequestRate => "request_rate",
            Self::CacheConfig => "cache_config",
            Self::SampleTime => "sample_time",
        }
    }

    /// Whether a fetch without its result is worth nothing. The others only add to what the saturation engine needs.
    pub fn is_essential(self) -> bool {
        matches!(self, Self::KvCacheUsage | Self::QueueLength | Self::SampleTime)
    }

    /// The expression, with every series narrowed by `matchers` (`label="value", …`; may be empty).
    pub fn promql(self, matchers: &str) -> String {
        let series = |name: &str| if matchers.is_empty() { name.to_owned() } else { format!("{name}{{{matchers}}}") };
        let peak = |name| format!("max by ({GROUPING}) (max_over_time({}[1m]))", series(name));
        match self {
            Self::KvCacheUsage => [VLLM_KV_CACHE_USAGE_PERC, VLLM_GPU_CACHE_USAGE_PERC].map(peak).join(" or "),
            Self::QueueLength => peak(VLLM_NUM_REQUESTS_WAITING),
            Self::Running => {
                format!("max by ({GROUPING}) (last_over_time({}[1m]))", series(VLLM_NUM_REQUESTS_RUNNING))
            }
            Self::RequestRate => {
                // vLLM labels the reason `finished_reason`, its simulator `finish_reason`.
                let rate_per_reason =
                    |name| format!("max by ({GROUPING}, finished_reason, finish_reason) (rate({}[1m]))", series(name));
                [VLLM_REQUEST_SUCCESS_TOTAL, VLLM_REQUEST_SUCCESS]
                    .map(|name| format!("sum by ({GROUPING}) ({})", rate_per_reason(name)))
                    .join(" or ")
            }
            Self::CacheConfig => format!(
                "max by ({GROUPING}, block_size, num_gpu_blocks) (max_over_time({}[1m]))",
                series(VLLM_CACHE_CONFIG_INFO)
            ),
            Self::SampleTime => {
                // `timestamp` tells the scrape time only when applied to a bare selector. The subquery finds series that
                // have just ended, up to one step too early; its metric has the same name in both generations.
                let latest = |name| format!("timestamp({})", series(name));
                let ended = format!("max_over_time({}[1m:5s])", latest(VLLM_NUM_REQUESTS_WAITING));
                [VLLM_KV_CACHE_USAGE_PERC, VLLM_GPU_CACHE_USAGE_PERC, VLLM_NUM_REQUESTS_WAITING]
                    .map(latest)
                    .into_iter()
                    .chain([ended])
                    .map(|time| format!("max by ({GROUPING}) ({time})"))
                    .collect::<Vec<_>>()
                    .join(" or ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_the_kv_cache_metric_answer_one_query() {
        assert_eq!(
            Query::KvCacheUsage.promql("").replace(GROUPING, "G"),
            "max by (G) (max_over_time(vllm:kv_cache_usage_perc[1m])) \
             or max by (G) (max_over_time(vllm:gpu_cache_usage_perc[1m]))"
        );
    }

    #[test]
    fn label_matchers_narrow_every_series_of_every_query() {
        for query in Query::ALL {
            let promql = query.promql(r#"cluster="eu-1""#);
            let series = promql.matches("vllm:").count();
            assert!(series > 0, "{promql}");
            assert_eq!(promql.matches(r#"{cluster="eu-1"}"#).count(), series, "{promql}");
        }
    }
}
