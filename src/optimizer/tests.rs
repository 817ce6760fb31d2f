use proptest::prelude::*;

use super::*;
use crate::interfaces::{Growth, ModelKey, ReplicaBounds, Role, VariantKey};

fn offer(name: &str, cost: f64, capacity: f64, spec: u32) -> Offer {
    Offer {
        variant: VariantKey::new("llm", name),
        cost,
        capacity: CapacityCurve::linear(capacity),
        bounds: ReplicaBounds { min: 0, max: None },
        keep: 0,
        spec,
        ready: spec,
        pending: 0,
        growth: Growth::Likely,
        own_demand: None,
        accelerator: None,
        accelerators_per_replica: None,
    }
}

fn model(demand: f64, variants: Vec<Offer>) -> ModelDemand {
    ModelDemand { model: ModelKey::new("llm", "m"), role: Role::Both, demand, priority: 1, variants }
}

fn free_moves() -> OptimizerSettings {
    OptimizerSettings { switching_cost: 0.0, ..OptimizerSettings::default() }
}

fn answer_of(model: &ModelDemand, settings: &OptimizerSettings) -> ModelAllotment {
    optimize(std::slice::from_ref(model), &Supply::Unlimited, settings).remove(0)
}

fn desired(demand: f64, variants: Vec<Offer>, settings: &OptimizerSettings) -> Vec<u32> {
    answer_of(&model(demand, variants), settings).variants.iter().map(|allotment| allotment.desired).collect()
}

#[test]
fn the_dearer_of_two_sufficient_sets_is_never_kept() {
    let variants = vec![offer("dear", 15.0, 20.0, 1), offer("cheap", 5.0, 10.0, 0)];
    assert_eq!(desired(20.0, variants, &OptimizerSettings::default()), [0, 2]);
}

#[test]
fn a_move_that_saves_less_than_it_costs_is_not_made() {
    let variants = vec![offer("old", 10.0, 10.0, 1), offer("new", 9.5, 10.0, 0)];
    assert_eq!(desired(10.0, variants.clone(), &OptimizerSettings::default()), [1, 0]);
    assert_eq!(desired(10.0, variants, &free_moves()), [0, 1]);
}

#[test]
fn equal_plans_are_told_apart_by_what_is_set_and_then_by_name() {
    let pair = |a, b| vec![offer("b", 5.0, 10.0, b), offer("a", 5.0, 10.0, a)];
    assert_eq!(desired(20.0, pair(0, 0), &free_moves()), [0, 2]);
    assert_eq!(desired(20.0, pair(0, 2), &free_moves()), [2, 0]);
    assert_eq!(desired(30.0, pair(1, 1), &free_moves()), [1, 2]);
}

#[test]
fn curves_that_pool_are_used_as_pools() {
    let pooling = Offer { capacity: CapacityCurve::from_points([4.0, 12.0, 20.0]), ..offer("pool", 10.0, 0.0, 0) };
    let single = offer("single", 9.0, 5.0, 0);
    assert_eq!(desired(5.0, vec![pooling.clone(), single.clone()], &free_moves()), [0, 1]);
    assert_eq!(desired(12.0, vec![pooling.clone(), single.clone()], &free_moves()), [2, 0]);
    assert_eq!(desired(17.0, vec![pooling, single], &free_moves()), [2, 1]);
}

#[test]
fn a_bound_is_named_and_the_rest_goes_to_the_others() {
    let capped = Offer { bounds: ReplicaBounds { min: 0, max: Some(2) }, ..offer("cheap", 1.0, 10.0, 2) };
    let floor = Offer { bounds: ReplicaBounds { min: 1, max: None }, ..offer("floor", 9.0, 1.0, 1) };
    let answer = answer_of(&model(50.0, vec![capped, floor, offer("dear", 3.0, 10.0, 0)]), &free_moves());
    let told: Vec<_> = answer.variants.iter().map(|a| (a.desired, a.unconstrained, a.bound_by.clone())).collect();
    assert_eq!(told, [(2, 5, Some(Bound::Max)), (1, 0, Some(Bound::Min)), (3, 0, None)]);
    assert!(answer.is_sufficient && answer.is_exact);
}

#[test]
fn what_cannot_be_carried_gets_all_there_is() {
    let capped = |name, spec| Offer { bounds: ReplicaBounds { min: 1, max: Some(3) }, ..offer(name, 1.0, 10.0, spec) };
    let answer = answer_of(&model(100.0, vec![capped("a", 1), capped("b", 1)]), &free_moves());
    assert_eq!(answer.variants.iter().map(|a| a.desired).collect::<Vec<_>>(), [3, 3]);
    assert!(!answer.is_sufficient);
}

