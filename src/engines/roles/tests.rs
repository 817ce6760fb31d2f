//! Prefill and decode of one model, together.

use std::sync::Arc;

use crate::{
    engines::{
        State, step,
        tests::{at, decide, decide_settled, desired, objective, snapshot, variant},
    },
    interfaces::{
        AcceleratorMode, AcceleratorPool, Decision, Inventory, Limit, Outcome, Role, SaturationPolicy,
        SaturationScalingConfig, Signal, Snapshot, TargetObservation, TokenThresholds, VariantObservation,
    },
};

fn part(name: &str, role: Role, ready: u32, load: (f64, f64)) -> VariantObservation {
    let mut observation = variant(name, 5.0, ready, load, 0);
    observation.variant.role = role;
    observation.variant.accelerators_per_replica = Some(1);
    observation
}

/// Four prefill and four decode replicas.
fn world(prefill: (f64, f64), decode: (f64, f64)) -> Snapshot {
    snapshot(0, vec![part("prefill", Role::Prefill, 4, prefill), part("decode", Role::Decode, 4, decode)])
}

fn replicas(decisions: &[Decision]) -> (u32, u32) {
    (desired(decisions, "prefill").replicas, desired(decisions, "decode").replicas)
}

const CALM: (f64, f64) = (0.5, 0.0);
const IDLE: (f64, f64) = (0.1, 0.0);
/// 8 waiting of a threshold of 5: 1.6 times what the replicas take.
const JAMMED: (f64, f64) = (0.3, 8.0);

#[test]
fn decode_is_sized_for_what_saturated_prefill_will_let_through() {
    let decisions = decide(&world(JAMMED, CALM));
    // Prefill wants 4 · 1.6 / 0.8 = 8; decode carries 0.5 · 1.6 = 0.8, which at 0.8 · 0.8 takes 5.
    assert_eq!(replicas(&decisions), (8, 5));
    let reason = desired(&decisions, "decode").reason.text;
    assert!(reason.contains("1.60 times as much that prefill will let through"), "{reason}");
    // Busy prefill that lets everything through announces nothing.
    assert_eq!(replicas(&decide(&world((0.7, 0.0), CALM))), (5, 4));
}

#[test]
fn no_more_is_announced_than_prefill_is_given() {
    let mut bounded = world(JAMMED, CALM);
    bounded.variants[0].variant.bounds.max = Some(4);
    assert_eq!(replicas(&decide(&bounded)), (4, 4));
    bounded.variants[0].variant.bounds.max = Some(5);
    // 0.5 · 1.25 = 0.625 of at most 0.64.
    assert_eq!(replicas(&decide(&bounded)), (5, 4));
}

#[test]
fn what_prefill_is_about_to_let_through_counts_until_it_is_there() {
    let mut started = world(JAMMED, CALM);
    for (observation, spec) in started.variants.iter_mut().zip([8, 5]) {
        let TargetObservation::Found(scale) = &mut observation.target else { panic!() };
        scale.pending_since = vec![at(0); (spec - 4) as usize];
        (scale.spec, scale.current) = (spec, spec);
    }
    let decisions = decide_settled(&started);
    assert_eq!(replicas(&decisions), (8, 5), "{}", desired(&decisions, "decode").reason);
}

#[test]
fn neither_gives_up_replicas_while_the_other_moves() {
    assert_eq!(replicas(&decide_settled(&world(IDLE, IDLE))), (3, 3));
    let starving = decide_settled(&world(JAMMED, IDLE));
    assert_eq!(replicas(&starving), (8, 4));
    let reason = desired(&starving, "decode").reason.text;
    assert!(reason.ends_with("; kept, because the prefill replicas are too few"), "{reason}");
    assert_eq!(replicas(&decide_settled(&world(IDLE, JAMMED))), (4, 8));

    let mut starting = world(IDLE, IDLE);
    let TargetObservation::Found(scale) = &mut starting.variants[1].target else { panic!() };
    (scale.spec, scale.current, scale.pending_since) = (5, 5, vec![at(-10)]);
    let decisions = decide_settled(&starting);
    assert_eq!(replicas(&decisions), (4, 5));
    let reason = desired(&decisions, "prefill").reason.text;
    assert!(reason.ends_with("; kept, because the decode replicas are still starting"), "{reason}");
}

