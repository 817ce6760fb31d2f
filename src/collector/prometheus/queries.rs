//! What we ask Prometheus, for all models at once: the number of queries does not depend on their number.
//!
//! Every query groups by [`GROUPING`]. Joining old and new metric names after the aggregation (`new or old`) keeps a
//! server that exports both from being counted twice, and taking the maximum over all other labels does the same for a
//! pod that two scrape jobs or two replicas of Prometheus see.
//!
//! Range functions look back over the peak window, so a target that fails a scrape (Prometheus then ends its series at once) keeps
//! its last values for that long; their sample time tells how old they are. `max_over_time` and the like return the time
//! of evaluation instead, hence the separate query for it.
//!
//! Six queries side by side are cheaper than one that joins them all: 85 ms of Prometheus' time against 190 ms, for 500
//! pods on Prometheus 2.42. What the model-based engines need besides is joined by subject, each part told apart by a
//! `quantity` label. Tails stay out: a fleet's buckets cost thirty times as much. Lengths need buckets, of models and not
//! of pods, and only once a minute.

use std::time::Duration;

use crate::{
    collector::{
        history::RECENT,
        mapping::{GATEWAY_QUEUE, GATEWAY_REQUESTS, selectors},
    },
    constants::VLLM_CACHE_CONFIG_INFO,
    interfaces::Quantity,
};

/// Labels that identify an engine instance. The `exported_*` ones stand in where the scrape sets no `namespace` or `pod`.
const GROUPING: &str = "namespace, pod, exported_namespace, exported_pod, model_name, engine, dp_rank, instance";
/// Labels that identify a model.
const MODEL_GROUPING: &str = "namespace, exported_namespace, model_name";
/// Labels that identify a model at a gateway.
const GATEWAY_GROUPING: &str = "namespace, exported_namespace, model_name, target_model_name";
/// Labels that split what one engine instance counts.
const SPLITS: &str = "reason, cache_source";
/// Lengths are counted over this long.
const LENGTH_WINDOW: Duration = Duration::from_secs(900);

/// One logical query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Peak share of KV-cache blocks in use over the peak window.
    KvCacheUsage,
    /// Peak number of waiting requests over the peak window.
    QueueLength,
    /// Requests in the batch.
    Running,
    /// Completed requests per second over the peak window, by reason.
    RequestRate,
    /// Cache geometry, in labels.
    CacheConfig,
    /// When the newest sample was scraped, in seconds since 1970.
    SampleTime,
    /// Tokens, prefix-cache hits, preemptions and rejections per second.
    Rates,
    /// Sum and count of latencies and lengths, per second.
    Latencies,
    /// Gauges at the newest sample, means and changes.
    Moments,
    /// What gateways hold and receive.
    Gateways,
    /// How long requests are, per model.
    Lengths,
}

impl Query {
    /// Every query of a fetch.
    pub const ALL: [Self; 11] = [
        Self::KvCacheUsage,
        Self::QueueLength,
        Self::Running,
        Self::RequestRate,
        Self::CacheConfig,
        Self::SampleTime,
        Self::Rates,
        Self::Latencies,
        Self::Moments,
        Self::Gateways,
        Self::Lengths,
    ];

