//! The exact cheapest set of replicas that carries a demand.
//!
//! Variants are added one after the other. Of the partial plans only those are kept that no other beats (cheaper or
//! equal, carrying as much or more) and that could still end below the best known whole plan: the cost of the rest is
//! bounded from below by its linear relaxation over the convex hulls of the remaining curves. Costs and capacities are
//! put on an integer grid first (a billionth of the greatest), so that comparisons are exact and units do not matter.
//!
//! Among plans of equal cost the one that carries more wins, then the one nearer to what is set, then the one with more
//! replicas of the variant whose name comes first. With equal curves, bounds and costs more demand therefore never
//! gives less capacity.

mod item;
mod relaxation;
mod search;

use super::{Choice, Offer, OptimizerSettings};
use crate::interfaces::Growth;
use item::{Item, Price};

/// A plan: replicas per offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In the order of the offers.
    pub(super) replicas: Vec<u32>,
    /// Whether it carries the demand.
    pub(super) sufficient: bool,
    /// Whether no cheaper one exists; false when the search had to be cut short.
    pub(super) exact: bool,
}

/// The range of replicas that a plan may choose from, per offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) min: u32,
    pub(super) max: u32,
}

/// The cheapest replicas per offer, within `ranges`, that carry `demand`; all there is where that is not enough.
///
/// Variants whose growth is doubtful count for what serves, or is about to, unless the demand cannot be carried without
/// their growth.
pub(super) fn cheapest(offers: &[Offer], ranges: &[Range], demand: f64, settings: &OptimizerSettings) -> Plan {
    if demand.is_nan() {
        let replicas = offers.iter().zip(ranges).map(|(offer, range)| offer.spec.clamp(range.min, range.max)).collect();
        return Plan { replicas, sufficient: false, exact: true };
    }
    if settings.choice == Choice::EachVariantAlone {
        return each_alone(offers, ranges, demand);
    }
    let is_doubtful = |offer: &Offer| offer.growth == Growth::Doubtful;
    if offers.iter().any(is_doubtful) {
        let cautious: Vec<Offer> = offers
            .iter()
            .map(|offer| match offer.growth {
                Growth::Doubtful => Offer { capacity: offer.capacity.level_from(offer.supply()), ..offer.clone() },
                Growth::Likely | Growth::Impossible => offer.clone(),
            })
            .collect();
        let mut plan = solve(&cautious, ranges, demand, settings);
        if plan.sufficient {
            keep_asking(offers, &mut plan, &solve(offers, &as_set(offers, ranges), demand, settings));
            return plan;
        }
        // All that can be trusted, and of the rest as little as carries what remains.
        let beyond: Vec<Range> =
            ranges.iter().zip(&plan.replicas).map(|(range, n)| Range { min: range.min.max(*n), ..*range }).collect();
        return solve(offers, &beyond, demand, settings);
    }
    solve(offers, ranges, demand, settings)
}

/// The same ranges, without growth where it is doubtful.
fn as_set(offers: &[Offer], ranges: &[Range]) -> Vec<Range> {
    let limit = |(offer, range): (&Offer, &Range)| match offer.growth {
        Growth::Doubtful => Range { max: range.max.min(offer.spec.max(range.min)), ..*range },
        Growth::Likely | Growth::Impossible => *range,
    };
    offers.iter().zip(ranges).map(limit).collect()
}

/// What a doubtful variant was asked for and would be wanted if it came stays asked for: it may come after all, and
/// withdrawing the ask would make the variant look as good as any other in the next cycle.
fn keep_asking(offers: &[Offer], plan: &mut Plan, hoped_for: &Plan) {
    for ((offer, replicas), hoped_for) in offers.iter().zip(&mut plan.replicas).zip(&hoped_for.replicas) {
        if offer.growth == Growth::Doubtful {
            *replicas = (*replicas).max(*hoped_for);
        }
    }
}

fn solve(offers: &[Offer], ranges: &[Range], demand: f64, settings: &OptimizerSettings) -> Plan {
    solve_with(offers, ranges, demand, settings, &[])
}

/// The plan that is cheapest when every replica costs a surcharge, one per offer, on top.
pub(super) fn solve_with(
    offers: &[Offer],
    ranges: &[Range],
    demand: f64,
    settings: &OptimizerSettings,
    surcharges: &[f64],
) -> Plan {
    let grid = item::Grid::of(offers, surcharges);
    let items: Vec<Item<'_>> = offers
        .iter()
        .zip(ranges)
        .enumerate()
        .map(|(index, (offer, range))| {
            let surcharge = surcharges.get(index).copied().unwrap_or(0.0);
            Item::new(index, offer, *range, &grid, demand, Price { switching: settings.switching_cost, surcharge })
        })
        .collect();
    search::cheapest(items, &grid, demand)
}

/// The most replicas of an offer that may be asked for.
pub(super) fn most_replicas(offer: &Offer, range: Range) -> u32 {
    match offer.growth {
        Growth::Impossible => range.max.min(offer.spec.max(range.min)),
        Growth::Likely | Growth::Doubtful => range.max,
    }
}

fn each_alone(offers: &[Offer], ranges: &[Range], demand: f64) -> Plan {
    let serving: Vec<f64> = offers.iter().map(|offer| offer.capacity.at(offer.ready)).collect();
    let total: f64 = serving.iter().sum();
    let mut sufficient = true;
    let replicas = offers
        .iter()
        .zip(ranges)
        .zip(&serving)
        .map(|((offer, range), serving)| {
            let share = if total > 0.0 { demand.max(0.0) * (serving / total) } else { 0.0 };
            let own = offer.own_demand.filter(|own| !own.is_nan()).unwrap_or(share);
            let needed = offer.capacity.replicas_for(own * (1.0 - item::TOLERANCE));
            let replicas = needed.unwrap_or(range.max.min(offer.spec.max(range.min))).clamp(range.min, range.max);
            sufficient &= needed.is_some_and(|needed| needed <= replicas);
            replicas
        })
        .collect();
    Plan { replicas, sufficient, exact: true }
}
