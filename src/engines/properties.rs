//! What holds for every snapshot, however wrong: a decision is a number within bounds or a reason, never a panic.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    State, step,
    tests::{at, snapshot, variant},
};
use crate::interfaces::{
    AcceleratorLimits, AcceleratorMode, AcceleratorPool, AcceleratorQuota, Decision, HpaObservation, HpaTarget,
    Inventory, ModelKey, Outcome, Override, OverrideKind, ReplicaBounds, Role, SaturationPolicy,
    SaturationScalingConfig, ScaleObservation, Signal, Snapshot, TargetObservation, TokenThresholds, UpstreamVersion,
    VariantObservation,
};

/// Any number that a source might come up with.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..1.5_f64,
        2 => 0.0..1e3_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => -10.0..0.0_f64,
        1 => Just(1e300),
        1 => Just(5e-324),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0_u32..6, 1 => 6_u32..2_000, 1 => Just(u32::MAX)]
}

fn order() -> impl Strategy<Value = Override> {
    let kinds = [OverrideKind::Pause, OverrideKind::Pin, OverrideKind::Minimum, OverrideKind::SpendCap];
    (prop::sample::select(kinds.to_vec()), prop::option::of(count()), prop::option::of(0.0..1e9_f64), -100_i64..200)
        .prop_map(|(kind, replicas, cost, until)| Override {
            kind,
            replicas,
            cost: cost.map(|cost| cost.to_string()),
            from: None,
            until: at(until),
            schedule: None,
            note: None,
        })
}

prop_compose! {
    fn any_variant()(
        cost in number(), load in (number(), number()), measured in 0_u32..4, sampled in -200_i64..200,
        (spec, current, ready) in (count(), count(), count()), pending in prop::collection::vec(-2_000_i64..100, 0..3),
        (min, max) in (count(), prop::option::of(count())), hpa in prop::option::of((count(), count(), number())),
        (model, role) in (0_u32..3, prop::sample::select(vec![Role::Both, Role::Prefill, Role::Decode])),
        per_replica in prop::option::of(count()), orders in prop::collection::vec(order(), 0..3),
        (running, tokens) in (number(), number()), is_found in prop::bool::weighted(0.9),
    ) -> VariantObservation {
        let mut observation = variant("v", cost, measured, load, sampled);
        for replica in &mut observation.replicas {
            replica.running = Signal::present(running, at(sampled));
            replica.kv_cache_tokens = Signal::present(tokens, at(sampled));
        }
        observation.target = if is_found {
            let pending_since = pending.into_iter().map(at).collect();
            TargetObservation::Found(ScaleObservation { spec, current, ready, pending_since })
        } else {
            TargetObservation::NotFound { message: "gone".to_owned() }
        };
        observation.autoscalers.extend(hpa.map(|(min, max, tolerance)| HpaObservation {
            name: "hpa".into(),
            bounds: ReplicaBounds { min, max: Some(max) },
            reads_our_metric: true,
            selects_this_variant_only: true,
            target: HpaTarget::AverageValue(1000),
            tolerance_up: tolerance,
            tolerance_down: tolerance,
        }));
        let declared = &mut observation.variant;
        declared.model = ModelKey::new("default", format!("m{model}"));
        declared.role = role;
        declared.bounds = ReplicaBounds { min, max };
        declared.accelerators_per_replica = per_replica;
        declared.overrides = orders.into();
        observation
    }
}

fn any_inventory() -> impl Strategy<Value = Option<Inventory>> {
    let inventory = (count(), prop::option::of((count(), count()))).prop_map(|(free, quota)| Inventory {
        pools: vec![AcceleratorPool {
            provisionable: free,
            provisionable_block: Some(free),
            ..AcceleratorPool::of_free("H100", free)
        }],
        quotas: quota
            .map(|(hard, used_by_others)| AcceleratorQuota {
                name: "team".into(),
                namespace: Some("default".into()),
                accelerator: None,
                hard,
                used_by_others,
            })
            .into_iter()
            .collect(),
        ..Inventory::default()
    });
    prop::option::of(inventory)
}

prop_compose! {
    fn any_snapshot()(
        variants in prop::collection::vec(any_variant(), 1..6), inventory in any_inventory(),
        is_limited in any::<bool>(), policy in prop::sample::select(SaturationPolicy::ALL.to_vec()), fit_nodes in any::<bool>(),
        of_model in prop::collection::vec(order(), 0..2), compensate in any::<bool>(),
        retention in prop::option::of(0_u64..300), analyzer in 0_u8..4,
    ) -> Snapshot {
        let variants = variants.into_iter().enumerate().map(|(index, mut observation)| {
            observation.variant.key.name = format!("v{index}").into();
            let key = observation.variant.key.clone();
            observation.replicas.iter_mut().for_each(|replica| replica.variant = Some(key.clone()));
            observation
        });
        let mut snapshot = snapshot(100, variants.collect());
        snapshot.saturation = Arc::new(SaturationScalingConfig {
            tokens: [1, 3].contains(&analyzer).then(TokenThresholds::default),
            upstream: [None, None, Some(UpstreamVersion::V1), Some(UpstreamVersion::V2)][usize::from(analyzer)],
            ..SaturationScalingConfig::default()
        });
        snapshot.inventory = inventory.map(Arc::new);
        let accelerators = if is_limited { AcceleratorMode::Limited } else { AcceleratorMode::Unlimited };
        snapshot.limits = AcceleratorLimits { accelerators, saturation_policy: policy, fit_nodes };
        snapshot.overrides = BTreeMap::from([(ModelKey::new("default", "m0"), of_model)]);
        if is_limited {
            bounded(&mut snapshot);
        }
        snapshot.engine.compensate_tolerance = compensate;
        let retention = retention.map(|seconds| (ModelKey::new("default", "m1"), Duration::from_secs(seconds)));
        snapshot.scale_to_zero = retention.into_iter().collect();
        snapshot
    }
}

