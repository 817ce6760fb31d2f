//! What one engine instance said at one moment, whatever the names it said it under.

use std::sync::Arc;

use super::{EngineKind, LoraAdapters};

/// One quantity that engines export. Which family of which engine it is, says the collector's table of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Quantity {
    /// Share of KV-cache blocks in use, a fraction of 1.
    KvCacheUsage,
    /// KV-cache capacity in tokens.
    KvCacheTokens,
    /// KV-cache capacity in blocks, where tokens are not exported.
    KvCacheBlocks,
    /// Tokens per KV-cache block.
    KvCacheBlockSize,
    /// Requests that wait to be scheduled.
    Waiting,
    /// Of these, the ones that wait for capacity.
    WaitingForCapacity,
    /// Requests that a decode engine was handed and has no KV cache for yet: they wait before the queue that
    /// [`Waiting`](Self::Waiting) counts.
    Preallocating,
    /// Requests in the batch.
    Running,
    /// 1 while the engine sleeps.
    Asleep,
    /// Requests received.
    Arrivals,
    /// Prompt tokens processed.
    PromptTokens,
    /// Tokens generated.
    GenerationTokens,
    /// Prompt tokens looked up in the prefix cache.
    PrefixQueries,
    /// Prompt tokens found in the prefix cache.
    PrefixHits,
    /// Requests preempted.
    Preemptions,
    /// Requests refused.
    Rejections,
    /// Requests the model ended.
    Finished,
    /// Requests that ended at their length limit.
    FinishedByLength,
    /// Requests whose client went away.
    Aborted,
    /// Requests the engine failed, and those that ended for any other reason.
    Failed,
    /// Seconds from arrival to first token.
    TimeToFirstToken,
    /// Seconds between two tokens of a request.
    InterTokenLatency,
    /// Seconds from arrival to being scheduled.
    QueueTime,
    /// Prompt tokens of a finished request.
    PromptLength,
    /// Output tokens of a finished request.
    OutputLength,
}

/// How a quantity is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityKind {
    /// A value of the moment.
    Gauge,
    /// A total since the engine started.
    Counter,
    /// Totals by bucket since the engine started.
    Histogram,
}

impl Quantity {
    /// Values of the moment.
    pub const GAUGES: [Self; 9] = [
        Self::KvCacheUsage,
        Self::KvCacheTokens,
        Self::KvCacheBlocks,
        Self::KvCacheBlockSize,
        Self::Waiting,
        Self::WaitingForCapacity,
        Self::Preallocating,
        Self::Running,
        Self::Asleep,
    ];
    /// Totals.
    pub const COUNTERS: [Self; 11] = [
        Self::Arrivals,
        Self::PromptTokens,
        Self::GenerationTokens,
        Self::PrefixQueries,
        Self::PrefixHits,
        Self::Preemptions,
        Self::Rejections,
        Self::Finished,
        Self::FinishedByLength,
        Self::Aborted,
        Self::Failed,
    ];
    /// Totals by bucket.
    pub const HISTOGRAMS: [Self; 5] =
        [Self::TimeToFirstToken, Self::InterTokenLatency, Self::QueueTime, Self::PromptLength, Self::OutputLength];

    /// How it is counted.
    pub fn kind(self) -> QuantityKind {
        match self as usize {
            index if index < Self::GAUGES.len() => QuantityKind::Gauge,
            index if index < SCALARS => QuantityKind::Counter,
            _ => QuantityKind::Histogram,
        }
    }

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

const SCALARS: usize = Quantity::GAUGES.len() + Quantity::COUNTERS.len();

/// A set of quantities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantities(u32);

impl Quantities {
    /// Adds `quantity`.
    pub fn insert(&mut self, quantity: Quantity) {
        self.0 |= quantity.bit();
    }

    /// Whether `quantity` is among them.
    pub fn contains(self, quantity: Quantity) -> bool {
        self.0 & quantity.bit() != 0
    }
}

impl FromIterator<Quantity> for Quantities {
    fn from_iter<I: IntoIterator<Item = Quantity>>(quantities: I) -> Self {
        quantities.into_iter().fold(Self::default(), |mut set, quantity| {
            set.insert(quantity);
            set
        })
    }
}

/// What one engine instance said at one moment. A quantity it did not export, or that was not a number, is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineReading {
    /// The model it serves; empty where neither the engine nor the pod's variant names one.
    pub model: Arc<str>,
    /// Index of the data-parallel engine within the pod; empty where there is only one.
    pub rank: Arc<str>,
    /// The inference server.
    pub engine: EngineKind,
    /// What this engine never exports.
    pub not_defined: Quantities,
    /// `LoRA` adapters in use, where told.
    pub lora: Option<LoraAdapters>,
    /// By [`Quantity`]; `None` is absent.
    scalars: [Option<f64>; SCALARS],
    histograms: [Option<HistogramReading>; Quantity::HISTOGRAMS.len()],
}

