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
        mapping::{EngineCatalog, Fact, GATEWAY_QUEUE, GATEWAY_REQUESTS, LORA_INFO, Selector},
    },
    interfaces::Quantity,
};

/// Labels that identify an engine instance. The `exported_*` ones stand in where the scrape sets no `namespace` or `pod`.
const GROUPING: &str = "namespace, pod, exported_namespace, exported_pod, model_name, engine, dp_rank, instance";
/// Labels that identify a model.
const MODEL_GROUPING: &str = "namespace, exported_namespace, model_name";
/// Labels that identify a model at a gateway.
const GATEWAY_GROUPING: &str = "namespace, exported_namespace, model_name, target_model_name";
/// Labels that split what one engine instance counts.
const SPLITS: &str = "reason, cache_source, err, http_code";
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
    /// Which engine it is, the size of its KV cache, and adapters.
    Engines,
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
        Self::Engines,
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
            Self::Engines => "engines",
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

    /// The expression for the engines in `catalog`, with peaks and rates over `window`.
    pub fn promql(self, catalog: &EngineCatalog, window: Duration) -> String {
        let step = promql_duration(window.min(SUBQUERY_STEP));
        let window = promql_duration(window);
        let over = |function: &'static str| by_instance(function, &window);
        match self {
            Self::KvCacheUsage => either(catalog, Quantity::KvCacheUsage, over("max_over_time")),
            // The peak of a sum is at most the sum of the peaks: what waits before the queue comes as a part of its own.
            Self::QueueLength => {
                let queued = either(catalog, Quantity::Waiting, over("max_over_time"));
                let before = either(catalog, Quantity::Preallocating, over("max_over_time"));
                format!("{queued} or {}", tagged([(tag(Quantity::Preallocating).to_owned(), before)]))
            }
            Self::Running => either(catalog, Quantity::Running, over("last_over_time")),
            // vLLM labels the reason `finished_reason`, its simulator `finish_reason`.
            Self::RequestRate => either(catalog, Quantity::Finished, |selector| {
                let rate = selector.under(|selector| format!("rate({selector}[{window}])"));
                format!("max by ({GROUPING}, finished_reason, finish_reason) ({rate})")
            }),
            Self::Engines => engines(catalog, &window),
            Self::SampleTime => {
                // `timestamp` tells the scrape time only when applied to a bare selector. The subquery finds series that
                // have just ended, up to one step too early; its metric has the same name in both generations.
                let now = |selector: &Selector| selector.under(|selector| format!("timestamp({selector})"));
                let ended = |selector: &Selector| {
                    selector.under(|selector| format!("max_over_time(timestamp({selector})[{window}:{step}])"))
                };
                let waiting = catalog.selectors(Quantity::Waiting, "");
                let of = [catalog.selectors(Quantity::KvCacheUsage, ""), waiting.clone()].concat();
                let times = of.iter().map(now).chain(waiting.iter().map(ended));
                times.map(|times| format!("max by ({GROUPING}) ({times})")).collect::<Vec<_>>().join(" or ")
            }
            Self::Rates => tagged(rates(catalog, &window)),
            Self::Latencies => tagged(Quantity::HISTOGRAMS.into_iter().flat_map(|quantity| {
                ["_sum", "_count"].into_iter().flat_map(move |part| {
                    let tag = format!("{}{part}", tag(quantity));
                    let selectors = catalog.selectors(quantity, part).into_iter();
                    selectors.map(|selector| (tag.clone(), over("rate")(&selector))).collect::<Vec<_>>()
                })
            })),
            Self::Moments => tagged(moments(catalog, &window)),
            Self::Gateways => tagged(gateways(&window)),
            Self::Lengths => tagged(lengths(catalog)),
        }
    }
}

/// What `of` makes of each generation of a quantity's names, the newest that is there.
fn either(catalog: &EngineCatalog, quantity: Quantity, of: impl Fn(&Selector) -> String) -> String {
    catalog.selectors(quantity, "").iter().map(of).collect::<Vec<_>>().join(" or ")
}

