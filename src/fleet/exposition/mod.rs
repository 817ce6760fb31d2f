//! What Prometheus sees: each engine's `/metrics` as vLLM words it, and the gateway's as the endpoint picker words it.
//!
//! Both render with the library vLLM's own Rust metrics use, so names, label order, suffixes and number formats agree.

mod engine;
mod gateway;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text::encode_registry},
    metrics::MetricType,
    registry::Registry,
};

pub use self::{
    engine::{EngineScrape, Exposition, NameGeneration},
    gateway::GatewayScrape,
};
use super::engine::Histogram;

/// Content type of the rendered text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Labels<'a> = &'a [(&'a str, &'a str)];

fn render(collector: impl Collector) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    encode_registry(&mut text, &registry)?;
    Ok(text)
}

/// Writes families one after the other.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        series: &[(Labels<'_>, impl EncodeGaugeValue)],
    ) -> Result<(), fmt::Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        series.iter().try_for_each(|(labels, value)| family.encode_family(labels)?.encode_gauge(value))
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        series: &[(Labels<'_>, impl EncodeCounterValue)],
    ) -> Result<(), fmt::Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        series.iter().try_for_each(|(labels, value)| {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)
        })
    }

    /// `unit`: how many of the histogram's units make one of the exported, such as picoseconds in a second.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        histogram: &Histogram,
        unit: f64,
    ) -> Result<(), fmt::Error> {
        let bounds = histogram.bounds().iter().map(|&bound| bound as f64 / unit).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(histogram.counts().iter().copied()).collect();
        let sum = histogram.sum() as f64 / unit;
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
    }
}
