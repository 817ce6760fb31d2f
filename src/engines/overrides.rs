//! People's orders over decisions: applied last, shown in the reason.
//!
//! The weakest comes first, so that the strongest has the last word: spend cap, minimum, pin, pause. Bounds hold over all
//! of them: an HPA never goes beyond its own, and a served number that it clamps would explain nothing.

use std::collections::BTreeMap;

use super::bounds::EffectiveBounds;
use crate::interfaces::{
    AppliedOverride, Decision, Desired, Direction, EngineName, Limit, Outcome, Override, OverrideKind, OverrideScope,
    Reason, ScaleObservation, Snapshot, TargetObservation, VariantKey, VariantObservation,
};

/// `decisions` as the overrides of `snapshot` leave them.
pub(super) fn apply(snapshot: &Snapshot, decisions: &mut [Decision]) {
    let mut orders: Vec<&AppliedOverride> =
        snapshot.planning.overrides.iter().filter(|order| order.terms.is_active(snapshot.taken_at)).collect();
    if orders.is_empty() {
        return;
    }
    orders.sort_by_key(|order| order.terms.kind);
    let observations: BTreeMap<&VariantKey, &VariantObservation> =
        snapshot.variants.iter().map(|observation| (&observation.variant.key, observation)).collect();
    for order in orders {
        if let (OverrideKind::SpendCap, OverrideScope::Model(_)) = (order.terms.kind, &order.scope) {
            cap_together(order, &observations, decisions);
            continue;
        }
        for decision in decisions.iter_mut().filter(|decision| is_on(&order.scope, decision)) {
            if let Some(subject) = observations.get(&decision.variant).and_then(|found| Subject::of(found)) {
                subject.obey(&order.terms, decision);
            }
        }
    }
}

fn is_on(scope: &OverrideScope, decision: &Decision) -> bool {
    match scope {
        OverrideScope::Variant(variant) => *variant == decision.variant,
        OverrideScope::Model(model) => *model == decision.model,
    }
}

/// A variant whose target can be read.
struct Subject<'a> {
    observation: &'a VariantObservation,
    scale: &'a ScaleObservation,
    bounds: EffectiveBounds,
}

impl<'a> Subject<'a> {
    fn of(observation: &'a VariantObservation) -> Option<Self> {
        let TargetObservation::Found(scale) = &observation.target else { return None };
        let bounds = EffectiveBounds::of(&observation.variant, &observation.autoscalers);
        Some(Self { observation, scale, bounds })
    }

    fn obey(&self, order: &Override, decision: &mut Decision) {
        let spec = self.scale.spec;
        let asked = match &decision.outcome {
            Outcome::Desired(desired) => Some(desired.replicas),
            Outcome::Withheld(_) => None,
        };
        let replicas = match order.kind {
            OverrideKind::Pause => Some(spec),
            OverrideKind::Pin => order.replicas,
            // Without a decision the HPA holds what is set: an order is needed only where that is too little or too much.
            OverrideKind::Minimum => order.replicas.filter(|least| *least > asked.unwrap_or(spec)),
            OverrideKind::SpendCap => self.affordable(order).filter(|most| *most < asked.unwrap_or(spec)),
        };
        if let Some(replicas) = replicas {
            self.set(decision, replicas, order);
        }
    }

    /// Replicas that a cap on this variant alone buys.
    fn affordable(&self, order: &Override) -> Option<u32> {
        let cost = self.observation.variant.cost;
        (cost > 0.0).then(|| order.cost().map(|cap| (cap / cost + 1e-9).floor() as u32)).flatten()
    }

    /// Puts `replicas`, as far as the bounds go, in the place of what was decided.
    fn set(&self, decision: &mut Decision, replicas: u32, order: &Override) {
        let range = self.bounds.range();
        let within = replicas.max(range.min).min(range.max.unwrap_or(u32::MAX));
        let limit = if order.kind == OverrideKind::SpendCap {
            Limit::SpendCap(order.into())
        } else {
            Limit::Override(order.into())
        };
        let bounded = self.bounds.binding(replicas).map_or_else(String::new, |bound| format!(", within {bound}"));
        let (reason, unconstrained, oldest_input) = match &decision.outcome {
            Outcome::Desired(before) => {
                let text = format!("{}; {order}{bounded}", before.reason.text);
                (Reason { engine: before.reason.engine, text }, before.unconstrained, before.oldest_input)
            }
            Outcome::Withheld(withheld) => {
                let text = format!("{order}{bounded}; without it: {}", withheld.message);
                (Reason { engine: EngineName::Bounds, text }, within, None)
            }
        };
        decision.outcome = Outcome::Desired(Desired {
            replicas: within,
            unconstrained,
            direction: Direction::between(self.scale.spec, within),
            reason,
            bound_by: Some(limit),
            oldest_input,
        });
    }
}

/// A cap on all variants of a model together: the dearest replicas above the minimums go first.
fn cap_together(
    order: &AppliedOverride,
    observations: &BTreeMap<&VariantKey, &VariantObservation>,
    decisions: &mut [Decision],
) {
    let Some(cap) = order.terms.cost() else { return };
    let mut counted: Vec<(Subject<'_>, u32, &mut Decision)> = Vec::new();
    for decision in decisions.iter_mut().filter(|decision| is_on(&order.scope, decision)) {
        let Some(subject) = observations.get(&decision.variant).and_then(|found| Subject::of(found)) else { continue };
        let replicas = match &decision.outcome {
            Outcome::Desired(desired) => desired.replicas,
            Outcome::Withheld(_) => subject.scale.spec,
        };
        counted.push((subject, replicas, decision));
    }
    let cost = |subject: &Subject<'_>| subject.observation.variant.cost;
    let mut total: f64 = counted.iter().map(|(subject, n, _)| cost(subject) * f64::from(*n)).sum();
    counted.sort_by(|a, b| cost(&b.0).total_cmp(&cost(&a.0)).then_with(|| b.2.variant.cmp(&a.2.variant)));
    for (subject, replicas, decision) in counted {
        let each = cost(&subject);
        if total <= cap * (1.0 + 1e-9) || each <= 0.0 {
            continue;
        }
        let excess = ((total - cap) / each - 1e-9).ceil() as u32;
        let kept = replicas.saturating_sub(excess).max(subject.bounds.range().min.min(replicas));
        if kept < replicas {
            total -= each * f64::from(replicas - kept);
            subject.set(decision, kept, &order.terms);
        }
    }
}

#[cfg(test)]
mod tests;
