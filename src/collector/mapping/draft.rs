//! A reading while its samples come in.

use super::{
    catalog::{EngineEntry, Part, Rule},
    table::{LORA_LABELS, REASON_LABELS},
};
use crate::{
    collector::exposition::Line,
    interfaces::{EngineReading, HistogramReading, LoraAdapters, Quantity, QuantityKind},
};

/// More bounds than any histogram has: what is beyond is not kept.
const MOST_BUCKETS: usize = 256;

/// One engine instance, so far.
#[derive(Debug)]
pub(super) struct Draft {
    /// Index into the catalog's engines.
    pub(super) engine: usize,
    reading: EngineReading,
    /// Place of the family that each scalar came from, by quantity.
    priorities: [u8; Quantity::GAUGES.len() + Quantity::COUNTERS.len()],
    histograms: [HistogramDraft; Quantity::HISTOGRAMS.len()],
    /// Which of several copies is read; `None` before the first that is numbered.
    copy: Option<Vec<Box<str>>>,
    /// The info metric's value is a time: the newest counts.
    lora: Option<(f64, LoraAdapters)>,
}

#[derive(Debug, Default)]
struct HistogramDraft {
    priority: u8,
    /// Bound and observations up to it.
    buckets: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
}

impl Draft {
    pub(super) fn new(index: usize, engine: &EngineEntry, model: &str, rank: &str) -> Self {
        let mut reading = EngineReading::new(engine.kind, model, rank);
        reading.not_defined = engine.not_defined;
        Self {
            engine: index,
            reading,
            priorities: [0; Quantity::GAUGES.len() + Quantity::COUNTERS.len()],
            histograms: Default::default(),
            copy: None,
            lora: None,
        }
    }

    pub(super) fn is_of(&self, engine: usize, model: &str, rank: &str) -> bool {
        self.engine == engine && *self.reading.model == *model && *self.reading.rank == *rank
    }

    /// Whether a sample numbered `copy` is of the copy that is read. A sample without numbers is of all.
    pub(super) fn is_copy<'l>(&mut self, mut copy: impl Iterator<Item = &'l str> + Clone) -> bool {
        if copy.clone().next().is_none() {
            return true;
        }
        if let Some(known) = &self.copy {
            return known.iter().all(|number| copy.next() == Some(&**number)) && copy.next().is_none();
        }
        self.copy = Some(copy.map(Into::into).collect());
        true
    }

    pub(super) fn model(&self) -> &str {
        &self.reading.model
    }

    pub(super) fn rank(&self) -> &str {
        &self.reading.rank
    }

    /// Adds one sample, whose number is `value`.
    pub(super) fn add(&mut self, part: Part, rule: &Rule, line: &Line<'_>, value: f64) {
        match part {
            Part::Lora => self.add_lora(line),
            Part::Whole => self.add_scalar(rule, by_reason(rule.quantity, line), value),
            Part::Bucket | Part::Sum | Part::Count => self.add_to_histogram(part, rule, line, value),
        }
    }

    fn add_scalar(&mut self, rule: &Rule, quantity: Quantity, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        let Some(priority) = self.priorities.get_mut(quantity as usize) else { return };
        let combined = match self.reading.value(quantity) {
            Some(_) if rule.priority > *priority => return,
            Some(known) if rule.priority == *priority && rule.greatest => known.max(value),
            Some(known) if rule.priority == *priority => known + value,
            _ => value,
        };
        *priority = rule.priority;
        self.reading.set(quantity, combined);
    }

    fn add_to_histogram(&mut self, part: Part, rule: &Rule, line: &Line<'_>, value: f64) {
        let Some(index) = Quantity::HISTOGRAMS.iter().position(|quantity| *quantity == rule.quantity) else { return };
        let histogram = &mut self.histograms[index];
        if !value.is_finite() || value < 0.0 || (rule.priority > histogram.priority && !histogram.is_empty()) {
            return;
        }
        if rule.priority < histogram.priority || histogram.is_empty() {
            *histogram = HistogramDraft { priority: rule.priority, ..HistogramDraft::default() };
        }
        match part {
            Part::Sum => *histogram.sum.get_or_insert(0.0) += value,
            Part::Count => *histogram.count.get_or_insert(0.0) += value,
            _ => {
                let Some(bound) = line.label("le").and_then(|bound| bound.parse::<f64>().ok()) else { return };
                if let Some((_, count)) = histogram.buckets.iter_mut().find(|(known, _)| *known == bound) {
                    *count += value;
                } else if !bound.is_nan() && histogram.buckets.len() < MOST_BUCKETS {
                    histogram.buckets.push((bound, value));
                }
            }
        }
    }

    fn add_lora(&mut self, line: &Line<'_>) {
        let adapters = adapters(|label| line.label(label));
        if line.value.is_finite() && self.lora.is_none_or(|(newest, _)| line.value >= newest) {
            self.lora = Some((line.value, adapters));
        }
    }

    /// The reading.
    pub(super) fn finish(self) -> EngineReading {
        let Self { mut reading, histograms, lora, .. } = self;
        for (quantity, histogram) in Quantity::HISTOGRAMS.into_iter().zip(histograms) {
            if let Some(histogram) = histogram.finish() {
                reading.set_histogram(quantity, histogram);
            }
        }
        if let (Some(queued), Some(before)) = (reading.value(Quantity::Waiting), reading.value(Quantity::Preallocating))
        {
            reading.set(Quantity::Waiting, queued + before);
        }
        reading.lora = lora.map(|(_, adapters)| adapters);
        reading
    }
}

