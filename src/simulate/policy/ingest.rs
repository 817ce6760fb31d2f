//! From samples of simulated engines to the signals a collector gives: peaks, rates and latencies over a window, with
//! sample times. Only what an engine exports is read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::ModelSample;
use crate::{
    fleet::{BLOCK_SIZE, Engine, EngineMetrics, Histogram, ReplicaId},
    interfaces::{
        EngineKind, FinishedRates, Latency, LengthDistribution, ModelMetrics, PerformanceSignals, ReplicaMetrics,
        Signal, VariantKey, age,
    },
};

/// Peaks and rates are over this long.
const WINDOW: Duration = Duration::from_secs(60);
/// Recent rates are over at least this long.
const RECENT: Duration = Duration::from_secs(15);
const PICOSECONDS: f64 = 1e12;

/// Samples of all replicas of one model.
#[derive(Debug, Default)]
pub(super) struct Ingest {
    replicas: BTreeMap<ReplicaId, ReplicaSamples>,
    gateway: VecDeque<(Timestamp, u64, u64)>,
}

#[derive(Debug)]
struct ReplicaSamples {
    variant: Arc<str>,
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    at: Timestamp,
    running: f64,
    waiting: f64,
    kv_usage: f64,
    kv_tokens: f64,
    metrics: EngineMetrics,
}

impl Ingest {
    /// Adds one round of samples. A replica that is gone is forgotten; one whose scrape failed keeps its old samples.
    pub(super) fn record(&mut self, at: Timestamp, model: &ModelSample<'_>) {
        for replica in &model.replicas {
            let entry = self.replicas.entry(replica.id()).or_insert_with(|| ReplicaSamples {
                variant: model.variant_of(replica).into(),
                samples: VecDeque::new(),
            });
            entry.samples.push_back(Sample::of(at, replica.engine()));
            while entry.samples.len() > 2 && age(at, entry.samples[0].at) > WINDOW {
                entry.samples.pop_front();
            }
        }
        self.replicas.retain(|id, _| model.is_ready(*id));
        self.gateway.push_back((at, model.gateway_queue() as u64, model.arrived()));
        while self.gateway.len() > 2 && age(at, self.gateway[0].0) > WINDOW {
            self.gateway.pop_front();
        }
    }

    /// Signals of every replica.
    pub(super) fn replicas(&self, namespace: &str) -> Vec<ReplicaMetrics> {
        self.replicas.iter().filter_map(|(id, replica)| replica.metrics(namespace, *id)).collect()
    }

    /// What is known of the model beside its replicas.
    pub(super) fn model(&self) -> ModelMetrics {
        let Some((at, queue, arrived)) = self.gateway.back().copied() else { return ModelMetrics::default() };
        let rate = self
            .gateway
            .front()
            .filter(|first| first.0 < at)
            .map(|first| (arrived - first.2) as f64 / age(at, first.0).as_secs_f64());
        let recent = self.gateway.iter().rev().find(|sample| age(at, sample.0) >= RECENT);
        let recent = recent.map(|then| (arrived - then.2) as f64 / age(at, then.0).as_secs_f64());
        ModelMetrics {
            gateway_recent_arrival_rate: recent.map_or(Signal::Missing, |rate| Signal::present(rate, at)),
            gateway_queue: Signal::present(queue as f64, at),
            gateway_arrival_rate: rate.map_or(Signal::Missing, |rate| Signal::present(rate, at)),
            prompt_lengths: self.lengths(|metrics| &metrics.request_prompt_tokens),
            output_lengths: self.lengths(|metrics| &metrics.request_generation_tokens),
        }
    }

    /// Lengths of the requests that finished within the window, over all replicas.
    fn lengths(&self, of: fn(&EngineMetrics) -> &Histogram) -> Option<Arc<LengthDistribution>> {
        let mut total: Option<(Delta, &'static [u64])> = None;
        for replica in self.replicas.values() {
            let (first, last) = replica.ends()?;
            let delta = Delta::between(of(&first.metrics), of(&last.metrics));
            match &mut total {
                Some((sum, _)) => sum.add(&delta),
                None => total = Some((delta, of(&last.metrics).bounds())),
            }
        }
        let (delta, bounds) = total.filter(|(delta, _)| delta.count() > 0.0)?;
        Some(Arc::new(LengthDistribution {
            bounds: bounds.iter().map(|&bound| bound as f64).collect(),
            mean: delta.sum / delta.count(),
            counts: delta.counts,
        }))
    }
}

impl Sample {
    fn of(at: Timestamp, engine: &Engine) -> Self {
        Self {
            at,
            running: engine.running() as f64,
            waiting: engine.waiting() as f64,
            kv_usage: engine.kv_usage(),
            kv_tokens: f64::from(engine.kv_blocks()) * f64::from(BLOCK_SIZE),
            metrics: engine.metrics().clone(),
        }
    }
}

impl ReplicaSamples {
    fn ends(&self) -> Option<(&Sample, &Sample)> {
        Some((self.samples.front()?, self.samples.back()?))
    }

    fn metrics(&self, namespace: &str, id: ReplicaId) -> Option<ReplicaMetrics> {
        let (first, last) = self.ends()?;
        let pod: Arc<str> = format!("{}-{id}", self.variant).into();
        let peak = |of: fn(&Sample) -> f64| self.samples.iter().map(of).fold(0.0, f64::max);
        let present = |value: f64| Signal::from_sample(value, last.at);
        let seconds = age(last.at, first.at).as_secs_f64();
        let rates = (seconds > 0.0).then_some(Rates { first, last, seconds });
        Some(ReplicaMetrics {
            pod: pod.clone(),
            instance: pod,
            variant: Some(VariantKey::new(namespace, self.variant.clone())),
            engine: EngineKind::Vllm,
            kv_cache_usage: present(peak(|sample| sample.kv_usage)),
            queue_length: present(peak(|sample| sample.waiting)),
            running: present(last.running),
            request_rate: rates.as_ref().map_or(Signal::Missing, |rates| rates.of(|metrics| metrics.finished)),
            kv_cache_tokens: present(last.kv_tokens),
            performance: Arc::new(rates.map_or_else(PerformanceSignals::default, |rates| self.performance(&rates))),
        })
    }

