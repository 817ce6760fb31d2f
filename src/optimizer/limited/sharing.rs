//! One model's best plan from what is left, and the division of what does not suffice.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{Contest, ModelDemand, Plan, Range, cover};

/// Rounds of giving way where variants of one model share a resource.
const ROUNDS: usize = 16;

impl Contest<'_> {
    /// Ranges that what is left allows each offer by itself.
    fn affordable(&self, model: usize) -> Vec<Range> {
        (0..self.models[model].variants.len())
            .map(|offer| {
                let given = self.given[model][offer];
                Range { min: given, max: given.saturating_add(self.most(&self.stock, model, offer)) }
            })
            .collect()
    }

    /// The cheapest plan that carries the model's demand and that what is left allows as a whole.
    pub(super) fn fitting_plan(&self, model: usize) -> Option<Vec<u32>> {
        let mut ranges = self.affordable(model);
        let mut plan = self.solve(model, &ranges)?;
        for _ in 0..ROUNDS {
            let given = &self.given[model];
            let more = |plan: &Plan, offer: usize| plan.replicas[offer].saturating_sub(given[offer]);
            let Some((resource, excess)) = self.stock.overdrawn(&self.usage[model], |offer| more(&plan, offer)) else {
                return Some(plan.replicas);
            };
            // Variants that share a resource have to give way to each other: whichever is cheapest.
            let mut ways = Vec::new();
            for offer in 0..ranges.len() {
                let per_replica = u64::from(self.usage[model][offer].of(resource));
                if per_replica == 0 || more(&plan, offer) == 0 {
                    continue;
                }
                let fewer = u32::try_from(excess.div_ceil(per_replica)).unwrap_or(u32::MAX);
                let mut narrower = ranges.clone();
                narrower[offer].max = plan.replicas[offer].saturating_sub(fewer).max(given[offer]);
                if let Some(plan) = self.solve(model, &narrower) {
                    ways.push((self.cost(model, &plan), offer, narrower, plan));
                }
            }
            let best = ways.into_iter().min_by(|a, b| {
                a.0.total_cmp(&b.0).then_with(|| {
                    let name = |offer: usize| &self.models[model].variants[offer].variant;
                    name(a.1).cmp(name(b.1))
                })
            })?;
            (ranges, plan) = (best.2, best.3);
        }
        None
    }

    fn solve(&self, model: usize, ranges: &[Range]) -> Option<Plan> {
        let ModelDemand { variants, demand, .. } = &self.models[model];
        let plan = cover::cheapest(variants, ranges, *demand, self.settings);
        (plan.sufficient || demand.is_nan()).then_some(plan)
    }

    fn cost(&self, model: usize, plan: &Plan) -> f64 {
        self.models[model].variants.iter().zip(&plan.replicas).map(|(offer, n)| offer.cost * f64::from(*n)).sum()
    }

    /// What a model would pay more if it had to go without the accelerators of its best plan; infinite when it cannot.
    pub(super) fn regret(&self, model: usize) -> f64 {
        let ranges = self.affordable(model);
        let Some(best) = self.solve(model, &ranges) else { return f64::INFINITY };
        let elsewhere: Vec<Range> = ranges
            .iter()
            .zip(&best.replicas)
            .map(|(range, n)| if *n > range.min { Range { max: range.min, ..*range } } else { *range })
            .collect();
        self.solve(model, &elsewhere).map_or(f64::INFINITY, |next| self.cost(model, &next) - self.cost(model, &best))
    }

    /// Models that cannot be satisfied stay as they are set, as far as that can be afforded and is of use.
    pub(super) fn keep_standing(&mut self, models: &[usize]) {
        for &model in models {
            self.grow(model, |contest, offer| contest.given[model][offer] < contest.models[model].variants[offer].spec);
        }
    }

    /// Each in turn takes all that it can use, prefill and decode of one model in step.
    pub(super) fn exhaust(&mut self, models: &[usize]) {
        let mut models = models.to_vec();
        models.sort_by(|a, b| self.name(*a).cmp(&self.name(*b)));
        for unit in self.units(&models) {
            self.share(&unit);
        }
    }

    fn grow(&mut self, model: usize, may_grow: impl Fn(&Self, usize) -> bool) {
        while let Some(offer) = self.next_replica(model, &may_grow) {
            self.give_one(model, offer);
        }
    }

    /// Replica by replica, to the model that has least of what it needs.
    pub(super) fn share(&mut self, models: &[usize]) {
        let mut models = models.to_vec();
        models.sort_by(|a, b| self.name(*a).cmp(&self.name(*b)));
        let mut queue: BinaryHeap<Reverse<(Satisfaction, usize)>> =
            models.iter().enumerate().map(|(place, model)| Reverse((self.satisfaction(*model), place))).collect();
        while let Some(Reverse((_, place))) = queue.pop() {
            let model = models[place];
            if let Some(offer) = self.next_replica(model, |_, _| true) {
                self.give_one(model, offer);
                queue.push(Reverse((self.satisfaction(model), place)));
            }
        }
    }

    fn give_one(&mut self, model: usize, offer: usize) {
        self.give(model, offer, 1);
        self.steps_left = self.steps_left.saturating_sub(1);
    }

    fn satisfaction(&self, model: usize) -> Satisfaction {
        Satisfaction(self.carried(model) / self.models[model].demand)
    }

    fn carried(&self, model: usize) -> f64 {
        self.models[model].variants.iter().zip(&self.given[model]).map(|(offer, n)| offer.capacity.at(*n)).sum()
    }

    /// The offer whose next replica adds most for its cost, of those that fit and may grow; `None` when the demand is
    /// carried or nothing fits.
    fn next_replica(&self, model: usize, may_grow: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let ModelDemand { demand, variants, .. } = &self.models[model];
        if self.carried(model) >= *demand || demand.is_nan() || self.steps_left == 0 {
            return None;
        }
        let worth = |offer: usize| {
            let (given, terms) = (self.given[model][offer], &variants[offer]);
            let highest = cover::most_replicas(terms, self.ranges[model][offer]);
            let is_open = given < highest && self.most(&self.stock, model, offer) > 0 && may_grow(self, offer);
            let added = terms.capacity.at(given.saturating_add(1)) - terms.capacity.at(given);
            // A pool that carries nothing at first may with more: by its mean.
            let added = if added > 0.0 { added } else { terms.capacity.at(highest) / f64::from(highest.max(1)) };
            (is_open && added > 0.0).then(|| added / terms.cost.max(f64::MIN_POSITIVE))
        };
        let open = (0..variants.len()).filter_map(|offer| Some((worth(offer)?, offer)));
        let by_worth = |a: &(f64, usize), b: &(f64, usize)| {
            b.0.total_cmp(&a.0).then_with(|| variants[a.1].variant.cmp(&variants[b.1].variant))
        };
        open.min_by(by_worth).map(|(_, offer)| offer)
    }
}

/// The share of a demand that is carried.
#[derive(PartialEq)]
struct Satisfaction(f64);

impl Eq for Satisfaction {}

impl PartialOrd for Satisfaction {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Satisfaction {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
