//! People's orders over decisions: pause, pin, minimum, spend cap, each until its expiry and shown in the reason; and
//! shadow mode.
//!
//! The weakest comes first, so that the strongest has the last word: spend cap, minimum, pin, pause. Declared bounds hold
//! over all of them: an HPA never goes beyond its own, and a served number that it clamps would explain nothing.
//!
//! Engines plan within the bounds that overrides leave ([`EffectiveBounds`]). What remains to be done afterwards: variants
//! without a decision, which an order may still speak of; a cap on what a model's variants cost together; and the words.

use std::fmt::Write;

use super::{
    bounds::EffectiveBounds,
    roster::{Entry, Group, Roster},
};
use crate::interfaces::{
    Decision, Desired, Direction, EngineName, Limit, Outcome, Override, OverrideKind, Reason, ScaleObservation,
    Snapshot, VariantObservation,
};

/// Overrides on `observation` by itself that hold now, the strongest last.
pub(super) fn in_force<'a>(observation: &'a VariantObservation, snapshot: &'a Snapshot) -> Vec<&'a Override> {
    let of_model = snapshot.overrides.get(&observation.variant.model).into_iter().flatten();
    let of_model = of_model.filter(|order| order.kind != OverrideKind::SpendCap);
    let all = observation.variant.overrides.iter().chain(of_model);
    let mut orders: Vec<&Override> = all.filter(|order| order.is_active(snapshot.taken_at)).collect();
    orders.sort_by_key(|order| order.kind);
    orders
}

/// An override as the limit that binds.
pub(super) fn limit(order: &Override) -> Limit {
    match order.kind {
        OverrideKind::SpendCap => Limit::SpendCap(order.into()),
        OverrideKind::Minimum | OverrideKind::Pin | OverrideKind::Pause => Limit::Override(order.into()),
    }
}

/// Replicas that a cap on a variant alone buys; `None` where they cost nothing.
pub(super) fn affordable(order: &Override, cost: f64) -> Option<u32> {
    (cost > 0.0).then(|| order.cost().map(|cap| (cap / cost + 1e-9).floor() as u32)).flatten()
}

/// `decisions` as the overrides of the snapshot leave them.
pub(super) fn apply(roster: &Roster<'_>, decisions: &mut [Decision]) {
    let snapshot = roster.snapshot;
    let has_terms = |found: &VariantObservation| found.variant.shadow || !found.variant.overrides.is_empty();
    if snapshot.overrides.is_empty() && !snapshot.variants.iter().any(has_terms) {
        return;
    }
    for (entry, decision) in roster.beside(decisions) {
        if let Some(subject) = Subject::of(entry) {
            subject.obey(snapshot, decision);
        }
    }
    for groups in roster.models() {
        let orders = groups.first().and_then(|group| snapshot.overrides.get(group.model)).into_iter().flatten();
        let caps = orders.filter(|order| order.kind == OverrideKind::SpendCap);
        for cap in caps.filter(|cap| cap.is_active(snapshot.taken_at)) {
            cap_together(roster, groups, cap, decisions);
        }
    }
    for (entry, decision) in roster.beside(decisions) {
        if let (true, Outcome::Desired(desired)) = (entry.observation.variant.shadow, &mut decision.outcome) {
            desired.reason.text.push_str("; shadow mode: no HPA is served this number");
        }
    }
}

/// A variant whose target can be read.
struct Subject<'a> {
    observation: &'a VariantObservation,
    scale: &'a ScaleObservation,
    bounds: &'a EffectiveBounds,
}

impl<'a> Subject<'a> {
    fn of(entry: &'a Entry<'_>) -> Option<Self> {
        Some(Self { observation: entry.observation, scale: entry.scale()?, bounds: &entry.bounds })
    }
}

