//! Which candidate a model's own past speaks for, and how wide its errors were there.

use std::collections::BTreeMap;

use super::{
    BUCKET, BUCKETS_PER_DAY, DemandHistory,
    models::{self, STEPS},
};
use crate::interfaces::{DemandForecast, ExpectedDemand, ForecastMethod};

/// A candidate must err less than this much of what the naive forecast errs.
pub const WORTH_IT: f64 = 0.95;
/// Days that candidates are tested on.
const TESTED: i64 = BUCKETS_PER_DAY.cast_signed() as i64;
/// Buckets from one forecast of the backtest to the next; they are made at whole multiples, so that they are made once.
const STRIDE: i64 = 6;
/// Fewer forecasts than this tell nothing of a candidate.
const LEAST_TESTS: usize = 6;
/// Errors of so many steps before and after one count for its quantiles.
const NEIGHBOURS: usize = 2;
/// Demand as small as this share of the forecast, or the other way round, is an error like any greater one.
const WIDEST: f64 = 20.0;
const CANDIDATES: [ForecastMethod; 2] = [ForecastMethod::Trend, ForecastMethod::Seasonal];

/// Forecasts one model's demand. It keeps the forecasts of its backtest, so that each is made once: a memo that changes
/// how long an answer takes, never the answer.
#[derive(Clone, Debug, Default)]
pub struct Forecaster {
    /// By the first bucket that they are of.
    tests: BTreeMap<i64, Test>,
}

/// What each method expected at one moment of the past.
type Test = BTreeMap<ForecastMethod, Vec<f64>>;

impl Forecaster {
    /// The forecast from the newest complete bucket of `history` on; `None` where nothing is known of the last two hours.
    pub fn forecast(&mut self, history: &DemandHistory) -> Option<DemandForecast> {
        let end = history.end_bucket();
        let last = models::last(history, end)?;
        self.test(history, end);
        let naive = ForecastMethod::Naive;
        let mut chosen = (1.0, naive, vec![last; STEPS]);
        for method in CANDIDATES {
            let Some(relative_error) = self.relative_error(method, history) else { continue };
            if relative_error < WORTH_IT
                && relative_error < chosen.0
                && let Some(point) = models::forecast(method, history, end)
            {
                chosen = (relative_error, method, point);
            }
        }
        let (relative_error, method, point) = chosen;
        let errors = self.errors(method, history);
        let steps = point.iter().enumerate().map(|(step, expected)| with_quantiles(*expected, &errors, step));
        Some(DemandForecast {
            made_at: history.end(),
            step: BUCKET,
            method,
            relative_error,
            last,
            steps: steps.collect(),
        })
    }

    /// Makes the forecasts of the backtest that are not made yet, and drops those that are too old.
    fn test(&mut self, history: &DemandHistory, end: i64) {
        let oldest = (end - TESTED).max(history.first_bucket() + 1);
        let multiple = |bucket: i64| bucket.div_euclid(STRIDE) * STRIDE;
        self.tests.retain(|bucket, _| (oldest..end).contains(bucket));
        let mut bucket = multiple(oldest + STRIDE - 1);
        while bucket < end {
            self.tests.entry(bucket).or_insert_with(|| {
                let methods = [ForecastMethod::Naive].into_iter().chain(CANDIDATES);
                methods.filter_map(|method| Some((method, models::forecast(method, history, bucket)?))).collect()
            });
            bucket += STRIDE;
        }
    }

    /// The mean absolute error of `method` over that of the naive forecast, where both were made.
    fn relative_error(&self, method: ForecastMethod, history: &DemandHistory) -> Option<f64> {
        let (mut errors, mut naive_errors, mut tests) = (0.0, 0.0, 0);
        for (bucket, test) in &self.tests {
            let (Some(expected), Some(naive)) = (test.get(&method), test.get(&ForecastMethod::Naive)) else { continue };
            tests += 1;
            for (bucket, (expected, naive)) in (*bucket..).zip(expected.iter().zip(naive)) {
                if let Some(actual) = history.rate(bucket) {
                    errors += (expected - actual).abs();
                    naive_errors += (naive - actual).abs();
                }
            }
        }
        (tests >= LEAST_TESTS && naive_errors > 0.0).then(|| errors / naive_errors)
    }

    /// Demand over what `method` expected of it, per step.
    fn errors(&self, method: ForecastMethod, history: &DemandHistory) -> Vec<Vec<f64>> {
        let mut errors = vec![Vec::new(); STEPS];
        for (bucket, test) in &self.tests {
            let expected = test.get(&method).map_or(&[][..], Vec::as_slice);
            for (bucket, (expected, errors)) in (*bucket..).zip(expected.iter().zip(&mut errors)) {
                if let Some(actual) = history.rate(bucket)
                    && *expected > 0.0
                {
                    errors.push((actual / expected).clamp(1.0 / WIDEST, WIDEST));
                }
            }
        }
        errors
    }
}

/// `expected`, and what demand would be if this step erred as steps like it did.
fn with_quantiles(expected: f64, errors: &[Vec<f64>], step: usize) -> ExpectedDemand {
    let near = errors.iter().take(step + NEIGHBOURS + 1).skip(step.saturating_sub(NEIGHBOURS));
    let mut factors: Vec<f64> = near.flatten().copied().collect();
    factors.sort_by(f64::total_cmp);
    // The share of n+1, so that few errors give wide quantiles (split conformal prediction).
    let at = |share: f64| {
        let rank = ((factors.len() + 1) as f64 * share).ceil() as usize;
        expected * factors.get(rank.saturating_sub(1).min(factors.len().saturating_sub(1))).copied().unwrap_or(1.0)
    };
    ExpectedDemand { expected, p50: at(0.5), p90: at(0.9), p95: at(0.95) }
}
