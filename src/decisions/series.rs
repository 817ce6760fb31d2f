//! One decision as the series it is served as.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    apiserver::{ObjectReference, Refusal, Sample, Series},
    constants::{
        ACCELERATOR_UNRESOLVED, LABEL_DIRECTION, LABEL_SIGNAL, WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO,
        WVA_DESIRED_REPLICAS, WVA_SATURATION_LEVEL, WVA_SCALING_DECISION,
    },
    interfaces::{Decision, Desired, Outcome, Signal, WireLabels},
};

/// The metrics that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    DesiredReplicas,
    CurrentReplicas,
    DesiredRatio,
    SaturationLevel,
    ScalingDecision,
}

/// Their names; the first is the one that HPAs read.
pub(super) const NAMES: [&str; 5] =
    [WVA_DESIRED_REPLICAS, WVA_CURRENT_REPLICAS, WVA_DESIRED_RATIO, WVA_SATURATION_LEVEL, WVA_SCALING_DECISION];

impl Metric {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            WVA_DESIRED_REPLICAS => Self::DesiredReplicas,
            WVA_CURRENT_REPLICAS => Self::CurrentReplicas,
            WVA_DESIRED_RATIO => Self::DesiredRatio,
            WVA_SATURATION_LEVEL => Self::SaturationLevel,
            WVA_SCALING_DECISION => Self::ScalingDecision,
            _ => return None,
        })
    }

    /// Whether an autoscaler that reads it would set replicas by it.
    pub(super) fn asks_for_replicas(self) -> bool {
        match self {
            Self::DesiredReplicas | Self::DesiredRatio | Self::ScalingDecision => true,
            Self::CurrentReplicas | Self::SaturationLevel => false,
        }
    }
}

/// Where series come from, and what they carry beyond the decision.
#[derive(Clone, Debug)]
pub(super) struct Context<'a> {
    pub(super) controller_instance: Option<&'a Arc<str>>,
    /// The object they were asked for as properties of.
    pub(super) object: Option<ObjectReference>,
    /// Why no value of it may be served any more.
    pub(super) refusal: Option<Refusal>,
}

/// Adds the series of `metric` of a decision to `found`.
pub(super) fn add(metric: Metric, decision: &Decision, context: &Context<'_>, found: &mut Vec<Series>) {
    let at = decision.decided_at;
    let mut push = |extra: Option<(&'static str, &str)>, value: Result<Sample, Refusal>| {
        found.push(series(decision, context, extra, value));
    };
    match metric {
        Metric::DesiredReplicas => push(None, desired(decision).map(|desired| whole(desired.replicas, at))),
        Metric::CurrentReplicas => push(None, current(decision).map(|current| whole(current, at))),
        Metric::DesiredRatio => push(None, ratio(decision)),
        Metric::SaturationLevel => {
            let level_of = |signal| level(decision, signal);
            push(Some((LABEL_SIGNAL, "kv_cache")), level_of(decision.saturation.kv_cache));
            push(Some((LABEL_SIGNAL, "queue_depth")), level_of(decision.saturation.queue_depth));
        }
        Metric::ScalingDecision => match desired(decision) {
            Ok(desired) => push(Some((LABEL_DIRECTION, desired.direction.as_str())), Ok(whole(1, at))),
            Err(refusal) => push(None, Err(refusal)),
        },
    }
}

fn series(
    decision: &Decision,
    context: &Context<'_>,
    extra: Option<(&'static str, &str)>,
    value: Result<Sample, Refusal>,
) -> Series {
    // Shared, because all of them are written down already.
    let labels = WireLabels {
        variant_name: decision.variant.name.clone(),
        namespace: decision.variant.namespace.clone(),
        accelerator_type: decision.accelerator.clone().unwrap_or_else(|| ACCELERATOR_UNRESOLVED.into()),
        model_name: decision.model.model_id.clone(),
        controller_instance: context.controller_instance.cloned(),
    };
    let labels = labels.pairs().chain(extra.map(|(name, value)| (name, value.into())));
    let value = value.and_then(|sample| context.refusal.clone().map_or(Ok(sample), Err));
    Series {
        namespace: decision.variant.namespace.clone(),
        subject: decision.variant.name.clone(),
        object: context.object.clone(),
        labels: labels.collect(),
        value,
    }
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

fn whole(value: u32, timestamp: Timestamp) -> Sample {
    Sample { milli: u64::from(value) * 1000, timestamp, window: None }
}

/// A non-negative fraction in thousandths, rounded up as a quantity is. The cast saturates.
fn fraction(value: f64, timestamp: Timestamp) -> Sample {
    Sample { milli: (value * 1000.0 - 1e-9).ceil().max(0.0) as u64, timestamp, window: None }
}
