//! From an analysis to target replicas per variant, by cost.

use std::collections::BTreeMap;

use crate::interfaces::{Direction, Growth, ModelSaturationAnalysis, VariantDecision, VariantKey};

/// Which way an analysis points.
pub(super) fn direction(analysis: &ModelSaturationAnalysis) -> Direction {
    if analysis.should_scale_up {
        Direction::Up
    } else if analysis.scale_down_safe {
        Direction::Down
    } else {
        Direction::Hold
    }
}

/// `CalculateCapacityTargets` of the package reference: one replica more on the cheapest variant with room, one less on
/// the dearest that may lose one, otherwise what was asked for before; always within bounds.
pub(crate) fn by_cost(direction: Direction, variants: &[VariantDecision]) -> BTreeMap<VariantKey, u32> {
    let mut targets: BTreeMap<VariantKey, u32> =
        variants.iter().map(|variant| (variant.variant.clone(), clamped(variant, held(variant)))).collect();
    let moved = match direction {
        Direction::Up => {
            cheapest_with_room(variants).map(|found| (found, held(found).max(found.spec.saturating_add(1))))
        }
        Direction::Down => dearest_to_shrink(variants).map(|found| (found, found.spec.saturating_sub(1))),
        Direction::Hold => None,
    };
    if let Some((variant, replicas)) = moved {
        targets.insert(variant.variant.clone(), clamped(variant, replicas));
    }
    targets
}

/// What a variant keeps while nothing changes: what is set, or more if that was asked for and is still to come. An ask
/// for less that was not granted is withdrawn.
fn held(variant: &VariantDecision) -> u32 {
    variant.desired.map_or(variant.spec, |desired| desired.max(variant.spec))
}

fn clamped(variant: &VariantDecision, replicas: u32) -> u32 {
    let capped = variant.bounds.max.map_or(replicas, |max| replicas.min(max));
    capped.max(variant.bounds.min)
}

/// Among those that can grow; one whose replicas are stuck comes last, however cheap.
fn cheapest_with_room(variants: &[VariantDecision]) -> Option<&VariantDecision> {
    variants
        .iter()
        .filter(|variant| variant.growth != Growth::Impossible)
        .filter(|variant| variant.bounds.max.is_none_or(|max| variant.spec < max))
        .min_by(|a, b| a.growth.cmp(&b.growth).then(a.cost.total_cmp(&b.cost)).then_with(|| a.variant.cmp(&b.variant)))
}

fn dearest_to_shrink(variants: &[VariantDecision]) -> Option<&VariantDecision> {
    variants
        .iter()
        .filter(|variant| variant.spec > variant.bounds.min)
        .max_by(|a, b| a.cost.total_cmp(&b.cost).then_with(|| a.variant.cmp(&b.variant)))
}
