//! How the values of one variant came about, as a document: what was seen, what followed from it, what bound it, and how
//! old all of it is. Decision and observation are written whole, so that whatever they learn to say is shown.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::published::Published;
use crate::interfaces::{Decision, Outcome, Snapshot, VariantKey, age};

/// The explanation of the decision at `index`.
pub(super) fn explain(published: &Published, index: usize, decision: &Decision, now: Timestamp) -> Value {
    let mut document = json!({
        "at": now,
        "summary": summary(decision),
        "decision": decision,
        "ages": ages(published, decision, now),
        "rivals": rivals(published, decision),
    });
    let observed = published.snapshot.as_deref().map(|snapshot| observed(snapshot, published, index, decision));
    if let (Value::Object(document), Some(Value::Object(observed))) = (&mut document, observed) {
        document.extend(observed);
    }
    document
}

/// What a person wants to know first.
fn summary(decision: &Decision) -> Value {
    match &decision.outcome {
        Outcome::Desired(desired) => json!({
            "desired": desired.replicas,
            "unconstrained": desired.unconstrained,
            "current": decision.current,
            "ready": decision.ready,
            "direction": desired.direction,
            "reason": desired.reason.to_string(),
            "boundBy": desired.bound_by.as_ref().map(ToString::to_string),
        }),
        Outcome::Withheld(withheld) => json!({
            "desired": null,
            "current": decision.current,
            "ready": decision.ready,
            "reason": withheld.message,
        }),
    }
}

/// Seconds since the decision and since the oldest signal it used, beside what they may be.
fn ages(published: &Published, decision: &Decision, now: Timestamp) -> Value {
    let seconds = |then| age(now, then).as_secs_f64();
    let oldest_input = match &decision.outcome {
        Outcome::Desired(desired) => desired.oldest_input,
        Outcome::Withheld(_) => None,
    };
    json!({
        "decisionSeconds": seconds(decision.decided_at),
        "decisionRefusedAfterSeconds": published.max_age.as_secs_f64(),
        "oldestInputSeconds": oldest_input.map(seconds),
        "signalMissingAfterSeconds": published.snapshot.as_ref().map(|snapshot| snapshot.ages.signal.as_secs_f64()),
    })
}

/// The other variants of the model, which share its load.
fn rivals(published: &Published, decision: &Decision) -> Vec<Value> {
    let is_rival = |other: &Decision| other.model == decision.model && other.variant != decision.variant;
    let others = published.within(Some(&decision.variant.namespace)).filter(|(_, other)| is_rival(other));
    let rival = |(index, other): (usize, &Decision)| {
        let cost = published.observation(index).map(|observation| observation.variant.cost);
        json!({"variant": other.variant, "cost": cost, "summary": summary(other)})
    };
    others.map(rival).collect()
}

/// What the decision was made on, as far as it is about this variant.
fn observed(snapshot: &Snapshot, published: &Published, index: usize, decision: &Decision) -> Value {
    let model = &decision.model;
    json!({
        "observation": published.observation(index),
        "model": snapshot.models.iter().find(|observation| &observation.model == model),
        "objective": snapshot.objectives.get(model),
        "saturation": snapshot.saturation_of(model),
        "unavailable": snapshot.unavailable.get(model),
        "sources": snapshot.sources,
    })
}

/// A sentence on a variant that is decided on but not served.
pub(super) fn in_shadow_mode(variant: &VariantKey) -> String {
    format!(
        "variant {variant} is in shadow mode: its decision is in its status and in wva's own metrics, and not served; \
         set spec.shadow of the VariantAutoscaling and actuation.shadow of the configuration to false to have it served"
    )
}

/// A sentence on a decision that is `old`, where that is too old.
pub(super) fn too_old(decision: &Decision, old: Duration, max_age: Duration) -> String {
    format!(
        "variant {}: the last decision is {} s old and refused after {} s; check the logs of wva for the reason its engine \
         stopped",
        decision.variant,
        old.as_secs(),
        max_age.as_secs()
    )
}
