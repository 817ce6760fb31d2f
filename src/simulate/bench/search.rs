//! The searches: the best setting of each rival, and the cheapest plan by any means.

use std::time::Duration;

use super::known::{BestKnown, Searched, StoredPlan, Tuning};
use crate::simulate::{
    clairvoyant, initial,
    outcome::Outcome,
    policy::{Named, Plan, PolicyName},
    run::{Progress, Simulation},
    scenario::Scenario,
    source::SourceError,
    world::SEGMENT_SECONDS,
};

/// Bisection steps of clairvoyant sizing.
const SIZING_STEPS: u32 = 9;
/// Segments that the greedy search tries to make smaller, at most.
const GREEDY_TRIALS: usize = 40;
/// Shares of the allowed misses that segment-wise minimisation plans with: queues carry misses over, so fewer is safer.
const BUDGETS: [f64; 7] = [1.0, 0.85, 0.7, 0.5, 0.35, 0.2, 0.1];

/// Runs one policy on one seed.
pub(in crate::simulate) fn run(scenario: &Scenario, policy: Named, seed: u64) -> Result<Outcome, SourceError> {
    let initial = policy.initial(scenario, &initial::replicas(scenario, seed)?);
    let mut quiet = |_: Progress<'_>| {};
    Simulation::new(scenario, policy.build(scenario), seed, &initial, &mut quiet)?.run()
}

/// The cheapest setting that reaches the target, or the one that comes closest.
pub(in crate::simulate) fn tune(
    scenario: &Scenario,
    name: PolicyName,
    seed: u64,
) -> Result<Option<Tuning>, SourceError> {
    let mut best: Option<Tuning> = None;
    for knob in name.settings() {
        let outcome = run(scenario, Named { name, knob: Some(knob) }, seed)?;
        let tuning = Tuning { knob, attainment: attainment(&outcome), cost: cost(&outcome) };
        if best.is_none_or(|best| better(scenario, &tuning, &best)) {
            best = Some(tuning);
        }
        // More of the same would only cost more.
        if name == PolicyName::Static && clairvoyant::is_feasible(scenario, &outcome) {
            break;
        }
    }
    Ok(best)
}

fn better(scenario: &Scenario, one: &Tuning, other: &Tuning) -> bool {
    let target = scenario.models.iter().map(|model| model.target).fold(0.0, f64::max);
    match (one.attainment >= target, other.attainment >= target) {
        (true, true) => one.cost < other.cost,
        (false, false) => one.attainment > other.attainment,
        (feasible, _) => feasible,
    }
}

/// All searches on one scenario.
pub(in crate::simulate) fn search(
    scenario: &Scenario,
    seed: u64,
    mut tell: impl FnMut(&str),
) -> Result<Searched, SourceError> {
    let most = scenario.variants().map(|(_, variant)| variant.max_replicas).max().unwrap_or(1);
    let most = Named { name: PolicyName::Static, knob: Some(f64::from(most)) };
    let mut searched = Searched {
        name: scenario.name.clone(),
        seed,
        lower_bound: clairvoyant::lower_bound(scenario, seed)?,
        static_max_attainment: attainment(&run(scenario, most, seed)?),
        ..Searched::default()
    };
    tell("clairvoyant sizing");
    let (plan, outcome, knob) = clairvoyant::cheapest(scenario, seed, SIZING_STEPS)?;
    searched.best_known = known(&outcome, format!("clairvoyant sizing, knob {knob:.3}"), Some(&plan));
    for name in PolicyName::rivals() {
        tell(name.as_str());
        let Some(tuning) = tune(scenario, name, seed)? else { continue };
        searched.tunings.insert(name.as_str().to_owned(), tuning);
        if tuning.attainment >= target(scenario) && tuning.cost < searched.best_known.cost {
            searched.best_known = BestKnown {
                cost: tuning.cost,
                attainment: tuning.attainment,
                method: Named { name, knob: Some(tuning.knob) }.to_string(),
                plan: None,
            };
        }
    }
    if scenario.variants().count() == 1 {
        tell("segment-wise minimisation");
        if let Some(best) = segment_wise(scenario, seed)?
            && best.cost < searched.best_known.cost
        {
            searched.best_known = best;
        }
    }
    Ok(searched)
}

fn target(scenario: &Scenario) -> f64 {
    scenario.models.iter().map(|model| model.target).fold(0.0, f64::max)
}

/// Share of the requests of all models within their objectives.
pub(in crate::simulate) fn attainment(outcome: &Outcome) -> f64 {
    let met: u64 = outcome.models.iter().map(|model| model.requests.met).sum();
    let arrived: u64 = outcome.models.iter().map(|model| model.requests.arrived).sum();
    met as f64 / arrived.max(1) as f64
}

/// Cost of all models.
pub(in crate::simulate) fn cost(outcome: &Outcome) -> f64 {
    outcome.models.iter().map(|model| model.cost).sum()
}

