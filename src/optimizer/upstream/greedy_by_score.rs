//! Upstream's `GreedyByScore`: accelerators go to whoever has the greatest need by weight.

use super::{UpstreamVariant, by_efficiency, headroom};

/// A model that needs capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredModel {
    /// Its name; breaks ties.
    pub name: String,
    /// Weight: priority times the analyzers' scores.
    pub weight: f64,
    /// Capacity that is missing.
    pub required: f64,
    /// Its variants.
    pub variants: Vec<UpstreamVariant>,
}

/// Replicas per model and variant when `accelerators` are free: the model of the greatest weight × need is served until it
/// drops to the mean, and at least one replica; then all are weighed again.
pub fn greedy_by_score(models: &[ScoredModel], mut accelerators: u32) -> Vec<Vec<u32>> {
    let mut replicas: Vec<Vec<u32>> =
        models.iter().map(|model| model.variants.iter().map(|variant| variant.current).collect()).collect();
    let mut required: Vec<f64> = models.iter().map(|model| model.required).collect();
    loop {
        let value = |index: usize| models[index].weight * required[index];
        let open: Vec<usize> = (0..models.len())
            .filter(|index| required[*index] > 0.0 && next(&models[*index], &replicas[*index], accelerators).is_some())
            .collect();
        let greatest = open
            .iter()
            .copied()
            .max_by(|a, b| value(*a).total_cmp(&value(*b)).then_with(|| models[*b].name.cmp(&models[*a].name)));
        let Some(top) = greatest else { return replicas };
        let mean = open.iter().map(|index| value(*index)).sum::<f64>() / open.len() as f64;
        let mut is_first = true;
        while is_first || (models[top].weight * required[top] > mean && required[top] > 0.0) {
            let Some(variant) = next(&models[top], &replicas[top], accelerators) else { break };
            replicas[top][variant] += 1;
            accelerators -= models[top].variants[variant].accelerators;
            required[top] -= models[top].variants[variant].capacity;
            is_first = false;
        }
    }
}

/// The variant that the next replica goes to.
fn next(model: &ScoredModel, replicas: &[u32], accelerators: u32) -> Option<usize> {
    by_efficiency(&model.variants).into_iter().find(|index| {
        let variant = &model.variants[*index];
        headroom(variant, replicas[*index]) > 0 && variant.accelerators.max(1) <= accelerators
    })
}
