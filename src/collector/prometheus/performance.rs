//! What the model-based engines need of an engine instance, out of the joined queries.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    ingest::{InstanceKey, QueryResults, text},
    queries::{
        PREALLOCATING_CHANGE, Query, RECENT_ARRIVALS, RECENT_FIRST_TOKENS, RECENT_REJECTIONS, RECENT_WAITING_CHANGE,
        RUNNING_CHANGE, WAITING_CHANGE, tag,
    },
    response::{Series, SeriesLabels},
};
use crate::{
    collector::history::{RECENT, absent},
    interfaces::{FinishedRates, Latency, PerformanceSignals, Quantities, Quantity, ReplicaMetrics, Signal},
};

/// Values of one engine instance by their `quantity` label.
#[derive(Debug, Default)]
pub(super) struct Values<'a>(HashMap<&'a str, f64>);

/// Values of every engine instance.
pub(super) fn values(results: &QueryResults) -> HashMap<InstanceKey<'_>, Values<'_>> {
    let joined = [Query::Rates, Query::Latencies, Query::Moments];
    let mut values = HashMap::<_, Values<'_>>::new();
    for Series { labels, value } in joined.iter().filter_map(|query| results.get(query)).flatten() {
        if let (Ok(key), Some(quantity)) = (InstanceKey::of(labels), text(labels.quantity.as_deref()))
            && value.is_finite()
        {
            values.entry(key).or_default().0.insert(quantity, *value);
        }
    }
    values
}

/// Requests that ended per second, by instance and reason.
pub(super) fn finished(results: &QueryResults) -> HashMap<InstanceKey<'_>, FinishedRates> {
    let mut finished = HashMap::<_, FinishedRates>::new();
    for Series { labels, value } in results.get(&Query::RequestRate).into_iter().flatten() {
        let Ok(key) = InstanceKey::of(labels) else { continue };
        if value.is_finite() && *value >= 0.0 {
            *by_reason(finished.entry(key).or_default(), labels) += value;
        }
    }
    finished
}

fn by_reason<'f>(finished: &'f mut FinishedRates, labels: &SeriesLabels) -> &'f mut f64 {
    match text(labels.finished_reason.as_deref()).or(text(labels.finish_reason.as_deref())) {
        None | Some("stop") => &mut finished.stop,
        Some("length") => &mut finished.length,
        Some("abort") => &mut finished.abort,
        Some(_) => &mut finished.other,
    }
}