impl EngineReading {
    /// A reading with nothing in it.
    pub fn new(engine: EngineKind, model: impl Into<Arc<str>>, rank: impl Into<Arc<str>>) -> Self {
        Self {
            model: model.into(),
            rank: rank.into(),
            engine,
            not_defined: Quantities::default(),
            lora: None,
            scalars: [None; SCALARS],
            histograms: [const { None }; Quantity::HISTOGRAMS.len()],
        }
    }

    /// The value of a gauge or counter.
    pub fn value(&self, quantity: Quantity) -> Option<f64> {
        *self.scalars.get(quantity as usize)?
    }

    /// The histogram of a quantity that is one.
    pub fn histogram(&self, quantity: Quantity) -> Option<&HistogramReading> {
        self.histograms.get((quantity as usize).checked_sub(SCALARS)?)?.as_ref()
    }

    /// Sets a gauge or counter. What is not a number, or below 0, is absent: no quantity of ours can be negative.
    pub fn set(&mut self, quantity: Quantity, value: f64) {
        if let Some(slot) = self.scalars.get_mut(quantity as usize) {
            *slot = (value.is_finite() && value >= 0.0).then_some(value);
        }
    }

    /// Sets a histogram.
    pub fn set_histogram(&mut self, quantity: Quantity, histogram: HistogramReading) {
        if let Some(index) = (quantity as usize).checked_sub(SCALARS)
            && let Some(slot) = self.histograms.get_mut(index)
        {
            *slot = Some(histogram);
        }
    }

    /// [`Self::set`], to build one.
    #[must_use]
    pub fn with(mut self, quantity: Quantity, value: f64) -> Self {
        self.set(quantity, value);
        self
    }

    /// [`Self::set_histogram`], to build one.
    #[must_use]
    pub fn with_histogram(mut self, quantity: Quantity, histogram: HistogramReading) -> Self {
        self.set_histogram(quantity, histogram);
        self
    }

    /// KV-cache capacity in tokens, exported as such or as blocks and their size.
    pub fn kv_cache_tokens(&self) -> Option<f64> {
        let from_blocks = || Some(self.value(Quantity::KvCacheBlocks)? * self.value(Quantity::KvCacheBlockSize)?);
        self.value(Quantity::KvCacheTokens).or_else(from_blocks).filter(|tokens| tokens.is_finite() && *tokens > 0.0)
    }
}

/// A histogram's totals since the engine started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramReading {
    /// Upper bounds of the buckets, rising, without the last one's infinity. Empty where only sum and count are told.
    pub bounds: Arc<[f64]>,
    /// Observations per bucket, not accumulated; one more than there are bounds.
    pub counts: Vec<f64>,
    /// Sum of the observed values.
    pub sum: f64,
}

impl HistogramReading {
    /// Number of observations.
    pub fn count(&self) -> f64 {
        self.counts.iter().sum()
    }
}

/// What a gateway (endpoint picker) said of one model at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayReading {
    /// The model.
    pub model: Arc<str>,
    /// Requests it holds; absent without flow control.
    pub queue: Option<f64>,
    /// Requests it received since it started.
    pub requests: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_hold_each_quantity_once_in_the_order_of_their_indices() {
        let all: Vec<_> = [&Quantity::GAUGES[..], &Quantity::COUNTERS, &Quantity::HISTOGRAMS].concat();
        for (index, quantity) in all.iter().enumerate() {
            assert_eq!(*quantity as usize, index, "{quantity:?}");
        }
        assert!(Quantity::GAUGES.iter().all(|quantity| quantity.kind() == QuantityKind::Gauge));
        assert!(Quantity::COUNTERS.iter().all(|quantity| quantity.kind() == QuantityKind::Counter));
        assert!(Quantity::HISTOGRAMS.iter().all(|quantity| quantity.kind() == QuantityKind::Histogram));
    }

    #[test]
    fn a_value_goes_where_its_kind_belongs_and_what_is_no_number_is_absent() {
        let mut reading = EngineReading::new(EngineKind::Vllm, "m", "");
        reading.set(Quantity::Waiting, 0.0);
        reading.set(Quantity::Running, f64::NAN);
        reading.set(Quantity::Finished, -1.0);
        reading.set(Quantity::QueueTime, 1.0);
        reading.set_histogram(Quantity::OutputLength, HistogramReading::default());
        reading.set_histogram(Quantity::Running, HistogramReading::default());
        assert_eq!(reading.value(Quantity::Waiting), Some(0.0));
        for absent in [Quantity::Running, Quantity::Finished, Quantity::QueueTime] {
            assert_eq!(reading.value(absent), None, "{absent:?}");
        }
        assert!(reading.histogram(Quantity::OutputLength).is_some());
        assert!(reading.histogram(Quantity::Running).is_none());
    }

    #[test]
    fn capacity_in_blocks_is_capacity_in_tokens() {
        let blocks = EngineReading::new(EngineKind::Vllm, "m", "").with(Quantity::KvCacheBlocks, 100.0);
        assert_eq!(blocks.kv_cache_tokens(), None);
        assert_eq!(blocks.with(Quantity::KvCacheBlockSize, 16.0).kv_cache_tokens(), Some(1600.0));
    }
}
