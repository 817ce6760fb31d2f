//! Time as a dependency: real, scaled or simulated behind one trait.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// Tells the time. The decision core takes no clock; the parts around it take this one.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// How long `duration` of this clock lasts on the wall; what a task has to sleep.
    fn wall(&self, duration: Duration) -> Duration {
        duration
    }
}

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that runs `factor` times faster than the wall, from the moment it was made.
#[derive(Clone, Debug)]
pub struct ScaledClock {
    started: Instant,
    origin: Timestamp,
    factor: f64,
}

impl ScaledClock {
    /// A clock that starts at the current time and runs `factor` times faster; `factor` must be positive and finite.
    pub fn new(factor: f64) -> Self {
        Self { started: Instant::now(), origin: Timestamp::now(), factor }
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed().mul_f64(self.factor);
        self.origin.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    fn wall(&self, duration: Duration) -> Duration {
        duration.div_f64(self.factor)
    }
}

/// A clock that moves only when told.
#[derive(Debug)]
pub struct SimulatedClock(AtomicI64);

impl SimulatedClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_microsecond()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}
