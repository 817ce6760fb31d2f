//! What looks at a variant's replicas tell of the means that were measured over a window: how even the load is between
//! replicas, and how steady it was.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{engines::group::Instance, estimation::Observation, interfaces::age};

/// Length of the window of a mean, and a look.
const WINDOW: Duration = Duration::from_secs(75);
/// Supposed before two replicas have been seen beside each other: between a router that keeps them even and none.
const SUPPOSED: f64 = 0.5;
/// Share of a look in the dispersion.
const SHARE: f64 = 0.05;

/// Looks of the last minute, and what all of them came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Looks {
    /// Oldest first.
    recent: Vec<Look>,
    /// Variance over mean of the sequences that run at one replica.
    dispersion: Option<f64>,
}

/// The load of a replica, averaged over a window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    at: Timestamp,
    decoding: f64,
    prefill_rate: f64,
}

impl Looks {
    /// Takes in a look at the instances of a variant, `seen` on average, and says of `seen` how even and how steady it is.
    pub(super) fn judged<'a>(
        &mut self,
        now: Timestamp,
        own: impl Iterator<Item = &'a Instance<'a>>,
        seen: Observation,
    ) -> Observation {
        let running = own.filter_map(|instance| instance.running.value().copied());
        if let Some(dispersion) = dispersion(running) {
            let known = self.dispersion.unwrap_or(SUPPOSED);
            self.dispersion = Some(known + SHARE * (dispersion - known));
        }
        // Those after now are from before the clock was set back.
        self.recent.retain(|look| look.at <= now && age(now, look.at) <= WINDOW);
        self.recent.push(Look { at: now, decoding: seen.decoding, prefill_rate: seen.prefill_rate });
        let spread = self.spread(|look| look.decoding).max(self.spread(|look| look.prefill_rate));
        // A lone replica takes what comes.
        Observation { dispersion: self.dispersion.unwrap_or(1.0), spread, ..seen }
    }

    fn spread(&self, of: fn(&Look) -> f64) -> f64 {
        let (mut least, mut most, mut sum) = (f64::INFINITY, 0.0_f64, 0.0);
        for value in self.recent.iter().map(of) {
            (least, most, sum) = (least.min(value), most.max(value), sum + value);
        }
        if sum > 0.0 { (most - least) * self.recent.len() as f64 / sum } else { 0.0 }
    }
}

/// Variance over mean between replicas, at most 1; `None` of fewer than two, or of idle ones.
fn dispersion(running: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in running {
        (count, sum, squares) = (count + 1.0, sum + value, squares + value * value);
    }
    let variance = (squares - sum * sum / count) / (count - 1.0);
    (count >= 2.0 && sum > 0.0).then(|| (variance * count / sum).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(decoding: f64) -> Observation {
        Observation {
            inter_token_latency: 0.01,
            first_token_service: None,
            decoding,
            kv_tokens: 1e3,
            prefill_rate: 100.0 * decoding,
            prompt_tokens: 100.0,
            max_batched_tokens: 2048.0,
            dispersion: 1.0,
            spread: 0.0,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_burst_is_in_the_spread_for_as_long_as_a_window_may_hold_some_of_it() {
        let mut looks = Looks::default();
        let mut spread = |second, decoding| looks.judged(at(second), std::iter::empty(), seen(decoding)).spread;
        assert!(spread(0, 10.0).abs() < 1e-12 && (spread(15, 11.0) - 1.0 / 10.5).abs() < 1e-9);
        assert!(spread(30, 40.0) > 1.0 && spread(90, 40.0) > 0.8);
        assert!(spread(180, 40.0).abs() < 1e-12);
        assert!(spread(20, 10.0).abs() < 1e-12, "the clock was set back");
    }

    #[test]
    fn even_replicas_do_not_disperse_and_a_lone_one_says_nothing() {
        assert_eq!(dispersion([5.0, 5.0, 5.0].into_iter()), Some(0.0));
        assert!((dispersion([3.0, 5.0].into_iter()).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(dispersion([0.0, 9.0].into_iter()), Some(1.0));
        assert_eq!(dispersion([5.0].into_iter()), None);
        assert_eq!(dispersion([0.0, 0.0].into_iter()), None);
    }
}
