//! Simulated time as whole picoseconds, so that adding a thousand iterations at once equals adding them one by one.

use std::{
    fmt,
    ops::{Add, AddAssign, Mul},
    time::Duration,
};

const PER_SECOND: u64 = 1_000_000_000_000;

/// A point in simulated time, counted from the start of the simulation, or a length of it. Holds 213 days; arithmetic
/// stops at that end instead of wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Picoseconds(u64);

impl Picoseconds {
    /// The start of the simulation.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const MAX: Self = Self(u64::MAX);

    /// `count` picoseconds.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// `count` milliseconds.
    pub const fn from_millis(count: u64) -> Self {
        Self(count.saturating_mul(PER_SECOND / 1000))
    }

    /// `seconds` rounded to a picosecond; negative and NaN become zero.
    pub fn from_secs_f64(seconds: f64) -> Self {
        // A cast from float saturates, and turns NaN into 0.
        Self((seconds * PER_SECOND as f64).round() as u64)
    }

    /// Whole picoseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / PER_SECOND as f64
    }

    /// The time from `earlier` until `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// The first multiple of `step` that is later than `self`.
    #[must_use]
    pub(crate) const fn next_multiple_of(self, step: Self) -> Self {
        Self((self.0 / step.0 + 1).saturating_mul(step.0))
    }
}

impl Add for Picoseconds {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Picoseconds {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<u64> for Picoseconds {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl From<Duration> for Picoseconds {
    fn from(duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(nanoseconds.saturating_mul(1000))
    }
}

impl From<Picoseconds> for Duration {
    fn from(time: Picoseconds) -> Self {
        Self::from_nanos(time.0 / 1000)
    }
}

impl fmt::Display for Picoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_survive_the_round_trip() {
        for seconds in [0.0, 0.001, 4.3146, 86_400.0] {
            assert_eq!(Picoseconds::from_secs_f64(seconds).as_secs_f64(), seconds);
        }
    }

    #[test]
    fn what_is_not_a_time_becomes_an_end_of_the_range() {
        assert_eq!(Picoseconds::from_secs_f64(f64::NAN), Picoseconds::ZERO);
        assert_eq!(Picoseconds::from_secs_f64(-1.0), Picoseconds::ZERO);
        assert_eq!(Picoseconds::from_secs_f64(f64::INFINITY), Picoseconds::MAX);
        assert_eq!(Picoseconds::MAX + Picoseconds::from_millis(1), Picoseconds::MAX);
        assert_eq!(Picoseconds::from(Duration::MAX), Picoseconds::MAX);
    }
}