/// `function` over `window`, of an engine instance the greatest.
fn by_instance(function: &str, window: &str) -> impl Fn(&Selector) -> String {
    move |selector| {
        let values = selector.under(|selector| format!("{function}({selector}[{window}])"));
        format!("max by ({GROUPING}) ({values})")
    }
}

/// What [`Query::Rates`] asks for.
const RATES: [Quantity; 9] = [
    Quantity::Arrivals,
    Quantity::PromptTokens,
    Quantity::GenerationTokens,
    Quantity::PrefixQueries,
    Quantity::PrefixHits,
    Quantity::Preemptions,
    Quantity::Rejections,
    Quantity::Aborted,
    Quantity::Failed,
];

/// A quantity's value of the `quantity` label.
pub(super) fn tag(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::KvCacheUsage => "kv_cache_usage",
        Quantity::Waiting => "waiting",
        Quantity::WaitingForCapacity => "waiting_for_capacity",
        Quantity::Preallocating => "preallocating",
        Quantity::Running => "running",
        Quantity::Asleep => "asleep",
        Quantity::KvCacheTokens => "kv_cache_tokens",
        Quantity::KvCacheBlocks => "kv_cache_blocks",
        Quantity::KvCacheBlockSize => "kv_cache_block_size",
        Quantity::Arrivals => "arrivals",
        Quantity::Aborted => "aborted",
        Quantity::Failed => "failed",
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

/// `quantity` label of the change in waiting requests over the window, those before the queue included.
pub(super) const WAITING_CHANGE: &str = "waiting_change";
pub(super) const RUNNING_CHANGE: &str = "running_change";
pub(super) const PREALLOCATING_CHANGE: &str = "preallocating_change";
/// `quantity` labels of the parts of the recent arrival rate.
pub(super) const RECENT_FIRST_TOKENS: &str = "recent_first_tokens";
pub(super) const RECENT_WAITING_CHANGE: &str = "recent_waiting_change";
pub(super) const RECENT_REJECTIONS: &str = "recent_rejections";
pub(super) const RECENT_ARRIVALS: &str = "recent_arrivals";
/// `quantity` label of adapters; other facts are labelled by [`fact_tag`].
pub(super) const ADAPTERS: &str = "adapters";
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

/// `quantity` label of a fact: the engine's place and what it tells.
pub(super) fn fact_tag(engine: usize, quantity: Quantity) -> String {
    format!("{engine}/{}", tag(quantity))
}

fn engines(catalog: &EngineCatalog, window: &str) -> String {
    let mut parts: Vec<_> =
        catalog.facts().into_iter().map(|fact| (fact_tag(fact.engine, fact.quantity), told(&fact, window))).collect();
    // Each list of adapters is a series, whose value tells when it was so; an engine keeps all that it ever had.
    let newest = format!("topk by ({GROUPING}) (1, last_over_time({LORA_INFO}[{window}]))");
    parts.push((ADAPTERS.to_owned(), newest));
    tagged(parts)
}

/// The greatest number of each instance; where a label holds it, every value there is.
fn told(fact: &Fact, window: &str) -> String {
    let values = fact.selector.under(|selector| format!("last_over_time({selector}[{window}])"));
    let label = fact.label.map(|label| format!(", {label}")).unwrap_or_default();
    format!("max by ({GROUPING}{label}) ({values})")
}

fn moments(catalog: &EngineCatalog, window: &str) -> Vec<(String, String)> {
    let recent = promql_duration(RECENT);
    let last = [
        Quantity::KvCacheUsage,
        Quantity::Waiting,
        Quantity::WaitingForCapacity,
        Quantity::Preallocating,
        Quantity::Asleep,
    ];
    let last = last.into_iter().map(|quantity| (tag(quantity), "last_over_time", quantity, window));
    let others = [
        (tag(Quantity::Running), "avg_over_time", Quantity::Running, window),
        (WAITING_CHANGE, "delta", Quantity::Waiting, window),
        (RUNNING_CHANGE, "delta", Quantity::Running, window),
        (PREALLOCATING_CHANGE, "delta", Quantity::Preallocating, window),
        (RECENT_WAITING_CHANGE, "delta", Quantity::Waiting, &recent),
    ];
    let parts = last.chain(others).flat_map(|(tag, function, quantity, window)| {
        let selectors = catalog.selectors(quantity, "").into_iter();
        selectors.map(move |selector| (tag.to_owned(), by_instance(function, window)(&selector)))
    });
    parts.collect()
}

fn rates(catalog: &EngineCatalog, window: &str) -> Vec<(String, String)> {
    let recent = promql_duration(RECENT);
    let over_window = RATES.into_iter().map(|quantity| (tag(quantity), quantity, "", window));
    // Nothing recent where scrapes are too far apart.
    let lately = [
        (RECENT_ARRIVALS, Quantity::Arrivals, "", recent.as_str()),
        (RECENT_FIRST_TOKENS, Quantity::TimeToFirstToken, "_count", &recent),
        (RECENT_REJECTIONS, Quantity::Rejections, "", &recent),
    ];
    let parts = over_window.chain(lately).flat_map(|(tag, quantity, part, window)| {
        let rate = move |selector: Selector| {
            let rate = selector.under(|selector| format!("rate({selector}[{window}])"));
            (tag.to_owned(), format!("sum by ({GROUPING}) (max by ({GROUPING}, {SPLITS}) ({rate}))"))
        };
        catalog.selectors(quantity, part).into_iter().map(rate)
    });
    parts.collect()
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

fn lengths(catalog: &EngineCatalog) -> Vec<(String, String)> {
    let window = promql_duration(LENGTH_WINDOW);
    let mut parts = Vec::new();
    for quantity in [Quantity::PromptLength, Quantity::OutputLength] {
        for part in ["_bucket", "_sum", "_count"] {
            for selector in catalog.selectors(quantity, part) {
                let increase = selector.under(|selector| format!("increase({selector}[{window}])"));
                let sum = format!("sum by ({MODEL_GROUPING}, le) ({increase})");
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

    fn promql(query: Query, window: Duration) -> String {
        query.promql(&EngineCatalog::default(), window)
    }

    #[test]
    fn both_generations_of_the_kv_cache_metric_answer_one_query() {
        let promql = promql(Query::KvCacheUsage, Duration::from_mins(1)).replace(GROUPING, "G");
        assert!(promql.contains("max by (G) (max_over_time({__name__=~\"vllm:kv_cache_usage_perc|"), "{promql}");
        assert!(promql.ends_with(" or max by (G) (max_over_time(vllm:gpu_cache_usage_perc[1m]))"), "{promql}");
    }

    #[test]
    fn no_query_is_too_long_for_a_url() {
        for query in Query::ALL {
            let promql = promql(query, Duration::from_mins(1));
            let length = url::form_urlencoded::byte_serialize(promql.as_bytes()).map(str::len).sum::<usize>();
            assert!(length < 7_500, "{} takes {length} bytes", query.name());
        }
    }

    #[test]
    fn every_range_is_the_peak_window_or_the_recent_one() {
        for query in Query::ALL.into_iter().filter(|query| !query.is_rare()) {
            let promql = promql(query, Duration::from_secs(90));
            let recent = promql.matches("[20s]").count();
            assert_eq!(promql.matches('[').count(), promql.matches("[90s").count() + recent, "{promql}");
            assert!(recent == 0 || matches!(query, Query::Rates | Query::Moments | Query::Gateways), "{promql}");
        }
        assert!(promql(Query::SampleTime, Duration::from_secs(90)).contains("[90s:5s]"));
        assert!(promql(Query::SampleTime, Duration::from_millis(1500)).contains("[1500ms:1500ms]"));
    }
}