impl Values<'_> {
    fn get(&self, tag: &str) -> Option<f64> {
        self.0.get(tag).copied()
    }

    fn part(&self, quantity: Quantity, part: &str) -> Option<f64> {
        self.get(&format!("{}{part}", tag(quantity)))
    }

    fn mean(&self, quantity: Quantity) -> Option<f64> {
        let count = self.part(quantity, "_count").filter(|count| *count > 0.0)?;
        Some(self.part(quantity, "_sum")? / count)
    }

    /// Without tails: a fleet's buckets are too dear to ask for.
    fn latency(&self, quantity: Quantity) -> Option<Latency> {
        let mean = self.mean(quantity)?;
        Some(Latency { mean, rate: self.part(quantity, "_count")?, p95: None, p99: None })
    }

    /// Requests that ended per second, with those that an engine counts by families of their own.
    pub(super) fn finished(&self, by_reason: Option<&FinishedRates>) -> Option<FinishedRates> {
        let mut finished = *by_reason?;
        finished.abort += self.get(tag(Quantity::Aborted)).unwrap_or(0.0);
        finished.other += self.get(tag(Quantity::Failed)).unwrap_or(0.0);
        Some(finished)
    }

    /// Requests per second over `window`, by its parts: completions alone hide overload.
    fn arrivals(&self, served: Option<f64>, queued: Option<f64>, rejections: &str, window: Duration) -> Option<f64> {
        let queued = queued? / window.as_secs_f64();
        Some((served? + queued + self.get(rejections).unwrap_or(0.0)).max(0.0))
    }

    /// Of an engine that counts neither arrivals nor first tokens, by what ended and what is in its batch.
    fn arrival_rate(&self, finished: Option<FinishedRates>, window: Duration) -> Option<f64> {
        let of_parts = || {
            let queued = Some(self.get(WAITING_CHANGE)? + self.get(PREALLOCATING_CHANGE).unwrap_or(0.0));
            let (served, queued) = match (self.part(Quantity::TimeToFirstToken, "_count"), finished) {
                (None, Some(FinishedRates { stop, length, abort, other })) => {
                    (Some(stop + length + abort + other), Some(queued? + self.get(RUNNING_CHANGE)?))
                }
                (first_tokens, _) => (first_tokens, queued),
            };
            self.arrivals(served, queued, tag(Quantity::Rejections), window)
        };
        self.get(tag(Quantity::Arrivals)).or_else(of_parts)
    }

    fn recent_arrival_rate(&self) -> Option<f64> {
        let (first_tokens, queued) = (self.get(RECENT_FIRST_TOKENS), self.get(RECENT_WAITING_CHANGE));
        self.get(RECENT_ARRIVALS).or_else(|| self.arrivals(first_tokens, queued, RECENT_REJECTIONS, RECENT))
    }

    /// Requests that wait now, those before the queue included.
    fn waiting(&self) -> Option<f64> {
        Some(self.get(tag(Quantity::Waiting))? + self.get(tag(Quantity::Preallocating)).unwrap_or(0.0))
    }

    fn prefix_cache_hit_ratio(&self) -> Option<f64> {
        let queries = self.get(tag(Quantity::PrefixQueries)).filter(|queries| *queries > 0.0)?;
        Some((self.get(tag(Quantity::PrefixHits))? / queries).min(1.0))
    }

    /// The signals, sampled `at`, with rates over `window`; those that the engine never has are not defined.
    pub(super) fn signals(
        &self,
        finished: Option<FinishedRates>,
        at: Timestamp,
        window: Duration,
        not_defined: Quantities,
    ) -> PerformanceSignals {
        let signal = |quantity, value: Option<f64>| {
            value.map_or_else(|| absent(not_defined, quantity), |value| Signal::from_sample(value, at))
        };
        let of = |quantity| signal(quantity, self.get(tag(quantity)));
        let latency = |quantity| {
            self.latency(quantity).map_or_else(|| absent(not_defined, quantity), |latency| Signal::present(latency, at))
        };
        PerformanceSignals {
            arrival_rate: signal(Quantity::Arrivals, self.arrival_rate(finished, window)),
            recent_arrival_rate: signal(Quantity::Arrivals, self.recent_arrival_rate()),
            kv_cache_usage_now: of(Quantity::KvCacheUsage),
            queue_length_now: signal(Quantity::Waiting, self.waiting()),
            waiting_for_capacity: of(Quantity::WaitingForCapacity),
            mean_running: of(Quantity::Running),
            prompt_tokens: signal(Quantity::PromptLength, self.mean(Quantity::PromptLength)),
            output_tokens: signal(Quantity::OutputLength, self.mean(Quantity::OutputLength)),
            prompt_token_rate: of(Quantity::PromptTokens),
            generation_token_rate: of(Quantity::GenerationTokens),
            time_to_first_token: latency(Quantity::TimeToFirstToken),
            inter_token_latency: latency(Quantity::InterTokenLatency),
            queue_time: latency(Quantity::QueueTime),
            prefix_cache_hit_ratio: signal(Quantity::PrefixHits, self.prefix_cache_hit_ratio()),
            preemption_rate: of(Quantity::Preemptions),
            rejection_rate: of(Quantity::Rejections),
            finished: finished.map_or(Signal::Missing, |finished| Signal::present(finished, at)),
            asleep: of(Quantity::Asleep),
            lora: Signal::Missing,
        }
    }
}

/// Keeps the signals of an earlier fetch, all of one time, where queries with `gaps` left out what that had.
pub(super) fn carry_over(replica: &mut ReplicaMetrics, earlier: &ReplicaMetrics, gaps: &HashSet<Query>) {
    if gaps.iter().any(|query| query.is_of_performance()) && lacks(&replica.performance, &earlier.performance) {
        replica.performance = Arc::clone(&earlier.performance);
    }
}

/// Whether `earlier` has a signal that `now` has not.
fn lacks(now: &PerformanceSignals, earlier: &PerformanceSignals) -> bool {
    fn is_lost<T: PartialEq>(now: &Signal<T>, earlier: &Signal<T>) -> bool {
        *now == Signal::Missing && *earlier != Signal::Missing
    }
    let numbers: [fn(&PerformanceSignals) -> &Signal<f64>; 8] = [
        |signals| &signals.arrival_rate,
        |signals| &signals.recent_arrival_rate,
        |signals| &signals.kv_cache_usage_now,
        |signals| &signals.queue_length_now,
        |signals| &signals.prompt_tokens,
        |signals| &signals.output_tokens,
        |signals| &signals.prompt_token_rate,
        |signals| &signals.generation_token_rate,
    ];
    let latencies: [fn(&PerformanceSignals) -> &Signal<Latency>; 3] =
        [|signals| &signals.time_to_first_token, |signals| &signals.inter_token_latency, |signals| &signals.queue_time];
    numbers.iter().any(|of| is_lost(of(now), of(earlier)))
        || latencies.iter().any(|of| is_lost(of(now), of(earlier)))
        || is_lost(&now.finished, &earlier.finished)
}
