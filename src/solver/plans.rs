//! The plans of one model that can be part of the best whole: no other is at least as good in cost, in what it carries and
//! in every resource that it takes.

use crate::optimizer::{ModelDemand, Offer, Usage};

/// Partial plans kept per variant at most.
const BEAM: usize = 600;

/// Choices of replicas per variant at most.
const MOST_CHOICES: u32 = 2000;

/// A plan of one model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Per offer.
    pub(super) replicas: Vec<u32>,
    /// Cost with moves.
    pub(super) cost: f64,
    /// Share of the demand that it does not carry.
    pub(super) shortage: f64,
    /// Accelerators beyond the minimums', per resource that the model touches: its place among all resources.
    pub(super) usage: Vec<(usize, f64)>,
}

/// What bounds the plans of a model.
pub(super) struct Terms<'a> {
    pub(super) model: &'a ModelDemand,
    pub(super) usage: &'a [Usage],
    /// Left of each resource after everybody's minimums.
    pub(super) left: &'a [u64],
    pub(super) switching_cost: f64,
    /// Whether plans that do not carry the demand count.
    pub(super) with_shortage: bool,
}

#[derive(Clone)]
struct Partial {
    cost: f64,
    capacity: f64,
    usage: Vec<u64>,
    replicas: Vec<u32>,
}

impl Partial {
    /// Whether nothing speaks for `other`.
    fn beats(&self, other: &Self) -> bool {
        self.cost <= other.cost
            && self.capacity >= other.capacity
            && self.usage.iter().zip(&other.usage).all(|(mine, theirs)| mine <= theirs)
    }
}

