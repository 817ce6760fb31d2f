//! Which variants a change falls on.

use std::collections::BTreeMap;

use super::restraint::Step;
use crate::{
    interfaces::{ModelSaturationAnalysis, ReplicaBounds, SaturationAnalyzer, VariantDecision, VariantKey},
    saturation::PercentageAnalyzer,
};

/// Replicas that a model may be given in one cycle: an absurd count must not keep the cycle for ever.
const MOST_STEPS: u32 = 10_000;

/// Target replicas per variant after `step`, replica by replica, each by the analyzer's rule of cost.
pub(super) fn targets(
    analysis: &ModelSaturationAnalysis,
    step: Step,
    variants: &[VariantDecision],
) -> BTreeMap<VariantKey, u32> {
    let analysis = ModelSaturationAnalysis {
        should_scale_up: matches!(step, Step::Grow(_)),
        should_scale_down: step == Step::Shrink,
        scale_down_safe: step == Step::Shrink,
        ..analysis.clone()
    };
    let Step::Grow(missing) = step else {
        return PercentageAnalyzer.calculate_capacity_targets(&analysis, variants);
    };
    // What was asked for before is not added to what is missing now: both count from what is set.
    let mut grown: Vec<VariantDecision> =
        variants.iter().map(|variant| VariantDecision { desired: None, ..variant.clone() }).collect();
    for _ in 0..missing.min(MOST_STEPS) {
        let targets = PercentageAnalyzer.calculate_capacity_targets(&analysis, &grown);
        let mut has_grown = false;
        for variant in &mut grown {
            let target = targets.get(&variant.variant).copied().unwrap_or(variant.spec);
            has_grown |= target > variant.spec;
            variant.spec = target;
        }
        if !has_grown {
            break;
        }
    }
    let asked = variants.iter().map(|variant| variant.desired.unwrap_or(0));
    grown
        .into_iter()
        .zip(asked)
        .map(|(variant, asked)| {
            let most = variant.bounds.max.unwrap_or(u32::MAX);
            (variant.variant, variant.spec.max(asked.min(most)))
        })
        .collect()
}

/// The same without bounds.
pub(super) fn unconstrained(
    analysis: &ModelSaturationAnalysis,
    step: Step,
    variants: &[VariantDecision],
) -> BTreeMap<VariantKey, u32> {
    let unbounded = ReplicaBounds { min: 0, max: None };
    let free: Vec<VariantDecision> =
        variants.iter().map(|variant| VariantDecision { bounds: unbounded, ..variant.clone() }).collect();
    targets(analysis, step, &free)
}