    /// Its name in messages and in the `query_type` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::KvCacheUsage => "kv_cache_usage",
            Self::QueueLength => "queue_length",
            Self::Running => "running",
            Self::RequestRate => "request_rate",
            Self::CacheConfig => "cache_config",
            Self::SampleTime => "sample_time",
            Self::Rates => "rates",
            Self::Latencies => "latencies",
            Self::Moments => "moments",
            Self::Gateways => "gateways",
            Self::Lengths => "lengths",
        }
    }

    /// Whether a fetch without its result is worth nothing. The others only add to what the saturation engine needs.
    pub fn is_essential(self) -> bool {
        matches!(self, Self::KvCacheUsage | Self::QueueLength | Self::SampleTime)
    }

    /// Whether its result adds to what the model-based engines need of an engine instance.
    pub fn is_of_performance(self) -> bool {
        matches!(self, Self::Rates | Self::Latencies | Self::Moments | Self::RequestRate)
    }

    /// Whether it is asked once in a while only: it is dear, and what it asks for changes slowly.
    pub fn is_rare(self) -> bool {
        self == Self::Lengths
    }

    /// The expression, with peaks and rates over `window`.
    pub fn promql(self, window: Duration) -> String {
        let step = promql_duration(window.min(SUBQUERY_STEP));
        let window = promql_duration(window);
        let either = |quantity, of: &dyn Fn(&str) -> String| {
            selectors(quantity, "").iter().map(|selector| of(selector)).collect::<Vec<_>>().join(" or ")
        };
        let peak = |selector: &str| format!("max by ({GROUPING}) (max_over_time({selector}[{window}]))");
        match self {
            Self::KvCacheUsage => either(Quantity::KvCacheUsage, &peak),
            Self::QueueLength => either(Quantity::Waiting, &peak),
            Self::Running => either(Quantity::Running, &|selector| {
                format!("max by ({GROUPING}) (last_over_time({selector}[{window}]))")
            }),
            // vLLM labels the reason `finished_reason`, its simulator `finish_reason`.
            Self::RequestRate => either(Quantity::Finished, &|selector| {
                format!("max by ({GROUPING}, finished_reason, finish_reason) (rate({selector}[{window}]))")
            }),
            Self::CacheConfig => format!(
                "max by ({GROUPING}, block_size, num_gpu_blocks) (max_over_time({VLLM_CACHE_CONFIG_INFO}[{window}]))"
            ),
            Self::SampleTime => {
                // `timestamp` tells the scrape time only when applied to a bare selector. The subquery finds series that
                // have just ended, up to one step too early; its metric has the same name in both generations.
                let waiting = selectors(Quantity::Waiting, "").concat();
                let ended = format!("max_over_time(timestamp({waiting})[{window}:{step}])");
                [selectors(Quantity::KvCacheUsage, ""), selectors(Quantity::Waiting, "")]
                    .concat()
                    .iter()
                    .map(|selector| format!("timestamp({selector})"))
                    .chain([ended])
                    .map(|times| format!("max by ({GROUPING}) ({times})"))
                    .collect::<Vec<_>>()
                    .join(" or ")
            }
            Self::Rates => tagged(RATES.into_iter().flat_map(|quantity| {
                let rate = |selector: &String| {
                    format!("sum by ({GROUPING}) (max by ({GROUPING}, {SPLITS}) (rate({selector}[{window}])))")
                };
                selectors(quantity, "")
                    .iter()
                    .map(|selector| (tag(quantity).to_owned(), rate(selector)))
                    .collect::<Vec<_>>()
            })),
            Self::Latencies => tagged(Quantity::HISTOGRAMS.into_iter().flat_map(|quantity| {
                let window = &window;
                ["_sum", "_count"].into_iter().flat_map(move |part| {
                    let rate = move |selector: String| {
                        (
                            format!("{}{part}", tag(quantity)),
                            format!("max by ({GROUPING}) (rate({selector}[{window}]))"),
                        )
                    };
                    selectors(quantity, part).into_iter().map(rate)
                })
            })),
            Self::Moments => tagged(moments(&window)),
            Self::Gateways => tagged(gateways(&window)),
            Self::Lengths => tagged(lengths()),
        }
    }
}

/// What [`Query::Rates`] asks for.
const RATES: [Quantity; 6] = [
    Quantity::PromptTokens,
    Quantity::GenerationTokens,
    Quantity::PrefixQueries,
    Quantity::PrefixHits,
    Quantity::Preemptions,
    Quantity::Rejections,
];

/// A quantity's value of the `quantity` label.
pub(super) fn tag(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::KvCacheUsage => "kv_cache_usage",
        Quantity::Waiting => "waiting",
        Quantity::WaitingForCapacity => "waiting_for_capacity",
        Quantity::Running => "running",
        Quantity::Asleep => "awake",
        Quantity::PromptTokens => "prompt_tokens",
        Quantity::GenerationTokens => "generation_tokens",
        Quantity::PrefixQueries => "prefix_queries",
        Quantity::PrefixHits => "prefix_hits",
        Quantity::Preemptions => "preemptions",
        Quantity::Rejections => "rejections",
        Quantity::TimeToFirstToken => "first_token",
        Quantity::InterTokenLatency => "inter_token",
        Quantity::QueueTime => "queue_time",
        Quantity::PromptLength => "prompt_length",
        Quantity::OutputLength => "output_length",
        _ => "other",
    }
}

/// `quantity` label of the change in waiting requests over the window.
pub(super) const WAITING_CHANGE: &str = "waiting_change";
/// `quantity` labels of the parts of the recent arrival rate.
pub(super) const RECENT_FIRST_TOKENS: &str = "recent_first_tokens";
pub(super) const RECENT_WAITING_CHANGE: &str = "recent_waiting_change";
pub(super) const RECENT_REJECTIONS: &str = "recent_rejections";
/// `quantity` labels of what gateways say.
pub(super) const GATEWAY_HELD: &str = "held";
pub(super) const GATEWAY_RECEIVED: &str = "received";
pub(super) const GATEWAY_RECEIVED_RECENTLY: &str = "received_recently";
pub(super) const GATEWAY_TIME: &str = "sample_time";

/// Joins expressions into one, each with its tag in a label.
fn tagged(parts: impl IntoIterator<Item = (String, String)>) -> String {
    let parts =
        parts.into_iter().map(|(tag, part)| format!("label_replace({part}, \"quantity\", \"{tag}\", \"\", \"\")"));
    parts.collect::<Vec<_>>().join(" or ")
}

