//! One decision as the series it is served as.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    apiserver::{Refusal, Sample, Series},
    constants::{
        LABEL_DIRECTION, LABEL_SIGNAL, WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO, WVA_DESIRED_REPLICAS,
        WVA_SATURATION_LEVEL, WVA_SCALING_DECISION,
    },
    interfaces::{Decision, Desired, Outcome, Signal, wire_labels},
};

/// All series of a decision, by metric name.
pub(super) fn of(decision: &Decision, controller_instance: Option<&str>) -> Vec<(&'static str, Series)> {
    let labels = labels(decision, controller_instance);
    let at = decision.decided_at;
    let plain = |metric, value| (metric, series(decision, labels.clone(), value));
    vec![
        plain(WVA_DESIRED_REPLICAS, desired(decision).map(|desired| whole(desired.replicas, at))),
        plain(WVA_CURRENT_REPLICAS, current(decision).map(|current| whole(current, at))),
        plain(WVA_DESIRED_RATIO, ratio(decision)),
        (
            WVA_SATURATION_LEVEL,
            series(decision, with(&labels, LABEL_SIGNAL, "kv_cache"), level(decision, decision.saturation.kv_cache)),
        ),
        (
            WVA_SATURATION_LEVEL,
            series(
                decision,
                with(&labels, LABEL_SIGNAL, "queue_depth"),
                level(decision, decision.saturation.queue_depth),
            ),
        ),
        (WVA_SCALING_DECISION, direction(decision, &labels)),
    ]
}

fn labels(decision: &Decision, controller_instance: Option<&str>) -> Arc<BTreeMap<String, String>> {
    let accelerator = decision.accelerator.as_deref();
    let labels = wire_labels(&decision.variant, &decision.model.model_id, accelerator, controller_instance);
    Arc::new(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn with(labels: &BTreeMap<String, String>, key: &str, value: &str) -> Arc<BTreeMap<String, String>> {
    let mut labels = labels.clone();
    labels.insert(key.to_owned(), value.to_owned());
    Arc::new(labels)
}

fn series(decision: &Decision, labels: Arc<BTreeMap<String, String>>, value: Result<Sample, Refusal>) -> Series {
    Series { namespace: decision.variant.namespace.clone(), subject: decision.variant.name.clone(), labels, value }
}

fn desired(decision: &Decision) -> Result<&Desired, Refusal> {
    match &decision.outcome {
        Outcome::Desired(desired) => Ok(desired),
        Outcome::Withheld(withheld) => Err(Refusal { message: withheld.message.clone() }),
    }
}

fn current(decision: &Decision) -> Result<u32, Refusal> {
    match (&decision.outcome, decision.current) {
        (_, Some(current)) => Ok(current),
        (Outcome::Withheld(withheld), None) => Err(Refusal { message: withheld.message.clone() }),
        (Outcome::Desired(_), None) => {
            Err(Refusal { message: format!("variant {}: its scale target cannot be read", decision.variant) })
        }
    }
}

/// Desired over observed replicas; where none is observed, over one, so that waking from zero reads as growth.
fn ratio(decision: &Decision) -> Result<Sample, Refusal> {
    let desired = desired(decision)?.replicas;
    let current = current(decision)?.max(1);
    Ok(fraction(f64::from(desired) / f64::from(current), decision.decided_at))
}

fn level(decision: &Decision, signal: Signal<f64>) -> Result<Sample, Refusal> {
    match signal {
        Signal::Present { value, .. } => Ok(fraction(value, decision.decided_at)),
        Signal::Missing | Signal::NotDefined => Err(Refusal {
            message: format!(
                "variant {}: no replica has a fresh sample of this signal; read {WVA_DESIRED_REPLICAS} for the reason",
                decision.variant
            ),
        }),
    }
}

fn direction(decision: &Decision, labels: &BTreeMap<String, String>) -> Series {
    match desired(decision) {
        Ok(desired) => series(
            decision,
            with(labels, LABEL_DIRECTION, desired.direction.as_str()),
            Ok(whole(1, decision.decided_at)),
        ),
        Err(refusal) => series(decision, Arc::new(labels.clone()), Err(refusal)),
    }
}

fn whole(value: u32, timestamp: Timestamp) -> Sample {
    Sample { milli: u64::from(value) * 1000, timestamp, window: None }
}

/// A non-negative fraction in thousandths, rounded up as a quantity is. The cast saturates.
fn fraction(value: f64, timestamp: Timestamp) -> Sample {
    Sample { milli: (value * 1000.0 - 1e-9).ceil().max(0.0) as u64, timestamp, window: None }
}
