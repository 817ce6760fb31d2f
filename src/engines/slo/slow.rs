//! Replicas that work many times slower than the others of their variant, such as one whose accelerator throttles. They
//! carry next to nothing and say nothing of how fast the variant is: nothing is learned from them, and others are asked
//! for in their place.

use crate::engines::group::Instance;

/// Over the median time between tokens.
const TIMES: f64 = 4.0;
/// Of fewer instances nobody can tell which are the slow ones.
const LEAST: usize = 3;

/// The time between tokens from which on an instance is slow, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    limit: f64,
}

impl Pace {
    /// What the instances of one variant show.
    pub(super) fn of(own: &[Instance<'_>]) -> Self {
        let (least, most) = own
            .iter()
            .filter_map(latency)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), latency| (least.min(latency), most.max(latency)));
        // Nearly always: nothing to look for.
        if most <= TIMES * least {
            return Self { limit: f64::INFINITY };
        }
        let mut latencies: Vec<f64> = own.iter().filter_map(latency).collect();
        let middle = (latencies.len() - 1) / 2;
        let (_, median, _) = latencies.select_nth_unstable_by(middle, f64::total_cmp);
        let limit = TIMES * *median;
        Self { limit: if latencies.len() < LEAST { f64::INFINITY } else { limit } }
    }

    pub(super) fn is_slow(self, instance: &Instance<'_>) -> bool {
        latency(instance).is_some_and(|latency| latency > self.limit)
    }

    /// Pods with a slow instance.
    pub(super) fn slow_pods(self, own: &[Instance<'_>]) -> u32 {
        if self.limit == f64::INFINITY {
            return 0;
        }
        let mut pods: Vec<usize> =
            own.iter().filter(|instance| self.is_slow(instance)).map(|instance| instance.pod).collect();
        pods.sort_unstable();
        pods.dedup();
        u32::try_from(pods.len()).unwrap_or(u32::MAX)
    }
}

fn latency(instance: &Instance<'_>) -> Option<f64> {
    let latency = instance.performance.inter_token_latency.value()?.mean;
    (latency.is_finite() && latency > 0.0).then_some(latency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::{Latency, PerformanceSignals, Signal};

    fn performances(milliseconds: &[f64]) -> Vec<PerformanceSignals> {
        let present =
            |mean| Signal::present(Latency { mean, rate: 1.0, p95: None, p99: None }, jiff::Timestamp::UNIX_EPOCH);
        let of = |latency: &f64| PerformanceSignals {
            inter_token_latency: if *latency > 0.0 { present(latency / 1e3) } else { Signal::Missing },
            ..PerformanceSignals::default()
        };
        milliseconds.iter().map(of).collect()
    }

    /// One pod for each two instances.
    fn slow(milliseconds: &[f64]) -> u32 {
        let performances = performances(milliseconds);
        let instance = |(index, performance)| Instance {
            pod: index / 2,
            variant: None,
            running: Signal::Missing,
            request_rate: Signal::Missing,
            kv_cache_tokens: Signal::Missing,
            performance,
        };
        let own: Vec<Instance<'_>> = performances.iter().enumerate().map(instance).collect();
        Pace::of(&own).slow_pods(&own)
    }

    #[test]
    fn what_is_many_times_slower_than_most_is_slow() {
        for (milliseconds, expected) in [
            (&[][..], 0),
            (&[20.0, 200.0], 0),
            (&[20.0, 25.0, 60.0], 0),
            (&[20.0, 25.0, 200.0], 1),
            (&[20.0, 25.0, 200.0, 200.0, 22.0], 1),
            (&[20.0, 25.0, 200.0, 30.0, 22.0, 190.0, 21.0], 2),
            // Most are slow: then the others are quick, and nobody is set aside.
            (&[200.0, 190.0, 20.0], 0),
            (&[20.0, 0.0, f64::NAN, 200.0], 0),
        ] {
            assert_eq!(slow(milliseconds), expected, "{milliseconds:?}");
        }
    }
}
