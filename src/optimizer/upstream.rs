//! Upstream's optimizers, defects included, for their published vectors, for comparison and for migration. Nothing of ours
//! decides by them.

mod enforcer;
mod greedy_by_score;
mod rescale;

pub use enforcer::enforce;
pub use greedy_by_score::{ScoredModel, greedy_by_score};
pub use rescale::{Contender, rescale};

/// A variant as upstream's optimizers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamVariant {
    /// Its name; breaks ties.
    pub name: String,
    /// Cost of one replica.
    pub cost: f64,
    /// Per-replica capacity, in the unit of what is required.
    pub capacity: f64,
    /// Replicas.
    pub current: u32,
    /// Least replicas.
    pub min: u32,
    /// Most replicas.
    pub max: Option<u32>,
    /// Accelerators per replica.
    pub accelerators: u32,
}

/// Upstream's `CostAware`: replicas per variant when `required` capacity is missing, or `spare` too much.
///
/// Growth goes to the cheapest capacity first; what was there stays, so that the dearer of two sufficient sets can be
/// kept. Shrinking goes by cost of a replica, whatever it carries.
pub fn cost_aware(required: f64, spare: f64, variants: &[UpstreamVariant]) -> Vec<u32> {
    let mut replicas: Vec<u32> = variants.iter().map(|variant| variant.current).collect();
    if required > 0.0 {
        grow(required, variants, &mut replicas);
    } else if spare > 0.0 {
        shrink(spare, variants, &mut replicas);
    }
    replicas
}

fn grow(mut required: f64, variants: &[UpstreamVariant], replicas: &mut [u32]) {
    for index in by_efficiency(variants) {
        if required <= 0.0 {
            return;
        }
        let variant = &variants[index];
        let wanted = (required / variant.capacity).ceil() as u32;
        let granted = wanted.min(headroom(variant, replicas[index]));
        replicas[index] += granted;
        required -= f64::from(granted) * variant.capacity;
    }
}

fn shrink(mut spare: f64, variants: &[UpstreamVariant], replicas: &mut [u32]) {
    let mut order: Vec<usize> = (0..variants.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&variants[*a], &variants[*b]);
        b.cost.total_cmp(&a.cost).then(a.capacity.total_cmp(&b.capacity)).then_with(|| a.name.cmp(&b.name))
    });
    for (position, index) in order.iter().copied().enumerate() {
        let variant = &variants[index];
        let is_last = position + 1 == order.len();
        // Of what nobody knows the capacity of, nothing is known to be to spare.
        if variant.capacity.is_nan() || variant.capacity <= 0.0 {
            continue;
        }
        let has_others = (0..variants.len()).any(|other| other != index && replicas[other] > 0);
        let floor = if is_last && !has_others { variant.min.max(1) } else { variant.min };
        let removable = (spare / variant.capacity).floor().max(0.0) as u32;
        let removed = removable.min(replicas[index].saturating_sub(floor));
        replicas[index] -= removed;
        spare -= f64::from(removed) * variant.capacity;
    }
}

/// Variants with capacity, the cheapest capacity first.
fn by_efficiency(variants: &[UpstreamVariant]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..variants.len()).filter(|index| variants[*index].capacity > 0.0).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&variants[*a], &variants[*b]);
        (a.cost / a.capacity).total_cmp(&(b.cost / b.capacity)).then_with(|| a.name.cmp(&b.name))
    });
    order
}

fn headroom(variant: &UpstreamVariant, replicas: u32) -> u32 {
    variant.max.map_or(u32::MAX - replicas, |max| max.saturating_sub(replicas))
}

#[cfg(test)]
mod tests;
