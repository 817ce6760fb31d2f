use std::{sync::Arc, time::Duration};

use crate::{
    engines::{
        State, step,
        tests::{at, decide, decide_settled, desired, snapshot, variant},
    },
    interfaces::{
        Decision, ModelKey, ModelMetrics, ModelObservation, PerformanceSignals, Role, SaturationScalingConfig, Signal,
        Snapshot, TargetObservation, TokenThresholds, VariantObservation,
    },
};

/// A variant whose replicas have a cache of `cache` tokens, used to `usage`, and `queue` waiting requests of 1000 prompt
/// and 200 output tokens. Under the threshold of 80 % one of 16,000 carries 12,800.
fn holding(name: &str, cost: f64, ready: u32, cache: f64, (usage, queue): (f64, f64)) -> VariantObservation {
    let mut observation = variant(name, cost, ready, (usage, queue), -5);
    for replica in &mut observation.replicas {
        replica.kv_cache_tokens = Signal::present(cache, at(-5));
        replica.performance = Arc::new(PerformanceSignals {
            prompt_tokens: Signal::present(1000.0, at(-5)),
            output_tokens: Signal::present(200.0, at(-5)),
            ..PerformanceSignals::default()
        });
    }
    observation
}

fn by_tokens(variants: Vec<VariantObservation>) -> Snapshot {
    let config = SaturationScalingConfig { tokens: Some(TokenThresholds::default()), ..Default::default() };
    Snapshot { saturation: Arc::new(config), ..snapshot(0, variants) }
}

#[test]
fn waiting_tokens_count_beside_those_held() {
    // Each of two holds 11,200 and has 4 × 1200 waiting: 32,000 of 25,600, and 37,647 are to be carried at 85 %.
    let decided = desired(&decide(&by_tokens(vec![holding("a", 1.0, 2, 16_000.0, (0.7, 4.0))])), "a");
    assert_eq!(decided.replicas, 3);
    assert_eq!(
        decided.reason.to_string(),
        "saturation: requests hold and wait for 32000 of the 25600 tokens that 2 replicas carry: over 85 %"
    );
}

#[test]
fn peaks_that_did_not_coincide_are_not_added_up() {
    let mut world = by_tokens(vec![holding("a", 1.0, 2, 16_000.0, (0.7, 4.0))]);
    for replica in &mut world.variants[0].replicas {
        let performance = Arc::make_mut(&mut replica.performance);
        performance.kv_cache_usage_now = Signal::present(0.2, at(-1));
        performance.queue_length_now = Signal::present(0.0, at(-1));
    }
    // The peak of 11,200 each remains: 22,400 of 25,600 is over 85 % still.
    let decided = desired(&decide(&world), "a");
    assert!(decided.reason.text.starts_with("requests hold and wait for 22400 of the 25600"), "{}", decided.reason);
}

#[test]
fn a_prefill_replica_never_holds_the_output_and_the_prefix_cache_holds_some_of_the_prompt() {
    let held = |role: Role, hits: f64| {
        let mut world = by_tokens(vec![holding("a", 1.0, 2, 16_000.0, (0.7, 5.0))]);
        world.variants[0].variant.role = role;
        for replica in &mut world.variants[0].replicas {
            Arc::make_mut(&mut replica.performance).prefix_cache_hit_ratio = Signal::present(hits, at(-5));
        }
        desired(&decide(&world), "a").reason.text.split(' ').nth(5).unwrap().to_owned()
    };
    assert_eq!(held(Role::Both, 0.0), "34400", "2 × (11,200 + 5 × 1200)");
    assert_eq!(held(Role::Prefill, 0.0), "32400", "2 × (11,200 + 5 × 1000)");
    assert_eq!(held(Role::Decode, 0.5), "29400", "2 × (11,200 + 5 × 700)");
}

#[test]
fn what_waits_at_the_gateway_is_demand_too() {
    let mut world = by_tokens(vec![holding("a", 1.0, 2, 16_000.0, (0.5, 0.0))]);
    assert_eq!(desired(&decide(&world), "a").replicas, 2);
    let metrics = ModelMetrics { gateway_queue: Signal::present(10.0, at(-5)), ..ModelMetrics::default() };
    world.models = vec![ModelObservation { model: ModelKey::new("default", "m"), metrics }];
    assert_eq!(desired(&decide(&world), "a").replicas, 3, "16,000 + 12,000 of 25,600");
}

#[test]
fn a_shortage_is_covered_by_the_cheapest_tokens() {
    // One of b carries four of a for the price of three.
    let world = |queue: f64| {
        let (a, b) = (holding("a", 1.0, 4, 16_000.0, (0.8, queue)), holding("b", 3.0, 1, 64_000.0, (0.8, 0.0)));
        decide(&by_tokens(vec![a, b]))
    };
    let replicas = |decisions: &[Decision]| (desired(decisions, "a").replicas, desired(decisions, "b").replicas);
    assert_eq!(replicas(&world(1.0)), (6, 1), "two of a are the cheapest that carry 23,718 more");
    assert_eq!(replicas(&world(5.0)), (4, 2), "for 46,306 more, one of b is");
}

