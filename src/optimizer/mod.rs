//! From demand and capacity to replicas: the cheapest set that carries each model's demand, within bounds and what
//! accelerators there are. Pure, and usable without Kubernetes.
//!
//! ```text
//! ModelDemand ─► cover (per model, exact) ─► limited (across models) ─► Allotment
//!  D, C(n), cost, bounds                      accelerators, quotas
//! ```
//!
//! ```
//! use wva::interfaces::{Growth, ModelKey, ReplicaBounds, Role, VariantKey};
//! use wva::optimizer::{CapacityCurve, ModelDemand, Offer, OptimizerSettings, Supply, optimize};
//!
//! let offer = |name: &str, cost, capacity| Offer {
//!     variant: VariantKey::new("llm", name),
//!     cost,
//!     capacity: CapacityCurve::linear(capacity),
//!     bounds: ReplicaBounds { min: 0, max: Some(8) },
//!     keep: 0,
//!     spec: 0,
//!     ready: 0,
//!     pending: 0,
//!     growth: Growth::Likely,
//!     own_demand: None,
//!     accelerator: None,
//!     accelerators_per_replica: None,
//! };
//! let model = ModelDemand {
//!     model: ModelKey::new("llm", "llama"),
//!     role: Role::Both,
//!     demand: 7.0,
//!     priority: 1,
//!     variants: vec![offer("on-l4", 5.0, 2.0), offer("on-h100", 12.0, 6.0)],
//! };
//! let answers = optimize(&[model], &Supply::Unlimited, &OptimizerSettings::default());
//! let desired: Vec<u32> = answers[0].variants.iter().map(|allotment| allotment.desired).collect();
//! assert_eq!(desired, [1, 1], "an H100 and an L4 cost 17, two H100 24, four L4 20");
//! ```

mod cover;
mod curve;
mod limited;
mod model;
pub mod upstream;

pub use crate::interfaces::SaturationPolicy;
pub use curve::CapacityCurve;
pub use model::{Allotment, Bound, Choice, ModelAllotment, ModelDemand, Offer, OptimizerSettings, Supply};

use cover::{Plan, Range};
pub(crate) use limited::{Stock, Usage};

/// Replicas for every variant of `models`; one answer per model, in their order, with its variants in their order.
pub fn optimize(models: &[ModelDemand], supply: &Supply<'_>, settings: &OptimizerSettings) -> Vec<ModelAllotment> {
    let mut answers: Vec<ModelAllotment> = models.iter().map(|model| within_bounds(model, settings)).collect();
    match supply {
        Supply::Unlimited => {}
        Supply::Unknown => limited::without_inventory(models, &mut answers, settings),
        Supply::Limited(inventory) => limited::within(inventory, models, &mut answers, settings),
    }
    answers
}

/// One model, as though there were accelerators for all it could want.
fn within_bounds(model: &ModelDemand, settings: &OptimizerSettings) -> ModelAllotment {
    let unbounded = vec![Range { min: 0, max: u32::MAX }; model.variants.len()];
    let unconstrained = cover::cheapest(&model.variants, &unbounded, model.demand, settings);
    let ranges = ranges(model);
    let is_within = ranges.iter().zip(&unconstrained.replicas).all(|(range, n)| (range.min..=range.max).contains(n));
    // The best of all plans is the best of fewer if it is among them.
    let bounded = if is_within {
        unconstrained.clone()
    } else {
        cover::cheapest(&model.variants, &ranges, model.demand, settings)
    };
    answer(model, &ranges, &unconstrained, &bounded)
}

/// The cheapest replicas for one model when every replica costs a surcharge, one per offer, on top; `None` where it is not
/// certain that there are none cheaper.
pub(crate) fn cheapest_at(model: &ModelDemand, surcharges: &[f64], settings: &OptimizerSettings) -> Option<Vec<u32>> {
    let plan = cover::solve_with(&model.variants, &ranges(model), model.demand, settings, surcharges);
    (plan.sufficient && plan.exact).then_some(plan.replicas)
}

fn ranges(model: &ModelDemand) -> Vec<Range> {
    let range = |offer: &Offer| {
        let (min, max) = offer.range();
        Range { min, max }
    };
    model.variants.iter().map(range).collect()
}

fn answer(model: &ModelDemand, ranges: &[Range], unconstrained: &Plan, bounded: &Plan) -> ModelAllotment {
    let variants = model
        .variants
        .iter()
        .zip(ranges)
        .zip(unconstrained.replicas.iter().zip(&bounded.replicas))
        .map(|((offer, range), (&unconstrained, &desired))| Allotment {
            variant: offer.variant.clone(),
            desired,
            unconstrained,
            bound_by: bound(*range, unconstrained, desired),
        })
        .collect();
    ModelAllotment { variants, is_sufficient: bounded.sufficient, is_exact: bounded.exact && unconstrained.exact }
}

fn bound(range: Range, unconstrained: u32, desired: u32) -> Option<Bound> {
    if desired == unconstrained {
        None
    } else if unconstrained > range.max {
        Some(Bound::Max)
    } else {
        (unconstrained < range.min).then_some(Bound::Min)
    }
}

#[cfg(test)]
mod tests;
