//! Totals that never go down: what engines count, with restarts taken out.

use std::sync::Arc;

use crate::interfaces::{EngineReading, HistogramReading, Quantity};

const COUNTERS: usize = Quantity::COUNTERS.len();
const HISTOGRAMS: usize = Quantity::HISTOGRAMS.len();

/// What an engine instance has counted. Starts at the first reading's own totals, so that these are all-time values;
/// differences of two are what happened in between.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    counters: [Option<f64>; COUNTERS],
    histograms: [Option<HistogramReading>; HISTOGRAMS],
    /// Requests that arrived since the first reading; `None` where it cannot be told.
    arrived: Option<f64>,
}

/// The values an engine said last, to tell increases from restarts. A value left out of one answer stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    counters: [Option<f64>; COUNTERS],
    histograms: [Option<HistogramReading>; HISTOGRAMS],
    waiting: Option<f64>,
    in_system: Option<f64>,
}

impl Totals {
    /// Adds what `reading` has more than `raw`, and makes `raw` the reading.
    pub(super) fn advance(&mut self, raw: &mut Raw, reading: &EngineReading) {
        let arrivals = raw.arrivals_until(reading);
        self.arrived = arrivals.map(|arrivals| self.arrived.unwrap_or(0.0) + arrivals).or(self.arrived);
        for (index, quantity) in Quantity::COUNTERS.into_iter().enumerate() {
            let Some(value) = reading.value(quantity) else { continue };
            let total = &mut self.counters[index];
            *total = Some(match (raw.counters[index], *total) {
                (Some(before), Some(total)) => total + increase(before, value),
                _ => value,
            });
            raw.counters[index] = Some(value);
        }
        for (index, quantity) in Quantity::HISTOGRAMS.into_iter().enumerate() {
            let Some(histogram) = reading.histogram(quantity) else { continue };
            match (&mut raw.histograms[index], &mut self.histograms[index]) {
                (Some(before), Some(total)) if same_buckets(before, histogram) => {
                    add_increase(total, before, histogram);
                    before.counts.copy_from_slice(&histogram.counts);
                    before.sum = histogram.sum;
                }
                // New, or with other buckets: counts of different buckets do not add up.
                (before, total) => {
                    *before = Some(histogram.clone());
                    *total = Some(histogram.clone());
                }
            }
        }
        raw.waiting = reading.value(Quantity::Waiting);
        raw.in_system = in_system(reading);
    }

    /// A counter's increase since `earlier`; `None` when either lacks it.
    pub(super) fn increase(&self, earlier: &Self, quantity: Quantity) -> Option<f64> {
        let index = (quantity as usize).checked_sub(Quantity::GAUGES.len())?;
        Some((self.counters.get(index)?.as_ref()? - earlier.counters.get(index)?.as_ref()?).max(0.0))
    }

    /// Requests that arrived since `earlier`.
    pub(super) fn arrivals(&self, earlier: &Self) -> Option<f64> {
        // Requests that gave up waiting take away from it.
        Some((self.arrived? - earlier.arrived.unwrap_or(0.0)).max(0.0))
    }

    /// A histogram's all-time counts.
    pub(super) fn histogram(&self, quantity: Quantity) -> Option<&HistogramReading> {
        let index = (quantity as usize).checked_sub(Quantity::GAUGES.len() + COUNTERS)?;
        self.histograms.get(index)?.as_ref()
    }

    /// A histogram's increase since `earlier`; `None` when either lacks it or its buckets changed.
    pub(super) fn histogram_increase<'t>(&'t self, earlier: &'t Self, quantity: Quantity) -> Option<Increase<'t>> {
        let (now, then) = (self.histogram(quantity)?, earlier.histogram(quantity)?);
        (then.bounds.is_empty() || same_buckets(now, then)).then_some(Increase { now, then })
    }

    /// `other`'s values in this one's memory, with as much of each histogram as `keep` says.
    pub(super) fn copy_from(&mut self, other: &Self, keep: impl Fn(Quantity) -> Keep) {
        self.counters = other.counters;
        self.arrived = other.arrived;
        for (index, quantity) in Quantity::HISTOGRAMS.into_iter().enumerate() {
            let (into, from) = (&mut self.histograms[index], &other.histograms[index]);
            match (into, from, keep(quantity)) {
                (into, None, _) | (into, _, Keep::Nothing) => *into = None,
                (Some(into), Some(from), Keep::Buckets) => {
                    into.bounds.clone_from(&from.bounds);
                    into.counts.clone_from(&from.counts);
                    into.sum = from.sum;
                }
                (into, Some(from), Keep::Buckets) => *into = Some(from.clone()),
                (into, Some(from), Keep::Totals) => {
                    let into = into.get_or_insert_default();
                    into.counts.clear();
                    into.counts.push(from.count());
                    into.sum = from.sum;
                }
            }
        }
    }
}

