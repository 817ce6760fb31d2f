//! The figures of each variant at one moment, from the fleet, the collector and the decisions.

use std::time::Duration;

use super::world::{DemoVariant, VARIANTS};
use crate::{
    fleet::{PoolReport, VariantStatus},
    interfaces::{Decision, Outcome, ReplicaMetrics},
};

/// Saturated: at or over the shares that ship as thresholds.
const SATURATED_KV: f64 = 0.8;
const SATURATED_QUEUE: f64 = 5.0;

/// One variant at one moment.
pub(super) struct Row {
    pub(super) variant: DemoVariant,
    /// Requests per second, as its engines count them; `None` where they say nothing.
    rate: Option<f64>,
    /// The fullest KV cache of its replicas, a fraction of 1.
    pub(super) kv_peak: Option<f64>,
    /// Requests that wait in its engines.
    queue: Option<f64>,
    /// What the HPA reads; a dash where there is no decision.
    pub(super) desired: String,
    pub(super) ready: u32,
    /// `spec.replicas`.
    pub(super) set: u32,
    /// The reason of the decision.
    pub(super) why: String,
}

/// Every variant, in the order of [`VARIANTS`].
pub(super) fn rows(report: &PoolReport, signals: &[ReplicaMetrics], decisions: &[Decision]) -> Vec<Row> {
    VARIANTS.into_iter().map(|variant| row(variant, report, signals, decisions)).collect()
}

fn row(variant: DemoVariant, report: &PoolReport, signals: &[ReplicaMetrics], decisions: &[Decision]) -> Row {
    let of_variant = || signals.iter().filter(|r| r.variant.as_ref().is_some_and(|key| &*key.name == variant.name));
    let sum = |of: fn(&ReplicaMetrics) -> Option<f64>| of_variant().filter_map(of).reduce(|a, b| a + b);
    let decision = decisions.iter().find(|decision| &*decision.variant.name == variant.name);
    let (desired, why) = match decision.map(|decision| &decision.outcome) {
        Some(Outcome::Desired(desired)) => (desired.replicas.to_string(), desired.reason.text.as_str()),
        Some(Outcome::Withheld(withheld)) => ("-".to_owned(), withheld.message.as_str()),
        None => ("-".to_owned(), "nothing is decided yet"),
    };
    let (ready, set) = status(report, variant).map_or((0, 0), |status| (status.ready, set(status)));
    Row {
        variant,
        rate: sum(|replica| replica.request_rate.value().copied()),
        kv_peak: of_variant().filter_map(|replica| replica.kv_cache_usage.value().copied()).reduce(f64::max),
        queue: sum(|replica| replica.queue_length.value().copied()),
        desired,
        ready,
        set,
        why: why.to_owned(),
    }
}

/// A variant's part of the report.
pub(super) fn status(report: &PoolReport, variant: DemoVariant) -> Option<&VariantStatus> {
    report.variants.iter().find(|status| status.name == variant.name)
}

/// `spec.replicas`.
pub(super) fn set(status: &VariantStatus) -> u32 {
    status.spec.unwrap_or(status.current)
}

/// Names of the columns of [`Row::text`], with room for a bar of so many columns.
pub(super) fn heading(bar: usize) -> String {
    let gap = " ".repeat(if bar > 0 { bar + 1 } else { 0 });
    format!("VARIANT  GPU   PRICE  LOAD req/s  {gap}KV peak  QUEUE  READY/SET  DESIRED")
}

impl Row {
    /// Whether a signal is at or over its threshold.
    pub(super) fn is_saturated(&self) -> bool {
        let over = |value: Option<f64>, threshold| value.is_some_and(|value| value >= threshold);
        over(self.kv_peak, SATURATED_KV) || over(self.queue, SATURATED_QUEUE)
    }

    /// The figures in columns, with `bar` before the KV cache.
    pub(super) fn text(&self, bar: &str) -> String {
        let gap = if bar.is_empty() { "" } else { " " };
        format!(
            "{:<7}  {:<4}  {:>5.2}  {:>10}  {bar}{gap}{:>7}  {:>5}  {:>9}  {:>7}",
            self.variant.name,
            self.variant.accelerator,
            self.variant.price(),
            number(self.rate, |rate| format!("{rate:.1}")),
            percent_whole(self.kv_peak),
            number(self.queue, |queue| format!("{queue:.0}")),
            format!("{}/{}", self.ready, self.set),
            self.desired,
        )
    }
}

fn number(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn percent_whole(share: Option<f64>) -> String {
    number(share, |share| format!("{:.0} %", share * 100.0))
}

/// A share as a percentage with one decimal; a dash where there is none.
pub(super) fn percent(share: Option<f64>) -> String {
    number(share, |share| format!("{:.1} %", share * 100.0))
}

/// Minutes and seconds.
pub(super) fn clock(time: Duration) -> String {
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
