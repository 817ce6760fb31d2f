//! Memory of recent peaks of the need.
//!
//! Load that has just been there comes back: keeping part of the last quarter of an hour's peak is worth more than any
//! forecast on bursty traces.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::interfaces::age;

/// Length of a bucket.
const BUCKET: Duration = Duration::from_secs(30);
/// So long a peak is remembered.
const LENGTH: Duration = Duration::from_secs(900);
/// The part of it that is kept.
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
        self.buckets.retain(|(began, _)| age(now, *began) <= LENGTH);
        match self.buckets.last_mut() {
            Some((began, peak)) if age(now, *began) < BUCKET => *peak = peak.max(need),
            _ => self.buckets.push((now, need)),
        }
    }

    /// What to keep for the sake of the past.
    pub(super) fn kept(&self, now: Timestamp) -> f64 {
        let recent = self.buckets.iter().filter(|(began, _)| age(now, *began) <= LENGTH);
        recent.map(|(_, peak)| peak * SHARE).fold(0.0, f64::max)
    }
}
