//! What one pod said over the last while: peaks of its gauges, rates of its counters.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{ScrapeTarget, exposition::Reading};
use crate::interfaces::{EngineKind, ReplicaMetrics, Signal, VariantKey, age};

/// Model and engine.
type EngineName = (Arc<str>, Arc<str>);
type Samples = VecDeque<(Timestamp, Reading)>;

/// Readings of one pod.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    engines: BTreeMap<EngineName, Samples>,
}

impl History {
    /// Adds the readings of one scrape and forgets what is older than `window`, but keeps the newest of each engine, so
    /// that its age can be told.
    pub(super) fn record(&mut self, sampled_at: Timestamp, readings: Vec<Reading>, window: Duration) {
        for reading in readings {
            let samples = self.engines.entry((reading.model.clone(), reading.engine.clone())).or_default();
            samples.push_back((sampled_at, reading));
            while samples.len() > 1 && samples.front().is_some_and(|(then, _)| age(sampled_at, *then) > window) {
                samples.pop_front();
            }
        }
    }

    /// Models the pod serves.
    pub(super) fn models(&self) -> impl Iterator<Item = &str> {
        self.engines.keys().map(|(model, _)| &**model)
    }

    /// Signals of the engines that serve `model`: peaks and rates over the `window` up to the newest sample.
    pub(super) fn metrics(
        &self,
        target: &ScrapeTarget,
        model: &str,
        variant: Option<&VariantKey>,
        window: Duration,
    ) -> Vec<ReplicaMetrics> {
        let of_model = self.engines.iter().filter(|((name, _), _)| &**name == model);
        of_model
            .filter_map(|((_, engine), samples)| {
                let (newest, last) = samples.back()?;
                let recent = || samples.iter().filter(|(then, _)| age(*newest, *then) <= window);
                let peak = |of: fn(&Reading) -> Option<f64>| {
                    // A signal the newest reading lacks is gone, whatever it was before.
                    of(last).map_or(Signal::Missing, |_| {
                        let greatest = recent().filter_map(|(_, reading)| of(reading)).fold(0.0, f64::max);
                        Signal::from_sample(greatest, *newest)
                    })
                };
                let now =
                    |value: Option<f64>| value.map_or(Signal::Missing, |value| Signal::from_sample(value, *newest));
                Some(ReplicaMetrics {
                    pod: target.pod.clone(),
                    instance: instance(target, engine),
                    variant: variant.cloned(),
                    engine: EngineKind::Vllm,
                    kv_cache_usage: peak(|reading| reading.kv_cache_usage),
                    queue_length: peak(|reading| reading.waiting),
                    running: now(last.running),
                    request_rate: now(rate(recent())),
                    kv_cache_tokens: now(last.kv_cache_tokens),
                    performance: Arc::default(),
                })
            })
            .collect()
    }
}

fn instance(target: &ScrapeTarget, engine: &str) -> Arc<str> {
    if engine.is_empty() { target.pod.clone() } else { format!("{}/{engine}", target.pod).into() }
}

/// Completed requests per second. A counter that went down started over at zero.
fn rate<'a>(samples: impl Iterator<Item = &'a (Timestamp, Reading)>) -> Option<f64> {
    let points: Vec<(Timestamp, f64)> =
        samples.filter_map(|(then, reading)| Some((*then, reading.completed?))).collect();
    let (first, last) = (points.first()?, points.last()?);
    let seconds = age(last.0, first.0).as_secs_f64();
    let increase: f64 =
        points.windows(2).map(|pair| if pair[1].1 >= pair[0].1 { pair[1].1 - pair[0].1 } else { pair[1].1 }).sum();
    (seconds > 0.0).then(|| increase / seconds)
}
