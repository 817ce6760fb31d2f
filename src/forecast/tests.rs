use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;
use crate::interfaces::{DemandForecast, ForecastMethod};

const DAY: f64 = BUCKETS_PER_DAY as f64;

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn history(rates: impl IntoIterator<Item = f64>) -> DemandHistory {
    DemandHistory::from_rates(start(), rates.into_iter().map(Some))
}

fn forecast(history: &DemandHistory) -> DemandForecast {
    Forecaster::default().forecast(history).unwrap()
}

/// Deterministic noise from -1 to 1.
fn noise(bucket: usize) -> f64 {
    (bucket as f64 * 12.9898).sin() * 43758.547 % 1.0
}

/// A service that is busy by day.
fn daily(bucket: usize) -> f64 {
    let season = (bucket as f64 / DAY * std::f64::consts::TAU).sin();
    100.0 * (1.0 + 0.6 * season) * (1.0 + 0.05 * noise(bucket))
}

#[test]
fn a_daily_season_is_learned_and_errs_much_less_than_staying_as_it_is() {
    let forecast = forecast(&history((0..KEPT).map(daily)));
    assert_eq!(forecast.method, ForecastMethod::Seasonal);
    assert!(forecast.relative_error < 0.5, "{}", forecast.relative_error);
    for (step, demand) in forecast.steps.iter().enumerate() {
        let season = ((KEPT + step) as f64 / DAY * std::f64::consts::TAU).sin();
        let truth = 100.0 * (1.0 + 0.6 * season);
        assert!((demand.expected / truth - 1.0).abs() < 0.08, "{step}: {} {truth}", demand.expected);
        assert!(demand.p50 <= demand.p90 && demand.p90 <= demand.p95);
    }
}

#[test]
fn a_steady_climb_is_a_trend_before_there_are_days() {
    let forecast = forecast(&history((0..100).map(|bucket| 20.0 * 1.01_f64.powi(bucket))));
    assert_eq!(forecast.method, ForecastMethod::Trend);
    let truth = 20.0 * 1.01_f64.powi(105);
    assert!((forecast.steps[5].expected / truth - 1.0).abs() < 0.03, "{:?}", forecast.steps[5]);
}

#[test]
fn what_cannot_be_foreseen_is_forecast_naively() {
    // A random walk: no forecast beats "it stays as it is".
    let mut level: f64 = 100.0;
    let walk = (0..KEPT).map(|bucket| {
        level *= (0.1 * noise(bucket * 7 + 3)).exp();
        level
    });
    let forecast = forecast(&history(walk));
    assert_eq!((forecast.method, forecast.relative_error), (ForecastMethod::Naive, 1.0));
    assert!(forecast.steps.iter().all(|demand| demand.expected == forecast.last));
    assert!(forecast.steps[0].p95 > forecast.last, "but not without saying how far it may stray");
}

#[test]
fn little_is_said_of_little() {
    assert_eq!(Forecaster::default().forecast(&DemandHistory::default()), None);
    let forecast = forecast(&history([5.0, 7.0]));
    assert_eq!((forecast.method, forecast.last), (ForecastMethod::Naive, 7.0));
    let long_ago = DemandHistory::from_rates(start(), [Some(5.0)].into_iter().chain([None; STEPS]));
    assert_eq!(Forecaster::default().forecast(&long_ago), None, "two hours without a rate");
}

#[test]
fn the_memo_changes_no_answer() {
    let mut kept = Forecaster::default();
    for length in [60, 61, 66, 67, 75] {
        let history = history((0..length).map(daily));
        assert_eq!(kept.forecast(&history), Forecaster::default().forecast(&history), "{length}");
    }
}