/// What an info metric's labels say of adapters.
pub(in crate::collector) fn adapters<'l>(label: impl Fn(&str) -> Option<&'l str>) -> LoraAdapters {
    let count =
        |names: Option<&str>| names.map_or(0, |names| names.split(',').filter(|name| !name.is_empty()).count()) as u32;
    let [running, waiting, max] = LORA_LABELS.map(label);
    LoraAdapters {
        running: count(running),
        waiting: count(waiting),
        max: max.and_then(|max| max.parse().ok()).unwrap_or(0),
    }
}

/// Fills what `reading` lacks from `shared`.
pub(super) fn complete(reading: &mut EngineReading, shared: &EngineReading) {
    for quantity in [&Quantity::GAUGES[..], &Quantity::COUNTERS].concat() {
        if let (None, Some(value)) = (reading.value(quantity), shared.value(quantity)) {
            reading.set(quantity, value);
        }
    }
    reading.lora = reading.lora.or(shared.lora);
}

/// Requests that ended are counted by why they did, where a label says so.
fn by_reason(quantity: Quantity, line: &Line<'_>) -> Quantity {
    debug_assert!(quantity.kind() != QuantityKind::Histogram);
    if quantity != Quantity::Finished {
        return quantity;
    }
    match REASON_LABELS.into_iter().find_map(|label| line.label(label)) {
        None | Some("stop") => Quantity::Finished,
        Some("length") => Quantity::FinishedByLength,
        Some("abort") => Quantity::Aborted,
        Some(_) => Quantity::Failed,
    }
}

impl HistogramDraft {
    fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.sum.is_none() && self.count.is_none()
    }

    /// `None` without a sum: nothing we know of works without the mean.
    fn finish(mut self) -> Option<HistogramReading> {
        let sum = self.sum?;
        self.buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let unbounded = self.buckets.last().filter(|(bound, _)| *bound == f64::INFINITY).map(|(_, count)| *count);
        let total = self.count.or(unbounded)?;
        let bounded: Vec<_> = self.buckets.into_iter().filter(|(bound, _)| bound.is_finite()).collect();
        let mut below = 0.0;
        let mut counts: Vec<f64> = Vec::with_capacity(bounded.len() + 1);
        for (_, up_to) in &bounded {
            counts.push((up_to - below).max(0.0));
            below = up_to.max(below);
        }
        counts.push((total - below).max(0.0));
        Some(HistogramReading { bounds: bounded.iter().map(|(bound, _)| *bound).collect(), counts, sum })
    }
}