/// How much of a histogram is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All of it.
    Buckets,
    /// Sum and count.
    Totals,
    Nothing,
}

/// What a histogram counted between two moments. At the earlier, the buckets may not have been kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Increase<'t> {
    now: &'t HistogramReading,
    then: &'t HistogramReading,
}

impl Increase<'_> {
    /// Sum of the observed values.
    pub(super) fn sum(&self) -> f64 {
        (self.now.sum - self.then.sum).max(0.0)
    }

    /// Number of observations.
    pub(super) fn count(&self) -> f64 {
        if self.then.bounds.is_empty() { (self.now.count() - self.then.count()).max(0.0) } else { self.counts().sum() }
    }

    /// Upper bounds of the buckets; none where they were not kept.
    pub(super) fn bounds(&self) -> &[f64] {
        &self.then.bounds
    }

    /// Observations per bucket.
    pub(super) fn counts(&self) -> impl Iterator<Item = f64> {
        self.now.counts.iter().zip(&self.then.counts).map(|(now, then)| (now - then).max(0.0))
    }

    /// As a histogram of its own.
    pub(super) fn to_histogram(self) -> HistogramReading {
        HistogramReading { bounds: self.then.bounds.clone(), counts: self.counts().collect(), sum: self.sum() }
    }
}

impl Raw {
    /// Requests that arrived between this and `reading`; `None` where it cannot be told, as for a first reading.
    ///
    /// An engine without a counter of arrivals has first tokens + change in waiting + rejections; one without a
    /// histogram of first tokens has finished + change in waiting and running + rejections. After a restart nothing is
    /// left of what was waiting, and all the engine says came since.
    fn arrivals_until(&self, reading: &EngineReading) -> Option<f64> {
        let counter = |quantity: Quantity| {
            let before = self.counters[quantity as usize - Quantity::GAUGES.len()]?;
            let value = reading.value(quantity)?;
            Some((increase(before, value), value < before))
        };
        if let Some((arrivals, _)) = counter(Quantity::Arrivals) {
            return Some(arrivals);
        }
        let rejected = counter(Quantity::Rejections).map_or(0.0, |(rejections, _)| rejections);
        let (served, restarted, queued, queued_before) =
            if let Some((first_tokens, restarted)) = self.first_tokens_until(reading) {
                (first_tokens, restarted, reading.value(Quantity::Waiting)?, self.waiting?)
            } else {
                let reasons = [Quantity::Finished, Quantity::FinishedByLength, Quantity::Aborted, Quantity::Failed];
                let finished: Vec<_> = reasons.into_iter().filter_map(counter).collect();
                let restarted = finished.iter().any(|(_, restarted)| *restarted);
                let finished = finished.iter().map(|(finished, _)| *finished).reduce(|sum, finished| sum + finished)?;
                (finished, restarted, in_system(reading)?, self.in_system?)
            };
        Some(served + rejected + queued - if restarted { 0.0 } else { queued_before })
    }

    fn first_tokens_until(&self, reading: &EngineReading) -> Option<(f64, bool)> {
        let before = self.histograms[0].as_ref()?.count();
        let count = reading.histogram(Quantity::TimeToFirstToken)?.count();
        Some((increase(before, count), count < before))
    }
}

fn in_system(reading: &EngineReading) -> Option<f64> {
    Some(reading.value(Quantity::Waiting)? + reading.value(Quantity::Running)?)
}

/// What a counter counted; one that went down started over at zero.
fn increase(before: f64, value: f64) -> f64 {
    if value >= before { value - before } else { value }
}

fn same_buckets(one: &HistogramReading, other: &HistogramReading) -> bool {
    one.counts.len() == other.counts.len() && (Arc::ptr_eq(&one.bounds, &other.bounds) || one.bounds == other.bounds)
}

