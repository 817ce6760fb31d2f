//! A histogram of whole numbers with fixed bounds.

use crate::interfaces::HistogramReading;

/// Counts of observed values by bucket. The unit is the observer's: picoseconds or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds, inclusive and ascending; one bucket more holds what exceeds them all.
    bounds: &'static [u64],
    counts: Box<[u64]>,
    sum: u128,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: 0 }
    }

    pub(super) fn observe(&mut self, value: u64) {
        self.observe_times(value, 1);
    }

    /// Observes `value` `times` times.
    pub(super) fn observe_times(&mut self, value: u64, times: u64) {
        self.counts[self.bucket(value)] += times;
        self.sum += u128::from(value) * u128::from(times);
    }

    /// Observes each of `first`, `first + step`, … (`terms` values) `times` times.
    pub(super) fn observe_series(&mut self, first: u64, step: u64, terms: u64, times: u64) {
        let mut done = 0;
        while done < terms {
            let bucket = self.bucket(first + step * done);
            let until = match self.bounds.get(bucket) {
                Some(bound) if step > 0 => ((bound - first) / step + 1).min(terms),
                _ => terms,
            };
            self.counts[bucket] += (until - done) * times;
            done = until;
        }
        let (first, step, terms) = (u128::from(first), u128::from(step), u128::from(terms));
        self.sum += u128::from(times) * (terms * first + step * (terms * terms.saturating_sub(1) / 2));
    }

    fn bucket(&self, value: u64) -> usize {
        self.bounds.partition_point(|&bound| bound < value)
    }

    /// Upper bounds of all buckets but the last, which has none.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// Observations per bucket, not accumulated; one more than [`Self::bounds`].
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Its totals with bounds and sum in a unit of which one is `unit` of the histogram's own.
    pub fn reading(&self, unit: f64) -> HistogramReading {
        HistogramReading {
            bounds: self.bounds.iter().map(|&bound| bound as f64 / unit).collect(),
            counts: self.counts.iter().map(|&count| count as f64).collect(),
            sum: self.sum as f64 / unit,
        }
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the observed values.
    pub fn sum(&self) -> u128 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_at_a_bound_belongs_below_it() {
        let mut histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 2, 2]);
        assert_eq!((histogram.count(), histogram.sum()), (6, 1062));
    }

    proptest! {
        #[test]
        fn a_series_counts_as_its_terms_one_by_one(first in 0_u64..60, step in 0_u64..9, terms in 0_u64..40, times in 1_u64..4) {
            let mut at_once = Histogram::new(&[5, 10, 40, 41, 200]);
            let mut singly = at_once.clone();
            at_once.observe_series(first, step, terms, times);
            for term in 0..terms {
                singly.observe_times(first + step * term, times);
            }
            prop_assert_eq!(at_once, singly);
        }
    }
}
