//! One engine instance over time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    RECENT, ScrapeTarget, Windows, instance_name,
    signals::{self, Interval},
    totals::{Increase, Keep, Raw, Totals},
};
use crate::interfaces::{EngineReading, HistogramReading, Quantity, ReplicaMetrics, Signal, VariantKey, age};

/// Marks kept per window: differences are at most this share of a window too long or too short.
const MARKS_PER_WINDOW: u32 = 12;
/// A KV cache that is less in use says too little of its size.
const LEAST_USAGE_TO_LEARN_FROM: f64 = 0.05;
/// Share of a new estimate in the learned capacity.
const LEARNING_RATE: f64 = 0.2;

/// What one engine instance said over the windows.
#[derive(Debug)]
pub(super) struct Instance {
    /// As in [`ReplicaMetrics::instance`].
    name: Arc<str>,
    owner: Owner,
    sampled_at: Timestamp,
    newest: EngineReading,
    /// Gauges over the longer of peak and rate window, oldest first.
    gauges: VecDeque<Gauges>,
    raw: Raw,
    totals: Totals,
    recent: Marks,
    lengths: Marks,
    /// KV-cache capacity in tokens as far as the load told.
    learned_capacity: Option<f64>,
    /// The signals as of the newest reading, once somebody asked: readers come more often than readings.
    metrics: OnceLock<ReplicaMetrics>,
}

/// The variant that an instance is a replica of, and the revision of the cluster that it is of; once somebody asked.
#[derive(Debug, Default)]
struct Owner(Mutex<Option<(u64, Option<VariantKey>)>>);

#[derive(Clone, Copy, Debug)]
struct Gauges {
    at: Timestamp,
    kv_cache_usage: Option<f64>,
    waiting: Option<f64>,
    running: Option<f64>,
}

/// Totals at moments of the past, oldest first.
#[derive(Debug, Default)]
struct Marks(VecDeque<(Timestamp, Totals)>);

impl Instance {
    /// The instance with this rank in `target`, as of its first reading.
    pub(super) fn new(at: Timestamp, target: &ScrapeTarget, reading: EngineReading) -> Self {
        let mut instance = Self {
            name: instance_name(target.address(), &reading.rank),
            owner: Owner::default(),
            sampled_at: at,
            gauges: VecDeque::from([Gauges::of(at, &reading)]),
            newest: reading,
            raw: Raw::default(),
            totals: Totals::default(),
            recent: Marks::default(),
            lengths: Marks::default(),
            learned_capacity: None,
            metrics: OnceLock::new(),
        };
        instance.totals.advance(&mut instance.raw, &instance.newest);
        instance.recent.push(at, &instance.totals, Duration::ZERO, for_rates);
        instance.lengths.push(at, &instance.totals, Duration::ZERO, for_lengths);
        instance
    }

    pub(super) fn record(&mut self, at: Timestamp, reading: EngineReading, windows: &Windows) {
        // A moment already seen adds nothing, and one before it would turn differences around.
        if at <= self.sampled_at {
            return;
        }
        self.metrics.take();
        self.totals.advance(&mut self.raw, &reading);
        self.gauges.push_back(Gauges::of(at, &reading));
        let window = windows.peak.max(windows.rate);
        while self.gauges.front().is_some_and(|oldest| age(at, oldest.at) > window) {
            self.gauges.pop_front();
        }
        self.recent.push(at, &self.totals, windows.rate, for_rates);
        self.lengths.push(at, &self.totals, windows.lengths, for_lengths);
        self.sampled_at = at;
        self.newest = reading;
        self.learn_capacity(windows);
    }

    pub(super) fn sampled_at(&self) -> Timestamp {
        self.sampled_at
    }

    /// Signals of the instance in `target`; the variant is for the caller to fill in.
    pub(super) fn metrics(&self, target: &ScrapeTarget, windows: &Windows) -> &ReplicaMetrics {
        self.metrics.get_or_init(|| ReplicaMetrics {
            pod: target.pod.clone(),
            instance: self.name.clone(),
            ..self.computed(target.kv_cache_tokens, windows)
        })
    }

