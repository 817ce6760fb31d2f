//! One gateway over time: what it holds, and what arrives at it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::RECENT;
use crate::interfaces::{GatewayReading, ModelMetrics, Signal, age};

/// What one gateway said of each model.
#[derive(Debug, Default)]
pub(super) struct GatewayHistory(BTreeMap<Arc<str>, Flow>);

#[derive(Debug, Default)]
struct Flow {
    queue: Signal<f64>,
    raw: Option<f64>,
    /// Requests received at moments of the rate window, restarts taken out; oldest first.
    received: VecDeque<(Timestamp, f64)>,
}

impl GatewayHistory {
    pub(super) fn record(&mut self, at: Timestamp, reading: &GatewayReading, window: Duration) {
        self.0.entry(reading.model.clone()).or_default().record(at, reading, window);
    }
}

impl Flow {
    fn record(&mut self, at: Timestamp, reading: &GatewayReading, window: Duration) {
        self.queue = reading.queue.map_or(Signal::Missing, |queue| Signal::from_sample(queue, at));
        let Some(requests) = reading.requests.filter(|requests| requests.is_finite()) else { return };
        let newest = self.received.back().copied();
        if newest.is_some_and(|(then, _)| at <= then) {
            return;
        }
        let increase = match self.raw {
            Some(before) if requests >= before => requests - before,
            Some(_) => requests,
            None => 0.0,
        };
        self.raw = Some(requests);
        self.received.push_back((at, newest.map_or(0.0, |(_, total)| total) + increase));
        while self.received.get(1).is_some_and(|(second, _)| age(at, *second) >= window) {
            self.received.pop_front();
        }
    }

    /// Over about the newest `window` of what is kept.
    fn arrival_rate(&self, window: Duration) -> Signal<f64> {
        let Some((until, after)) = self.received.back() else { return Signal::Missing };
        let began = self.received.iter().rev().find(|(since, _)| age(*until, *since) >= window);
        let Some((since, before)) = began.or(self.received.front()) else { return Signal::Missing };
        let seconds = age(*until, *since).as_secs_f64();
        if seconds > 0.0 { Signal::from_sample((after - before) / seconds, *until) } else { Signal::Missing }
    }
}

/// Adds what `gateways` know of `model` to `metrics`. Several gateways of one model share its requests.
pub(super) fn sum<'a>(gateways: impl Iterator<Item = &'a GatewayHistory>, model: &str, metrics: &mut ModelMetrics) {
    for flow in gateways.filter_map(|gateway| gateway.0.get(model)) {
        metrics.gateway_queue = added(metrics.gateway_queue, flow.queue);
        metrics.gateway_arrival_rate = added(metrics.gateway_arrival_rate, flow.arrival_rate(Duration::MAX));
        metrics.gateway_recent_arrival_rate = added(metrics.gateway_recent_arrival_rate, flow.arrival_rate(RECENT));
    }
}

/// A sum is as old as its oldest part.
fn added(one: Signal<f64>, other: Signal<f64>) -> Signal<f64> {
    match (one, other) {
        (Signal::Present { value: a, sampled_at: at }, Signal::Present { value: b, sampled_at: other_at }) => {
            Signal::present(a + b, at.min(other_at))
        }
        (known @ Signal::Present { .. }, _) | (_, known) => known,
    }
}
