//! A Kalman filter over four parameters, kept in units of their first guess.

use serde::{Deserialize, Serialize};

use super::observation::{Observation, Row};
use crate::interfaces::ServiceProfile;

/// Ratios to the fixed time of an iteration where nothing is known. Fixed time is weights over bandwidth, a KV token is its
/// bytes over bandwidth, a prompt token is arithmetic: the ratios of 8B to 70B models on A100, L40S and H100 lie within a
/// factor of two of these (reference fits of operator tables).
const RATIOS: Row = [1.0, 0.0032, 0.0012, 5.0e-6];
/// Standard deviations at the start, relative: of a guess, and of a profile that somebody measured.
const GUESS: f64 = 0.5;
const PROFILE: f64 = 0.15;
/// Relative errors of the two kinds of observation.
const TOKEN_NOISE: f64 = 0.06;
const FIRST_TOKEN_NOISE: f64 = 0.15;
/// How far parameters may drift per observation, relative.
const DRIFT: f64 = 0.004;
/// Innovations beyond this many squared standard deviations are outliers (99.9 % of a χ² with one degree of freedom).
const GATE: f64 = 10.8;
/// After so many outliers in a row it is the estimate that is wrong.
const PATIENCE: u32 = 6;
/// How far from its first guess a parameter may be.
const BOUNDS: (f64, f64) = (0.1, 10.0);

/// What is believed of an engine's service times, and how firmly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// First guess, in seconds: the unit of each parameter.
    unit: Row,
    /// Parameters in their units.
    mean: Row,
    covariance: [Row; 4],
    /// Variance that no parameter exceeds: that of the start.
    prior_variance: f64,
    /// Outliers in a row.
    outliers: u32,
}

impl Estimate {
    /// Starts from a profile.
    pub fn from_profile(profile: &ServiceProfile) -> Self {
        let unit = [profile.base, profile.per_prefill_token, profile.per_sequence, profile.per_kv_token];
        Self::new(unit, PROFILE)
    }

    /// Starts from nothing but a first look; `None` if that is not sound.
    pub fn from_observation(observation: &Observation) -> Option<Self> {
        if !observation.is_sound() {
            return None;
        }
        let base = observation.inter_token_latency / dot(&observation.token_row(), &RATIOS);
        Some(Self::new(RATIOS.map(|ratio| ratio * base), GUESS))
    }

    fn new(unit: Row, deviation: f64) -> Self {
        let variance = deviation * deviation;
        let mut covariance = [[0.0; 4]; 4];
        for (index, row) in covariance.iter_mut().enumerate() {
            row[index] = variance;
        }
        Self {
            unit: unit.map(|unit| unit.max(1e-15)),
            mean: [1.0; 4],
            covariance,
            prior_variance: variance,
            outliers: 0,
        }
    }

    /// Learns from a look at a replica. What is not sound is ignored.
    pub fn observe(&mut self, observation: &Observation) {
        if !observation.is_sound() {
            return;
        }
        self.drift();
        let latency = observation.inter_token_latency;
        // A window that mixes two loads is on no line between them: its tokens come from the heavier one. What is wrong with
        // it grows with the square of how far they are apart.
        let noise = |usual: f64| usual.hypot(observation.spread * observation.spread);
        let mut accepted = self.update(observation.token_row(), latency, noise(TOKEN_NOISE) * latency);
        if let Some(service) = observation.first_token_service.filter(|seconds| *seconds > 0.0) {
            accepted |= self.update(observation.first_token_row(), service, noise(FIRST_TOKEN_NOISE) * service);
        }
        self.outliers = if accepted { 0 } else { self.outliers + 1 };
        if self.outliers >= PATIENCE {
            self.doubt();
        }
    }

    /// The parameters in seconds: base, per prefill token, per sequence, per KV token.
    pub fn parameters(&self) -> [f64; 4] {
        let mut parameters = self.mean;
        for (parameter, unit) in parameters.iter_mut().zip(&self.unit) {
            *parameter *= unit;
        }
        parameters
    }

    /// The time between tokens that is predicted for `decoding` sequences with `kv_tokens` in all and `prefill_rate` prompt
    /// tokens per second.
    pub fn inter_token_latency(&self, decoding: f64, kv_tokens: f64, prefill_rate: f64) -> f64 {
        let [base, prefill, sequence, kv] = self.parameters();
        let busy = (prefill_rate * prefill).clamp(0.0, 0.95);
        (base + sequence * decoding + kv * kv_tokens) / (1.0 - busy)
    }

    /// The relative standard error of that prediction.
    pub fn relative_error(&self, decoding: f64, kv_tokens: f64, prefill_rate: f64) -> f64 {
        let latency = self.inter_token_latency(decoding, kv_tokens, prefill_rate);
        let row = self.scaled([1.0, prefill_rate * latency, decoding, kv_tokens]);
        (dot(&row, &self.spread(&row)).max(0.0)).sqrt() / latency.max(1e-9)
    }

    fn scaled(&self, mut row: Row) -> Row {
        for (coefficient, unit) in row.iter_mut().zip(&self.unit) {
            *coefficient *= unit;
        }
        row
    }

    fn spread(&self, row: &Row) -> Row {
        let mut spread = [0.0; 4];
        for (value, covariances) in spread.iter_mut().zip(&self.covariance) {
            *value = dot(covariances, row);
        }
        spread
    }

    /// One scalar measurement. Returns whether it was taken in.
    fn update(&mut self, row: Row, measured: f64, noise: f64) -> bool {
        let row = self.scaled(row);
        let spread = self.spread(&row);
        let variance = dot(&row, &spread) + noise * noise;
        let innovation = measured - dot(&row, &self.mean);
        if !(variance.is_finite() && variance > 0.0 && innovation.is_finite())
            || innovation * innovation > GATE * variance
        {
            return false;
        }
        for (index, gain) in spread.iter().map(|value| value / variance).enumerate() {
            self.mean[index] = (self.mean[index] + gain * innovation).clamp(BOUNDS.0, BOUNDS.1);
            for (covariance, value) in self.covariance[index].iter_mut().zip(&spread) {
                *covariance -= gain * value;
            }
        }
        true
    }

    /// Forgets a little, but never more than was known at the start.
    fn drift(&mut self) {
        for index in 0..4 {
            let variance = &mut self.covariance[index][index];
            let added = (DRIFT * self.mean[index]).powi(2);
            *variance = (*variance + added).min(self.prior_variance.max(*variance));
        }
    }

    /// Starts over from the present parameters: the engine is no longer what it was.
    fn doubt(&mut self) {
        let mut unit = self.parameters();
        for (unit, before) in unit.iter_mut().zip(&self.unit) {
            *unit = unit.clamp(before * BOUNDS.0, before * BOUNDS.1);
        }
        *self = Self::new(unit, GUESS);
    }
}

fn dot(one: &Row, other: &Row) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}
