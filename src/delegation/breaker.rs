//! A circuit breaker. Pure: time is given to it.

use std::time::Duration;

use jiff::Timestamp;

/// Failures in a row after which the other side is left alone.
const FAILURES: u32 = 5;
/// For how long; then one request tries.
const REST: Duration = Duration::from_secs(10);

/// Whether requests may pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    /// Until when nothing passes.
    open_until: Option<Timestamp>,
}

/// What a breaker says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It may pass; tell how it went.
    Open,
    /// It may not before this moment.
    Closed(Timestamp),
}

impl Breaker {
    /// Whether a request may pass at `now`. After a rest one may, and the others wait for how it goes.
    pub fn ask(&mut self, now: Timestamp) -> Passage {
        match self.open_until {
            Some(until) if now < until => Passage::Closed(until),
            Some(_) => {
                self.open_until = Some(now + REST);
                Passage::Open
            }
            None => Passage::Open,
        }
    }

    /// How a request that passed went.
    pub fn tell(&mut self, succeeded: bool, now: Timestamp) {
        if succeeded {
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now + REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn after_five_failures_in_a_row_nothing_passes_for_ten_seconds_and_then_one_tries() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.tell(false, at(0));
        }
        breaker.tell(true, at(0));
        for _ in 0..4 {
            breaker.tell(false, at(0));
            assert_eq!(breaker.ask(at(0)), Passage::Open, "a success in between counts");
        }
        breaker.tell(false, at(1));
        assert_eq!(breaker.ask(at(2)), Passage::Closed(at(11)));
        assert_eq!(breaker.ask(at(11)), Passage::Open);
        assert_eq!(breaker.ask(at(12)), Passage::Closed(at(21)), "one tries");
        breaker.tell(false, at(13));
        assert_eq!(breaker.ask(at(22)), Passage::Closed(at(23)));
        assert_eq!(breaker.ask(at(23)), Passage::Open);
        breaker.tell(true, at(24));
        assert_eq!(breaker, Breaker::default());
    }
}
