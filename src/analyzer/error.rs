//! Why a queue cannot be analysed or a target cannot be met.

use std::fmt;

use thiserror::Error;

/// Why there is no answer.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum QueueError {
    /// An input outside the range in which the formulas hold.
    #[error("{name} is {value}, but {rule}")]
    InvalidInput {
        /// The input.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What it must be.
        rule: &'static str,
    },
    /// More arrives than can be served, so the queue grows without end.
    #[error(
        "{arrival_rate} requests/s arrive, but at most {limit} requests/s can be served; add replicas or send less"
    )]
    Unstable {
        /// Requests per second that arrive.
        arrival_rate: f64,
        /// Requests per second at which the queue stops being finite.
        limit: f64,
    },
    /// A target that is missed even by a lone request, or a throughput that no rate within the latencies gives.
    #[error(
        "the {target} target of {} cannot be met: at best it is {}; relax the target or choose a faster accelerator",
        shown(*wanted, unit),
        shown(*best, unit)
    )]
    Infeasible {
        /// The target that binds.
        target: Target,
        /// What was asked for.
        wanted: f64,
        /// The best there is.
        best: f64,
        /// Unit of both.
        unit: &'static str,
    },
}

/// Three significant digits, seconds as milliseconds.
fn shown(value: f64, unit: &str) -> String {
    let (value, unit) = if unit == "s" { (value * 1000.0, "ms") } else { (value, unit) };
    let digits = if value > 0.0 { 2 - value.log10().floor() as i32 } else { 0 };
    let rounded = if digits < 0 { value.round() } else { (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits) };
    format!("{rounded} {unit}")
}

/// A latency or throughput that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Time to first token.
    TimeToFirstToken,
    /// Time between tokens.
    InterTokenLatency,
    /// Tokens generated per second.
    TokensPerSecond,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeToFirstToken => "time-to-first-token",
            Self::InterTokenLatency => "inter-token-latency",
            Self::TokensPerSecond => "tokens-per-second",
        })
    }
}

/// `value`, if it lies in `[least, most]` (never for NaN).
pub(super) fn within(
    name: &'static str,
    value: f64,
    least: f64,
    most: f64,
    rule: &'static str,
) -> Result<f64, QueueError> {
    if value >= least && value <= most { Ok(value) } else { Err(QueueError::InvalidInput { name, value, rule }) }
}

/// A rate that may be zero.
pub(super) fn arrival_rate(value: f64) -> Result<f64, QueueError> {
    within("arrival rate", value, 0.0, 1e12, "it must be a number from 0 to 1e12 per unit of time")
}

/// A rate that may not be zero.
pub(super) fn service_rate(value: f64) -> Result<f64, QueueError> {
    within("service rate", value, 1e-12, 1e12, "it must be a number from 1e-12 to 1e12 per unit of time")
}

/// Places of a finite queue.
pub(super) fn capacity(value: u32) -> Result<u32, QueueError> {
    within("capacity", value.into(), 1.0, 1e6, "it must be a whole number from 1 to 1000000")?;
    Ok(value)
}