    /// The variant it is a replica of, asked of `find` again where the cluster is not at `revision` any more.
    pub(super) fn owner(&self, revision: Option<u64>, find: impl FnOnce() -> Option<VariantKey>) -> Option<VariantKey> {
        let mut known = self.owner.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, revision) {
            (Some((at, owner)), Some(revision)) if *at == revision => owner.clone(),
            _ => {
                let owner = find();
                *known = revision.map(|revision| (revision, owner.clone()));
                owner
            }
        }
    }

    fn computed(&self, declared_capacity: Option<u64>, windows: &Windows) -> ReplicaMetrics {
        let interval = self.interval(windows.rate);
        let signal = |quantity, value: Option<f64>| self.signal(quantity, value);
        let declared = declared_capacity.map(|tokens| tokens as f64);
        let capacity = self.newest.kv_cache_tokens().or(declared).or(self.learned_capacity);
        ReplicaMetrics {
            engine: self.newest.engine,
            kv_cache_usage: signal(Quantity::KvCacheUsage, self.peak(windows.peak, |gauges| gauges.kv_cache_usage)),
            queue_length: signal(Quantity::Waiting, self.peak(windows.peak, |gauges| gauges.waiting)),
            running: signal(Quantity::Running, self.newest.value(Quantity::Running)),
            request_rate: signal(Quantity::Finished, interval.as_ref().and_then(Interval::completions)),
            kv_cache_tokens: capacity.map_or(Signal::Missing, |tokens| Signal::from_sample(tokens, self.sampled_at)),
            performance: Arc::new(signals::performance(
                &self.newest,
                self.sampled_at,
                interval.as_ref(),
                self.interval(RECENT).as_ref(),
                self.mean(windows.rate, |gauges| gauges.running),
            )),
            ..ReplicaMetrics::default()
        }
    }

    /// Requests of the length window by bucket; all-time until it has passed.
    pub(super) fn lengths(&self, quantity: Quantity, window: Duration) -> Option<HistogramReading> {
        match self.lengths.before(self.sampled_at, window) {
            Some(mark) => self.totals.histogram_increase(mark, quantity).map(Increase::to_histogram),
            None => self.all_lengths(quantity).cloned(),
        }
    }

    /// All requests by bucket, since the engine started.
    pub(super) fn all_lengths(&self, quantity: Quantity) -> Option<&HistogramReading> {
        self.totals.histogram(quantity)
    }

    fn signal(&self, quantity: Quantity, value: Option<f64>) -> Signal<f64> {
        signals::signal(&self.newest, quantity, value, self.sampled_at)
    }

    /// What happened over the last `window`; `None` before the second sample.
    fn interval(&self, window: Duration) -> Option<Interval<'_>> {
        let (since, mark) = self.recent.oldest_within(self.sampled_at, window)?;
        Interval::new(since, self.sampled_at, mark, &self.totals)
    }

    /// The greatest value of a gauge over `window`. A gauge the newest reading lacks is gone, whatever it was before.
    fn peak(&self, window: Duration, of: fn(&Gauges) -> Option<f64>) -> Option<f64> {
        of(self.gauges.back()?)?;
        self.over(window).filter_map(of).reduce(f64::max)
    }

    fn mean(&self, window: Duration, of: fn(&Gauges) -> Option<f64>) -> Option<f64> {
        of(self.gauges.back()?)?;
        let (count, sum) =
            self.over(window).filter_map(of).fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
        (count > 0.0).then(|| sum / count)
    }

    fn over(&self, window: Duration) -> impl Iterator<Item = &Gauges> {
        self.gauges.iter().rev().take_while(move |gauges| age(self.sampled_at, gauges.at) <= window)
    }

    /// Learns the capacity where none is exported (vLLM's Rust frontend has no `cache_config_info`).
    fn learn_capacity(&mut self, windows: &Windows) {
        let is_time = self.recent.newest().is_some_and(|at| at == self.sampled_at);
        if !is_time || self.newest.kv_cache_tokens().is_some() {
            return;
        }
        let mean_length = |quantity| {
            let lengths = self.lengths(quantity, windows.lengths)?;
            Some(lengths.sum / lengths.count()).filter(|mean| mean.is_finite())
        };
        let load = || {
            Some(CacheLoad {
                usage: self.mean(windows.rate, |gauges| gauges.kv_cache_usage)?,
                running: self.mean(windows.rate, |gauges| gauges.running)?,
                prompt: mean_length(Quantity::PromptLength)?,
                output: mean_length(Quantity::OutputLength)?,
            })
        };
        self.learned_capacity = load().map_or(self.learned_capacity, |load| load.learn(self.learned_capacity));
    }
}

