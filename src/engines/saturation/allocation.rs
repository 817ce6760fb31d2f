//! Which variants a change falls on.

use std::collections::BTreeMap;

use super::restraint::Step;
use crate::{
    interfaces::{Direction, Growth, ReplicaBounds, VariantDecision, VariantKey},
    saturation::by_cost,
};

/// Replicas that a model may be given in one cycle: an absurd count is no measurement.
const MOST_STEPS: u32 = 10_000;

/// Target replicas per variant after `step`, each replica by the analyzer's rule of cost.
pub(super) fn targets(step: Step, variants: &[VariantDecision]) -> BTreeMap<VariantKey, u32> {
    match step {
        Step::Grow(missing) => grown(missing.min(MOST_STEPS), variants),
        Step::Hold => by_cost(Direction::Hold, variants),
        Step::Shrink => by_cost(Direction::Down, variants),
    }
}

/// The same without bounds.
pub(super) fn unconstrained(step: Step, variants: &[VariantDecision]) -> BTreeMap<VariantKey, u32> {
    let unbounded = ReplicaBounds { min: 0, max: None };
    let free: Vec<VariantDecision> =
        variants.iter().map(|variant| VariantDecision { bounds: unbounded, ..variant.clone() }).collect();
    targets(step, &free)
}

/// `missing` replicas more. The rule gives one at a time to the cheapest with room, so each variant in the order of cost
/// takes as many as it has room for.
fn grown(missing: u32, variants: &[VariantDecision]) -> BTreeMap<VariantKey, u32> {
    // What was asked for before is not added to what is missing now: both count from what is set.
    let set: Vec<VariantDecision> =
        variants.iter().map(|variant| VariantDecision { desired: None, ..variant.clone() }).collect();
    let mut targets = by_cost(Direction::Up, &set);
    let mut left = missing.saturating_sub(1);
    let mut order: Vec<&VariantDecision> =
        variants.iter().filter(|variant| variant.growth != Growth::Impossible).collect();
    order.sort_by(|a, b| {
        a.growth.cmp(&b.growth).then(a.cost.total_cmp(&b.cost)).then_with(|| a.variant.cmp(&b.variant))
    });
    for variant in order {
        let Some(target) = targets.get_mut(&variant.variant) else { continue };
        let more = variant.bounds.max.unwrap_or(u32::MAX).saturating_sub(*target).min(left);
        *target += more;
        left -= more;
    }
    for variant in variants {
        let most = variant.bounds.max.unwrap_or(u32::MAX);
        if let (Some(target), Some(asked)) = (targets.get_mut(&variant.variant), variant.desired) {
            *target = (*target).max(asked.min(most));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interfaces::Role;

    fn any_variants() -> impl Strategy<Value = Vec<VariantDecision>> {
        let growth = prop::sample::select(vec![Growth::Likely, Growth::Doubtful, Growth::Impossible]);
        let bounds = (0_u32..4, prop::option::of(0_u32..9))
            .prop_map(|(min, max)| ReplicaBounds { min: min.min(max.unwrap_or(min)), max });
        let variant = (0_u32..3, 0_u32..6, growth, bounds);
        prop::collection::vec(variant, 1..5).prop_map(|variants| {
            let decision =
                |(index, (cost, spec, growth, bounds)): (usize, (u32, u32, Growth, ReplicaBounds))| VariantDecision {
                    variant: VariantKey::new("default", format!("v{index}")),
                    cost: f64::from(cost),
                    role: Role::Both,
                    spec,
                    current: spec,
                    pending: 0,
                    desired: None,
                    bounds,
                    growth,
                };
            variants.into_iter().enumerate().map(decision).collect()
        })
    }

    proptest! {
        #[test]
        fn many_replicas_fall_where_one_after_the_other_would(variants in any_variants(), missing in 1_u32..12) {
            let mut one_by_one = variants.clone();
            for _ in 0..missing {
                let targets = by_cost(Direction::Up, &one_by_one);
                for variant in &mut one_by_one {
                    variant.spec = targets[&variant.variant];
                }
            }
            let expected: BTreeMap<VariantKey, u32> =
                one_by_one.into_iter().map(|variant| (variant.variant, variant.spec)).collect();
            prop_assert_eq!(targets(Step::Grow(missing), &variants), expected);
        }
    }
}
