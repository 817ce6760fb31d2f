use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    engines::{State, step},
    interfaces::{
        AcceleratorLimits, AcceleratorMode, AcceleratorPool, Desired, Inventory, Limit, ModelKey, Outcome,
        ReplicaBounds, Role, ScaleObservation, Snapshot, TargetObservation, TargetReference, Variant, VariantKey,
        VariantObservation,
    },
};

/// A variant without replicas whose minimum is 0 or, by its bounds alone, asks for `min`.
fn variant(name: &str, min: u32, per_replica: Option<u32>) -> VariantObservation {
    VariantObservation {
        variant: Variant {
            key: VariantKey::new("llm", name),
            model: ModelKey::new("llm", name),
            accelerator: Some("H100".into()),
            accelerators_per_replica: per_replica,
            profile: None,
            cost: 1.0,
            role: Role::Both,
            bounds: ReplicaBounds { min, max: None },
            target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
            overrides: Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation::default()),
        replicas: Vec::new(),
        autoscalers: Vec::new(),
    }
}

/// A variant with one ready replica that is full to the brim: it needs a second.
fn full(name: &str, now: Timestamp) -> VariantObservation {
    use crate::interfaces::{ReplicaMetrics, Signal};
    let mut observation = variant(name, 1, Some(2));
    observation.target =
        TargetObservation::Found(ScaleObservation { spec: 1, current: 1, ready: 1, pending_since: Vec::new() });
    observation.replicas = vec![ReplicaMetrics {
        pod: format!("{name}-0").into(),
        instance: format!("{name}-0:8000").into(),
        variant: Some(VariantKey::new("llm", name)),
        kv_cache_usage: Signal::present(0.95, now),
        queue_length: Signal::present(9.0, now),
        ..ReplicaMetrics::default()
    }];
    observation
}

fn now() -> Timestamp {
    "2026-11-25T10:00:00Z".parse().unwrap()
}

fn decide(
    variants: Vec<VariantObservation>,
    inventory: impl Into<Option<Inventory>>,
    mode: AcceleratorMode,
) -> Vec<Outcome> {
    let snapshot = Snapshot {
        variants,
        inventory: inventory.into().map(Arc::new),
        limits: AcceleratorLimits { accelerators: mode, ..AcceleratorLimits::default() },
        ..Snapshot::at(now())
    };
    step(&State::default(), &snapshot).1.into_iter().map(|decision| decision.outcome).collect()
}

fn free(count: u32) -> Inventory {
    Inventory { pools: vec![AcceleratorPool::of_free("H100", count)], ..Inventory::default() }
}

fn desired(outcome: &Outcome) -> &Desired {
    match outcome {
        Outcome::Desired(desired) => desired,
        Outcome::Withheld(withheld) => panic!("withheld: {}", withheld.message),
    }
}

#[test]
fn with_enough_accelerators_or_without_the_limit_nothing_changes() {
    let unlimited = decide(vec![full("a", now()), full("b", now())], None, AcceleratorMode::Unlimited);
    let limited = decide(vec![full("a", now()), full("b", now())], free(4), AcceleratorMode::Limited);
    assert_eq!(limited, unlimited);
    assert_eq!(desired(&limited[0]).replicas, 2);
}

#[test]
fn growth_that_no_accelerator_is_left_for_is_held_and_the_wish_kept() {
    let outcomes = decide(vec![full("a", now()), full("b", now())], free(3), AcceleratorMode::Limited);
    assert_eq!((desired(&outcomes[0]).replicas, desired(&outcomes[1]).replicas), (2, 1));
    let held = desired(&outcomes[1]);
    assert_eq!(held.unconstrained, 2);
    assert_eq!(held.bound_by, Some(Limit::Accelerators("H100".into(), 7)));
    assert!(held.reason.text.contains("1 of 2 can be had: bound by 7 accelerators of type H100"), "{}", held.reason);
}

#[test]
fn growth_is_denied_while_nobody_knows_what_there_is() {
    let outcomes = decide(vec![full("a", now())], None, AcceleratorMode::Limited);
    let held = desired(&outcomes[0]);
    assert_eq!((held.replicas, held.bound_by.clone()), (1, Some(Limit::UnknownInventory)));
    assert!(held.reason.text.contains("check the rights to list nodes"), "{}", held.reason);
}

#[test]
fn minimums_are_asked_for_whatever_there_is() {
    let outcomes = decide(vec![variant("a", 2, Some(4))], free(0), AcceleratorMode::Limited);
    assert_eq!(desired(&outcomes[0]).replicas, 2);
}

#[test]
fn what_has_no_accelerators_left_grows_on_another_type() {
    let on_l4 = |mut observation: VariantObservation| {
        observation.variant.model = ModelKey::new("llm", "m");
        observation.variant.accelerator = Some("L4".into());
        observation.variant.cost = 9.0;
        observation
    };
    let on_h100 = |mut observation: VariantObservation| {
        observation.variant.model = ModelKey::new("llm", "m");
        observation
    };
    let variants = vec![on_h100(full("a", now())), on_l4(full("b", now()))];
    let mut inventory = free(0);
    inventory.pools.push(AcceleratorPool::of_free("L4", 8));
    let replicas = |outcomes: &[Outcome]| (desired(&outcomes[0]).replicas, desired(&outcomes[1]).replicas);
    let unlimited = decide(variants.clone(), None, AcceleratorMode::Unlimited);
    assert_eq!(replicas(&unlimited), (3, 1), "the cheaper one grows");
    let limited = decide(variants, inventory, AcceleratorMode::Limited);
    assert_eq!(replicas(&limited), (1, 3), "the other one does in its place");
    assert_eq!(desired(&limited[0]).bound_by, Some(Limit::Accelerators("H100".into(), 2)));
}