fn add_increase(total: &mut HistogramReading, before: &HistogramReading, now: &HistogramReading) {
    let restarted = now.count() < before.count();
    for ((total, before), now) in total.counts.iter_mut().zip(&before.counts).zip(&now.counts) {
        *total += if restarted { *now } else { (now - before).max(0.0) };
    }
    total.sum += if restarted { now.sum } else { (now.sum - before.sum).max(0.0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::EngineKind;

    fn reading(values: &[(Quantity, f64)]) -> EngineReading {
        values.iter().fold(EngineReading::new(EngineKind::Vllm, "m", ""), |reading, (quantity, value)| {
            reading.with(*quantity, *value)
        })
    }

    fn first_tokens(count: f64, waiting: f64, rejections: f64) -> EngineReading {
        let histogram = HistogramReading { bounds: [].into(), counts: vec![count], sum: count };
        reading(&[(Quantity::Waiting, waiting), (Quantity::Rejections, rejections)])
            .with_histogram(Quantity::TimeToFirstToken, histogram)
    }

    /// Totals after the first and after all `readings`.
    fn totals(readings: &[EngineReading]) -> (Totals, Totals) {
        let (mut totals, mut raw) = (Totals::default(), Raw::default());
        let mut first = None;
        for reading in readings {
            totals.advance(&mut raw, reading);
            first.get_or_insert_with(|| totals.clone());
        }
        (first.unwrap(), totals)
    }

    #[test]
    fn a_counter_that_went_down_started_over_at_zero() {
        let steps = [100.0, 110.0, 4.0, 5.0].map(|value| reading(&[(Quantity::Finished, value)]));
        let (first, last) = totals(&steps);
        assert_eq!(last.increase(&first, Quantity::Finished), Some(15.0));
    }

    #[test]
    fn a_counter_left_out_of_one_answer_loses_nothing_and_one_that_appears_is_no_jump() {
        let steps = [
            reading(&[(Quantity::Finished, 10.0)]),
            reading(&[]),
            reading(&[(Quantity::Finished, 12.0), (Quantity::Rejections, 1000.0)]),
        ];
        let (first, last) = totals(&steps);
        assert_eq!(last.increase(&first, Quantity::Finished), Some(2.0));
        assert_eq!(last.increase(&first, Quantity::Rejections), None);
    }

    #[test]
    fn arrivals_are_first_tokens_and_change_in_waiting_and_rejections() {
        let table: [(&str, &[EngineReading], Option<f64>); 4] = [
            ("served as they come", &[first_tokens(50.0, 0.0, 0.0), first_tokens(60.0, 0.0, 0.0)], Some(10.0)),
            (
                "overload: completions alone would say 10",
                &[first_tokens(50.0, 5.0, 7.0), first_tokens(60.0, 45.0, 10.0)],
                Some(53.0),
            ),
            ("restart", &[first_tokens(50.0, 5.0, 7.0), first_tokens(3.0, 2.0, 1.0)], Some(6.0)),
            ("a single reading", &[first_tokens(50.0, 5.0, 7.0)], None),
        ];
        for (case, readings, expected) in table {
            let (first, last) = totals(readings);
            assert_eq!(last.arrivals(&first), expected, "{case}");
        }
    }

    #[test]
    fn without_first_tokens_arrivals_are_finished_and_change_in_the_system() {
        let at = |finished, waiting, running| {
            reading(&[(Quantity::Finished, finished), (Quantity::Waiting, waiting), (Quantity::Running, running)])
        };
        let (first, last) = totals(&[at(10.0, 0.0, 4.0), at(13.0, 6.0, 5.0)]);
        assert_eq!(last.arrivals(&first), Some(10.0));
        let counted = |arrivals| reading(&[(Quantity::Arrivals, arrivals)]);
        let (first, last) = totals(&[counted(5.0), counted(9.0)]);
        assert_eq!(last.arrivals(&first), Some(4.0), "a counter of arrivals needs no arithmetic");
    }

    #[test]
    fn a_histogram_adds_up_over_a_restart_and_starts_anew_with_other_buckets() {
        let histogram = |bounds: &[f64], counts: &[f64], sum| {
            let histogram = HistogramReading { bounds: bounds.into(), counts: counts.to_vec(), sum };
            reading(&[]).with_histogram(Quantity::OutputLength, histogram)
        };
        let bounds = [10.0, 20.0];
        let (first, last) = totals(&[
            histogram(&bounds, &[1.0, 1.0, 0.0], 20.0),
            histogram(&bounds, &[2.0, 1.0, 1.0], 70.0),
            histogram(&bounds, &[0.0, 1.0, 0.0], 15.0),
        ]);
        let increase = last.histogram_increase(&first, Quantity::OutputLength).unwrap();
        assert_eq!((increase.counts().collect::<Vec<_>>(), increase.sum()), (vec![1.0, 1.0, 1.0], 65.0));
        let mut mark = Totals::default();
        mark.copy_from(&first, |_| Keep::Totals);
        let increase = last.histogram_increase(&mark, Quantity::OutputLength).unwrap();
        assert_eq!((increase.count(), increase.sum(), increase.bounds()), (3.0, 65.0, &[][..]), "without buckets");
        assert_eq!(last.histogram(Quantity::OutputLength).unwrap().count(), 5.0, "all-time");

        let (first, last) = totals(&[histogram(&bounds, &[1.0, 1.0, 0.0], 20.0), histogram(&[5.0], &[1.0, 1.0], 9.0)]);
        assert!(last.histogram_increase(&first, Quantity::OutputLength).is_none());
    }
}
