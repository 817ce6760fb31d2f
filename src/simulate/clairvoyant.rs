//! `clairvoyant`: sizing by the arrivals that are to come and the true service times. And a bound below which no plan can
//! cost, whatever it knows.

use std::time::Duration;

use super::{
    outcome::Outcome,
    policy::{Plan, Planned},
    run::{Progress, Simulation},
    scenario::{ModelScenario, Scenario, VariantScenario},
    sizing::Sizing,
    source::SourceError,
};
use crate::fleet::Picoseconds;

const BIN_SECONDS: f64 = 10.0;
const SEGMENT: Duration = Duration::from_secs(60);
const BINS_PER_SEGMENT: usize = 6;
/// Demand is the mean over so many bins, 30 s.
const SMOOTHING: usize = 3;

/// Replicas' worth of work per bin, by the variant that does it for the least money.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    models: Vec<ModelDemand>,
}

#[derive(Clone, Debug)]
struct ModelDemand {
    /// Variants from the cheapest for its work to the dearest, with work relative to the first's.
    ranking: Vec<(usize, f64)>,
    bins: Vec<f64>,
}

impl Demand {
    /// Looks at all that will arrive.
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Result<Self, SourceError> {
        let mut first = 0;
        let mut models = Vec::new();
        for (index, model) in scenario.models.iter().enumerate() {
            let ranking = ranking(model);
            let mut bins = Vec::new();
            if let Some(&(best, _)) = ranking.first() {
                let sizing = Sizing::new(&model.variants[best].profile, &model.objective);
                let mut requests = model.load.open(seed.wrapping_mul(1009).wrapping_add(index as u64))?;
                while let Some(request) = requests.next_request()? {
                    let bin = (request.arrival.as_secs_f64() / BIN_SECONDS) as usize;
                    bins.resize(bins.len().max(bin + 1), 0.0);
                    bins[bin] += sizing.seconds(&request) / BIN_SECONDS;
                }
            }
            let ranking = ranking.into_iter().map(|(variant, factor)| (first + variant, factor)).collect();
            models.push(ModelDemand { ranking, bins });
            first += model.variants.len();
        }
        Ok(Self { models })
    }

    /// Replicas for the demand times `scale` plus a reserve of `reserve` times its square root, within quotas.
    pub(super) fn plan(&self, scenario: &Scenario, scale: f64, reserve: f64) -> Plan {
        let variants: Vec<_> = scenario.variants().map(|(_, variant)| variant).collect();
        let segments = self.models.iter().map(|model| model.bins.len().div_ceil(BINS_PER_SEGMENT)).max().unwrap_or(0);
        let mut replicas = vec![Vec::with_capacity(segments); variants.len()];
        let mut order: Vec<usize> = (0..self.models.len()).collect();
        order.sort_by_key(|&model| scenario.models[model].priority);
        for segment in 0..segments {
            let mut free = scenario.quotas.clone();
            let mut counts = vec![0; variants.len()];
            for &model in &order {
                let demand = self.models[model].in_segment(segment);
                let mut left = demand * scale + reserve * demand.sqrt();
                for &(variant, factor) in &self.models[model].ranking {
                    let taken = take(variants[variant], (left * factor).ceil().max(0.0) as u32, &mut free);
                    counts[variant] = taken;
                    left -= f64::from(taken) / factor;
                    if left <= 0.0 {
                        left = 0.0;
                    }
                }
            }
            for (variant, count) in counts.into_iter().enumerate() {
                replicas[variant].push(count);
            }
        }
        Plan { segment: SEGMENT, replicas }
    }
}

impl ModelDemand {
    fn in_segment(&self, segment: usize) -> f64 {
        let range = segment * BINS_PER_SEGMENT..(segment + 1) * BINS_PER_SEGMENT;
        let smoothed = range.map(|bin| {
            let from = (bin + 1).saturating_sub(SMOOTHING);
            let bins = self.bins.get(from..=bin).unwrap_or_default();
            bins.iter().sum::<f64>() / SMOOTHING as f64
        });
        smoothed.fold(0.0, f64::max)
    }
}

/// As many replicas of a variant as are wanted, allowed and there are accelerators for.
fn take(variant: &VariantScenario, wanted: u32, free: &mut std::collections::BTreeMap<String, u32>) -> u32 {
    let count = wanted.clamp(variant.min_replicas, variant.max_replicas);
    let Some(free) = free.get_mut(&variant.profile.accelerator) else { return count };
    let count = count.min(*free / variant.profile.accelerators.max(1));
    *free -= count * variant.profile.accelerators;
    count
}

