//! A measured value in one of three states.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known of one quantity. Absence is never a zero: an absent series, NaN and a stale sample are [`Missing`].
///
/// [`Missing`]: Signal::Missing
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Signal<T> {
    /// Measured.
    #[serde(rename_all = "camelCase")]
    Present {
        /// The measured value.
        value: T,
        /// When the source sampled it; not when it was asked for.
        #[schemars(with = "String", extend("format" = "date-time"))]
        sampled_at: Timestamp,
    },
    /// Expected, but absent, not a number, or too old.
    #[default]
    Missing,
    /// This serving engine has no such quantity.
    NotDefined,
}

impl<T> Signal<T> {
    /// A value sampled at `sampled_at`.
    pub fn present(value: T, sampled_at: Timestamp) -> Self {
        Self::Present { value, sampled_at }
    }

    /// The value, however old.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Present { value, .. } => Some(value),
            Self::Missing | Self::NotDefined => None,
        }
    }

    /// When it was sampled.
    pub fn sampled_at(&self) -> Option<Timestamp> {
        match self {
            Self::Present { sampled_at, .. } => Some(*sampled_at),
            Self::Missing | Self::NotDefined => None,
        }
    }

    /// The same signal with a sample older than `max_age` turned into [`Signal::Missing`].
    ///
    /// A sample from the future (clock skew between source and us) counts as fresh.
    #[must_use]
    pub fn fresh(self, now: Timestamp, max_age: Duration) -> Self {
        match self {
            Self::Present { sampled_at, .. } if age(now, sampled_at) > max_age => Self::Missing,
            other => other,
        }
    }

    /// The same state with `f` applied to the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Signal<U> {
        match self {
            Self::Present { value, sampled_at } => Signal::Present { value: f(value), sampled_at },
            Self::Missing => Signal::Missing,
            Self::NotDefined => Signal::NotDefined,
        }
    }
}

impl Signal<f64> {
    /// A sample as a source gave it: NaN, infinities and negative values (no signal of ours can be negative) are missing.
    pub fn from_sample(value: f64, sampled_at: Timestamp) -> Self {
        if value.is_finite() && value >= 0.0 { Self::present(value, sampled_at) } else { Self::Missing }
    }
}

/// How long before `now` the moment `then` was; zero when it lies ahead.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_not_a_number_is_missing_never_zero() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1] {
            assert_eq!(Signal::from_sample(bad, at(0)), Signal::Missing, "{bad}");
        }
        assert_eq!(Signal::from_sample(0.0, at(0)), Signal::present(0.0, at(0)));
    }

    #[test]
    fn a_sample_is_missing_once_older_than_its_limit() {
        let limit = Duration::from_secs(60);
        let signal = Signal::present(1.0, at(100));
        assert_eq!(signal.fresh(at(160), limit), signal);
        assert_eq!(signal.fresh(at(161), limit), Signal::Missing);
        assert_eq!(signal.fresh(at(50), limit), signal, "a clock ahead of ours is not staleness");
    }
}