impl Terms<'_> {
    /// The plans, the cheapest first; and whether none was left out.
    pub(super) fn plans(&self) -> (Vec<Plan>, bool) {
        let offers = &self.model.variants;
        let resources = self.resources();
        let minimums: Vec<u32> = offers.iter().map(|offer| offer.range().0).collect();
        let mut plans = vec![Partial {
            cost: offers.iter().zip(&minimums).map(|(offer, n)| self.cost(offer, *n)).sum(),
            capacity: offers.iter().zip(&minimums).map(|(offer, n)| offer.capacity.at(*n)).sum(),
            usage: vec![0; resources.len()],
            replicas: minimums,
        }];
        let mut is_complete = true;
        for index in self.by_name() {
            let extended = plans.iter().flat_map(|plan| self.extensions(plan, index, &resources)).collect();
            plans = self.undominated(extended, &mut is_complete);
        }
        let plans = plans.into_iter().map(|plan| self.finish(plan, &resources));
        (plans.filter(|plan| self.with_shortage || plan.shortage == 0.0).collect(), is_complete)
    }

    /// The plan with these replicas.
    pub(super) fn plan_of(&self, replicas: Vec<u32>) -> Plan {
        let offers = &self.model.variants;
        let resources = self.resources();
        let usage = |place: &usize| {
            let beyond = offers.iter().zip(&replicas).map(|(offer, n)| n.saturating_sub(offer.range().0));
            beyond.zip(self.usage).map(|(n, usage)| u64::from(n) * u64::from(usage.of(*place))).sum()
        };
        let plan = Partial {
            cost: offers.iter().zip(&replicas).map(|(offer, n)| self.cost(offer, *n)).sum(),
            capacity: 0.0,
            usage: resources.iter().map(usage).collect(),
            replicas,
        };
        self.finish(plan, &resources)
    }

    fn by_name(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.model.variants.len()).collect();
        order.sort_by(|a, b| self.model.variants[*a].variant.cmp(&self.model.variants[*b].variant));
        order
    }

    /// Places of the resources that any of the variants takes.
    fn resources(&self) -> Vec<usize> {
        (0..self.left.len()).filter(|place| self.usage.iter().any(|usage| usage.of(*place) > 0)).collect()
    }

    fn cost(&self, offer: &Offer, replicas: u32) -> f64 {
        plan_cost(offer, replicas, self.switching_cost)
    }

    fn extensions(&self, plan: &Partial, index: usize, resources: &[usize]) -> Vec<Partial> {
        let offer = &self.model.variants[index];
        let (min, max) = offer.range();
        let missing = self.enough() - plan.capacity;
        let (base, fixed) = (offer.capacity.at(min), self.cost(offer, min));
        let useful = if missing > 0.0 { offer.capacity.replicas_for(missing + base).unwrap_or(max) } else { min };
        let affordable = self.affordable(plan, index, resources);
        let most = max.min(useful).min(min.saturating_add(affordable)).min(min.saturating_add(MOST_CHOICES)).max(min);
        (min..=most)
            .map(|replicas| {
                let mut extended = plan.clone();
                extended.replicas[index] = replicas;
                extended.cost += self.cost(offer, replicas) - fixed;
                extended.capacity += offer.capacity.at(replicas) - base;
                for (taken, place) in extended.usage.iter_mut().zip(resources) {
                    *taken += u64::from(replicas - min) * u64::from(self.usage[index].of(*place));
                }
                extended
            })
            .collect()
    }

    fn affordable(&self, plan: &Partial, index: usize, resources: &[usize]) -> u32 {
        if self.usage[index] == Usage::Unknown {
            let offer = &self.model.variants[index];
            return offer.spec.saturating_sub(offer.range().0);
        }
        let fits = resources.iter().zip(&plan.usage).filter_map(|(place, taken)| {
            self.left[*place].saturating_sub(*taken).checked_div(u64::from(self.usage[index].of(*place)))
        });
        fits.min().map_or(u32::MAX, |fits| u32::try_from(fits).unwrap_or(u32::MAX))
    }

    /// What counts as the demand carried, but for rounding.
    fn enough(&self) -> f64 {
        self.model.demand * (1.0 - 1e-9)
    }

    fn undominated(&self, mut plans: Vec<Partial>, is_complete: &mut bool) -> Vec<Partial> {
        for plan in &mut plans {
            plan.capacity = plan.capacity.min(self.enough().max(0.0));
        }
        plans.sort_by(|a, b| {
            a.cost.total_cmp(&b.cost).then(b.capacity.total_cmp(&a.capacity)).then_with(|| a.usage.cmp(&b.usage))
        });
        let mut kept: Vec<Partial> = Vec::new();
        for plan in plans {
            if !kept.iter().any(|other| other.beats(&plan)) {
                kept.push(plan);
            }
        }
        if kept.len() > BEAM {
            *is_complete = false;
            let rate =
                self.model.variants.iter().map(|offer| offer.cost / offer.capacity.at(1)).fold(f64::INFINITY, f64::min);
            let promise = |plan: &Partial| plan.cost + rate * (self.enough() - plan.capacity);
            kept.sort_by(|a, b| promise(a).total_cmp(&promise(b)));
            kept.truncate(BEAM);
        }
        kept
    }

    fn finish(&self, plan: Partial, resources: &[usize]) -> Plan {
        let enough = self.enough();
        let carried = super::program::carried(self.model, &plan.replicas);
        let shortage = if carried >= enough { 0.0 } else { (1.0 - carried / self.model.demand).clamp(0.0, 1.0) };
        let usage = resources.iter().zip(&plan.usage).filter(|(_, taken)| **taken > 0);
        Plan {
            cost: plan.cost,
            shortage,
            usage: usage.map(|(place, taken)| (*place, *taken as f64)).collect(),
            replicas: plan.replicas,
        }
    }
}

/// Cost of `replicas` of an offer, those that have to be started paid for.
pub(super) fn plan_cost(offer: &Offer, replicas: u32, switching_cost: f64) -> f64 {
    let started = f64::from(replicas.saturating_sub(offer.spec));
    offer.cost * switching_cost.mul_add(started, f64::from(replicas))
}