#[test]
fn observations_become_the_mean_rate_of_their_bucket_and_gaps_stay_gaps() {
    let mut observed = DemandHistory::default();
    let at = |seconds: i64| start() + seconds.seconds();
    for second in (0..=1200).step_by(15) {
        observed.observe(at(second), if second <= 600 { 10.0 } else { 20.0 });
    }
    assert_eq!(observed.end(), at(1200));
    assert_eq!(
        (observed.rate(observed.first_bucket()), observed.rate(observed.first_bucket() + 1)),
        (Some(10.0), Some(20.0))
    );
    // An hour of silence: the bucket it began in is short of observations, those within have none.
    observed.observe(at(4815), 30.0);
    observed.observe(at(4700), 99.0);
    observed.observe(at(4830), f64::NAN);
    assert_eq!(observed.end(), at(4800));
    assert!((2..8).all(|bucket| observed.rate(observed.first_bucket() + bucket).is_none()));
    // It survives a restart.
    let text = serde_json::to_string(&observed).unwrap();
    assert_eq!(serde_json::from_str::<DemandHistory>(&text).unwrap(), observed);
}

#[test]
fn memory_is_bounded() {
    let mut observed = DemandHistory::default();
    for minute in 0..(KEPT.cast_signed() as i64 * 10 + 500) {
        observed.observe(start() + (minute * 60).seconds(), 123.456_789);
    }
    assert_eq!(observed.before(observed.end_bucket(), usize::MAX).len(), KEPT);
    assert!(serde_json::to_string(&observed).unwrap().len() < 8 * KEPT, "and short as text");
    // After years of silence it starts anew.
    observed.observe(start() + (1000 * 24 * 3600).seconds(), 1.0);
    assert_eq!(observed.before(observed.end_bucket(), usize::MAX).len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_past_gives_nonsense(
        rates in prop::collection::vec(
            prop_oneof![4 => (0.0..1e3).prop_map(Some), 1 => Just(None), 1 => Just(Some(0.0)), 1 => (0.0..1e12).prop_map(Some)],
            1..100,
        )
    ) {
        if let Some(forecast) = Forecaster::default().forecast(&DemandHistory::from_rates(start(), rates)) {
            prop_assert_eq!(forecast.steps.len(), STEPS);
            for demand in &forecast.steps {
                for value in [demand.expected, demand.p50, demand.p90, demand.p95] {
                    prop_assert!(value.is_finite() && value >= 0.0, "{:?}", forecast);
                }
            }
        }
    }

    #[test]
    fn any_order_of_observations_is_survived(
        observations in prop::collection::vec((-1e5..1e7, prop_oneof![0.0..1e6, Just(f64::NAN), Just(-1.0)]), 0..200)
    ) {
        let mut observed = DemandHistory::default();
        for (seconds, rate) in observations {
            observed.observe(start() + (seconds as i64).seconds(), rate);
        }
        prop_assert!(observed.before(i64::MAX, usize::MAX).iter().flatten().all(|rate| rate.is_finite() && *rate >= 0.0));
    }
}

/// The rates of a real service over a day.
fn recorded() -> Vec<Option<f64>> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/servegen_deepseek-r1_rates_10min.csv.gz");
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap());
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().ok()).collect()
}

#[test]
fn on_a_real_day_the_forecast_is_hardly_ever_worse_than_the_naive_one() {
    let rates = recorded();
    assert_eq!(rates.len(), 144);
    let found = backtest(&rates, 6, |_, _| ());
    for errors in &found.horizons {
        let [forecast, naive, yesterday] = errors.relative();
        assert!(forecast < naive.map(|error| error * 1.05), "{found:?}");
        assert_eq!(yesterday, None, "there is no yesterday");
    }
    assert!(found.horizons[0].coverage() > Some(0.75), "{found:?}");
}

#[test]
fn on_days_that_resemble_each_other_the_forecast_beats_both_the_naive_one_and_yesterday() {
    // A tenth more from day to day: yesterday is always too low.
    let rates: Vec<f64> = (0..KEPT).map(|bucket| daily(bucket) * 1.1_f64.powf(bucket as f64 / DAY)).collect();
    let (mut ours, mut naive, mut yesterday) = (0.0, 0.0, 0.0);
    for origin in [KEPT - 130, KEPT - 80, KEPT - 30] {
        let forecast = forecast(&history(rates[..origin].iter().copied()));
        let actual = rates[origin + 5];
        ours += (forecast.steps[5].expected - actual).abs();
        naive += (rates[origin - 1] - actual).abs();
        yesterday += (rates[origin + 5 - BUCKETS_PER_DAY] - actual).abs();
    }
    assert!(ours < 0.7 * naive && ours < 0.7 * yesterday, "{ours} {naive} {yesterday}");
}
