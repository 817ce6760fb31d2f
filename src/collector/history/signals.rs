//! From totals at two moments to rates, latencies and means.

use jiff::Timestamp;

use super::totals::{Increase, Totals};
use crate::interfaces::{
    EngineKind, EngineReading, FinishedRates, Latency, LoraAdapters, PerformanceSignals, Quantities, Quantity, Signal,
    age,
};

/// What happened between two moments.
#[derive(Debug)]
pub(super) struct Interval<'a> {
    seconds: f64,
    before: &'a Totals,
    after: &'a Totals,
}

impl<'a> Interval<'a> {
    /// `None` when no time passed.
    pub(super) fn new(since: Timestamp, until: Timestamp, before: &'a Totals, after: &'a Totals) -> Option<Self> {
        let seconds = age(until, since).as_secs_f64();
        (seconds > 0.0).then_some(Self { seconds, before, after })
    }

    /// Requests that ended per second, however they ended.
    pub(super) fn completions(&self) -> Option<f64> {
        let ways = [Quantity::Finished, Quantity::FinishedByLength, Quantity::Aborted, Quantity::Failed];
        ways.into_iter().filter_map(|way| self.rate(way)).reduce(|sum, rate| sum + rate)
    }

    fn rate(&self, quantity: Quantity) -> Option<f64> {
        Some(self.after.increase(self.before, quantity)? / self.seconds)
    }

    fn histogram(&self, quantity: Quantity) -> Option<Increase<'_>> {
        self.after.histogram_increase(self.before, quantity)
    }

    fn arrival_rate(&self) -> Option<f64> {
        Some(self.after.arrivals(self.before)? / self.seconds)
    }

    /// Mean over the observations; where an engine has no histogram, tokens over completed requests.
    fn mean(&self, quantity: Quantity, tokens: Quantity) -> Option<f64> {
        let (sum, count) = match self.histogram(quantity) {
            Some(histogram) => (histogram.sum(), histogram.count()),
            None => (self.rate(tokens)?, self.completions()?),
        };
        (count > 0.0).then(|| sum / count)
    }

    /// A counter's rate; where an engine has none, that of the sum of a histogram.
    fn rate_or_sum(&self, counter: Quantity, histogram: Quantity) -> Option<f64> {
        self.rate(counter).or_else(|| Some(self.histogram(histogram)?.sum() / self.seconds))
    }

    fn latency(&self, quantity: Quantity) -> Option<Latency> {
        latency(self.histogram(quantity)?, self.seconds)
    }

    fn prefix_cache_hit_ratio(&self) -> Option<f64> {
        let queries = self.rate(Quantity::PrefixQueries).filter(|queries| *queries > 0.0)?;
        Some((self.rate(Quantity::PrefixHits)? / queries).min(1.0))
    }

    fn finished(&self) -> Option<FinishedRates> {
        self.completions()?;
        let rate = |quantity| self.rate(quantity).unwrap_or(0.0);
        Some(FinishedRates {
            stop: rate(Quantity::Finished),
            length: rate(Quantity::FinishedByLength),
            abort: rate(Quantity::Aborted),
            other: rate(Quantity::Failed),
        })
    }
}

/// A value of `reading` as a signal: without a value it is not defined where this engine never has it, else missing.
pub(super) fn signal(reading: &EngineReading, quantity: Quantity, value: Option<f64>, at: Timestamp) -> Signal<f64> {
    value.map_or_else(|| absent(reading.not_defined, quantity), |value| Signal::from_sample(value, at))
}

/// The signal of a quantity without a value.
pub(in crate::collector) fn absent<T>(not_defined: Quantities, quantity: Quantity) -> Signal<T> {
    if not_defined.contains(quantity) { Signal::NotDefined } else { Signal::Missing }
}

/// Adapters as a signal: vLLM alone tells of them, and only where it serves any.
pub(in crate::collector) fn adapters(
    engine: EngineKind,
    told: Option<LoraAdapters>,
    at: Timestamp,
) -> Signal<LoraAdapters> {
    match (told, engine) {
        (Some(adapters), _) => Signal::present(adapters, at),
        (None, EngineKind::Vllm) => Signal::Missing,
        (None, _) => Signal::NotDefined,
    }
}

