//! Replicas for the needs of several models over their variants, within the accelerators there are.

use std::collections::BTreeMap;

use super::scenario::{ModelScenario, Scenario, VariantScenario};

/// A model's variants from the cheapest for its work to the dearest, by index over all models, each with how many of its
/// replicas make one of the first.
pub(super) type Ranking = Vec<(usize, f64)>;

/// The rankings of all models.
pub(super) fn rankings(scenario: &Scenario) -> Vec<Ranking> {
    let mut first = 0;
    let mut rankings = Vec::new();
    for model in &scenario.models {
        rankings.push(ranking(model).into_iter().map(|(variant, factor)| (first + variant, factor)).collect());
        first += model.variants.len();
    }
    rankings
}

fn ranking(model: &ModelScenario) -> Ranking {
    let weight = |index: usize| model.variants[index].routing_weight();
    let price = |index: usize| model.variants[index].profile.price / weight(index);
    let mut order: Vec<usize> = (0..model.variants.len()).collect();
    order.sort_by(|&a, &b| price(a).total_cmp(&price(b)));
    let Some(&best) = order.first() else { return Vec::new() };
    order.into_iter().map(|index| (index, weight(best) / weight(index))).collect()
}

/// Replicas per variant that cover `needs`, which are per model and in replicas of its best variant. Every variant has its
/// minimum first; then the more important model goes first, and spills to its next best variant.
pub(super) fn allot(scenario: &Scenario, rankings: &[Ranking], needs: &[f64]) -> Vec<u32> {
    let variants: Vec<&VariantScenario> = scenario.variants().map(|(_, variant)| variant).collect();
    let mut free = scenario.quotas.clone();
    let mut counts: Vec<u32> = variants.iter().map(|variant| take(variant, variant.min_replicas, &mut free)).collect();
    let mut order: Vec<usize> = (0..scenario.models.len()).collect();
    order.sort_by_key(|&model| scenario.models[model].priority);
    for model in order {
        let covered: f64 = rankings[model].iter().map(|&(variant, factor)| f64::from(counts[variant]) / factor).sum();
        let mut left = needs[model] - covered;
        for &(index, factor) in &rankings[model] {
            if left <= 0.0 {
                break;
            }
            let wanted =
                ((left * factor).ceil() as u32).min(variants[index].max_replicas.saturating_sub(counts[index]));
            let taken = take(variants[index], wanted, &mut free);
            counts[index] += taken;
            left -= f64::from(taken) / factor;
        }
    }
    counts
}

/// As many replicas as are wanted and there are accelerators for.
fn take(variant: &VariantScenario, wanted: u32, free: &mut BTreeMap<String, u32>) -> u32 {
    let each = variant.profile.accelerators.max(1);
    let Some(free) = free.get_mut(&variant.profile.accelerator) else { return wanted };
    let count = wanted.min(*free / each);
    *free -= count * each;
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fleet::Profile, simulate::scenario::tests::one_variant};

    fn competing() -> Scenario {
        let mut scenario = one_variant();
        let h100 = scenario.models[0].variants[0].clone();
        let l40s = VariantScenario {
            name: "l40s".to_owned(),
            profile: Profile::built_in("llama-3.1-8b-l40s").unwrap(),
            ..h100.clone()
        };
        scenario.models[0].variants = vec![VariantScenario { min_replicas: 0, ..l40s }, h100];
        scenario
    }

    #[test]
    fn the_variant_that_carries_most_for_its_price_comes_first_and_the_rest_spills() {
        let mut scenario = competing();
        let rankings = rankings(&scenario);
        assert_eq!(rankings[0][0], (1, 1.0), "H100 first: {rankings:?}");
        assert_eq!(allot(&scenario, &rankings, &[3.0]), [0, 3]);
        scenario.quotas.insert("NVIDIA-H100-80GB-HBM3".to_owned(), 2);
        let spilled = allot(&scenario, &rankings, &[3.0]);
        assert!(spilled[1] == 2 && spilled[0] >= 3, "{spilled:?}");
    }

    #[test]
    fn the_more_important_model_goes_first_but_nobody_loses_its_minimum() {
        let mut scenario = one_variant();
        let mut other = scenario.models[0].clone();
        other.name = "other".to_owned();
        other.priority = 50;
        scenario.models.insert(0, other);
        scenario.quotas.insert("NVIDIA-H100-80GB-HBM3".to_owned(), 5);
        assert_eq!(allot(&scenario, &rankings(&scenario), &[4.0, 9.0]), [1, 4]);
    }
}
