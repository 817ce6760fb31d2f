//! Limited accelerators: who gets what when there are not enough for all.
//!
//! 1. Every variant has its minimum. Nobody starves below it.
//! 2. In the order of priority, each model whose whole demand can be carried with what is left gets the cheapest set
//!    that does; within a priority, who would pay most for going elsewhere chooses first (upstream's regret).
//! 3. What remains goes to models whose demand cannot be carried, by the saturation policy. Where the policy heeds
//!    priority this happens before models of lower priority have their turn.
//!
//! Accelerators of our own replicas count as ours to give.

mod sharing;
mod stock;

use std::collections::BTreeMap;

use super::{
    Bound, ModelAllotment, ModelDemand, OptimizerSettings, SaturationPolicy,
    cover::{self, Plan, Range},
    ranges,
};
use crate::interfaces::{Inventory, Limit, ModelKey, Role};
pub(crate) use stock::{Stock, Usage};

/// The answers with growth beyond what is set denied, because nobody knows what there is.
pub(super) fn without_inventory(models: &[ModelDemand], answers: &mut [ModelAllotment], settings: &OptimizerSettings) {
    for (model, answer) in models.iter().zip(answers) {
        let as_set: Vec<Range> = ranges(model)
            .into_iter()
            .zip(&model.variants)
            .map(|(range, offer)| Range { max: range.max.min(offer.spec.max(range.min)), ..range })
            .collect();
        if answer.variants.iter().zip(&as_set).all(|(allotment, range)| allotment.desired <= range.max) {
            continue;
        }
        let plan = cover::cheapest(&model.variants, &as_set, model.demand, settings);
        restrict(answer, &plan, |_| Limit::UnknownInventory);
    }
}

/// The answers as far as `inventory` goes.
pub(super) fn within(
    inventory: &Inventory,
    models: &[ModelDemand],
    answers: &mut [ModelAllotment],
    settings: &OptimizerSettings,
) {
    let (stock, usage) = Stock::new(inventory, models, settings.fit_nodes);
    let mut contest = Contest::new(models, &usage, stock, settings);
    if contest.satisfies_all(answers) {
        return;
    }
    contest.run();
    for (index, answer) in answers.iter_mut().enumerate() {
        let plan = Plan {
            replicas: contest.given[index].clone(),
            sufficient: contest.is_satisfied[index],
            exact: answer.is_exact,
        };
        restrict(answer, &plan, |offer| contest.stock.tightest(&usage[index][offer]));
    }
}

/// Puts `plan` in the place of an answer, and names the limit where that gives less.
fn restrict(answer: &mut ModelAllotment, plan: &Plan, limit: impl Fn(usize) -> Limit) {
    for (index, (allotment, &replicas)) in answer.variants.iter_mut().zip(&plan.replicas).enumerate() {
        if replicas < allotment.desired {
            allotment.bound_by = Some(Bound::Inventory(limit(index)));
        } else if replicas > allotment.desired && allotment.bound_by == Some(Bound::Min) {
            // It carries now what others cannot.
            allotment.bound_by = None;
        }
        allotment.desired = replicas;
    }
    answer.is_sufficient = plan.sufficient;
    answer.is_exact = plan.exact;
}

/// The allocation while it is being made.
struct Contest<'a> {
    models: &'a [ModelDemand],
    usage: &'a [Vec<Usage>],
    settings: &'a OptimizerSettings,
    stock: Stock,
    ranges: Vec<Vec<Range>>,
    /// Replicas per model and offer.
    given: Vec<Vec<u32>>,
    is_satisfied: Vec<bool>,
    /// Replicas that may still be given one by one.
    steps_left: u32,
}

/// Replicas given one by one at most: a demand that no number of replicas carries must not keep us for ever.
const MOST_STEPS: u32 = 200_000;

impl<'a> Contest<'a> {
    fn new(models: &'a [ModelDemand], usage: &'a [Vec<Usage>], stock: Stock, settings: &'a OptimizerSettings) -> Self {
        let ranges: Vec<Vec<Range>> = models.iter().map(ranges).collect();
        let given = ranges.iter().map(|ranges| ranges.iter().map(|range| range.min).collect()).collect();
        let is_satisfied = vec![false; models.len()];
        let mut contest = Self { models, usage, settings, stock, ranges, given, is_satisfied, steps_left: MOST_STEPS };
        for (model, usage) in models.iter().zip(usage) {
            contest.stock.take_minimums(model, usage);
        }
        contest
    }

