//! Memory of recent peaks of the need.
//!
//! Load that has just been there comes back: keeping part of the last quarter of an hour's peak is worth more than any
//! forecast on bursty traces. It is also the hysteresis: what was needed lately is not given up for a lull.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::interfaces::age;

/// Length of a bucket.
const BUCKET: Duration = Duration::from_secs(30);
/// So old a peak is still kept whole: shorter than that, a need is part of the present.
const WHOLE: Duration = Duration::from_secs(300);
/// So old a peak is kept in part.
const PART: Duration = Duration::from_secs(900);
/// The part.
const SHARE: f64 = 0.7;

/// Greatest need per half minute, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeakMemory {
    buckets: Vec<(Timestamp, f64)>,
}

impl PeakMemory {
    /// Remembers what is needed now.
    pub(super) fn observe(&mut self, now: Timestamp, need: f64) {
        self.buckets.retain(|(began, _)| age(now, *began) <= PART + BUCKET);
        match self.buckets.last_mut() {
            Some((began, peak)) if age(now, *began) < BUCKET => *peak = peak.max(need),
            _ => self.buckets.push((now, need)),
        }
    }

    /// What to keep for the sake of the past: recent peaks in whole, `part` says whether older ones in part.
    pub(super) fn kept(&self, now: Timestamp, part: bool) -> f64 {
        let share = |began: Timestamp| match age(now, began) {
            age if age <= WHOLE + BUCKET => 1.0,
            age if age <= PART && part => SHARE,
            _ => 0.0,
        };
        self.buckets.iter().map(|(began, peak)| peak * share(*began)).fold(0.0, f64::max)
    }
}
