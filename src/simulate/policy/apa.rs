//! `apa`: `AIBrix`'s Advanced Pod Autoscaler on mean KV-cache usage.
//!
//! Replicas times usage over target, outside a tolerance of 10 % either way, at most doubled or halved at once; usage is the
//! mean over 180 s; a scale-down waits until no proposal of 300 s was higher. The controller sets replicas itself.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::{
    Actuation, ModelSample, Policy, Rhythm,
    gauges::{Window, gauges},
};
use crate::{
    interfaces::{ScaleObservation, age},
    simulate::scenario::Scenario,
};

const STABLE: Duration = Duration::from_secs(180);
const PERIOD: Duration = Duration::from_secs(30);
const COOLDOWN_DOWN: Duration = Duration::from_secs(300);
const TOLERANCE: f64 = 0.1;
const MAX_RATE: f64 = 2.0;

/// `AIBrix`'s autoscaler.
#[derive(Debug)]
pub(in crate::simulate) struct Apa<'a> {
    scenario: &'a Scenario,
    /// Documented: 0.5.
    target: f64,
    window: Window,
    proposals: Vec<VecDeque<(Timestamp, f64)>>,
}

impl<'a> Apa<'a> {
    pub(in crate::simulate) fn new(scenario: &'a Scenario, target: f64) -> Self {
        let proposals = scenario.variants().map(|_| VecDeque::new()).collect();
        Self { scenario, target, window: Window::new(STABLE), proposals }
    }
}

/// `computeTargetReplicas`.
fn proposal(replicas: f64, usage: f64, target: f64) -> f64 {
    let ratio = usage / target;
    if ratio > 1.0 + TOLERANCE {
        (replicas * ratio).ceil().min((MAX_RATE * replicas).ceil())
    } else if ratio < 1.0 - TOLERANCE {
        (replicas * ratio).ceil().max((replicas / MAX_RATE).floor())
    } else {
        replicas
    }
}

impl Policy for Apa<'_> {
    fn rhythm(&self) -> Rhythm {
        Rhythm { sample_every: PERIOD, delay: Duration::ZERO, decide_every: None }
    }

    fn actuation(&self) -> Actuation {
        Actuation::Direct
    }

    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]) {
        self.window.push(at, gauges(self.scenario, models));
    }

    fn decide(&mut self, now: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        let mut asks = Vec::with_capacity(scales.len());
        for (index, (scale, proposals)) in scales.iter().zip(&mut self.proposals).enumerate() {
            let usage = self.window.mean(index, STABLE, |gauges| gauges.kv_usage / gauges.replicas.max(1.0));
            let Some(usage) = usage else {
                asks.push(Err("nothing was scraped yet".to_owned()));
                continue;
            };
            proposals.push_back((now, proposal(f64::from(scale.spec), usage, self.target)));
            proposals.retain(|(at, _)| age(now, *at) < COOLDOWN_DOWN);
            let greatest = proposals.iter().map(|(_, replicas)| *replicas).fold(0.0, f64::max);
            let newest = proposals.back().map_or(0.0, |(_, replicas)| *replicas);
            asks.push(Ok(newest.max(greatest.min(f64::from(scale.spec)))));
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proposal_follows_the_ratio_outside_the_tolerance_and_at_most_doubles_or_halves() {
        for (replicas, usage, expected) in [
            (4.0, 0.5, 4.0),
            (4.0, 0.55, 4.0),
            (4.0, 0.56, 5.0),
            (4.0, 0.45, 4.0),
            (4.0, 0.44, 4.0),
            (4.0, 0.3, 3.0),
            (4.0, 1.0, 8.0),
            (3.0, 5.0, 6.0),
            (8.0, 0.01, 4.0),
        ] {
            assert_eq!(proposal(replicas, usage, 0.5), expected, "{replicas} at {usage}");
        }
    }
}