    fn performance(&self, rates: &Rates<'_>) -> PerformanceSignals {
        let last = rates.last;
        let present = |value: f64| Signal::from_sample(value, last.at);
        let first_tokens = rates.of(|metrics| metrics.time_to_first_token.count());
        let growth = (last.waiting - rates.first.waiting) / rates.seconds;
        let mean_running =
            self.samples.iter().map(|sample| sample.running).sum::<f64>() / self.samples.len().max(1) as f64;
        let recent = self.samples.iter().rev().find(|sample| age(last.at, sample.at) >= RECENT);
        let recent = recent.map(|first| Rates { first, last, seconds: age(last.at, first.at).as_secs_f64() });
        let recent_arrivals = recent.map_or(Signal::Missing, |recent| {
            let growth = (last.waiting - recent.first.waiting) / recent.seconds;
            recent.of(|metrics| metrics.time_to_first_token.count()).map(|rate| (rate + growth).max(0.0))
        });
        let hits = rates.of(|metrics| metrics.prefix_cache_hits);
        let queries = rates.of(|metrics| metrics.prefix_cache_queries);
        let ratio = hits.value().zip(queries.value()).filter(|(_, queries)| **queries > 0.0);
        PerformanceSignals {
            arrival_rate: first_tokens.map(|rate| (rate + growth).max(0.0)),
            recent_arrival_rate: recent_arrivals,
            kv_cache_usage_now: present(last.kv_usage),
            queue_length_now: present(last.waiting),
            waiting_for_capacity: present(last.waiting),
            mean_running: present(mean_running),
            prompt_tokens: rates.mean(|metrics| &metrics.request_prompt_tokens),
            output_tokens: rates.mean(|metrics| &metrics.request_generation_tokens),
            prompt_token_rate: rates.of(|metrics| metrics.prompt_tokens),
            generation_token_rate: rates.of(|metrics| metrics.generation_tokens),
            time_to_first_token: rates.latency(|metrics| &metrics.time_to_first_token),
            inter_token_latency: rates.latency(|metrics| &metrics.inter_token_latency),
            queue_time: rates.latency(|metrics| &metrics.queue_time),
            prefix_cache_hit_ratio: ratio.map_or(Signal::Missing, |(hits, queries)| present(hits / queries)),
            preemption_rate: rates.of(|metrics| metrics.preemptions),
            rejection_rate: Signal::NotDefined,
            finished: rates
                .of(|metrics| metrics.finished)
                .map(|stop| FinishedRates { stop, ..FinishedRates::default() }),
            asleep: Signal::NotDefined,
            lora: Signal::NotDefined,
        }
    }
}

/// Two samples of one engine and the time between them.
struct Rates<'a> {
    first: &'a Sample,
    last: &'a Sample,
    seconds: f64,
}

impl Rates<'_> {
    fn of(&self, counter: impl Fn(&EngineMetrics) -> u64) -> Signal<f64> {
        let increase = counter(&self.last.metrics).saturating_sub(counter(&self.first.metrics));
        Signal::from_sample(increase as f64 / self.seconds, self.last.at)
    }

    fn mean(&self, of: impl Fn(&EngineMetrics) -> &Histogram) -> Signal<f64> {
        let delta = Delta::between(of(&self.first.metrics), of(&self.last.metrics));
        Signal::from_sample(delta.sum / delta.count(), self.last.at)
    }

    fn latency(&self, of: impl Fn(&EngineMetrics) -> &Histogram) -> Signal<Latency> {
        let delta = Delta::between(of(&self.first.metrics), of(&self.last.metrics));
        let bounds = of(&self.last.metrics).bounds();
        if delta.count() == 0.0 {
            return Signal::Missing;
        }
        let quantile = |rank| delta.quantile(bounds, rank).map(|picoseconds| picoseconds / PICOSECONDS);
        let latency = Latency {
            mean: delta.sum / delta.count() / PICOSECONDS,
            rate: delta.count() / self.seconds,
            p95: quantile(0.95),
            p99: quantile(0.99),
        };
        Signal::present(latency, self.last.at)
    }
}

/// What a histogram gained.
struct Delta {
    counts: Vec<f64>,
    sum: f64,
}

impl Delta {
    fn between(first: &Histogram, last: &Histogram) -> Self {
        let counts = last.counts().iter().zip(first.counts()).map(|(last, first)| last.saturating_sub(*first) as f64);
        Self { counts: counts.collect(), sum: last.sum().saturating_sub(first.sum()) as f64 }
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    fn count(&self) -> f64 {
        self.counts.iter().sum()
    }

    /// As Prometheus interpolates; the highest bound for what lies beyond it.
    fn quantile(&self, bounds: &[u64], rank: f64) -> Option<f64> {
        let wanted = rank * self.count();
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, &bound) in self.counts.iter().zip(bounds) {
            if *count > 0.0 && below + count >= wanted {
                return Some(lower + (bound as f64 - lower) * (wanted - below) / count);
            }
            below += count;
            lower = bound as f64;
        }
        bounds.last().map(|&bound| bound as f64)
    }
}
