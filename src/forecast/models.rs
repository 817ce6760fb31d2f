//! The candidates: point forecasts from a window of the past.

use std::{borrow::Cow, error::Error};

use augurs::{
    Fit, Predict,
    ets::{AutoETS, trend::AutoETSTrendModel},
    forecaster::{
        Forecaster,
        transforms::{LinearInterpolator, Log, Transformer},
    },
    mstl::{FittedTrendModel, MSTLModel, TrendModel},
};

use super::{BUCKETS_PER_DAY, DemandHistory};
use crate::interfaces::ForecastMethod;

/// Steps forecast: two hours, longer than any cold start.
pub const STEPS: usize = 12;
/// Buckets that a model learns from.
const WINDOW: usize = 7 * BUCKETS_PER_DAY;
/// Buckets that smoothing looks at: older ones have no weight left, but cost as much.
const SMOOTHED: usize = 2 * BUCKETS_PER_DAY;
/// Buckets before which a trend is a guess.
const LEAST_TREND: usize = 36;
/// Buckets before which a season is a guess.
const LEAST_SEASONAL: usize = 3 * BUCKETS_PER_DAY;
/// Share of the window that may be missing.
const MOST_MISSING: f64 = 0.2;
/// Rates below this share of the greatest are as good as none: a logarithm must not make much of them.
const FLOOR: f64 = 0.005;
/// No forecast goes beyond this factor of the greatest rate of the window.
const MOST: f64 = 2.0;
/// Exponential smoothing with additive errors, and a trend, damped or not, where it helps.
const SMOOTHING: &str = "AZN";

/// What `method` expects of the [`STEPS`] buckets from number `end` on; `None` where the past does not suffice, or the
/// model finds nothing.
pub(super) fn forecast(method: ForecastMethod, history: &DemandHistory, end: i64) -> Option<Vec<f64>> {
    if method == ForecastMethod::Naive {
        return Some(vec![last(history, end)?; STEPS]);
    }
    let rates = window(history, end)?;
    let smoothing = AutoETS::new(1, SMOOTHING).ok()?;
    let point = match method {
        ForecastMethod::Seasonal if rates.len() >= LEAST_SEASONAL => {
            predict(MSTLModel::new(vec![BUCKETS_PER_DAY], Tail(smoothing.into_trend_model())), &rates)?
        }
        ForecastMethod::Trend if rates.len() >= LEAST_TREND => {
            predict(smoothing, &rates[rates.len().saturating_sub(SMOOTHED)..])?
        }
        _ => return None,
    };
    let most = rates.iter().copied().fold(0.0, f64::max) * MOST;
    let is_sound = point.len() == STEPS && point.iter().all(|rate| rate.is_finite());
    is_sound.then(|| point.into_iter().map(|rate| rate.clamp(0.0, most)).collect())
}

/// The last known rate before bucket `end`, unless that is too long ago.
pub(super) fn last(history: &DemandHistory, end: i64) -> Option<f64> {
    (1..=STEPS.cast_signed() as i64).find_map(|back| history.rate(end - back))
}

/// The past before bucket `end`: NaN where it is missing, and never so small that a logarithm makes much of it. `None`
/// where there is nothing to learn from.
fn window(history: &DemandHistory, end: i64) -> Option<Vec<f64>> {
    let known = history.before(end, WINDOW);
    let missing = known.iter().filter(|rate| rate.is_none()).count();
    let greatest = known.iter().flatten().copied().fold(0.0, f32::max);
    if greatest <= 0.0 || history.rate(end - 1).is_none() || missing as f64 > MOST_MISSING * known.len() as f64 {
        return None;
    }
    let floor = f64::from(greatest) * FLOOR;
    Some(known.iter().map(|rate| rate.map_or(f64::NAN, |rate| f64::from(rate).max(floor))).collect())
}

/// Fits `model` to the logarithms of `rates`, gaps filled by straight lines.
fn predict<M>(model: M, rates: &[f64]) -> Option<Vec<f64>>
where
    M: Fit,
    M::Fitted: Predict,
{
    let transforms = vec![LinearInterpolator::new().boxed(), Log::new().boxed()];
    let mut forecaster = Forecaster::new(model).with_transformers(transforms);
    forecaster.fit(rates).ok()?;
    Some(forecaster.predict(STEPS, None).ok()?.point)
}

/// A trend model that looks at the newest [`SMOOTHED`] values only.
#[derive(Debug)]
struct Tail(AutoETSTrendModel);

impl TrendModel for Tail {
    fn name(&self) -> Cow<'_, str> {
        self.0.name()
    }

    fn fit(&self, y: &[f64]) -> Result<Box<dyn FittedTrendModel + Sync + Send>, Box<dyn Error + Send + Sync>> {
        self.0.fit(&y[y.len().saturating_sub(SMOOTHED)..])
    }
}
