//! Objects and decisions for the tests of this module.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::ObjectMeta;
use serde_json::json;

use super::{Findings, Publication, Warning};
use crate::{
    crd::{VariantAutoscaling, VariantAutoscalingStatus},
    interfaces::{
        Decision, Desired, Direction, EngineName, Limit, ModelKey, Outcome, Reason, SaturationLevel, VariantKey,
        Withheld, WithheldKind,
    },
};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// `desired` of `current` replicas, because `text`.
pub(super) fn decided(current: u32, desired: u32, text: &str) -> Decision {
    decision(
        Some(current),
        Outcome::Desired(Desired {
            replicas: desired,
            unconstrained: desired,
            direction: Direction::between(current, desired),
            reason: Reason { engine: EngineName::Saturation, text: text.to_owned() },
            bound_by: None,
            oldest_input: Some(at(990)),
        }),
    )
}

/// As [`decided`], but `limit` bound it.
pub(super) fn bounded(current: u32, desired: u32, unconstrained: u32, limit: Limit) -> Decision {
    let mut decision = decided(current, desired, "all replicas are saturated");
    if let Outcome::Desired(desired) = &mut decision.outcome {
        (desired.unconstrained, desired.bound_by) = (unconstrained, Some(limit));
    }
    decision
}

/// No decision.
pub(super) fn withheld(current: Option<u32>, kind: WithheldKind, message: &str) -> Decision {
    decision(current, Outcome::Withheld(Withheld { kind, message: message.to_owned() }))
}

fn decision(current: Option<u32>, outcome: Outcome) -> Decision {
    Decision {
        variant: VariantKey::new("prod", "llama-a100"),
        model: ModelKey::new("prod", "llama"),
        accelerator: Some("A100".into()),
        current,
        ready: current.unwrap_or(0),
        decided_at: at(1000),
        saturation: SaturationLevel::default(),
        outcome,
    }
}

/// `readers` HPAs with warnings of these reasons.
pub(super) fn autoscalers(readers: usize, reasons: &[&str]) -> Findings {
    let warnings =
        reasons.iter().map(|reason| Warning { reason: (*reason).to_owned(), message: format!("HPA web: {reason}") });
    Findings { readers, warnings: warnings.collect(), engines: Vec::new() }
}

/// The object `prod/llama-a100` at a version, with a status.
pub(super) fn object(version: u64, status: Option<VariantAutoscalingStatus>) -> Arc<VariantAutoscaling> {
    let spec = json!({ "scaleTargetRef": { "name": "llama-a100" }, "modelID": "llama" });
    Arc::new(VariantAutoscaling {
        metadata: ObjectMeta {
            name: Some("llama-a100".to_owned()),
            namespace: Some("prod".to_owned()),
            uid: Some("uid-1".to_owned()),
            resource_version: Some(version.to_string()),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: serde_json::from_value(spec).unwrap(),
        status,
    })
}

pub(super) fn publication(object: Arc<VariantAutoscaling>, decision: Decision) -> Publication {
    Publication { object, decision: Some(decision), autoscalers: autoscalers(1, &[]), annotated: None }
}
