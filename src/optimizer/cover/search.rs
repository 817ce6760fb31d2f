//! The search over partial plans.

use std::cmp::Ordering;

use super::{
    Plan,
    item::{Grid, Item},
    relaxation::{self, Relaxation},
};

/// Partial plans kept per variant at most. Counted, not timed, so that the answer does not depend on the machine.
const BEAM: usize = 2048;

/// Half a step of the grid: integers that differ by less are equal.
const HALF: f64 = 0.5;

/// A choice of replicas for the items up to one of them.
#[derive(Clone, Copy)]
struct Partial {
    /// Place of the choice for the items before, in the layer before.
    parent: u32,
    replicas: u32,
    /// Beyond what the lowest choices cost, carry and change.
    cost: f64,
    capacity: f64,
    changes: f64,
}

const NOTHING: Partial = Partial { parent: 0, replicas: 0, cost: 0.0, capacity: 0.0, changes: 0.0 };

/// The cheapest plan for `demand`.
pub(super) fn cheapest(items: Vec<Item<'_>>, grid: &Grid, demand: f64) -> Plan {
    let mut replicas = vec![0; items.len()];
    let mut carried = 0.0;
    for item in &items {
        replicas[item.index] = item.lowest;
        carried += item.capacity(item.lowest);
    }
    let missing = grid.demand(demand) - carried;
    if missing <= 0.0 {
        return Plan { replicas, sufficient: true, exact: true };
    }
    let mut items: Vec<Item<'_>> = items.into_iter().filter(|item| item.gain().0 > 0.0).collect();
    if items.iter().map(|item| item.gain().0).sum::<f64>() < missing {
        for item in &items {
            replicas[item.index] = item.highest;
        }
        return Plan { replicas, sufficient: false, exact: true };
    }
    items.sort_by(Item::by_efficiency);
    let mut search = Search::new(&items, missing);
    for choice in search.run() {
        replicas[items[choice.0].index] = choice.1;
    }
    Plan { replicas, sufficient: true, exact: search.exact }
}

