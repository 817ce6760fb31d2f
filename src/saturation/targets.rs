//! From an analysis to target replicas per variant, by cost.

use std::collections::BTreeMap;

use crate::interfaces::{Growth, ModelSaturationAnalysis, VariantDecision, VariantKey};

/// `CalculateCapacityTargets` of the package reference: one replica more on the cheapest variant with room, one less on
/// the dearest that may lose one, otherwise what was asked for before; always within bounds.
pub(super) fn by_cost(analysis: &ModelSaturationAnalysis, variants: &[VariantDecision]) -> BTreeMap<VariantKey, u32> {
    let mut targets: BTreeMap<VariantKey, u32> =
        variants.iter().map(|variant| (variant.variant.clone(), clamped(variant, held(variant)))).collect();
    if analysis.should_scale_up {
        if let Some(variant) = cheapest_with_room(variants) {
            targets
                .insert(variant.variant.clone(), clamped(variant, held(variant).max(variant.spec.saturating_add(1))));
        }
    } else if analysis.scale_down_safe
        && let Some(variant) = dearest_to_shrink(variants)
    {
        targets.insert(variant.variant.clone(), clamped(variant, variant.spec - 1));
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