fn ranking(model: &ModelScenario) -> Vec<(usize, f64)> {
    let price = |variant: &VariantScenario| variant.profile.price / variant.routing_weight();
    let mut order: Vec<usize> = (0..model.variants.len()).collect();
    order.sort_by(|&a, &b| price(&model.variants[a]).total_cmp(&price(&model.variants[b])));
    let weight = |index: usize| model.variants[index].routing_weight();
    let Some(&best) = order.first() else { return Vec::new() };
    order.into_iter().map(|index| (index, weight(best) / weight(index))).collect()
}

/// Runs a plan.
pub(super) fn run(scenario: &Scenario, plan: Plan, seed: u64) -> Result<Outcome, SourceError> {
    let initial = plan.initial(scenario);
    let mut quiet = |_: Progress<'_>| {};
    Simulation::new(scenario, Box::new(Planned::new(scenario, plan)), seed, &initial, &mut quiet)?.run()
}

/// Whether every model reached its target.
pub(super) fn is_feasible(scenario: &Scenario, outcome: &Outcome) -> bool {
    let models = scenario.models.iter().zip(&outcome.models);
    models.into_iter().all(|(model, outcome)| outcome.slo_attainment() >= model.target)
}

/// The cheapest plan of sizing that reaches the target, by bisection of its one knob; the most generous when none does.
pub(super) fn cheapest(scenario: &Scenario, seed: u64, steps: u32) -> Result<(Plan, Outcome, f64), SourceError> {
    let demand = Demand::new(scenario, seed)?;
    // Up to 1 it scales the demand, beyond that it adds reserve.
    let plan_at = |knob: f64| demand.plan(scenario, knob.min(1.0), (knob - 1.0).max(0.0));
    let (mut low, mut high) = (0.5, 4.0);
    let generous = plan_at(high);
    let mut best = (generous.clone(), run(scenario, generous, seed)?, high);
    for _ in 0..steps {
        let knob = f64::midpoint(low, high);
        let plan = plan_at(knob);
        let outcome = run(scenario, plan.clone(), seed)?;
        if is_feasible(scenario, &outcome) {
            best = (plan, outcome, knob);
            high = knob;
        } else {
            low = knob;
        }
    }
    Ok(best)
}

/// What every plan costs at least: the work of all requests but the dearest share that may miss, at the least a replica
/// spends on them and the lowest price; and the minimum of replicas all the time. A bound, not a plan: no replica ever waits.
pub(super) fn lower_bound(scenario: &Scenario, seed: u64) -> Result<f64, SourceError> {
    let mut bound = 0.0;
    for (index, model) in scenario.models.iter().enumerate() {
        let sizings: Vec<_> = model
            .variants
            .iter()
            .map(|variant| (Sizing::new(&variant.profile, &model.objective), variant.profile.price / 3600.0))
            .collect();
        let mut requests = model.load.open(seed.wrapping_mul(1009).wrapping_add(index as u64))?;
        let mut costs = Vec::new();
        let mut end = Picoseconds::ZERO;
        while let Some(request) = requests.next_request()? {
            let least = sizings.iter().map(|(sizing, price)| sizing.least_seconds(&request) * price);
            costs.push(least.fold(f64::INFINITY, f64::min));
            end = request.arrival;
        }
        costs.sort_by(f64::total_cmp);
        let kept = (costs.len() as f64 * model.target).ceil() as usize;
        let work: f64 = costs[..kept.min(costs.len())].iter().sum();
        let standing = model.variants.iter().map(|variant| f64::from(variant.min_replicas) * variant.profile.price);
        bound += work.max(standing.sum::<f64>() * end.as_secs_f64() / 3600.0);
    }
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::tests::one_variant;

    #[test]
    fn the_bound_is_below_the_clairvoyant_and_that_reaches_the_target() {
        let scenario = one_variant();
        let (_, outcome, _) = cheapest(&scenario, 1, 4).unwrap();
        assert!(is_feasible(&scenario, &outcome), "{:?}", outcome.models);
        let bound = lower_bound(&scenario, 1).unwrap();
        let cost = outcome.models[0].cost;
        assert!(bound > 0.0 && bound < cost, "{bound} {cost}");
    }
}
