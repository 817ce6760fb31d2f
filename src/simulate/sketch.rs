//! Quantiles of many durations in little memory.

use crate::fleet::Picoseconds;

/// Buckets per doubling: quantiles are exact to 1/64, 1.6 %.
const PER_DOUBLING: u32 = 64;
const DOUBLINGS: u32 = 45;
/// What is shorter counts as this long: a microsecond.
const LEAST: u64 = 1_000_000;

/// Counts of durations by logarithmic bucket.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counts: vec![0; (PER_DOUBLING * DOUBLINGS) as usize].into(), total: 0 }
    }
}

impl Sketch {
    pub(super) fn observe(&mut self, duration: Picoseconds) {
        let scaled = duration.get().max(LEAST) / LEAST;
        let doubling = scaled.ilog2();
        let within = ((scaled - (1 << doubling)) * u64::from(PER_DOUBLING)) >> doubling;
        let bucket = (doubling * PER_DOUBLING + within as u32).min(PER_DOUBLING * DOUBLINGS - 1);
        self.counts[bucket as usize] += 1;
        self.total += 1;
    }

    /// The duration that a share `rank` of all is at most, in seconds; `None` when there are none.
    pub(super) fn quantile(&self, rank: f64) -> Option<f64> {
        let wanted = (rank * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bucket.filter(|_| self.total > 0).map(upper_bound)
    }
}

/// Upper bound of a bucket in seconds.
fn upper_bound(bucket: usize) -> f64 {
    let (doubling, within) = (bucket as u32 / PER_DOUBLING, bucket as u32 % PER_DOUBLING);
    let microseconds = f64::from(doubling).exp2() * (1.0 + f64::from(within + 1) / f64::from(PER_DOUBLING));
    microseconds / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_sixty_fourth() {
        let mut sketch = Sketch::default();
        for milliseconds in 1..=1000 {
            sketch.observe(Picoseconds::from_millis(milliseconds));
        }
        for (rank, expected) in [(0.01, 0.010), (0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let quantile = sketch.quantile(rank).unwrap();
            assert!((quantile / expected - 1.0).abs() <= 1.0 / 64.0, "{rank}: {quantile}");
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_bucket() {
        let mut sketch = Sketch::default();
        sketch.observe(Picoseconds::ZERO);
        sketch.observe(Picoseconds::MAX);
        assert!(sketch.quantile(1.0).unwrap() > 1e6);
    }
}