fn known(outcome: &Outcome, method: String, plan: Option<&Plan>) -> BestKnown {
    let plan = plan.map(|plan| StoredPlan { segment_seconds: plan.segment.as_secs(), replicas: plan.replicas.clone() });
    BestKnown { cost: cost(outcome), attainment: attainment(outcome), method, plan }
}

/// Each five minutes at the count that serves them best under one price of a miss, found from runs at constant counts; then
/// segments are made smaller one by one while the whole stays at its target.
fn segment_wise(scenario: &Scenario, seed: u64) -> Result<Option<BestKnown>, SourceError> {
    let Some(misses) = misses_by_count(scenario, seed)? else { return Ok(None) };
    let allowed = (1.0 - target(scenario)) * misses.arrived;
    for budget in BUDGETS {
        let plan = plan(misses.cheapest_within(allowed * budget));
        let outcome = clairvoyant::run(scenario, plan.clone(), seed)?;
        if clairvoyant::is_feasible(scenario, &outcome) {
            let (plan, outcome, kept) = shrink(scenario, plan, outcome, seed)?;
            let method =
                format!("segment-wise minimisation, {:.0} % of the misses, {kept} segments less", budget * 100.0);
            return Ok(Some(known(&outcome, method, Some(&plan))));
        }
    }
    Ok(None)
}

fn plan(counts: Vec<u32>) -> Plan {
    Plan { segment: Duration::from_secs_f64(SEGMENT_SECONDS), replicas: vec![counts] }
}

fn shrink(
    scenario: &Scenario,
    mut plan: Plan,
    mut outcome: Outcome,
    seed: u64,
) -> Result<(Plan, Outcome, usize), SourceError> {
    // The greatest first: there one replica is the smallest part.
    let mut order: Vec<usize> = (0..plan.replicas[0].len()).collect();
    order.sort_by_key(|&segment| std::cmp::Reverse(plan.replicas[0][segment]));
    let mut kept = 0;
    for &segment in order.iter().take(GREEDY_TRIALS) {
        let mut smaller = plan.clone();
        smaller.replicas[0][segment] = smaller.replicas[0][segment].saturating_sub(1).max(1);
        let trial = clairvoyant::run(scenario, smaller.clone(), seed)?;
        if clairvoyant::is_feasible(scenario, &trial) && cost(&trial) < cost(&outcome) {
            (plan, outcome) = (smaller, trial);
            kept += 1;
        }
    }
    Ok((plan, outcome, kept))
}

/// Misses per segment at each constant count.
struct Misses {
    /// Of the first entry.
    least: u32,
    by_count: Vec<Vec<f64>>,
    arrived: f64,
}

fn misses_by_count(scenario: &Scenario, seed: u64) -> Result<Option<Misses>, SourceError> {
    let Some((_, variant)) = scenario.variants().next() else { return Ok(None) };
    let mut misses = Misses { least: 1, by_count: Vec::new(), arrived: 0.0 };
    for count in 1..=variant.max_replicas {
        let outcome = run(scenario, Named { name: PolicyName::Static, knob: Some(f64::from(count)) }, seed)?;
        let segments = &outcome.models[0].segments;
        misses.arrived = segments.iter().map(|(arrived, _)| *arrived as f64).sum();
        misses.by_count.push(segments.iter().map(|(arrived, met)| (arrived - met) as f64).collect());
        if attainment(&outcome) > 0.9995 {
            break;
        }
    }
    Ok(Some(misses))
}

impl Misses {
    /// Counts per segment of least sum with no more than `allowed` misses, by bisection of the price of a miss.
    fn cheapest_within(&self, allowed: f64) -> Vec<u32> {
        let (mut low, mut high) = (0.0, 1e3);
        for _ in 0..60 {
            let price = f64::midpoint(low, high);
            if self.total(&self.at_price(price)) <= allowed { high = price } else { low = price }
        }
        self.at_price(high)
    }

    fn at_price(&self, price: f64) -> Vec<u32> {
        let segments = self.by_count.first().map_or(0, Vec::len);
        let best = |segment: usize| {
            let cost = |index: usize| index as f64 + price * self.by_count[index][segment];
            (0..self.by_count.len()).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
        };
        (0..segments).map(|segment| self.least + best(segment) as u32).collect()
    }

    fn total(&self, counts: &[u32]) -> f64 {
        let of = |(segment, count): (usize, &u32)| self.by_count[(count - self.least) as usize][segment];
        counts.iter().enumerate().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_get_their_counts_by_what_a_miss_is_worth() {
        let misses = Misses {
            least: 1,
            by_count: vec![vec![0.0, 50.0, 90.0], vec![0.0, 10.0, 40.0], vec![0.0, 0.0, 5.0]],
            arrived: 1000.0,
        };
        assert_eq!(misses.cheapest_within(1000.0), [1, 1, 1]);
        assert_eq!(misses.cheapest_within(15.0), [1, 2, 3]);
        assert_eq!(misses.cheapest_within(5.0), [1, 3, 3]);
    }
}
