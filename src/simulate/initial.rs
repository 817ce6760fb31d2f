//! How many replicas a scenario starts with: what the first five minutes need, the same for every policy. A scenario that
//! starts too small would measure the cold start and nothing else.

use super::{
    scenario::{ModelScenario, Scenario, VariantScenario},
    sizing::Sizing,
    source::SourceError,
};
use crate::fleet::Picoseconds;

const FIRST_SECONDS: u64 = 300;
/// Above the mean of the five minutes, so that bursts within them fit.
const HEADROOM: f64 = 1.3;

/// Replicas per variant, in the scenario's order.
pub(super) fn replicas(scenario: &Scenario, seed: u64) -> Result<Vec<u32>, SourceError> {
    let mut counts = Vec::new();
    for (index, model) in scenario.models.iter().enumerate() {
        let best = most_for_its_price(model);
        for (position, variant) in model.variants.iter().enumerate() {
            let count = match variant.initial_replicas {
                Some(count) => count,
                None if position == best => needed(model, variant, seed.wrapping_mul(1009).wrapping_add(index as u64))?,
                None => variant.min_replicas,
            };
            counts.push(count.min(variant.max_replicas));
        }
    }
    Ok(counts)
}

fn needed(model: &ModelScenario, variant: &VariantScenario, seed: u64) -> Result<u32, SourceError> {
    let sizing = Sizing::new(&variant.profile, &model.objective);
    let end = Picoseconds::from_millis(FIRST_SECONDS * 1000);
    let mut requests = model.load.open(seed)?;
    let mut work = 0.0;
    while let Some(request) = requests.next_request()?.filter(|request| request.arrival <= end) {
        work += sizing.seconds(&request);
    }
    let replicas = (work / FIRST_SECONDS as f64 * HEADROOM).ceil() as u32;
    Ok(replicas.max(variant.min_replicas).max(1))
}

/// Position of the variant that carries a typical request for the least money.
fn most_for_its_price(model: &ModelScenario) -> usize {
    let price = |variant: &VariantScenario| variant.profile.price / variant.routing_weight();
    let ranked = (0..).zip(&model.variants).min_by(|(_, a), (_, b)| price(a).total_cmp(&price(b)));
    ranked.map_or(0, |(position, _)| position)
}
