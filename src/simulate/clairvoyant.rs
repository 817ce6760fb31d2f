//! `clairvoyant`: sizing by the arrivals that are to come and the true service times. And a bound below which no plan can
//! cost, whatever it knows.

use std::time::Duration;

use super::{
    allotment::{self, Ranking},
    outcome::Outcome,
    policy::{Plan, Planned},
    run::{Progress, Simulation},
    scenario::Scenario,
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
    rankings: Vec<Ranking>,
}

#[derive(Clone, Debug, Default)]
struct ModelDemand {
    bins: Vec<f64>,
}

impl Demand {
    /// Looks at all that will arrive.
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Result<Self, SourceError> {
        let rankings = allotment::rankings(scenario);
        let variants: Vec<_> = scenario.variants().map(|(_, variant)| variant).collect();
        let mut models = Vec::new();
        for (index, (model, ranking)) in scenario.models.iter().zip(&rankings).enumerate() {
            let Some(&(best, _)) = ranking.first() else {
                models.push(ModelDemand::default());
                continue;
            };
            let sizing = Sizing::new(&variants[best].profile, &model.objective);
            let mut requests = model.load.open(seed.wrapping_mul(1009).wrapping_add(index as u64))?;
            let mut bins = Vec::new();
            while let Some(request) = requests.next_request()? {
                let bin = (request.arrival.as_secs_f64() / BIN_SECONDS) as usize;
                bins.resize(bins.len().max(bin + 1), 0.0);
                bins[bin] += sizing.seconds(&request) / BIN_SECONDS;
            }
            models.push(ModelDemand { bins });
        }
        Ok(Self { models, rankings })
    }

    /// Replicas for the demand times `scale` plus a reserve of `reserve` times its square root, within quotas.
    pub(super) fn plan(&self, scenario: &Scenario, scale: f64, reserve: f64) -> Plan {
        let segments = self.models.iter().map(|model| model.bins.len().div_ceil(BINS_PER_SEGMENT)).max().unwrap_or(0);
        let mut replicas = vec![Vec::with_capacity(segments); scenario.variants().count()];
        for segment in 0..segments {
            let needs = self.models.iter().map(|model| {
                let demand = model.in_segment(segment);
                demand * scale + reserve * demand.sqrt()
            });
            let counts = allotment::allot(scenario, &self.rankings, &needs.collect::<Vec<_>>());
            for (replicas, count) in replicas.iter_mut().zip(counts) {
                replicas.push(count);
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