/// What a KV cache holds, from which its size can be learned.
#[derive(Clone, Copy, Debug)]
pub(in crate::collector) struct CacheLoad {
    /// Share of its blocks in use.
    pub(in crate::collector) usage: f64,
    /// Requests in the batch.
    pub(in crate::collector) running: f64,
    /// Mean prompt of a request in tokens.
    pub(in crate::collector) prompt: f64,
    /// Mean output of a request in tokens.
    pub(in crate::collector) output: f64,
}

impl CacheLoad {
    /// The capacity in tokens, given what was `known`: the tokens that requests hold over the share of the cache they take.
    /// A request holds its prompt and, on average, half of its output.
    pub(in crate::collector) fn learn(self, known: Option<f64>) -> Option<f64> {
        if self.usage < LEAST_USAGE_TO_LEARN_FROM || self.running <= 0.0 {
            return known;
        }
        let estimate = self.running * (self.prompt + self.output / 2.0) / self.usage;
        let known = known.unwrap_or(estimate);
        Some(known + LEARNING_RATE * (estimate - known)).filter(|learned| learned.is_finite() && *learned > 0.0)
    }
}

impl Gauges {
    fn of(at: Timestamp, reading: &EngineReading) -> Self {
        Self {
            at,
            kv_cache_usage: reading.value(Quantity::KvCacheUsage),
            waiting: reading.value(Quantity::Waiting),
            running: reading.value(Quantity::Running),
        }
    }
}

impl Marks {
    /// Adds the totals at `at` unless the newest mark is too young, and drops what is older than `window`. One mark just
    /// beyond the window stays until the next has reached it, so that a full window is always spanned.
    fn push(&mut self, at: Timestamp, totals: &Totals, window: Duration, keep: fn(Quantity) -> Keep) {
        if self.newest().is_some_and(|newest| age(at, newest) < window / MARKS_PER_WINDOW) {
            return;
        }
        let mut memory = None;
        while self.0.get(1).is_some_and(|(second, _)| age(at, *second) >= window) {
            memory = self.0.pop_front();
        }
        let mut mark = memory.map(|(_, totals)| totals).unwrap_or_default();
        mark.copy_from(totals, keep);
        self.0.push_back((at, mark));
    }

    fn newest(&self) -> Option<Timestamp> {
        self.0.back().map(|(at, _)| *at)
    }

    /// The mark at the beginning of a full `window`; `None` while the marks do not span it.
    fn before(&self, now: Timestamp, window: Duration) -> Option<&Totals> {
        self.0.front().filter(|(at, _)| age(now, *at) >= window).map(|(_, totals)| totals)
    }

    /// The oldest mark that is at most `window` old; the newest before it where none is.
    fn oldest_within(&self, now: Timestamp, window: Duration) -> Option<(Timestamp, &Totals)> {
        let within = self.0.iter().find(|(at, _)| age(now, *at) <= window && *at < now);
        within.or_else(|| self.0.iter().rev().find(|(at, _)| *at < now)).map(|(at, totals)| (*at, totals))
    }
}

fn is_length(quantity: Quantity) -> bool {
    matches!(quantity, Quantity::PromptLength | Quantity::OutputLength)
}

fn for_lengths(quantity: Quantity) -> Keep {
    if is_length(quantity) { Keep::Buckets } else { Keep::Nothing }
}

/// Of the lengths within the rate window the mean is wanted, of latencies the tails.
fn for_rates(quantity: Quantity) -> Keep {
    if is_length(quantity) { Keep::Totals } else { Keep::Buckets }
}
