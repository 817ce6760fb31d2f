//! One variant's choices on the integer grid.

use std::cmp::Ordering;

use super::Range;
use crate::{interfaces::VariantKey, optimizer::Offer};

/// Share of the demand that may be missing through rounding.
pub(super) const TOLERANCE: f64 = 1e-9;

/// Steps between zero and the greatest cost or per-replica capacity. Sums of millions of replicas stay exact in `f64`.
const STEPS: f64 = (1_u64 << 30) as f64;

/// Units of the grid.
pub(super) struct Grid {
    cost: f64,
    capacity: f64,
}

impl Grid {
    pub(super) fn of(offers: &[Offer], surcharges: &[f64]) -> Self {
        let greatest = |values: &mut dyn Iterator<Item = f64>| {
            let greatest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
            // The smallest numbers have no billionth.
            if greatest > f64::MIN_POSITIVE * STEPS { greatest / STEPS } else { 1.0 }
        };
        Self {
            cost: greatest(
                &mut offers
                    .iter()
                    .enumerate()
                    .map(|(index, offer)| offer.cost + surcharges.get(index).copied().unwrap_or(0.0)),
            ),
            capacity: greatest(&mut offers.iter().map(|offer| {
                let known = offer.capacity.bends_until();
                offer.capacity.at(known) / f64::from(known.max(1))
            })),
        }
    }

    /// What is no cost at all counts as the greatest one, and nothing is free: of two plans that cost nothing, the smaller.
    fn cost(&self, cost: f64) -> f64 {
        if cost.is_finite() && cost >= 0.0 { (cost / self.cost).round().max(1.0) } else { STEPS }
    }

    fn capacity(&self, capacity: f64) -> f64 {
        (capacity / self.capacity).round()
    }

    pub(super) fn demand(&self, demand: f64) -> f64 {
        (demand / self.capacity * (1.0 - TOLERANCE)).floor().clamp(0.0, f64::MAX)
    }
}

/// What is paid for a replica beside its cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Price {
    /// To start it, in its cost.
    pub(super) switching: f64,
    /// To have it.
    pub(super) surcharge: f64,
}

/// A variant from which `lowest..=highest` replicas may be chosen.
pub(super) struct Item<'a> {
    /// Place among the offers.
    pub(super) index: usize,
    pub(super) offer: &'a Offer,
    pub(super) lowest: u32,
    pub(super) highest: u32,
    grid_capacity: f64,
    replica: f64,
    start: f64,
    /// Capacity that each replica adds beyond the bends of the curve.
    pub(super) step: f64,
}

impl<'a> Item<'a> {
    pub(super) fn new(index: usize, offer: &'a Offer, range: Range, grid: &Grid, demand: f64, price: Price) -> Self {
        let lowest = range.min.max(offer.keep.min(range.max));
        let highest = super::most_replicas(offer, range);
        let replica = grid.cost(offer.cost + price.surcharge);
        let switching = if price.switching.is_finite() { price.switching.clamp(0.0, STEPS) } else { 0.0 };
        let mut item = Self {
            index,
            offer,
            lowest,
            highest: highest.max(lowest),
            grid_capacity: grid.capacity,
            replica,
            start: (grid.cost(offer.cost) * switching).round(),
            step: grid.capacity(offer.capacity.step()),
        };
        let useful = item.replicas_for(grid.demand(demand)).unwrap_or_else(|| item.most_useful());
        item.highest = item.highest.min(useful.max(lowest));
        item
    }

    pub(super) fn name(&self) -> &VariantKey {
        &self.offer.variant
    }

    /// Cost of `replicas`, those started included, in steps of the grid.
    pub(super) fn cost(&self, replicas: u32) -> f64 {
        let started = replicas.saturating_sub(self.offer.spec);
        self.replica.mul_add(f64::from(replicas), self.start * f64::from(started))
    }

    pub(super) fn capacity(&self, replicas: u32) -> f64 {
        let bends = self.offer.capacity.bends_until();
        let known = (self.offer.capacity.at(replicas.min(bends)) / self.grid_capacity).round();
        known + self.step * f64::from(replicas.saturating_sub(bends))
    }

    /// Distance from what is set.
    pub(super) fn changes(&self, replicas: u32) -> f64 {
        f64::from(replicas.abs_diff(self.offer.spec))
    }

    /// Replicas until which the curve may bend.
    pub(super) fn bends_until(&self) -> u32 {
        self.offer.capacity.bends_until()
    }

    /// The least replicas that carry `demand`, whatever the range.
    pub(super) fn replicas_for(&self, demand: f64) -> Option<u32> {
        let bends = self.bends_until();
        let known = self.capacity(bends);
        if known < demand {
            let beyond = ((demand - known) / self.step).ceil();
            let replicas = f64::from(bends) + beyond;
            return (self.step > 0.0 && replicas < f64::from(u32::MAX)).then_some(replicas as u32);
        }
        let (mut enough, mut below) = (bends, 0);
        if self.capacity(0) >= demand {
            return Some(0);
        }
        while enough - below > 1 {
            let middle = below + (enough - below) / 2;
            if self.capacity(middle) >= demand { enough = middle } else { below = middle }
        }
        Some(enough)
    }

    /// Where more replicas stop to carry more.
    fn most_useful(&self) -> u32 {
        if self.step > 0.0 {
            return u32::MAX;
        }
        self.replicas_for(self.capacity(self.bends_until())).unwrap_or(0)
    }

    /// What the whole range adds to the lowest choice: capacity and cost.
    pub(super) fn gain(&self) -> (f64, f64) {
        (self.capacity(self.highest) - self.capacity(self.lowest), self.cost(self.highest) - self.cost(self.lowest))
    }

    /// Cheaper per capacity first, then by name.
    pub(super) fn by_efficiency(&self, other: &Self) -> Ordering {
        let ratio = |(capacity, cost): (f64, f64)| cost / capacity;
        ratio(self.gain()).total_cmp(&ratio(other.gain())).then_with(|| self.name().cmp(other.name()))
    }
}
