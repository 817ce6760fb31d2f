//! What a decision on a model needs of its engines.

use std::time::Duration;

use jiff::Timestamp;

use super::mapping::EngineCatalog;
use crate::interfaces::{CollectorError, EngineKind, ModelKey, Quantity, ReplicaMetrics, Signal};

/// Signals that a decision needs and no engine instance of a model has.
#[derive(Clone, Debug)]
pub(super) struct Missing(Vec<(String, SignalOf)>);

type SignalOf = fn(&ReplicaMetrics) -> Signal<f64>;

/// Of the signals that a decision needs, those that none of `replicas` has, sampled within `age_limit` of `now`. What an
/// engine never exports is not missed.
pub(super) fn missing(
    replicas: &[ReplicaMetrics],
    catalog: &EngineCatalog,
    now: Timestamp,
    age_limit: Duration,
) -> Missing {
    let needed: [(Quantity, SignalOf); 2] = [
        (Quantity::KvCacheUsage, |replica| replica.kv_cache_usage),
        (Quantity::Waiting, |replica| replica.queue_length),
    ];
    let is_usable = |signal: Signal<f64>| match signal.fresh(now, age_limit) {
        Signal::Present { .. } | Signal::NotDefined => true,
        Signal::Missing => false,
    };
    let engine = replicas.first().map_or(EngineKind::Vllm, |replica| replica.engine);
    let needed = needed.into_iter().filter(|(_, signal)| !replicas.iter().any(|replica| is_usable(signal(replica))));
    Missing(needed.map(|(quantity, signal)| (catalog.family_names(engine, quantity), signal)).collect())
}

impl Missing {
    /// An error that names the series, with what `found` says there is instead; nothing where none is missing.
    ///
    /// # Errors
    /// When any is missing.
    pub(super) fn or_error(&self, model: &ModelKey, found: impl FnOnce() -> String) -> Result<(), CollectorError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let missing = self.0.iter().map(|(names, _)| names.as_str()).collect::<Vec<_>>().join(" and ");
        Err(CollectorError::MissingSeries { model: model.clone(), missing, found: found() })
    }

    /// The newest sample of these signals, however old.
    pub(super) fn newest(&self, replicas: &[ReplicaMetrics]) -> Option<Timestamp> {
        let sampled = |(_, signal): &(String, SignalOf)| replicas.iter().filter_map(|r| signal(r).sampled_at()).max();
        self.0.iter().filter_map(sampled).max()
    }
}
