//! Upstream's published vectors through the whole of a cycle, as its mode is configured.

use std::sync::Arc;

use crate::{
    engines::{
        State, step,
        tests::{at, desired, objective, snapshot, variant},
    },
    interfaces::{
        PerformanceSignals, ReplicaBounds, SaturationScalingConfig, Signal, Snapshot, TargetObservation,
        TokenThresholds, UpstreamVersion, VariantObservation,
    },
};

fn configured(version: UpstreamVersion, variants: Vec<VariantObservation>) -> Snapshot {
    let config = SaturationScalingConfig {
        upstream: Some(version),
        tokens: (version == UpstreamVersion::V2).then(TokenThresholds::default),
        ..SaturationScalingConfig::default()
    };
    Snapshot { saturation: Arc::new(config), ..snapshot(0, variants) }
}

/// A variant's name and cost, and the KV-cache usage and queue of each of its replicas.
type Loads<'a> = (&'a str, f64, &'a [(f64, f64)]);

fn v1(loads: &[Loads<'_>]) -> Snapshot {
    let variants = loads.iter().map(|(name, cost, replicas)| {
        let mut observation = variant(name, *cost, replicas.len() as u32, (0.0, 0.0), 0);
        for (replica, (kv_cache, queue)) in observation.replicas.iter_mut().zip(*replicas) {
            replica.kv_cache_usage = Signal::present(*kv_cache, at(0));
            replica.queue_length = Signal::present(*queue, at(0));
        }
        observation
    });
    configured(UpstreamVersion::V1, variants.collect())
}

fn replicas(state: &State, snapshot: &Snapshot) -> Vec<u32> {
    let decisions = step(state, snapshot).1;
    decisions.iter().map(|decision| desired(&decisions, &decision.variant.name).replicas).collect()
}

/// Vectors 1 to 6, 8, 10 and 11: with one variant, up is one more and down one less, at once.
#[test]
fn version_1_decides_as_published() {
    type Case = (u8, &'static [(f64, f64)], u32);
    let cases: &[Case] = &[
        (1, &[(0.75, 2.0), (0.76, 2.0)], 3),
        (2, &[(0.50, 3.0), (0.50, 3.0)], 3),
        (3, &[(0.50, 1.0), (0.50, 1.0)], 2),
        (4, &[(0.20, 1.0), (0.30, 1.0), (0.25, 1.0)], 2),
        (5, &[(0.70, 2.0), (0.75, 2.0)], 3),
        (6, &[(0.50, 2.0)], 1),
        (8, &[(0.85, 2.0), (0.50, 6.0), (0.90, 7.0)], 4),
        (11, &[(0.65, 1.0), (0.72, 1.0)], 2),
    ];
    for (number, loads, expected) in cases {
        assert_eq!(replicas(&State::default(), &v1(&[("a", 5.0, loads)])), [*expected], "vector {number}");
    }
    let ten = v1(&[("a", 5.0, &[(0.70, 2.0), (0.75, 3.0)]), ("b", 5.0, &[(0.60, 1.0), (0.65, 2.0)])]);
    assert_eq!(replicas(&State::default(), &ten), [2, 2], "vector 10");
}

/// Vectors 14, 15, 18 and 20: which variant moves.
#[test]
fn version_1_moves_the_published_variant() {
    let three = |load| v1(&[("cheap", 5.0, &[load; 2]), ("exp", 20.0, &[load; 2]), ("mid", 15.0, &[load; 2])]);
    assert_eq!(replicas(&State::default(), &three((0.75, 2.0))), [3, 2, 2], "vector 14");
    assert_eq!(replicas(&State::default(), &three((0.10, 0.0))), [2, 1, 2], "vector 15");
    let equal = v1(&[("a", 5.0, &[(0.75, 2.0)]), ("b", 5.0, &[(0.75, 2.0)])]);
    assert_eq!(replicas(&State::default(), &equal), [2, 1], "vector 18");
    let at_one = v1(&[("a", 5.0, &[(0.10, 0.0)]), ("b", 9.0, &[(0.10, 0.0)])]);
    assert_eq!(replicas(&State::default(), &at_one), [1, 1], "vector 20");
}

/// Vector 17, and ours beside it, which only waits for what is missing.
#[test]
fn version_1_freezes_a_model_while_a_replica_is_pending() {
    let full = (0.75, 8.0);
    let mut world = v1(&[("a", 5.0, &[full; 2]), ("b", 5.0, &[full; 2])]);
    let TargetObservation::Found(scale) = &mut world.variants[0].target else { panic!() };
    (scale.spec, scale.current) = (3, 3);
    assert_eq!(replicas(&State::default(), &world), [3, 2]);
    let decision = desired(&step(&State::default(), &world).1, "a");
    assert!(decision.reason.text.ends_with("frozen while 1 replicas are pending"), "{}", decision.reason);
    world.saturation = Arc::default();
    let ours: u32 = replicas(&State::default(), &world).iter().sum();
    assert!(ours > 5, "ours asks for what the pending one does not cover: {ours}");
}

/// One replica of a cache of 16,000 tokens, the requests 100 tokens long both ways.
fn v2(in_use: f64, queue: f64) -> Snapshot {
    let mut observation = variant("a", 5.0, 1, (in_use / 16_000.0, queue), 0);
    observation.variant.bounds = ReplicaBounds { min: 1, max: Some(100) };
    observation.replicas[0].kv_cache_tokens = Signal::present(16_000.0, at(0));
    observation.replicas[0].performance = Arc::new(PerformanceSignals {
        prompt_tokens: Signal::present(100.0, at(0)),
        output_tokens: Signal::present(100.0, at(0)),
        ..PerformanceSignals::default()
    });
    configured(UpstreamVersion::V2, vec![observation])
}

fn supplied(state: &State, snapshot: &Snapshot) -> String {
    let text = desired(&step(state, snapshot).1, "a").reason.text;
    text.split(": ").nth(1).unwrap().to_owned()
}

/// Vectors 23, 24 and 25 by what the reason says is supplied.
#[test]
fn version_2_knows_the_published_capacities_from_cycle_to_cycle() {
    let fresh = State::default();
    assert_eq!(supplied(&fresh, &v2(5_000.0, 0.0)), "5000 tokens held and waited for, 12800 supplied", "23");
    assert_eq!(supplied(&fresh, &v2(4_000.0, 10.0)), "6000 tokens held and waited for, 4000 supplied", "25");
    assert_eq!(supplied(&fresh, &v2(8_000.0, 6.0)), "9200 tokens held and waited for, 8000 supplied", "24");
    let (after, _) = step(&fresh, &v2(8_000.0, 6.0));
    assert_eq!(supplied(&after, &v2(8_000.0, 2.0)), "8400 tokens held and waited for, 8000 supplied", "24, remembered");
    let restored: State = serde_json::from_str(&serde_json::to_string(&after).unwrap()).unwrap();
    assert_eq!(supplied(&restored, &v2(8_000.0, 2.0)), supplied(&after, &v2(8_000.0, 2.0)), "after a restart");
}

/// 10,800 of 12,800 need 12,706 at 85 %: enough. 12,000 need 14,118: one more.
#[test]
fn version_2_adds_what_is_missing_above_85_percent() {
    assert_eq!(replicas(&State::default(), &v2(10_800.0, 0.0)), [1]);
    assert_eq!(replicas(&State::default(), &v2(12_000.0, 0.0)), [2]);
}

#[test]
fn an_objective_does_not_take_the_mode_over() {
    let mut world = v1(&[("a", 5.0, &[(0.75, 2.0), (0.76, 2.0)])]);
    world.objectives = [(world.variants[0].variant.model.clone(), Arc::new(objective()))].into();
    let (state, decisions) = step(&State::default(), &world);
    assert!(desired(&decisions, "a").reason.text.starts_with("upstream version 1: "));
    assert!(state.models.is_empty());
}