impl Subject<'_> {
    /// Makes sure that what binds is obeyed and that the strongest order is named.
    fn obey(&self, snapshot: &Snapshot, decision: &mut Decision) {
        let orders = in_force(self.observation, snapshot);
        let Some(strongest) = orders.last() else { return };
        let is_fixed = matches!(strongest.kind, OverrideKind::Pin | OverrideKind::Pause);
        let range = self.bounds.range();
        // Without a decision the HPA holds what is set: an order is needed only where that is too little or too much.
        let asked = match &decision.outcome {
            Outcome::Desired(desired) => desired.replicas,
            Outcome::Withheld(_) => self.scale.spec,
        };
        let within = asked.max(range.min).min(range.max.unwrap_or(u32::MAX));
        let is_decided = matches!(decision.outcome, Outcome::Desired(_));
        if within != asked || (is_fixed && !is_decided) {
            let binding = self.bounds.binding(asked).unwrap_or_else(|| limit(strongest));
            self.set(decision, within, strongest, binding);
        } else if let (true, Outcome::Desired(desired)) = (is_fixed, &mut decision.outcome) {
            if desired.bound_by.as_ref() != Some(&limit(strongest)) {
                let _ = write!(desired.reason.text, "; {strongest}");
            }
            desired.reason.text.push_str(&self.clipped(strongest));
        }
    }

    /// Where the declared bounds do not let an order have its number: within what.
    fn clipped(&self, order: &Override) -> String {
        let wanted = match order.kind {
            OverrideKind::Pause => Some(self.scale.spec),
            OverrideKind::Pin | OverrideKind::Minimum => order.replicas,
            OverrideKind::SpendCap => affordable(order, self.observation.variant.cost),
        };
        let declared = EffectiveBounds::declared(&self.observation.variant, &self.observation.autoscalers);
        let bound = wanted.and_then(|wanted| declared.binding(wanted));
        bound.map_or_else(String::new, |bound| format!(", within {bound}"))
    }

    /// Puts `replicas` in the place of what was decided.
    fn set(&self, decision: &mut Decision, replicas: u32, order: &Override, bound_by: Limit) {
        let clipped = self.clipped(order);
        let (reason, unconstrained, oldest_input) = match &decision.outcome {
            Outcome::Desired(before) => {
                let text = format!("{}; {order}{clipped}", before.reason.text);
                (Reason { engine: before.reason.engine, text }, before.unconstrained, before.oldest_input)
            }
            Outcome::Withheld(withheld) => {
                let text = format!("{order}{clipped}; without it: {}", withheld.message);
                (Reason { engine: EngineName::Bounds, text }, self.scale.spec, None)
            }
        };
        decision.outcome = Outcome::Desired(Desired {
            replicas,
            unconstrained,
            direction: Direction::between(self.scale.spec, replicas),
            reason,
            bound_by: Some(bound_by),
            oldest_input,
        });
    }
}

/// A cap on all variants of a model together: the dearest replicas above the minimums go first.
fn cap_together(roster: &Roster<'_>, groups: &[Group<'_>], order: &Override, decisions: &mut [Decision]) {
    let Some(cap) = order.cost() else { return };
    let places = groups.iter().flat_map(|group| group.places.iter().copied());
    let mut counted: Vec<(Subject<'_>, u32, usize)> = places
        .filter_map(|place| {
            let subject = Subject::of(&roster.entries[place])?;
            let replicas = match &decisions[place].outcome {
                Outcome::Desired(desired) => desired.replicas,
                Outcome::Withheld(_) => subject.scale.spec,
            };
            Some((subject, replicas, place))
        })
        .collect();
    // In the order of names, so that sums do not depend on the roles.
    counted.sort_by_key(|(.., place)| *place);
    let cost = |subject: &Subject<'_>| subject.observation.variant.cost;
    let mut total: f64 = counted.iter().map(|(subject, n, _)| cost(subject) * f64::from(*n)).sum();
    counted.sort_by(|a, b| cost(&b.0).total_cmp(&cost(&a.0)).then_with(|| b.2.cmp(&a.2)));
    for (subject, replicas, place) in counted {
        let each = cost(&subject);
        if total <= cap * (1.0 + 1e-9) || each <= 0.0 {
            continue;
        }
        let excess = ((total - cap) / each - 1e-9).ceil() as u32;
        let range = subject.bounds.range();
        let kept = replicas.saturating_sub(excess).max(range.min.min(replicas)).min(range.max.unwrap_or(u32::MAX));
        if kept < replicas {
            total -= each * f64::from(replicas - kept);
            subject.set(&mut decisions[place], kept, order, limit(order));
        }
    }
}

#[cfg(test)]
mod tests;
