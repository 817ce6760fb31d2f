//! What rivals read: gauges summed over a variant's replicas, and their history.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::ModelSample;
use crate::{interfaces::age, simulate::scenario::Scenario};

/// Gauges of one variant, summed over the replicas whose scrape succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Gauges {
    /// Replicas scraped.
    pub(super) replicas: f64,
    pub(super) running: f64,
    pub(super) waiting: f64,
    /// Sum of the used shares of their KV caches.
    pub(super) kv_usage: f64,
    /// Requests held at the gateway for the model.
    pub(super) held: f64,
}

impl Gauges {
    /// Requests in engines and at the gateway.
    pub(super) fn in_flight(&self) -> f64 {
        self.running + self.waiting + self.held
    }
}

/// Gauges of every variant, in the scenario's order.
pub(super) fn gauges(scenario: &Scenario, models: &[ModelSample<'_>]) -> Vec<Gauges> {
    let of_variant = |(model, variant): (usize, &crate::simulate::scenario::VariantScenario)| {
        let sample = &models[model];
        let share = scenario.models[model].variants.len() as f64;
        let mut gauges = Gauges { held: sample.gateway_queue() as f64 / share, ..Gauges::default() };
        for replica in sample.replicas.iter().filter(|replica| sample.variant_of(replica) == variant.name) {
            let engine = replica.engine();
            gauges.replicas += 1.0;
            gauges.running += engine.running() as f64;
            gauges.waiting += engine.waiting() as f64;
            gauges.kv_usage += engine.kv_usage();
        }
        gauges
    };
    scenario.variants().map(of_variant).collect()
}

/// Rounds of gauges of the last while.
#[derive(Clone, Debug)]
pub(super) struct Window {
    length: Duration,
    rounds: VecDeque<(Timestamp, Vec<Gauges>)>,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, rounds: VecDeque::new() }
    }

    pub(super) fn push(&mut self, at: Timestamp, gauges: Vec<Gauges>) {
        self.rounds.push_back((at, gauges));
        while self.rounds.len() > 1 && age(at, self.rounds[0].0) >= self.length {
            self.rounds.pop_front();
        }
    }

    /// Mean of `of` for a variant over the rounds of the last `length`; `None` before the first.
    pub(super) fn mean(&self, variant: usize, length: Duration, of: impl Fn(&Gauges) -> f64) -> Option<f64> {
        let newest = self.rounds.back()?.0;
        let recent = self.rounds.iter().filter(|(at, _)| age(newest, *at) < length);
        let values: Vec<f64> = recent.map(|(_, gauges)| of(&gauges[variant])).collect();
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }
}
