//! How long a model's requests are, over all its replicas.

use std::time::Duration;

use super::instance::Instance;
use crate::interfaces::{HistogramReading, LengthDistribution, Quantity};

/// Fewer requests are too few for a distribution: older ones are taken in.
const ENOUGH_REQUESTS: f64 = 50.0;

/// Lengths of a model's requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths {
    pub(super) prompt: Histograms,
    pub(super) output: Histograms,
}

/// Histograms of the same quantity, added where their buckets agree.
#[derive(Clone, Debug, Default)]
pub(super) struct Histograms(Vec<HistogramReading>);

impl Lengths {
    /// Of the length window; of all requests since the engines started where the window has too few; and with those
    /// that were `remembered` where even these are too few.
    pub(super) fn of<'a, I: Iterator<Item = &'a Instance>>(
        instances: impl Fn() -> I,
        window: Duration,
        remembered: &Self,
    ) -> Self {
        let one = |quantity, remembered: &Histograms| {
            let recent: Histograms = instances().filter_map(|instance| instance.lengths(quantity, window)).collect();
            if recent.total() >= ENOUGH_REQUESTS {
                return recent;
            }
            let mut all: Histograms =
                instances().filter_map(|instance| instance.all_lengths(quantity).cloned()).collect();
            if all.total() < ENOUGH_REQUESTS {
                remembered.0.iter().cloned().for_each(|histogram| all.add(histogram));
            }
            all
        };
        Self {
            prompt: one(Quantity::PromptLength, &remembered.prompt),
            output: one(Quantity::OutputLength, &remembered.output),
        }
    }
}

impl Histograms {
    fn add(&mut self, histogram: HistogramReading) {
        match self.0.iter_mut().find(|known| known.bounds == histogram.bounds) {
            Some(known) => {
                for (sum, count) in known.counts.iter_mut().zip(&histogram.counts) {
                    *sum += count;
                }
                known.sum += histogram.sum;
            }
            None => self.0.push(histogram),
        }
    }

    fn total(&self) -> f64 {
        self.0.iter().map(HistogramReading::count).sum()
    }

    /// The distribution, in the buckets that counted most: counts of different buckets do not add up. `None` without a
    /// request or without buckets.
    pub(super) fn distribution(&self) -> Option<LengthDistribution> {
        let with_buckets = self.0.iter().filter(|histogram| !histogram.bounds.is_empty());
        let most = with_buckets.max_by(|a, b| a.count().total_cmp(&b.count()))?;
        let count = most.count();
        (count > 0.0).then(|| LengthDistribution {
            bounds: most.bounds.to_vec(),
            counts: most.counts.clone(),
            mean: most.sum / count,
        })
    }
}

impl FromIterator<HistogramReading> for Histograms {
    fn from_iter<I: IntoIterator<Item = HistogramReading>>(histograms: I) -> Self {
        let mut sum = Self::default();
        histograms.into_iter().for_each(|histogram| sum.add(histogram));
        sum
    }
}