#[test]
fn a_replica_that_has_just_come_keeps_the_other_role_as_it_is() {
    let calm = world(IDLE, IDLE);
    let (state, _) = step(&State::default(), &Snapshot { taken_at: at(-120), ..calm.clone() });
    let mut grown = calm.clone();
    grown.variants[0] = part("prefill", Role::Prefill, 5, IDLE);
    let decisions = step(&state, &grown).1;
    assert_eq!(replicas(&decisions), (5, 4));
    let reason = desired(&decisions, "decode").reason.text;
    assert!(reason.ends_with("; kept, because the prefill replicas changed a moment ago"), "{reason}");
}

#[test]
fn bounds_hold_over_keeping() {
    let mut lowered = world(JAMMED, IDLE);
    lowered.variants[1].variant.bounds.max = Some(2);
    assert_eq!(replicas(&decide_settled(&lowered)), (8, 2));
}

#[test]
fn tokens_are_announced_likewise() {
    let mut by_tokens = world((0.9, 0.0), (0.6, 0.0));
    let tokens = Some(TokenThresholds::default());
    by_tokens.saturation = Arc::new(SaturationScalingConfig { tokens, ..SaturationScalingConfig::default() });
    for replica in by_tokens.variants.iter_mut().flat_map(|observation| &mut observation.replicas) {
        replica.kv_cache_tokens = Signal::present(10_000.0, at(0));
    }
    let decisions = decide(&by_tokens);
    // Prefill holds 36,000 of 32,000: 1.125 times. Decode 24,000, of which 27,000 at 85 % still fit into 32,000.
    assert_eq!(replicas(&decisions), (6, 4), "{}", desired(&decisions, "prefill").reason);
    let reason = desired(&decisions, "decode").reason.text;
    assert!(reason.starts_with("requests hold and wait for 27000 of the 32000 tokens"), "{reason}");
}

#[test]
fn an_objective_of_a_disaggregated_model_is_refused_in_words() {
    let mut with_objective = world(CALM, CALM);
    let model = with_objective.variants[0].variant.model.clone();
    with_objective.objectives = [(model, Arc::new(objective()))].into();
    for decision in decide(&with_objective) {
        let Outcome::Desired(desired) = &decision.outcome else { panic!("{decision:?}") };
        assert!(desired.reason.text.contains("its service objective is not aimed at"), "{}", desired.reason);
    }
}

#[test]
fn scarce_accelerators_are_shared_between_the_roles() {
    let mut scarce = world(JAMMED, JAMMED);
    scarce.limits.accelerators = AcceleratorMode::Limited;
    scarce.limits.saturation_policy = SaturationPolicy::RoundRobin;
    scarce.inventory =
        Some(Arc::new(Inventory { pools: vec![AcceleratorPool::of_free("H100", 4)], ..Inventory::default() }));
    let decisions = decide(&scarce);
    assert_eq!(replicas(&decisions), (6, 6));
    assert_eq!(desired(&decisions, "decode").bound_by, Some(Limit::Accelerators("H100".into(), 12)));
}

/// A replica of a `LeaderWorkerSet` is a group: it holds all its accelerators, and is had whole or not at all.
#[test]
fn a_group_of_pods_is_had_whole_or_not_at_all() {
    let mut grouped = snapshot(0, vec![part("group", Role::Both, 2, JAMMED)]);
    grouped.variants[0].variant.target.kind = "LeaderWorkerSet".into();
    grouped.variants[0].variant.accelerators_per_replica = Some(16);
    grouped.limits.accelerators = AcceleratorMode::Limited;
    for (free, expected) in [(31, 3), (32, 4), (15, 2)] {
        grouped.inventory =
            Some(Arc::new(Inventory { pools: vec![AcceleratorPool::of_free("H100", free)], ..Inventory::default() }));
        grouped.limits.saturation_policy = SaturationPolicy::PriorityExhaustive;
        assert_eq!(desired(&decide(&grouped), "group").replicas, expected, "{free} free");
    }
}
