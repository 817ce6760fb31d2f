//! How many replicas a scenario starts with: what the first five minutes need, the same for every policy. A scenario that
//! starts too small would measure the cold start and nothing else.

use super::{allotment, scenario::Scenario, sizing::Sizing, source::SourceError};
use crate::fleet::Picoseconds;

const FIRST_SECONDS: u64 = 300;
/// Above the mean of the five minutes, so that bursts within them fit.
const HEADROOM: f64 = 1.3;

/// Replicas per variant, in the scenario's order, within its quotas.
pub(super) fn replicas(scenario: &Scenario, seed: u64) -> Result<Vec<u32>, SourceError> {
    let rankings = allotment::rankings(scenario);
    let mut needs = Vec::with_capacity(rankings.len());
    for (model, ranking) in rankings.iter().enumerate() {
        needs.push(needed(scenario, model, ranking, seed)?);
    }
    let allotted = allotment::allot(scenario, &rankings, &needs).into_iter();
    let variants = scenario.variants().zip(allotted);
    Ok(variants
        .map(|((_, variant), count)| variant.initial_replicas.unwrap_or(count).min(variant.max_replicas))
        .collect())
}

/// Replicas of the model's best variant.
fn needed(scenario: &Scenario, model: usize, ranking: &allotment::Ranking, seed: u64) -> Result<f64, SourceError> {
    let Some((_, (_, best))) = ranking.first().and_then(|&(best, _)| scenario.variants().enumerate().nth(best)) else {
        return Ok(0.0);
    };
    let scenario = &scenario.models[model];
    let sizing = Sizing::new(&best.profile, &scenario.objective);
    let end = Picoseconds::from_millis(FIRST_SECONDS * 1000);
    let mut requests = scenario.load.open(seed.wrapping_mul(1009).wrapping_add(model as u64))?;
    let mut work = 0.0;
    while let Some(request) = requests.next_request()?.filter(|request| request.arrival <= end) {
        work += sizing.seconds(&request);
    }
    Ok((work / FIRST_SECONDS as f64 * HEADROOM).ceil().max(1.0))
}
