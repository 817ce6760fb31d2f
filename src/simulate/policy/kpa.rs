//! `kpa`: Knative's pod autoscaler on concurrency.
//!
//! Every 2 s: mean concurrency of 60 s (stable) and of 6 s (panic) over the target, at most a thousand times up and half
//! down at once. Twice as much wanted by the panic window as is ready starts a panic of 60 s, in which nothing goes down.
//! Concurrency is what replicas have and what the activator, here the gateway, holds.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Actuation, ModelSample, Policy, Rhythm,
    gauges::{Gauges, Window, gauges},
};
use crate::{
    interfaces::{ScaleObservation, age},
    simulate::scenario::Scenario,
};

const TICK: Duration = Duration::from_secs(2);
const STABLE: Duration = Duration::from_secs(60);
const PANIC: Duration = Duration::from_secs(6);
const PANIC_THRESHOLD: f64 = 2.0;
const MAX_UP: f64 = 1000.0;
const MAX_DOWN: f64 = 2.0;

/// Knative's autoscaler.
#[derive(Debug)]
pub(in crate::simulate) struct Kpa<'a> {
    scenario: &'a Scenario,
    /// Documented: 70 % of 100.
    target: f64,
    window: Window,
    scalers: Vec<Scaler>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Scaler {
    panicking_since: Option<Timestamp>,
    most: f64,
}

impl<'a> Kpa<'a> {
    pub(in crate::simulate) fn new(scenario: &'a Scenario, target: f64) -> Self {
        let scalers = scenario.variants().map(|_| Scaler::default()).collect();
        Self { scenario, target, window: Window::new(STABLE), scalers }
    }
}

impl Scaler {
    fn desired(&mut self, now: Timestamp, ready: f64, stable: f64, panic: f64) -> f64 {
        let ready = ready.max(1.0);
        let clamped = |desired: f64| desired.clamp((ready / MAX_DOWN).floor(), (MAX_UP * ready).ceil());
        let is_over = panic.ceil() / ready >= PANIC_THRESHOLD;
        match self.panicking_since {
            None if is_over => {
                self.panicking_since = Some(now);
                self.most = 0.0;
            }
            Some(_) if is_over => self.panicking_since = Some(now),
            Some(since) if age(now, since) > STABLE => self.panicking_since = None,
            _ => {}
        }
        if self.panicking_since.is_none() {
            return clamped(stable.ceil());
        }
        self.most = self.most.max(clamped(panic.ceil())).max(ready);
        self.most
    }
}

impl Policy for Kpa<'_> {
    fn rhythm(&self) -> Rhythm {
        Rhythm { sample_every: TICK, delay: Duration::ZERO, decide_every: None }
    }

    fn actuation(&self) -> Actuation {
        Actuation::Direct
    }

    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]) {
        self.window.push(at, gauges(self.scenario, models));
    }

    fn decide(&mut self, now: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        let (window, target) = (&self.window, self.target);
        let wanted = |index, length| window.mean(index, length, Gauges::in_flight).map(|total| total / target);
        (0..)
            .zip(&mut self.scalers)
            .zip(scales)
            .map(|((index, scaler), scale)| {
                let (stable, panic) = (wanted(index, STABLE), wanted(index, PANIC));
                let both = stable.zip(panic).ok_or_else(|| "nothing was seen yet".to_owned())?;
                Ok(scaler.desired(now, f64::from(scale.ready), both.0, both.1))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_follows_the_stable_window_until_the_panic_window_wants_twice_what_is_ready() {
        let mut scaler = Scaler::default();
        assert_eq!(scaler.desired(at(0), 4.0, 3.2, 7.0), 4.0);
        assert_eq!(scaler.desired(at(2), 4.0, 3.2, 7.5), 8.0, "panic");
        assert_eq!(scaler.desired(at(4), 4.0, 1.0, 1.0), 8.0, "nothing goes down in a panic");
        assert_eq!(scaler.desired(at(62), 8.0, 1.0, 1.0), 8.0);
        assert_eq!(scaler.desired(at(64), 8.0, 5.0, 1.0), 5.0, "over after 60 s");
    }

    #[test]
    fn it_goes_down_by_half_at_most_and_up_without_practical_limit() {
        let mut scaler = Scaler::default();
        assert_eq!(scaler.desired(at(0), 8.0, 0.1, 0.1), 4.0);
        assert_eq!(scaler.desired(at(2), 1.0, 0.5, 900.0), 900.0);
        assert_eq!(scaler.desired(at(200), 0.0, 0.0, 0.0), 0.0, "and to nothing");
    }
}
