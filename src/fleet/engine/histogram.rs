//! A histogram of whole numbers with fixed bounds.

use crate::interfaces::HistogramReading;

/// Bounds of buckets, with a shortcut to the bucket of a value: every token of a simulation is observed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Upper bounds, inclusive and ascending.
    upper: &'static [u64],
    /// The first bucket that may hold a value, by the number of bits of the value.
    first: [u8; u64::BITS as usize + 1],
}

impl Bounds {
    pub(super) const fn new(upper: &'static [u64]) -> Self {
        assert!(upper.len() < u8::MAX as usize);
        let mut first = [0; u64::BITS as usize + 1];
        let (mut bits, mut bucket) = (0, 0);
        while bits < first.len() {
            let least = if bits == 0 { 0 } else { 1 << (bits - 1) };
            while bucket < upper.len() && upper[bucket] < least {
                bucket += 1;
            }
            first[bits] = bucket as u8;
            bits += 1;
        }
        Self { upper, first }
    }

    #[inline]
    fn bucket(&self, value: u64) -> usize {
        let mut bucket = usize::from(self.first[(u64::BITS - value.leading_zeros()) as usize]);
        while self.upper.get(bucket).is_some_and(|&bound| bound < value) {
            bucket += 1;
        }
        bucket
    }
}

/// Counts of observed values by bucket. The unit is the observer's: picoseconds or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// One more than there are bounds: the last holds what exceeds them all.
    counts: Box<[u64]>,
    sum: u128,
}

impl Histogram {
    pub(super) fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, counts: vec![0; bounds.upper.len() + 1].into(), sum: 0 }
    }

    #[inline]
    pub(super) fn observe(&mut self, value: u64) {
        self.observe_times(value, 1);
    }

    /// Observes `value` `times` times.
    #[inline]
    pub(super) fn observe_times(&mut self, value: u64, times: u64) {
        self.counts[self.bounds.bucket(value)] += times;
        self.sum += u128::from(value) * u128::from(times);
    }

    /// Observes each of `first`, `first + step`, … (`terms` values) `times` times.
    pub(super) fn observe_series(&mut self, first: u64, step: u64, terms: u64, times: u64) {
        let mut done = 0;
        while done < terms {
            let bucket = self.bounds.bucket(first + step * done);
            let until = match self.bounds.upper.get(bucket) {
                Some(bound) if step > 0 => ((bound - first) / step + 1).min(terms),
                _ => terms,
            };
            self.counts[bucket] += (until - done) * times;
            done = until;
        }
        let (first, step, terms) = (u128::from(first), u128::from(step), u128::from(terms));
        self.sum += u128::from(times) * (terms * first + step * (terms * terms.saturating_sub(1) / 2));
    }

    /// Upper bounds of all buckets but the last, which has none.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds.upper
    }

    /// Observations per bucket, not accumulated; one more than [`Self::bounds`].
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Its totals with bounds and sum in a unit of which one is `unit` of the histogram's own.
    pub fn reading(&self, unit: f64) -> HistogramReading {
        HistogramReading {
            bounds: self.bounds.upper.iter().map(|&bound| bound as f64 / unit).collect(),
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

    static TWO: Bounds = Bounds::new(&[10, 20]);
    static FIVE: Bounds = Bounds::new(&[5, 10, 40, 41, 200]);

    #[test]
    fn a_value_at_a_bound_belongs_below_it() {
        let mut histogram = Histogram::new(&TWO);
        for value in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [2, 2, 2]);
        assert_eq!((histogram.count(), histogram.sum()), (6, 1062));
    }

    proptest! {
        #[test]
        fn the_bucket_of_a_value_is_the_first_whose_bound_is_not_below_it(value in prop_oneof![0_u64..300, any::<u64>()]) {
            prop_assert_eq!(FIVE.bucket(value), FIVE.upper.partition_point(|&bound| bound < value));
        }

        #[test]
        fn a_series_counts_as_its_terms_one_by_one(first in 0_u64..60, step in 0_u64..9, terms in 0_u64..40, times in 1_u64..4) {
            let mut at_once = Histogram::new(&FIVE);
            let mut singly = at_once.clone();
            at_once.observe_series(first, step, terms, times);
            for term in 0..terms {
                singly.observe_times(first + step * term, times);
            }
            prop_assert_eq!(at_once, singly);
        }
    }
}
