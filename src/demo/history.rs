//! What was seen since the beginning, and its courses in block characters.

use std::time::Duration;

use super::{
    figures,
    world::{VARIANTS, VariantCounts},
};
use crate::fleet::PoolReport;

/// One eighth to eight eighths.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The fleet at one moment.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Simulated time since the beginning.
    pub(super) elapsed: Duration,
    /// Requests per second that arrived since the moment before; `None` at the first.
    pub(super) rate: Option<f64>,
    /// Share of the requests ended since the moment before that met the objective; `None` where none ended.
    pub(super) met_share: Option<f64>,
    /// Ready replicas of each variant.
    pub(super) ready: VariantCounts,
    /// Their `spec.replicas`.
    pub(super) set: VariantCounts,
    arrived: u64,
    met: u64,
    ended: u64,
}

/// Moments in order.
#[derive(Debug)]
pub(super) struct History {
    total: Duration,
    peak_rate: f64,
    moments: Vec<Moment>,
}

impl History {
    /// Of a run of `total` simulated time whose load rises to `peak_rate`.
    pub(super) fn new(total: Duration, peak_rate: f64) -> Self {
        Self { total, peak_rate, moments: Vec::new() }
    }

    pub(super) fn add(&mut self, elapsed: Duration, report: &PoolReport) {
        let requests = report.requests;
        let ended = requests.arrived - requests.in_flight();
        let per = |part: u64, whole: f64| (whole > 0.0).then(|| part as f64 / whole);
        let (rate, met_share) = self.moments.last().map_or((None, None), |before| {
            let seconds = elapsed.saturating_sub(before.elapsed).as_secs_f64();
            (
                per(requests.arrived - before.arrived, seconds),
                per(requests.met - before.met, (ended - before.ended) as f64),
            )
        });
        let counts = |of: fn(&crate::fleet::VariantStatus) -> u32| {
            VARIANTS.map(|variant| figures::status(report, variant).map_or(0, of))
        };
        self.moments.push(Moment {
            elapsed,
            rate,
            met_share,
            ready: counts(|status| status.ready),
            set: counts(figures::set),
            arrived: requests.arrived,
            met: requests.met,
            ended,
        });
    }

    pub(super) fn last(&self) -> Option<&Moment> {
        self.moments.last()
    }

    /// Simulated time of the whole run.
    pub(super) fn total(&self) -> Duration {
        self.total
    }

    /// Greatest rate of the load.
    pub(super) fn peak_rate(&self) -> f64 {
        self.peak_rate
    }

    /// Share of the run that is over.
    pub(super) fn share_done(&self) -> f64 {
        self.last().map_or(0.0, |now| now.elapsed.div_duration_f64(self.total).min(1.0))
    }

    /// The most replicas of each variant that were ever set.
    pub(super) fn most_set(&self) -> VariantCounts {
        let mut most = VariantCounts::default();
        for moment in &self.moments {
            for (most, set) in most.iter_mut().zip(moment.set) {
                *most = set.max(*most);
            }
        }
        most
    }

    /// The mean of `of` in each of `columns` parts of the whole run; `None` where nothing is known, as in what is to come.
    pub(super) fn course(&self, columns: usize, of: impl Fn(&Moment) -> Option<f64>) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0_u32); columns];
        for moment in &self.moments {
            let column = (moment.elapsed.div_duration_f64(self.total) * columns as f64) as usize;
            if let (Some((sum, count)), Some(value)) = (sums.get_mut(column), of(moment)) {
                *sum += value;
                *count += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect()
    }
}

/// `values` against `top`, one character each; unknown ones are blank.
pub(super) fn sparkline(values: &[Option<f64>], top: f64) -> String {
    let block = |value: f64| {
        let eighths = (value / top * BLOCKS.len() as f64).round() as usize;
        BLOCKS[eighths.clamp(1, BLOCKS.len()) - 1]
    };
    values.iter().map(|value| value.map_or(' ', block)).collect()
}

/// `share` of 1 as a bar of `columns`.
pub(super) fn bar(share: f64, columns: usize) -> String {
    let full = ((share * columns as f64).round() as usize).min(columns);
    "█".repeat(full) + &"░".repeat(columns - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: u64, rate: Option<f64>, set: VariantCounts) -> Moment {
        let elapsed = Duration::from_secs(seconds);
        Moment { elapsed, rate, met_share: None, ready: set, set, arrived: 0, met: 0, ended: 0 }
    }

    #[test]
    fn a_course_is_the_mean_of_each_part_of_the_run_and_blank_where_nothing_is_known() {
        let mut history = History::new(Duration::from_secs(40), 8.0);
        history.moments = vec![
            moment(1, None, [1, 1]),
            moment(5, Some(2.0), [3, 1]),
            moment(9, Some(4.0), [2, 2]),
            moment(20, Some(8.0), [1, 1]),
            moment(41, Some(8.0), [1, 1]),
        ];
        let course = history.course(4, |moment| moment.rate);
        assert_eq!(course, [Some(3.0), None, Some(8.0), None]);
        assert_eq!(sparkline(&course, 8.0), "▃ █ ");
        assert_eq!(history.most_set(), [3, 2]);
        assert_eq!(history.share_done(), 1.0, "it may end a little late");
    }

    #[test]
    fn a_bar_stays_within_its_columns() {
        for (share, expected) in [(0.0, "░░░░"), (0.5, "██░░"), (1.0, "████"), (1.7, "████")]
        {
            assert_eq!(bar(share, 4), expected, "{share}");
        }
    }
}