/// Scarce accelerators are given one by one: the search is cut short at absurd counts, but takes its time.
fn bounded(snapshot: &mut Snapshot) {
    const MOST: u32 = 300;
    let orders = snapshot.overrides.values_mut().flatten();
    orders.for_each(|order| order.replicas = order.replicas.map(|n| n.min(MOST)));
    for observation in &mut snapshot.variants {
        let declared = &mut observation.variant;
        let own: Vec<Override> = declared
            .overrides
            .iter()
            .map(|order| Override { replicas: order.replicas.map(|n| n.min(MOST)), ..order.clone() })
            .collect();
        declared.overrides = own.into();
        declared.bounds.min = declared.bounds.min.min(MOST);
        for hpa in &mut observation.autoscalers {
            hpa.bounds.min = hpa.bounds.min.min(MOST);
        }
        if let TargetObservation::Found(scale) = &mut observation.target {
            scale.spec = scale.spec.min(MOST);
        }
    }
}

/// Three cycles, so that the memory of the first ones counts.
fn decided(snapshot: &Snapshot) -> Vec<Vec<Decision>> {
    let mut state = State::default();
    let seconds = [0, 60, 90];
    let cycle = |second: u64| {
        let (next, decisions) =
            step(&state, &Snapshot { taken_at: snapshot.taken_at + Duration::from_secs(second), ..snapshot.clone() });
        state = next;
        decisions
    };
    seconds.into_iter().map(cycle).collect()
}

/// The range that the declared bounds leave, the smallest maximum first.
fn range(observation: &VariantObservation) -> (u32, u32) {
    let all = || observation.autoscalers.iter().map(|hpa| hpa.bounds).chain([observation.variant.bounds]);
    let max = all().filter_map(|bounds| bounds.max).min().unwrap_or(u32::MAX);
    (all().map(|bounds| bounds.min).max().unwrap_or(0).min(max), max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_snapshot_is_decided_on_within_its_bounds_with_numbers_that_are_numbers(snapshot in any_snapshot()) {
        for decisions in decided(&snapshot) {
            prop_assert_eq!(decisions.len(), snapshot.variants.len());
            for (decision, observation) in decisions.iter().zip(&snapshot.variants) {
                let Outcome::Desired(desired) = &decision.outcome else { continue };
                let (min, max) = range(observation);
                // Only a model that sleeps goes below a minimum of ours, and then to nothing.
                let sleeps = desired.replicas == 0 && desired.reason.engine == crate::interfaces::EngineName::ScaleFromZero;
                prop_assert!(sleeps || (min..=max).contains(&desired.replicas), "{:?} in {}..={}", decision, min, max);
                for wrong in ["NaN", "inf"] {
                    let words = desired.reason.text.split([' ', ';', ',', '%']);
                    prop_assert!(words.clone().all(|word| word != wrong), "{}", desired.reason);
                }
            }
        }
    }

    #[test]
    fn the_same_state_and_snapshot_give_the_same_decisions(snapshot in any_snapshot()) {
        prop_assert_eq!(format!("{:?}", decided(&snapshot)), format!("{:?}", decided(&snapshot)));
    }

    #[test]
    fn a_permutation_of_variants_changes_nothing_under_limits_and_overrides(snapshot in any_snapshot(), turn in 0_usize..6) {
        let mut turned = snapshot.clone();
        turned.variants.rotate_left(turn % snapshot.variants.len());
        prop_assert_eq!(format!("{:?}", decided(&snapshot)), format!("{:?}", decided(&turned)));
    }

    #[test]
    fn the_currency_of_costs_changes_nothing(snapshot in any_snapshot(), exponent in -20_i32..20) {
        let mut snapshot = snapshot;
        for (index, observation) in snapshot.variants.iter_mut().enumerate() {
            observation.variant.cost = 1.0 + index as f64;
            observation.variant.overrides = Arc::default();
        }
        snapshot.overrides.clear();
        let mut converted = snapshot.clone();
        for observation in &mut converted.variants {
            observation.variant.cost *= 2.0_f64.powi(exponent);
        }
        prop_assert_eq!(format!("{:?}", decided(&snapshot)), format!("{:?}", decided(&converted)));
    }
}