    /// Whether everybody can have what was found without regard to accelerators.
    fn satisfies_all(&self, answers: &[ModelAllotment]) -> bool {
        let mut stock = self.stock.clone();
        answers.iter().enumerate().all(|(model, answer)| {
            answer.variants.iter().enumerate().all(|(offer, allotment)| {
                let given = self.given[model][offer];
                let more = allotment.desired.saturating_sub(given);
                let held = self.models[model].variants[offer].supply().saturating_sub(given);
                let usage = &self.usage[model][offer];
                let fits = more <= self.most(&stock, model, offer);
                stock.take(usage, more, held);
                fits
            })
        })
    }

    /// How many replicas more an offer can be given. One of which nobody knows what it takes may stay as it is.
    fn most(&self, stock: &Stock, model: usize, offer: usize) -> u32 {
        let (given, terms) = (self.given[model][offer], &self.models[model].variants[offer]);
        let room = self.ranges[model][offer].max.saturating_sub(given);
        match &self.usage[model][offer] {
            Usage::Unknown => room.min(terms.spec.saturating_sub(given)),
            usage @ Usage::Known { .. } => room.min(stock.fits(usage, terms.supply().saturating_sub(given))),
        }
    }

    fn run(&mut self) {
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, model) in self.models.iter().enumerate() {
            groups.entry(model.priority).or_default().push(index);
        }
        let mut short = Vec::new();
        for group in groups.into_values() {
            let left_over = self.satisfy(group);
            match self.settings.saturation_policy {
                SaturationPolicy::None => self.keep_standing(&left_over),
                SaturationPolicy::PriorityExhaustive => self.exhaust(&left_over),
                SaturationPolicy::PriorityRoundRobin => self.share(&left_over),
                SaturationPolicy::RoundRobin => short.extend(left_over),
            }
        }
        self.share(&short);
    }

    /// Gives each model of a group its whole demand, if that can be done; those for whom it cannot.
    fn satisfy(&mut self, group: Vec<usize>) -> Vec<usize> {
        let mut order: Vec<(f64, usize)> = group.into_iter().map(|model| (self.regret(model), model)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| self.name(a.1).cmp(&self.name(b.1))));
        let order: Vec<usize> = order.into_iter().map(|(_, model)| model).collect();
        let mut left_over = Vec::new();
        for unit in self.units(&order) {
            if !self.satisfy_unit(&unit) {
                left_over.extend(unit);
            }
        }
        left_over
    }

    /// The models of `order` with prefill and decode of one together: either carries nothing without the other.
    fn units(&self, order: &[usize]) -> Vec<Vec<usize>> {
        let mut places: BTreeMap<&ModelKey, usize> = BTreeMap::new();
        let mut units: Vec<Vec<usize>> = Vec::with_capacity(order.len());
        for &index in order {
            let model = &self.models[index];
            if model.role == Role::Both {
                units.push(vec![index]);
                continue;
            }
            let place = *places.entry(&model.model).or_insert(units.len());
            if place == units.len() {
                units.push(Vec::new());
            }
            units[place].push(index);
        }
        units
    }

    /// Gives all models of a unit their whole demands, or none.
    fn satisfy_unit(&mut self, unit: &[usize]) -> bool {
        let before = (unit.len() > 1).then(|| (self.stock.clone(), self.given.clone()));
        for &model in unit {
            let Some(plan) = self.fitting_plan(model) else {
                if let Some((stock, given)) = before {
                    (self.stock, self.given) = (stock, given);
                }
                return false;
            };
            for (offer, replicas) in plan.into_iter().enumerate() {
                self.give(model, offer, replicas.saturating_sub(self.given[model][offer]));
            }
        }
        for &model in unit {
            self.is_satisfied[model] = true;
        }
        true
    }

    fn name(&self, model: usize) -> impl Ord + use<'a> {
        let model = &self.models[model];
        (&model.model, model.role)
    }

    fn give(&mut self, model: usize, offer: usize, more: u32) {
        let given = &mut self.given[model][offer];
        let held = self.models[model].variants[offer].supply().saturating_sub(*given);
        self.stock.take(&self.usage[model][offer], more, held);
        *given = given.saturating_add(more);
    }
}

#[cfg(test)]
mod tests;