fn moments(window: &str) -> Vec<(String, String)> {
    let within = |window: &str, function: &str, selectors: Vec<String>, tag: &str| -> Vec<(String, String)> {
        let of = |selector: String| (tag.to_owned(), format!("max by ({GROUPING}) ({function}({selector}[{window}]))"));
        selectors.into_iter().map(of).collect()
    };
    let over = |function: &str, quantity, tag: &str| within(window, function, selectors(quantity, ""), tag);
    let last = [Quantity::KvCacheUsage, Quantity::Waiting, Quantity::WaitingForCapacity, Quantity::Asleep];
    let mut parts: Vec<_> =
        last.into_iter().flat_map(|quantity| over("last_over_time", quantity, tag(quantity))).collect();
    parts.extend(over("avg_over_time", Quantity::Running, tag(Quantity::Running)));
    parts.extend(over("delta", Quantity::Waiting, WAITING_CHANGE));
    // Nothing where scrapes are too far apart.
    let recent = promql_duration(RECENT);
    for (function, selectors, tag) in [
        ("rate", selectors(Quantity::TimeToFirstToken, "_count"), RECENT_FIRST_TOKENS),
        ("delta", selectors(Quantity::Waiting, ""), RECENT_WAITING_CHANGE),
        ("rate", selectors(Quantity::Rejections, ""), RECENT_REJECTIONS),
    ] {
        parts.extend(within(&recent, function, selectors, tag));
    }
    parts
}

fn gateways(window: &str) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    for name in GATEWAY_QUEUE {
        parts.push((GATEWAY_HELD.to_owned(), format!("sum by ({GATEWAY_GROUPING}) ({name})")));
        parts.push((GATEWAY_TIME.to_owned(), format!("max by ({GATEWAY_GROUPING}) (timestamp({name}))")));
    }
    for name in GATEWAY_REQUESTS {
        let name = format!("{name}_total");
        let recent = promql_duration(RECENT);
        for (tag, window) in [(GATEWAY_RECEIVED, window), (GATEWAY_RECEIVED_RECENTLY, &recent)] {
            parts.push((tag.to_owned(), format!("sum by ({GATEWAY_GROUPING}) (rate({name}[{window}]))")));
        }
        parts.push((GATEWAY_TIME.to_owned(), format!("max by ({GATEWAY_GROUPING}) (timestamp({name}))")));
    }
    parts
}

fn lengths() -> Vec<(String, String)> {
    let window = promql_duration(LENGTH_WINDOW);
    let mut parts = Vec::new();
    for quantity in [Quantity::PromptLength, Quantity::OutputLength] {
        for part in ["_bucket", "_sum", "_count"] {
            for selector in selectors(quantity, part) {
                let sum = format!("sum by ({MODEL_GROUPING}, le) (increase({selector}[{window}]))");
                parts.push((format!("{}{part}", tag(quantity)), sum));
            }
        }
    }
    parts
}

/// How exactly the last sample of a series that has ended is found; each step costs one evaluation.
const SUBQUERY_STEP: Duration = Duration::from_secs(5);

/// `1m`, `90s`, `1500ms`: the largest unit that fits.
fn promql_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "1ms".to_owned(),
        _ if milliseconds.is_multiple_of(60_000) => format!("{}m", milliseconds / 60_000),
        _ if milliseconds.is_multiple_of(1_000) => format!("{}s", milliseconds / 1_000),
        _ => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_the_kv_cache_metric_answer_one_query() {
        let promql = Query::KvCacheUsage.promql(Duration::from_mins(1)).replace(GROUPING, "G");
        assert!(promql.starts_with("max by (G) (max_over_time({__name__=~\"vllm:kv_cache_usage_perc|"), "{promql}");
        assert!(promql.ends_with(" or max by (G) (max_over_time(vllm:gpu_cache_usage_perc[1m]))"), "{promql}");
    }

    #[test]
    fn no_query_is_too_long_for_a_url() {
        for query in Query::ALL {
            let promql = query.promql(Duration::from_mins(1));
            let length = url::form_urlencoded::byte_serialize(promql.as_bytes()).map(str::len).sum::<usize>();
            assert!(length < 7_500, "{} takes {length} bytes", query.name());
        }
    }

    #[test]
    fn every_range_is_the_peak_window_or_the_recent_one() {
        for query in Query::ALL.into_iter().filter(|query| !query.is_rare()) {
            let promql = query.promql(Duration::from_secs(90));
            let recent = promql.matches("[20s]").count();
            assert_eq!(promql.matches('[').count(), promql.matches("[90s").count() + recent, "{promql}");
            assert!(recent == 0 || matches!(query, Query::Moments | Query::Gateways), "{promql}");
        }
        assert!(Query::SampleTime.promql(Duration::from_secs(90)).contains("[90s:5s]"));
        assert!(Query::SampleTime.promql(Duration::from_millis(1500)).contains("[1500ms:1500ms]"));
    }
}
