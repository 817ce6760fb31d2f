//! What demand was.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Length of a bucket. Shorter ones show noise that no model forecasts, longer ones hide what happens in a cold start.
pub const BUCKET: Duration = Duration::from_secs(600);
/// Buckets of a day, the season.
pub const BUCKETS_PER_DAY: usize = 144;
/// Buckets kept: a week to learn from, and the day after it to test on.
pub const KEPT: usize = 8 * BUCKETS_PER_DAY;
/// An observation says nothing of what was longer ago than this.
const LONGEST: Duration = Duration::from_secs(120);
/// Share of a bucket that must have been observed.
const LEAST_OBSERVED: f64 = 0.5;

/// Mean rates per bucket of [`BUCKET`], the newest [`KEPT`]. Serialisable, so that it survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemandHistory {
    /// Number of the first bucket since the Unix epoch.
    first: i64,
    /// Requests per second; none where too little was observed.
    rates: Vec<Option<f32>>,
    /// Of the bucket in progress: requests, and the seconds in which they were observed.
    requests: f64,
    seconds: f64,
    /// The last observation.
    observed_at: Option<Timestamp>,
}

impl DemandHistory {
    /// A history of complete buckets, the first of which holds `start`.
    pub fn from_rates(start: Timestamp, rates: impl IntoIterator<Item = Option<f64>>) -> Self {
        let rates = rates.into_iter().map(|rate| rate.filter(|rate| is_rate(*rate)).map(rounded));
        let mut history = Self { first: bucket_of(start), rates: rates.collect(), ..Self::default() };
        history.forget();
        history
    }

    /// Remembers that requests arrived at `rate` per second since the last observation, or two minutes ago if that is
    /// longer ago. What is no rate, or not later than the last observation, is ignored.
    pub fn observe(&mut self, now: Timestamp, rate: f64) {
        if !is_rate(rate) || self.observed_at.is_some_and(|then| then >= now) {
            return;
        }
        let since = now.checked_sub(LONGEST).unwrap_or(Timestamp::MIN);
        let from = self.observed_at.replace(now).unwrap_or(now).max(since);
        if self.rates.is_empty() && self.seconds == 0.0
            || bucket_of(now) - self.end_bucket() > KEPT.cast_signed() as i64
        {
            *self = Self { first: bucket_of(from), observed_at: self.observed_at, ..Self::default() };
        }
        while self.end_bucket() < bucket_of(now) {
            let end = beginning(self.end_bucket() + 1);
            self.count(rate, from.max(self.end()), end);
            self.close();
        }
        self.count(rate, from.max(self.end()), now);
    }

    fn count(&mut self, rate: f64, from: Timestamp, until: Timestamp) {
        let seconds = until.duration_since(from).as_secs_f64().max(0.0);
        self.requests += rate * seconds;
        self.seconds += seconds;
    }

    fn close(&mut self) {
        let is_observed = self.seconds >= LEAST_OBSERVED * BUCKET.as_secs_f64();
        self.rates.push(is_observed.then(|| rounded(self.requests / self.seconds)));
        (self.requests, self.seconds) = (0.0, 0.0);
        self.forget();
    }

    fn forget(&mut self) {
        let excess = self.rates.len().saturating_sub(KEPT);
        self.rates.drain(..excess);
        self.first += excess.cast_signed() as i64;
    }

    /// When the newest complete bucket ended.
    pub fn end(&self) -> Timestamp {
        beginning(self.end_bucket())
    }

    /// Number of the bucket after the newest complete one.
    pub(super) fn end_bucket(&self) -> i64 {
        self.first + self.rates.len().cast_signed() as i64
    }

    /// Number of the oldest bucket.
    pub(super) fn first_bucket(&self) -> i64 {
        self.first
    }

    /// The rates of at most `most` complete buckets before bucket number `end`, from the oldest known to the newest known.
    pub(super) fn before(&self, end: i64, most: usize) -> &[Option<f32>] {
        let end = usize::try_from(end - self.first).unwrap_or(0).min(self.rates.len());
        let window = &self.rates[end.saturating_sub(most)..end];
        let first = window.iter().position(Option::is_some).unwrap_or(window.len());
        let last = window.iter().rposition(Option::is_some).map_or(first, |last| last + 1);
        &window[first..last]
    }

    /// The rate of bucket number `bucket`.
    pub(super) fn rate(&self, bucket: i64) -> Option<f64> {
        let index = usize::try_from(bucket - self.first).ok()?;
        self.rates.get(index).copied().flatten().map(f64::from)
    }
}

fn is_rate(rate: f64) -> bool {
    (0.0..=1e12).contains(&rate)
}

fn bucket_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(BUCKET.as_secs().cast_signed())
}

fn beginning(bucket: i64) -> Timestamp {
    Timestamp::from_second(bucket.saturating_mul(BUCKET.as_secs().cast_signed())).unwrap_or(Timestamp::MAX)
}

/// Three significant digits are more than demand is worth, and short as text.
fn rounded(rate: f64) -> f32 {
    if rate <= 0.0 {
        return 0.0;
    }
    let unit = 10_f64.powf(rate.log10().floor() - 2.0);
    ((rate / unit).round() * unit) as f32
}
