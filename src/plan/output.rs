//! A plan for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

use serde_json::{Value, json};

use super::Plan;
use crate::interfaces::{Decision, Outcome, Snapshot, TargetObservation, VariantKey, VariantObservation};

const AS_SERVED: &str = "the snapshot as recorded gives the very decisions that were served\n";
const NOT_AS_SERVED: &str =
    "the snapshot as recorded gives OTHER decisions than were served; was it another version of wva?\n";

/// Prints to standard output; a reader that has seen enough and closes the pipe is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// One line per variant, its reason below it, and what all of it costs.
pub(super) fn table(plan: &Plan) -> String {
    let after = observations(&plan.after);
    let before: BTreeMap<&VariantKey, &Decision> =
        plan.replayed.iter().map(|decision| (&decision.variant, decision)).collect();
    let is_what_if = !plan.changes.is_empty();
    let width = plan.decisions.iter().map(|decision| decision.variant.to_string().len()).max().unwrap_or(0).max(7);
    let mut text = format!("snapshot of {}, {} variants\n", plan.after.taken_at, plan.after.variants.len());
    if is_what_if {
        let _ = writeln!(text, "what if: {}", plan.changes.join("; "));
    }
    let was = if is_what_if { "  was" } else { "" };
    let _ =
        writeln!(text, "\n{:<width$}  {:>5}  {:>5}  {:>7}{was}  {:>9}", "variant", "set", "ready", "desired", "cost");
    for decision in &plan.decisions {
        let Some(observation) = after.get(&decision.variant) else { continue };
        let spec = spec(observation).map_or_else(|| "-".to_owned(), |spec| spec.to_string());
        let desired = replicas(decision).map_or_else(|| "-".to_owned(), |replicas| replicas.to_string());
        let was = match (is_what_if, before.get(&decision.variant)) {
            (true, Some(before)) => {
                format!("  {:>3}", replicas(before).map_or_else(|| "-".to_owned(), |n| n.to_string()))
            }
            (true, None) => "    -".to_owned(),
            (false, _) => String::new(),
        };
        let cost = held(decision, observation)
            .map_or_else(|| "-".to_owned(), |n| format!("{:.2}", n * observation.variant.cost));
        let name = decision.variant.to_string();
        let _ = writeln!(text, "{name:<width$}  {spec:>5}  {:>5}  {desired:>7}{was}  {cost:>9}", decision.ready);
        let _ = writeln!(text, "  {}", reason(decision));
    }
    let _ = write!(
        text,
        "\ncost {:.2} as set, {:.2} as decided",
        cost_as_set(&plan.after),
        cost(&plan.after, &plan.decisions)
    );
    if is_what_if {
        let _ = write!(text, ", {:.2} without the changes", cost(&plan.before, &plan.replayed));
    }
    text.push('\n');
    match plan.is_as_served {
        Some(true) => text.push_str(AS_SERVED),
        Some(false) => text.push_str(NOT_AS_SERVED),
        None => {}
    }
    text
}

/// The same as one document.
pub(super) fn document(plan: &Plan) -> Value {
    json!({
        "takenAt": plan.after.taken_at,
        "whatIf": plan.changes,
        "decisions": plan.decisions,
        "withoutChanges": (!plan.changes.is_empty()).then_some(&plan.replayed),
        "sameAsServed": plan.is_as_served,
        "cost": {
            "asSet": cost_as_set(&plan.after),
            "asDecided": cost(&plan.after, &plan.decisions),
            "withoutChanges": cost(&plan.before, &plan.replayed),
        },
    })
}

fn observations(snapshot: &Snapshot) -> BTreeMap<&VariantKey, &VariantObservation> {
    snapshot.variants.iter().map(|observation| (&observation.variant.key, observation)).collect()
}

fn spec(observation: &VariantObservation) -> Option<u32> {
    match &observation.target {
        TargetObservation::Found(scale) => Some(scale.spec),
        TargetObservation::NotFound { .. } => None,
    }
}

fn replicas(decision: &Decision) -> Option<u32> {
    match &decision.outcome {
        Outcome::Desired(desired) => Some(desired.replicas),
        Outcome::Withheld(_) => None,
    }
}

/// Replicas that the variant will have: without a decision, those that are set.
fn held(decision: &Decision, observation: &VariantObservation) -> Option<f64> {
    replicas(decision).or_else(|| spec(observation)).map(f64::from)
}

fn reason(decision: &Decision) -> String {
    match &decision.outcome {
        Outcome::Desired(desired) => desired.reason.to_string(),
        Outcome::Withheld(withheld) => format!("withheld: {}", withheld.message),
    }
}

fn cost(snapshot: &Snapshot, decisions: &[Decision]) -> f64 {
    let observed = observations(snapshot);
    let cost = |decision: &Decision| {
        let observation = observed.get(&decision.variant)?;
        Some(held(decision, observation)? * observation.variant.cost)
    };
    // The sum of nothing is -0, which nobody wants to read.
    decisions.iter().filter_map(cost).sum::<f64>() + 0.0
}

fn cost_as_set(snapshot: &Snapshot) -> f64 {
    let cost = |observation: &VariantObservation| Some(f64::from(spec(observation)?) * observation.variant.cost);
    snapshot.variants.iter().filter_map(cost).sum::<f64>() + 0.0
}