#[test]
fn a_variant_that_is_stuck_grows_last_and_keeps_its_ask() {
    let stuck = Offer { ready: 1, growth: Growth::Doubtful, ..offer("stuck", 1.0, 10.0, 3) };
    let other = offer("other", 4.0, 10.0, 0);
    assert_eq!(desired(30.0, vec![stuck.clone(), other.clone()], &free_moves()), [3, 2]);
    let full = Offer { bounds: ReplicaBounds { min: 0, max: Some(1) }, ..other };
    assert_eq!(desired(50.0, vec![stuck.clone(), full], &free_moves()), [4, 1], "a last resort");
    assert_eq!(desired(10.0, vec![stuck, offer("other", 4.0, 10.0, 0)], &free_moves()), [1, 0]);
}

#[test]
fn a_variant_that_cannot_grow_does_not() {
    let disabled = Offer { growth: Growth::Impossible, ..offer("disabled", 1.0, 10.0, 0) };
    assert_eq!(desired(30.0, vec![disabled, offer("other", 4.0, 10.0, 0)], &free_moves()), [0, 3]);
}

#[test]
fn what_the_caller_keeps_is_no_limit() {
    let kept = Offer { keep: 2, ..offer("old", 9.0, 10.0, 2) };
    let answer = answer_of(&model(20.0, vec![kept, offer("new", 1.0, 10.0, 0)]), &free_moves());
    let told: Vec<_> = answer.variants.iter().map(|a| (a.desired, a.unconstrained, a.bound_by.clone())).collect();
    assert_eq!(told, [(2, 2, None), (0, 0, None)]);
}

#[test]
fn unknown_demand_changes_nothing_but_bounds() {
    let bounded = Offer { bounds: ReplicaBounds { min: 2, max: None }, ..offer("b", 1.0, 10.0, 1) };
    assert_eq!(desired(f64::NAN, vec![offer("a", 1.0, 10.0, 3), bounded], &free_moves()), [3, 2]);
}

#[test]
fn each_variant_on_its_own_carries_what_arrives_at_it() {
    let settings = OptimizerSettings { choice: Choice::EachVariantAlone, ..free_moves() };
    let own = |name, cost, own| Offer { own_demand: Some(own), ..offer(name, cost, 10.0, 1) };
    assert_eq!(desired(0.0, vec![own("cheap", 1.0, 25.0), own("dear", 9.0, 11.0)], &settings), [3, 2]);
    let shared = vec![offer("one", 1.0, 10.0, 1), offer("three", 9.0, 10.0, 3)];
    assert_eq!(desired(80.0, shared, &settings), [2, 6], "shares follow what serves");
}

fn cost_of(offers: &[Offer], replicas: &[u32], switching: f64) -> f64 {
    let cost =
        |(offer, n): (&Offer, &u32)| offer.cost * (f64::from(*n) + switching * f64::from(n.saturating_sub(offer.spec)));
    offers.iter().zip(replicas).map(cost).sum()
}

fn carried(offers: &[Offer], replicas: &[u32]) -> f64 {
    offers.iter().zip(replicas).map(|(offer, n)| offer.capacity.at(*n)).sum()
}

/// Every plan within the bounds, by brute force.
fn least_cost(offers: &[Offer], demand: f64, switching: f64) -> Option<f64> {
    let mut plans = vec![Vec::new()];
    for offer in offers {
        let (min, max) = offer.range();
        plans = plans.iter().flat_map(|plan| (min..=max).map(move |n| [plan.clone(), vec![n]].concat())).collect();
    }
    let enough = plans.into_iter().filter(|plan| carried(offers, plan) >= demand * (1.0 - 1e-9));
    enough.map(|plan| cost_of(offers, &plan, switching)).min_by(f64::total_cmp)
}

prop_compose! {
    fn any_offer(name: &'static str)(
        cost in prop_oneof![1.0..50.0, (1_u32..6).prop_map(f64::from)],
        capacity in prop_oneof![0.5..20.0, (1_u32..5).prop_map(f64::from)],
        steps in prop::collection::vec(0.0..15.0_f64, 0..4),
        min in 0_u32..3,
        more in 0_u32..6,
        spec in 0_u32..6,
    ) -> Offer {
        let points = steps.iter().scan(capacity, |sum, step| { *sum += step; Some(*sum) });
        let curve = CapacityCurve::from_points(std::iter::once(capacity).chain(points));
        Offer {
            capacity: curve,
            bounds: ReplicaBounds { min, max: Some(min + more) },
            ..offer(name, cost, 0.0, spec)
        }
    }
}