#[test]
fn pending_replicas_are_waited_for() {
    let mut observation = holding("a", 1.0, 2, 16_000.0, (0.7, 4.0));
    if let TargetObservation::Found(scale) = &mut observation.target {
        (scale.spec, scale.current, scale.pending_since) = (3, 3, vec![at(-30)]);
    }
    let decided = desired(&decide(&by_tokens(vec![observation])), "a");
    assert_eq!(decided.replicas, 3);
    assert!(decided.reason.text.ends_with("over 85 %, but 1 pending replicas are on their way"), "{}", decided.reason);
}

#[test]
fn one_replica_at_a_time_goes_the_dearest_for_what_it_carries_first() {
    let world = by_tokens(vec![holding("a", 1.0, 3, 16_000.0, (0.1, 0.0)), holding("b", 2.0, 2, 16_000.0, (0.1, 0.0))]);
    let decisions = decide_settled(&world);
    assert_eq!((desired(&decisions, "a").replicas, desired(&decisions, "b").replicas), (3, 1));
    assert!(desired(&decisions, "b").reason.text.ends_with("under 70 % with one replica less"));
    let unsettled = desired(&decide(&world), "b");
    assert_eq!(unsettled.replicas, 2);
    assert!(unsettled.reason.text.contains("not settled"), "{}", unsettled.reason);
}

#[test]
fn the_last_replica_stays() {
    let decisions = decide_settled(&by_tokens(vec![holding("a", 1.0, 1, 16_000.0, (0.0, 0.0))]));
    assert_eq!(desired(&decisions, "a").replicas, 1);
}

#[test]
fn a_compute_bound_is_learned_from_saturated_replicas_and_survives_a_restart() {
    // Queues form while the caches are at 30 %: compute is full at 4800 tokens.
    let saturated = by_tokens(vec![holding("a", 1.0, 2, 16_000.0, (0.3, 6.0))]);
    let (state, before) = step(&State::default(), &saturated);
    assert!(desired(&before, "a").reason.text.contains("of the 25600 tokens"));
    let state: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    let mut later = saturated.clone();
    later.taken_at = saturated.taken_at + Duration::from_secs(1);
    let (state, after) = step(&state, &later);
    assert!(desired(&after, "a").reason.text.contains("of the 9600 tokens"), "{}", desired(&after, "a").reason);
    // Half an hour without a saturated replica, and memory alone bounds again.
    let mut quiet = by_tokens(vec![holding("a", 1.0, 2, 16_000.0, (0.3, 0.0))]);
    quiet.taken_at = later.taken_at + Duration::from_secs(1801);
    quiet.ages.signal = Duration::from_secs(3600);
    let (state, _) = step(&state, &quiet);
    assert_eq!(state.capacities, State::default().capacities);
}

#[test]
fn without_the_size_of_a_cache_percentages_decide() {
    let variants = vec![variant("a", 1.0, 2, (0.7, 4.0), -5)];
    let percentages = decide(&snapshot(0, variants.clone()));
    assert_eq!(decide(&by_tokens(variants)), percentages);
}

/// Three replicas hold 8,000 tokens each: at 70 % three of 12,800 carry them, and two of them may be cheap ones.
#[test]
fn the_dearer_of_two_sets_that_would_do_is_not_kept() {
    let world = |dear: u32, cheap: u32, usage: f64| {
        let dear = holding("dear", 20.0, dear, 16_000.0, (usage, 0.0));
        by_tokens(vec![dear, holding("cheap", 5.0, cheap, 16_000.0, (usage, 0.0))])
    };
    let decisions = decide_settled(&world(2, 1, 0.5));
    let replicas = |decisions: &[Decision]| (desired(decisions, "dear").replicas, desired(decisions, "cheap").replicas);
    assert_eq!(replicas(&decisions), (2, 2), "made before the dear one is broken");
    let reason = desired(&decisions, "cheap").reason.text;
    assert!(reason.ends_with("other replicas carry them for 67 % of the cost"), "{reason}");
    assert_eq!(replicas(&decide_settled(&world(2, 2, 0.375))), (1, 2), "and then it goes");
    assert_eq!(replicas(&decide_settled(&world(1, 2, 0.5))), (1, 2), "down to the minimum");
    assert_eq!(replicas(&decide(&world(2, 1, 0.5))), (2, 1), "not before signals are settled");
}

#[test]
fn a_set_that_is_hardly_cheaper_is_not_worth_a_move() {
    let world = by_tokens(vec![holding("a", 5.2, 2, 16_000.0, (0.5, 0.0)), holding("b", 5.0, 1, 16_000.0, (0.5, 0.0))]);
    let decisions = decide_settled(&world);
    assert_eq!((desired(&decisions, "a").replicas, desired(&decisions, "b").replicas), (2, 1));
}

#[test]
fn nothing_is_exchanged_for_a_variant_that_nobody_has_measured() {
    let world = by_tokens(vec![
        holding("dear", 20.0, 3, 16_000.0, (0.5, 0.0)),
        holding("unseen", 1.0, 0, 16_000.0, (0.5, 0.0)),
    ]);
    let decisions = decide_settled(&world);
    assert_eq!(desired(&decisions, "dear").replicas, 3);
}
