//! Arrival times at a rate that changes over time.
//!
//! Both kinds of spacing advance the integral of the rate: by 1 from one arrival to the next when regular, by a unit
//! exponential when Poisson (inversion of the cumulative rate, Çinlar 1975), which is exact also on ramps.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::optional as friendly;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1};
use serde::Deserialize;

use super::LoadError;

/// A stretch of time with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// Requests per second, at its start.
    pub rate: f64,
    /// Requests per second at its end, if the rate changes evenly until then.
    #[serde(default)]
    pub to: Option<f64>,
    /// How long it lasts, such as `90s` or `1h 30m`; without, for ever.
    #[serde(default, with = "friendly")]
    pub duration: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Spacing {
    Regular,
    Poisson,
}

/// Arrival times in seconds, ascending.
#[derive(Debug)]
pub(super) struct ArrivalTimes {
    steps: std::vec::IntoIter<Step>,
    step: Option<Step>,
    /// When the current step began.
    began: f64,
    /// Time in the current step.
    within: f64,
    spacing: Spacing,
    random: StdRng,
}

impl ArrivalTimes {
    pub(super) fn new(steps: Vec<Step>, spacing: Spacing, seed: u64) -> Result<Self, LoadError> {
        for (index, step) in steps.iter().enumerate() {
            check(step, index + 1 == steps.len()).map_err(|problem| LoadError::Step { number: index + 1, problem })?;
        }
        let mut steps = steps.into_iter();
        let step = steps.next();
        Ok(Self { steps, step, began: 0.0, within: 0.0, spacing, random: StdRng::seed_from_u64(seed) })
    }
}

fn check(step: &Step, is_last: bool) -> Result<(), &'static str> {
    let is_rate = |rate: f64| rate.is_finite() && (0.0..=1e6).contains(&rate);
    if !is_rate(step.rate) || !step.to.is_none_or(is_rate) {
        return Err("a rate is a number of requests per second from 0 to 1000000");
    }
    match step.duration {
        None if step.to.is_some() => Err("a rate that changes (`to`) needs a `duration`"),
        None if !is_last => Err("only the last step may lack a `duration`: no step after it would begin"),
        Some(duration) if duration.is_zero() => Err("`duration` must be longer than 0s"),
        _ => Ok(()),
    }
}

impl Iterator for ArrivalTimes {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let mut needed = match self.spacing {
            Spacing::Regular => 1.0,
            Spacing::Poisson => Exp1.sample(&mut self.random),
        };
        loop {
            let step = self.step?;
            let length = step.duration.map_or(f64::INFINITY, |duration| duration.as_secs_f64());
            let slope = step.to.map_or(0.0, |to| (to - step.rate) / length);
            let rate = step.rate + slope * self.within;
            let left = length - self.within;
            // Without a slope `left` may be infinite, and zero times that is no number.
            let mean_rate = if slope == 0.0 { rate } else { rate + slope * left / 2.0 };
            let available = if mean_rate > 0.0 { mean_rate * left } else { 0.0 };
            if needed <= available {
                // Solves rate·x + slope·x²/2 = needed in the form that is stable for a slope near zero.
                self.within += 2.0 * needed / (rate + (rate * rate + 2.0 * slope * needed).max(0.0).sqrt());
                return Some(self.began + self.within);
            }
            needed -= available;
            self.began += length;
            self.within = 0.0;
            self.step = self.steps.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rate: f64, to: Option<f64>, seconds: u64) -> Step {
        Step { rate, to, duration: Some(Duration::from_secs(seconds)) }
    }

    fn times(steps: &[Step], spacing: Spacing) -> ArrivalTimes {
        ArrivalTimes::new(steps.to_vec(), spacing, 7).unwrap()
    }

    #[test]
    fn regular_arrivals_are_evenly_spaced_and_carry_over_from_step_to_step() {
        let steps = [step(2.0, None, 2), step(0.0, None, 10), step(0.5, None, 4)];
        assert_eq!(times(&steps, Spacing::Regular).collect::<Vec<_>>(), [0.5, 1.0, 1.5, 2.0, 14.0, 16.0]);
    }

    #[test]
    fn a_ramp_has_as_many_arrivals_as_the_area_under_it() {
        let up: Vec<_> = times(&[step(0.0, Some(10.0), 100)], Spacing::Regular).collect();
        let down: Vec<_> = times(&[step(10.0, Some(0.0), 100)], Spacing::Regular).collect();
        // Half way up a quarter of them have come. One that falls on a boundary may be on either side by rounding.
        let until = |times: &[f64], end: f64| times.iter().filter(|&&time| time <= end).count();
        for (times, half_way) in [(&up, 125), (&down, 375)] {
            assert!(times.is_sorted() && times.len().abs_diff(500) <= 1, "{}", times.len());
            assert!(until(times, 50.0).abs_diff(half_way) <= 1, "{}", until(times, 50.0));
            assert_eq!(until(times, 100.0), times.len());
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_their_rate() {
        let all: Vec<_> = times(&[step(20.0, Some(60.0), 1000)], Spacing::Poisson).collect();
        let mut per_second = vec![0.0; 1000];
        for time in &all {
            per_second[*time as usize] += 1.0;
        }
        let residuals = per_second.iter().enumerate().map(|(second, count)| {
            let mean = 20.0 + 0.04 * (second as f64 + 0.5);
            (count - mean) * (count - mean) / mean
        });
        assert!((all.len() as f64 - 40_000.0).abs() < 800.0, "{}", all.len());
        let dispersion = residuals.sum::<f64>() / 1000.0;
        assert!((0.9..1.1).contains(&dispersion), "{dispersion}");
    }

    #[test]
    fn a_rate_without_end_goes_on_and_one_of_zero_never_brings_a_request() {
        let for_ever = Step { rate: 4.0, to: None, duration: None };
        assert_eq!(times(&[for_ever], Spacing::Regular).nth(999), Some(250.0));
        let for_ever = Step { rate: 0.0, to: None, duration: None };
        assert_eq!(times(&[for_ever], Spacing::Poisson).next(), None);
        assert_eq!(times(&[], Spacing::Regular).next(), None);
    }

    #[test]
    fn steps_that_make_no_sense_are_refused_by_number() {
        for (steps, message) in [
            (vec![step(1.0, None, 1), step(-1.0, None, 1)], "load step 2: a rate is a number of requests per second"),
            (vec![step(f64::NAN, None, 1)], "load step 1: a rate"),
            (vec![step(1.0, None, 0)], "load step 1: `duration` must be longer"),
            (vec![Step { duration: None, ..step(1.0, Some(2.0), 0) }], "load step 1: a rate that changes"),
            (vec![Step { duration: None, ..step(1.0, None, 0) }, step(1.0, None, 1)], "load step 1: only the last"),
        ] {
            let error = ArrivalTimes::new(steps, Spacing::Regular, 0).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