struct Search<'a, 'b> {
    items: &'a [Item<'b>],
    relaxations: Vec<Relaxation>,
    missing: f64,
    /// Cost of the best whole plan known.
    best: f64,
    layers: Vec<Vec<Partial>>,
    exact: bool,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(items: &'a [Item<'b>], missing: f64) -> Self {
        Self {
            items,
            relaxations: relaxation::of_suffixes(items),
            missing,
            best: f64::INFINITY,
            layers: Vec::with_capacity(items.len()),
            exact: true,
        }
    }

    /// Replicas by place of the item.
    fn run(&mut self) -> Vec<(usize, u32)> {
        let rounded = self.round_up();
        for layer in 0..self.items.len() {
            let extended = self.extend(layer);
            let kept = self.undominated(extended, layer);
            self.layers.push(kept);
        }
        // The last layer is of whole plans, the best first. It is empty only if the beam lost them all.
        match self.layers.last().and_then(|layer| layer.first()) {
            Some(whole) => self.choices(self.items.len() - 1, *whole).collect(),
            None => rounded,
        }
    }

    /// A good whole plan: fill up in the order of efficiency, round up at each item in turn, take the best.
    fn round_up(&mut self) -> Vec<(usize, u32)> {
        let mut choice: Vec<(usize, u32)> =
            self.items.iter().enumerate().map(|(place, item)| (place, item.lowest)).collect();
        let mut best = choice.clone();
        let (mut cost, mut missing) = (0.0, self.missing);
        for (place, item) in self.items.iter().enumerate() {
            let base = (item.capacity(item.lowest), item.cost(item.lowest));
            let enough = item.replicas_for(missing + base.0).filter(|enough| *enough <= item.highest);
            if let Some(enough) = enough {
                let total = cost + item.cost(enough) - base.1;
                if total < self.best {
                    self.best = total;
                    best.clone_from(&choice);
                    best[place].1 = enough;
                }
            }
            let filled = enough.map_or(item.highest, |enough| enough.saturating_sub(1).max(item.lowest));
            choice[place].1 = filled;
            cost += item.cost(filled) - base.1;
            missing -= item.capacity(filled) - base.0;
        }
        best
    }

    /// Every choice for the item of `layer` after every plan of the layer before, as far as it can still be the best.
    fn extend(&mut self, layer: usize) -> Vec<Partial> {
        let before = match layer.checked_sub(1) {
            None => vec![NOTHING],
            Some(previous) => self.layers[previous].clone(),
        };
        let mut extended = Vec::new();
        for (parent, plan) in before.iter().enumerate() {
            let reached = Reached { parent: parent as u32, plan, left: self.missing - plan.capacity };
            self.extend_one(layer, &reached, &mut extended);
        }
        extended
    }

    fn extend_one(&mut self, layer: usize, reached: &Reached<'_>, into: &mut Vec<Partial>) {
        let item = &self.items[layer];
        let base = item.capacity(item.lowest);
        let enough = item.replicas_for(reached.left + base).unwrap_or(u32::MAX).clamp(item.lowest, item.highest);
        let rest = self.relaxations[layer + 1].capacity();
        let fewest = item.replicas_for(reached.left - rest + base).unwrap_or(u32::MAX).max(item.lowest);
        if fewest > enough {
            return;
        }
        let bends = item.bends_until();
        for replicas in fewest..=enough.min(bends) {
            self.push_if_promising(layer, reached, replicas, into);
        }
        if enough > bends {
            self.extend_straight(layer, reached, (fewest.max(bends.saturating_add(1)), enough), into);
        }
    }

    /// Where the curve is straight the bound is convex in the number of replicas: from its minimum outwards.
    fn extend_straight(&mut self, layer: usize, reached: &Reached<'_>, range: (u32, u32), into: &mut Vec<Partial>) {
        let (mut low, mut high) = range;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bound(layer, reached, middle) <= self.bound(layer, reached, middle + 1) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let within = BEAM as u32;
        let down = (range.0.max(low.saturating_sub(within))..low).rev();
        let up = low..=range.1.min(low.saturating_add(within));
        let mut is_cut = low - range.0 > within;
        for replicas in down {
            if !self.push_if_promising(layer, reached, replicas, into) {
                is_cut = false;
                break;
            }
        }
        let mut is_cut_above = range.1 - low > within;
        for replicas in up {
            if !self.push_if_promising(layer, reached, replicas, into) {
                is_cut_above = false;
                break;
            }
        }
        self.exact &= !is_cut && !is_cut_above;
    }

    fn push_if_promising(&self, layer: usize, reached: &Reached<'_>, replicas: u32, into: &mut Vec<Partial>) -> bool {
        let is_promising = self.bound(layer, reached, replicas) <= self.best + HALF;
        if is_promising {
            let item = &self.items[layer];
            into.push(Partial {
                parent: reached.parent,
                replicas,
                cost: reached.plan.cost + item.cost(replicas) - item.cost(item.lowest),
                capacity: reached.plan.capacity + item.capacity(replicas) - item.capacity(item.lowest),
                changes: reached.plan.changes + item.changes(replicas),
            });
        }
        is_promising
    }

    /// The least that a plan with these replicas can cost in the end.
    fn bound(&self, layer: usize, reached: &Reached<'_>, replicas: u32) -> f64 {
        let item = &self.items[layer];
        let added = item.capacity(replicas) - item.capacity(item.lowest);
        let cost = item.cost(replicas) - item.cost(item.lowest);
        reached.plan.cost + cost + self.relaxations[layer + 1].cost_of(reached.left - added)
    }

    /// Plans that none beats, cheapest first.
    fn undominated(&mut self, mut plans: Vec<Partial>, layer: usize) -> Vec<Partial> {
        plans.sort_unstable_by(|a, b| by_merit(a, b).then(a.parent.cmp(&b.parent)).then(a.replicas.cmp(&b.replicas)));
        let mut kept: Vec<Partial> = Vec::with_capacity(plans.len());
        for plan in plans {
            let Some(last) = kept.last_mut() else {
                kept.push(plan);
                continue;
            };
            if plan.capacity > last.capacity {
                kept.push(plan);
            } else if by_merit(&plan, last).is_eq() && self.comes_first_by_name(layer, plan, *last) {
                *last = plan;
            }
        }
        if kept.len() > BEAM {
            self.exact = false;
            let relaxation = &self.relaxations[layer + 1];
            let bound = |plan: &Partial| plan.cost + relaxation.cost_of(self.missing - plan.capacity);
            kept.sort_by(|a, b| bound(a).total_cmp(&bound(b)));
            kept.truncate(BEAM);
            kept.sort_by(by_merit);
        }
        kept
    }

    /// Whether `plan` has more replicas than `other` of the first variant, by name, that they differ in.
    fn comes_first_by_name(&self, layer: usize, plan: Partial, other: Partial) -> bool {
        let differing = self.choices(layer, plan).zip(self.choices(layer, other)).filter(|(a, b)| a.1 != b.1);
        let first = differing.min_by_key(|(choice, _)| self.items[choice.0].name());
        first.is_some_and(|(choice, other)| choice.1 > other.1)
    }

    /// The choices that lead to a plan of `layer`, the last one first.
    fn choices(&self, layer: usize, plan: Partial) -> impl Iterator<Item = (usize, u32)> {
        let mut next = Some((layer, plan));
        std::iter::from_fn(move || {
            let (place, partial) = next?;
            next = place
                .checked_sub(1)
                .and_then(|before| Some((before, *self.layers.get(before)?.get(partial.parent as usize)?)));
            Some((place, partial.replicas))
        })
    }
}

/// A plan of the layer before and what it leaves to carry.
struct Reached<'a> {
    parent: u32,
    plan: &'a Partial,
    left: f64,
}

/// Cheaper, then carrying more, then nearer to what is set.
fn by_merit(a: &Partial, b: &Partial) -> Ordering {
    a.cost.total_cmp(&b.cost).then(b.capacity.total_cmp(&a.capacity)).then(a.changes.total_cmp(&b.changes))
}
