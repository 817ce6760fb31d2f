//! Demand that is expected, with how sure that is. Computed outside the cycle, from what is remembered of the past.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a forecast was made: of the methods that the model's own past speaks for, the one that erred least there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForecastMethod {
    /// The last rate stays. Whatever does not beat it on the model's own past is not used.
    #[default]
    Naive,
    /// Exponential smoothing, with a trend where it helps.
    Trend,
    /// The same of what a daily season leaves, and the season put back.
    Seasonal,
}

/// Expected demand of one model from `made_at` on, per step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemandForecast {
    /// Beginning of the first step: what came before was known.
    pub made_at: Timestamp,
    /// Length of a step.
    pub step: Duration,
    /// How it was made.
    pub method: ForecastMethod,
    /// Its mean absolute error over that of the naive forecast, on the model's own past; 1 for the naive forecast.
    pub relative_error: f64,
    /// Mean rate of the last known step, in requests per second.
    pub last: f64,
    /// Steps in order of time.
    pub steps: Vec<ExpectedDemand>,
}

/// Mean rate of one step, in requests per second. The quantiles are what demand would be if the forecast erred as it did
/// in the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedDemand {
    /// What is expected.
    pub expected: f64,
    /// Half of the time demand is below this.
    pub p50: f64,
    /// Nine times in ten.
    pub p90: f64,
    /// 95 times in a hundred.
    pub p95: f64,
}

impl DemandForecast {
    /// Demand at `time`, interpolated between the middles of steps; `None` before the last known one and beyond the end.
    pub fn at(&self, time: Timestamp) -> Option<ExpectedDemand> {
        let middles = time.duration_since(self.made_at).as_secs_f64() / self.step.as_secs_f64().max(1e-9) - 0.5;
        if !(-1.0..self.steps.len() as f64 - 0.5).contains(&middles) {
            return None;
        }
        let known = ExpectedDemand { expected: self.last, p50: self.last, p90: self.last, p95: self.last };
        let step = |index: f64| match index {
            index if index < 0.0 => Some(&known),
            index => self.steps.get(index as usize).or(self.steps.last()),
        };
        let (low, high) = (step(middles.floor())?, step(middles.floor() + 1.0)?);
        let share = middles - middles.floor();
        let between = |value: fn(&ExpectedDemand) -> f64| value(low) * (1.0 - share) + value(high) * share;
        Some(ExpectedDemand {
            expected: between(|demand| demand.expected),
            p50: between(|demand| demand.p50),
            p90: between(|demand| demand.p90),
            p95: between(|demand| demand.p95),
        })
    }

    /// Expected demand at `then` over that at `now`: a factor for a rate that was measured just now, which knows more of
    /// the present than whole steps do. 1 for a naive forecast.
    pub fn growth(&self, now: Timestamp, then: Timestamp) -> Option<f64> {
        let (now, then) = (self.at(now)?.expected, self.at(then)?.expected);
        (now > 0.0).then(|| then / now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn forecast(rates: &[f64]) -> DemandForecast {
        let step = |rate: &f64| ExpectedDemand { expected: *rate, p50: *rate, p90: rate * 2.0, p95: rate * 3.0 };
        DemandForecast {
            made_at: at(6000),
            step: Duration::from_secs(600),
            method: ForecastMethod::Trend,
            relative_error: 0.5,
            last: 10.0,
            steps: rates.iter().map(step).collect(),
        }
    }

    #[test]
    fn demand_is_interpolated_between_the_middles_of_steps() {
        let forecast = forecast(&[20.0, 40.0]);
        let expected = |second: i64| forecast.at(at(second)).map(|at| at.expected);
        assert_eq!(expected(5700), Some(10.0), "the middle of what is known");
        assert_eq!(expected(6000), Some(15.0));
        assert_eq!(expected(6300), Some(20.0));
        assert_eq!(expected(6600), Some(30.0));
        assert_eq!(expected(7199), Some(40.0), "after the last middle it stays");
        assert_eq!((expected(7200), expected(5399)), (None, None));
        assert_eq!(forecast.at(at(6600)).unwrap().p90, 60.0);
    }

    #[test]
    fn growth_is_what_is_expected_over_what_is_expected_now() {
        let rising = forecast(&[20.0, 40.0]);
        assert_eq!(rising.growth(at(6300), at(6900)), Some(2.0));
        assert_eq!(rising.growth(at(6300), at(9900)), None, "beyond its end");
        assert_eq!(forecast(&[10.0, 10.0]).growth(at(6000), at(6900)), Some(1.0));
    }
}