fn any_offers() -> impl Strategy<Value = Vec<Offer>> {
    (any_offer("a"), any_offer("b"), any_offer("c"), any_offer("d"), 1_usize..5)
        .prop_map(|(a, b, c, d, n)| vec![a, b, c, d].into_iter().take(n).collect())
}

proptest! {
    #[test]
    fn the_cover_is_the_cheapest_there_is(offers in any_offers(), demand in 0.0..120.0_f64, switching in 0.0..0.5_f64) {
        let settings = OptimizerSettings { switching_cost: switching, ..OptimizerSettings::default() };
        let answer = answer_of(&model(demand, offers.clone()), &settings);
        let replicas: Vec<u32> = answer.variants.iter().map(|a| a.desired).collect();
        for (offer, n) in offers.iter().zip(&replicas) {
            prop_assert!((offer.range().0..=offer.range().1).contains(n));
        }
        match least_cost(&offers, demand, switching) {
            None => prop_assert!(!answer.is_sufficient),
            Some(least) => {
                prop_assert!(answer.is_sufficient && carried(&offers, &replicas) >= demand * (1.0 - 1e-8));
                let cost = cost_of(&offers, &replicas, switching);
                prop_assert!(cost <= least * (1.0 + 1e-6), "{cost} for {replicas:?}, but {least} is enough");
            }
        }
    }

    #[test]
    fn the_cost_is_never_above_upstreams_greedy(offers in any_offers(), demand in 0.0..120.0_f64) {
        let linear: Vec<Offer> = offers
            .into_iter()
            .map(|offer| {
                let (min, max) = offer.range();
                let spec = offer.spec.clamp(min, max);
                Offer { capacity: CapacityCurve::linear(offer.capacity.at(1)), spec, ..offer }
            })
            .collect();
        let theirs = linear.iter().map(|offer| upstream::UpstreamVariant {
            name: offer.variant.name.to_string(),
            cost: offer.cost,
            capacity: offer.capacity.at(1),
            current: offer.spec,
            min: offer.range().0,
            max: offer.bounds.max,
            accelerators: 1,
        });
        let supply = carried(&linear, &linear.iter().map(|offer| offer.spec).collect::<Vec<u32>>());
        let theirs = upstream::cost_aware(demand - supply, supply - demand, &theirs.collect::<Vec<_>>());
        if carried(&linear, &theirs) >= demand {
            let ours = desired(demand, linear.clone(), &free_moves());
            prop_assert!(cost_of(&linear, &ours, 0.0) <= cost_of(&linear, &theirs, 0.0) * (1.0 + 1e-6));
        }
    }

    #[test]
    fn more_demand_never_gives_less_capacity(offers in any_offers(), demand in 0.0..120.0_f64, more in 0.0..60.0_f64) {
        let capacity = |demand| carried(&offers, &desired(demand, offers.clone(), &OptimizerSettings::default()));
        prop_assert!(capacity(demand + more) >= capacity(demand) * (1.0 - 1e-6));
    }

    #[test]
    fn neither_order_nor_units_change_a_plan(
        offers in any_offers(),
        demand in 0.0..120.0_f64,
        rotation in 0_usize..4,
        (money, work) in (1e-6..1e6_f64, 1e-6..1e6_f64),
    ) {
        let settings = OptimizerSettings::default();
        let plain = desired(demand, offers.clone(), &settings);
        let mut expected = plain.clone();
        let mut rotated = offers.clone();
        rotated.rotate_left(rotation % offers.len());
        expected.rotate_left(rotation % offers.len());
        prop_assert_eq!(desired(demand, rotated, &settings), expected);
        let converted: Vec<Offer> = offers
            .iter()
            .map(|offer| Offer { cost: offer.cost * money, capacity: offer.capacity.scaled(work), ..offer.clone() })
            .collect();
        prop_assert_eq!(desired(demand * work, converted, &settings), plain);
    }

    #[test]
    fn no_input_breaks_it(
        numbers in prop::collection::vec((any::<f64>(), any::<f64>(), any::<u32>(), any::<u32>(), any::<Option<u32>>(), any::<u32>()), 0..5),
        demand in any::<f64>(),
        switching in any::<f64>(),
    ) {
        let offers: Vec<Offer> = numbers
            .into_iter()
            .map(|(cost, capacity, spec, min, max, keep)| Offer {
                bounds: ReplicaBounds { min, max },
                keep,
                ..offer("v", cost, capacity, spec)
            })
            .collect();
        let settings = OptimizerSettings { switching_cost: switching, ..OptimizerSettings::default() };
        let answer = answer_of(&model(demand, offers.clone()), &settings);
        for (offer, allotment) in offers.iter().zip(&answer.variants) {
            let (min, max) = offer.range();
            prop_assert!((min..=max).contains(&allotment.desired));
        }
    }
}
