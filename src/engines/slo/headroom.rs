//! Headroom that follows the measured overloads instead of a constant.
//!
//! A replica asked for now serves one cold start later, and demand has moved on by then. How far it moves, and what that
//! does to requests, differs by workload: chat near its token latency limit misses everything at 10 % overload, long prompts
//! hardly anything. So the engine remembers how loaded the ready replicas were, weighted by requests, and takes the
//! smallest headroom at which that past would have missed no more than the objective allows.

use serde::{Deserialize, Serialize};

use crate::interfaces::CapacityCurve;

/// Loads are remembered in bins of 5 %.
const BIN: f64 = 0.05;
const BINS: usize = 48;
/// Half of the weight of an observation is gone after this many seconds.
const HALF_LIFE: f64 = 3.0 * 3600.0;
/// Seconds of supposed past that a new memory starts with.
const PRIOR_SECONDS: f64 = 2700.0;
/// The supposed past: logarithms of load normally distributed, as the first hours of four real traces were.
const PRIOR: (f64, f64) = (-0.17, 0.17);
/// Bounds of the headroom.
const RANGE: (f64, f64) = (0.66, 1.3);
const STEPS: u32 = 32;
/// Share of the allowed misses that is planned with; the rest is for what the model does not know.
const PLANNED: f64 = 0.7;

/// How loaded the ready replicas were, in units of their capacity and as if no headroom had been kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadMemory {
    /// Requests by load, forgotten exponentially.
    weights: Vec<f32>,
    /// Headroom in force.
    headroom: f64,
}

impl LoadMemory {
    /// A memory of nothing but the supposed past, at `rate` requests per second.
    pub(super) fn new(rate: f64) -> Self {
        let (mean, deviation) = PRIOR;
        let density = |bin: usize| {
            let load = (bin as f64 + 0.5) * BIN;
            let z = (load.ln() - mean) / deviation;
            (-z * z / 2.0).exp() / load
        };
        let total: f64 = (0..BINS).map(density).sum();
        let scale = PRIOR_SECONDS * rate.max(1e-3) / total;
        let weights = (0..BINS).map(|bin| (density(bin) * scale) as f32).collect();
        Self { weights, headroom: 1.2 }
    }

    /// The headroom in force.
    pub(super) fn headroom(&self) -> f64 {
        self.headroom
    }

    /// Remembers that for `seconds` the pool had `load` times its capacity to carry, at `rate` requests per second.
    pub(super) fn observe(&mut self, load: f64, rate: f64, seconds: f64) {
        if !(load.is_finite() && rate.is_finite() && seconds > 0.0) || self.weights.len() != BINS {
            return;
        }
        let kept = 0.5_f64.powf(seconds / HALF_LIFE) as f32;
        for weight in &mut self.weights {
            *weight *= kept;
        }
        let bin = ((load.max(0.0) * self.headroom / BIN) as usize).min(BINS - 1);
        self.weights[bin] += (rate * seconds) as f32;
    }

    /// Chooses the headroom for the misses that `curve` expects and `allowed` allows.
    pub(super) fn choose(&mut self, curve: &CapacityCurve, allowed: f64) {
        let total: f64 = self.weights.iter().map(|weight| f64::from(*weight)).sum();
        let expected = |headroom: f64| {
            let misses = self
                .weights
                .iter()
                .enumerate()
                .map(|(bin, weight)| f64::from(*weight) * curve.miss_share((bin as f64 + 0.5) * BIN / headroom));
            misses.sum::<f64>() / total.max(1e-9)
        };
        let (least, most) = RANGE;
        let headrooms = (0..=STEPS).map(|step| least + (most - least) * f64::from(step) / f64::from(STEPS));
        let chosen = headrooms.into_iter().find(|headroom| expected(*headroom) <= allowed * PLANNED).unwrap_or(most);
        // A step at a time: one odd minute must not make the number of replicas jump.
        let step = (most - least) / f64::from(STEPS);
        self.headroom = chosen.clamp(self.headroom - step, self.headroom + step);
    }
}
