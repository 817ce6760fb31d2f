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
/// Where accelerators are limited and there are several models, what is given up may go to another and comes back only
/// after that one has let go of it, drained, and a cold start: the whole peak is kept, and for so long.
const CONTENDED_LENGTH: Duration = Duration::from_secs(1800);

/// Greatest need per half minute, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeakMemory {
    buckets: Vec<(Timestamp, f64)>,
}

impl PeakMemory {
    /// Remembers what is needed now.
    pub(super) fn observe(&mut self, now: Timestamp, need: f64) {
        self.buckets.retain(|(began, _)| age(now, *began) <= CONTENDED_LENGTH);
        match self.buckets.last_mut() {
            Some((began, peak)) if age(now, *began) < BUCKET => *peak = peak.max(need),
            _ => self.buckets.push((now, need)),
        }
    }

    /// What to keep for the sake of the past.
    pub(super) fn kept(&self, now: Timestamp, contended: bool) -> f64 {
        let (length, share) = if contended { (CONTENDED_LENGTH, 1.0) } else { (LENGTH, SHARE) };
        let recent = self.buckets.iter().filter(|(began, _)| age(now, *began) <= length);
        recent.map(|(_, peak)| peak * share).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_peak_is_kept_for_a_quarter_of_an_hour_and_all_of_it_for_half_an_hour_where_others_want_it() {
        let at = |minutes: u64| Timestamp::UNIX_EPOCH + Duration::from_secs(60 * minutes);
        let mut peaks = PeakMemory::default();
        peaks.observe(at(0), 10.0);
        for minutes in 1..=40 {
            peaks.observe(at(minutes), 1.0);
            let (alone, contended) = (peaks.kept(at(minutes), false), peaks.kept(at(minutes), true));
            assert_eq!(alone, if minutes <= 15 { 7.0 } else { 0.7 }, "{minutes}");
            assert_eq!(contended, if minutes <= 30 { 10.0 } else { 1.0 }, "{minutes}");
        }
    }
}
