//! How well forecasts would have done on a history of rates: held against what came, beside the naive forecast and the
//! same time yesterday.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{BUCKETS_PER_DAY, DemandHistory, Forecaster, models};
use crate::interfaces::ForecastMethod;

/// Steps ahead that errors are told for: 10, 20, 30, 60 and 120 minutes.
pub const HORIZONS: [usize; 5] = [1, 2, 3, 6, 12];
/// Buckets before the first forecast.
const FIRST: usize = 36;

/// What a backtest found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backtest {
    /// One per entry of [`HORIZONS`].
    pub horizons: [Errors; HORIZONS.len()],
    /// How often each method was chosen.
    pub chosen: BTreeMap<ForecastMethod, usize>,
}

/// Errors at one horizon, summed over forecasts, and what they are held against.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// Forecasts made.
    pub forecasts: usize,
    /// Sum of what came.
    pub actual: f64,
    /// Sum of absolute errors of the forecast.
    pub forecast: f64,
    /// Of "it stays as it is".
    pub naive: f64,
    /// Of "as at the same time yesterday", over the forecasts that have a yesterday.
    pub yesterday: f64,
    /// What came in those.
    pub actual_with_yesterday: f64,
    /// Forecasts whose 90th percentile was not exceeded.
    pub within_p90: usize,
}

impl Errors {
    /// Absolute error over demand, of the forecast, of the naive one, and of yesterday's; `None` where there is none.
    pub fn relative(&self) -> [Option<f64>; 3] {
        let over = |error: f64, actual: f64| (actual > 0.0).then(|| error / actual);
        [
            over(self.forecast, self.actual),
            over(self.naive, self.actual),
            over(self.yesterday, self.actual_with_yesterday),
        ]
    }

    /// Share of forecasts whose 90th percentile was not exceeded: 0.9 if it tells the truth.
    pub fn coverage(&self) -> Option<f64> {
        (self.forecasts > 0).then(|| self.within_p90 as f64 / self.forecasts as f64)
    }
}

/// Forecasts every `stride` buckets from the sixth hour of `rates` on, each from what came before it. `progress` is told
/// after each one how many there were, of how many.
pub fn backtest(rates: &[Option<f64>], stride: usize, mut progress: impl FnMut(usize, usize)) -> Backtest {
    let mut backtest = Backtest::default();
    let mut forecaster = Forecaster::default();
    let last = rates.len().saturating_sub(models::STEPS);
    let origins: Vec<usize> = (FIRST..=last).step_by(stride.max(1)).collect();
    for (made, origin) in origins.iter().enumerate() {
        let history = DemandHistory::from_rates(Timestamp::UNIX_EPOCH, rates[..*origin].iter().copied());
        if let Some(forecast) = forecaster.forecast(&history) {
            *backtest.chosen.entry(forecast.method).or_default() += 1;
            for (errors, horizon) in backtest.horizons.iter_mut().zip(HORIZONS) {
                let Some(actual) = rates[origin + horizon - 1] else { continue };
                let step = forecast.steps[horizon - 1];
                errors.forecasts += 1;
                errors.actual += actual;
                errors.forecast += (step.expected - actual).abs();
                errors.naive += (forecast.last - actual).abs();
                errors.within_p90 += usize::from(actual <= step.p90);
                let yesterday = (origin + horizon - 1).checked_sub(BUCKETS_PER_DAY).and_then(|bucket| rates[bucket]);
                if let Some(yesterday) = yesterday {
                    errors.yesterday += (yesterday - actual).abs();
                    errors.actual_with_yesterday += actual;
                }
            }
        }
        progress(made + 1, origins.len());
    }
    backtest
}