/// The signals of one engine instance, whose newest reading was taken `at`, over `interval` and its `recent` part.
pub(super) fn performance(
    reading: &EngineReading,
    at: Timestamp,
    interval: Option<&Interval<'_>>,
    recent: Option<&Interval<'_>>,
    mean_running: Option<f64>,
) -> PerformanceSignals {
    let now = |quantity| signal(reading, quantity, reading.value(quantity), at);
    let over =
        |quantity, of: &dyn Fn(&Interval<'_>) -> Option<f64>| signal(reading, quantity, interval.and_then(of), at);
    let latency = |quantity| {
        let latency = interval.and_then(|interval| interval.latency(quantity));
        latency.map_or_else(|| absent(reading.not_defined, quantity), |latency| Signal::present(latency, at))
    };
    PerformanceSignals {
        arrival_rate: over(Quantity::Arrivals, &|interval| interval.arrival_rate()),
        recent_arrival_rate: signal(reading, Quantity::Arrivals, recent.and_then(Interval::arrival_rate), at),
        kv_cache_usage_now: now(Quantity::KvCacheUsage),
        queue_length_now: now(Quantity::Waiting),
        waiting_for_capacity: now(Quantity::WaitingForCapacity),
        mean_running: signal(reading, Quantity::Running, mean_running, at),
        prompt_tokens: over(Quantity::PromptLength, &|i| i.mean(Quantity::PromptLength, Quantity::PromptTokens)),
        output_tokens: over(Quantity::OutputLength, &|i| i.mean(Quantity::OutputLength, Quantity::GenerationTokens)),
        prompt_token_rate: over(Quantity::PromptTokens, &|i| {
            i.rate_or_sum(Quantity::PromptTokens, Quantity::PromptLength)
        }),
        generation_token_rate: over(Quantity::GenerationTokens, &|i| {
            i.rate_or_sum(Quantity::GenerationTokens, Quantity::OutputLength)
        }),
        time_to_first_token: latency(Quantity::TimeToFirstToken),
        inter_token_latency: latency(Quantity::InterTokenLatency),
        queue_time: latency(Quantity::QueueTime),
        prefix_cache_hit_ratio: over(Quantity::PrefixHits, &|interval| interval.prefix_cache_hit_ratio()),
        preemption_rate: over(Quantity::Preemptions, &|interval| interval.rate(Quantity::Preemptions)),
        rejection_rate: over(Quantity::Rejections, &|interval| interval.rate(Quantity::Rejections)),
        finished: interval
            .and_then(Interval::finished)
            .map_or(Signal::Missing, |finished| Signal::present(finished, at)),
        asleep: now(Quantity::Asleep),
        lora: adapters(reading.engine, reading.lora, at),
    }
}

/// Mean, rate and tails of what was observed over `seconds`; `None` when nothing was.
fn latency(observed: Increase<'_>, seconds: f64) -> Option<Latency> {
    let count = observed.count();
    (count > 0.0).then(|| {
        let [p95, p99] = quantiles(observed, count, [0.95, 0.99]);
        Latency { mean: observed.sum() / count, rate: count / seconds, p95, p99 }
    })
}

/// Quantiles (rising) of `total` observations, linear within a bucket as Prometheus' `histogram_quantile` has it: the first
/// bucket begins at 0, and beyond the last bound the last bound is all that is known. `None` without buckets.
fn quantiles<const N: usize>(observed: Increase<'_>, total: f64, shares: [f64; N]) -> [Option<f64>; N] {
    let bounds = observed.bounds();
    let mut found = [bounds.last().copied(); N];
    let (mut below, mut next) = (0.0, 0);
    for (index, (count, upper)) in observed.counts().zip(bounds).enumerate() {
        while let Some(share) = shares.get(next).filter(|share| count > 0.0 && below + count >= **share * total) {
            let lower = index.checked_sub(1).and_then(|before| bounds.get(before)).copied().unwrap_or(0.0);
            found[next] = Some(lower + (upper - lower) * ((share * total - below) / count).clamp(0.0, 1.0));
            next += 1;
        }
        below += count;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::totals::Raw, *};
    use crate::interfaces::HistogramReading;

    /// Totals of an engine that observed this.
    fn totals(bounds: &[f64], counts: &[f64], sum: f64) -> Totals {
        let histogram = HistogramReading { bounds: bounds.into(), counts: counts.to_vec(), sum };
        let mut totals = Totals::default();
        let reading =
            EngineReading::new(EngineKind::Vllm, "m", "").with_histogram(Quantity::TimeToFirstToken, histogram);
        totals.advance(&mut Raw::default(), &reading);
        totals
    }

    fn latency_of(bounds: &[f64], counts: &[f64], sum: f64) -> Option<Latency> {
        let nothing = totals(bounds, &vec![0.0; counts.len()], 0.0);
        let observed = totals(bounds, counts, sum);
        latency(observed.histogram_increase(&nothing, Quantity::TimeToFirstToken).unwrap(), 60.0)
    }

    #[test]
    fn a_quantile_is_interpolated_in_the_buckets_there_are() {
        let bounds = [1.0, 2.0, 4.0];
        for (counts, p95, p99) in [
            ([10.0, 0.0, 0.0, 0.0], 0.95, 0.99),
            ([0.0, 10.0, 0.0, 0.0], 1.95, 1.99),
            ([50.0, 0.0, 50.0, 0.0], 3.8, 3.96),
            ([97.0, 3.0, 0.0, 0.0], 95.0 / 97.0, 1.0 + 2.0 / 3.0),
            ([0.0, 0.0, 0.0, 10.0], 4.0, 4.0),
        ] {
            let found = latency_of(&bounds, &counts, 1.0).unwrap();
            for (found, expected) in [(found.p95, p95), (found.p99, p99)] {
                assert!((found.unwrap() - expected).abs() < 1e-9, "{counts:?}: {found:?}, not {expected}");
            }
        }
        assert_eq!(latency_of(&[], &[10.0], 1.0).unwrap().p95, None, "sum and count have no tails");
    }

    #[test]
    fn a_latency_of_no_requests_is_none() {
        assert_eq!(latency_of(&[1.0], &[0.0, 0.0], 0.0), None);
        assert_eq!(latency_of(&[], &[6.0], 3.0), Some(Latency { mean: 0.5, rate: 0.1, p95: None, p99: None }));
    }
}
