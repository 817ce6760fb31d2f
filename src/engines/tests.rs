//! The whole step on small worlds.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;

use super::{State, step};
use crate::interfaces::{
    Decision, Desired, Direction, EngineKind, HpaObservation, HpaTarget, Limit, ModelKey, Outcome, ReplicaBounds,
    ReplicaMetrics, Role, ScaleObservation, ServiceObjective, Signal, Snapshot, SourceHealth, TargetObservation,
    TargetReference, Variant, VariantKey, VariantObservation, WithheldKind,
};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A variant of model `m` whose ready replicas all carry `load`, sampled at second `sampled`.
pub(super) fn variant(name: &str, cost: f64, ready: u32, load: (f64, f64), sampled: i64) -> VariantObservation {
    let key = VariantKey::new("default", name);
    let replicas = (0..ready)
        .map(|i| ReplicaMetrics {
            pod: format!("{name}-{i}").into(),
            instance: format!("{name}-{i}:8000").into(),
            variant: Some(key.clone()),
            engine: EngineKind::Vllm,
            kv_cache_usage: Signal::present(load.0, at(sampled)),
            queue_length: Signal::present(load.1, at(sampled)),
            running: Signal::Missing,
            request_rate: Signal::Missing,
            kv_cache_tokens: Signal::Missing,
            performance: Arc::default(),
        })
        .collect();
    VariantObservation {
        variant: Variant {
            key,
            model: ModelKey::new("default", "m"),
            accelerator: Some("H100".into()),
            accelerators_per_replica: None,
            profile: None,
            cost,
            role: Role::Both,
            bounds: ReplicaBounds::default(),
            target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
            overrides: Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation {
            spec: ready,
            current: ready,
            ready,
            pending_since: Vec::new(),
        }),
        replicas,
        autoscalers: Vec::new(),
    }
}

fn pending(mut observation: VariantObservation, since: &[i64]) -> VariantObservation {
    if let TargetObservation::Found(scale) = &mut observation.target {
        scale.pending_since = since.iter().map(|second| at(*second)).collect();
        scale.current += u32::try_from(since.len()).unwrap();
        scale.spec = scale.current;
    }
    observation
}

pub(super) fn snapshot(second: i64, variants: Vec<VariantObservation>) -> Snapshot {
    Snapshot {
        variants,
        sources: vec![SourceHealth { name: "Prometheus at http://p".into(), last_success: None, last_error: None }],
        ..Snapshot::at(at(second))
    }
}

pub(super) fn decide(snapshot: &Snapshot) -> Vec<Decision> {
    step(&State::default(), snapshot).1
}

/// Decides after the same world has stood for two minutes, so that every window is full.
pub(super) fn decide_settled(snapshot: &Snapshot) -> Vec<Decision> {
    let mut earlier = snapshot.clone();
    earlier.taken_at = snapshot.taken_at - Duration::from_secs(120);
    step(&step(&State::default(), &earlier).0, snapshot).1
}

/// An objective for whole requests.
pub(super) fn objective() -> ServiceObjective {
    ServiceObjective {
        class: "chat".into(),
        priority: 1,
        time_to_first_token: Some(1.0),
        inter_token_latency: Some(0.05),
        tokens_per_second: None,
        target_share: 0.99,
    }
}

pub(super) fn desired(decisions: &[Decision], name: &str) -> Desired {
    let decision = decisions.iter().find(|decision| &*decision.variant.name == name).unwrap();
    match &decision.outcome {
        Outcome::Desired(desired) => desired.clone(),
        Outcome::Withheld(withheld) => panic!("{name} is withheld: {}", withheld.message),
    }
}

fn withheld(decisions: &[Decision], name: &str) -> (WithheldKind, String) {
    let decision = decisions.iter().find(|decision| &*decision.variant.name == name).unwrap();
    match &decision.outcome {
        Outcome::Withheld(withheld) => (withheld.kind, withheld.message.clone()),
        Outcome::Desired(desired) => panic!("{name} has {desired:?}"),
    }
}

const BUSY: (f64, f64) = (0.7, 0.0);
const CALM: (f64, f64) = (0.5, 0.0);
const IDLE: (f64, f64) = (0.1, 0.0);

#[test]
fn load_raises_the_cheapest_variant_only() {
    let decisions = decide(&snapshot(0, vec![variant("dear", 20.0, 2, BUSY, 0), variant("cheap", 5.0, 2, BUSY, 0)]));
    let cheap = desired(&decisions, "cheap");
    assert_eq!((cheap.replicas, cheap.direction), (3, Direction::Up));
    assert_eq!(cheap.reason.to_string(), "saturation: average spare capacity 13 % is below the target of 20 %");
    let dear = desired(&decisions, "dear");
    assert_eq!((dear.replicas, dear.direction), (2, Direction::Hold));
    assert!(dear.reason.text.ends_with("variant cheap moves first by its cost"), "{}", dear.reason);
}

#[test]
fn idleness_lowers_the_dearest_variant_that_may_shrink() {
    let world = snapshot(0, vec![variant("dear", 20.0, 2, IDLE, 0), variant("cheap", 5.0, 2, IDLE, 0)]);
    let decisions = decide_settled(&world);
    assert_eq!(desired(&decisions, "dear").replicas, 1);
    assert_eq!(desired(&decisions, "cheap").replicas, 2);

    let at_minimum = snapshot(0, vec![variant("dear", 20.0, 1, IDLE, 0), variant("cheap", 5.0, 2, IDLE, 0)]);
    let decisions = decide_settled(&at_minimum);
    let dear = desired(&decisions, "dear");
    assert_eq!((dear.replicas, dear.unconstrained, dear.bound_by), (1, 0, Some(Limit::MinReplicas(1))));
    assert_eq!(desired(&decisions, "cheap").replicas, 1);
}

#[test]
fn between_the_triggers_nothing_moves() {
    let decisions = decide_settled(&snapshot(0, vec![variant("a", 5.0, 2, CALM, 0)]));
    assert_eq!(desired(&decisions, "a").replicas, 2);
}

#[test]
fn a_fresh_leader_does_not_scale_down_before_its_windows_are_full() {
    let world = snapshot(0, vec![variant("a", 5.0, 3, IDLE, 0)]);
    assert_eq!(desired(&decide(&world), "a").replicas, 3);
    assert_eq!(desired(&decide_settled(&world), "a").replicas, 2);
}

#[test]
fn after_a_change_of_replicas_the_one_minute_peaks_must_pass_before_the_next_scale_down() {
    let (state, _) = step(&State::default(), &snapshot(0, vec![variant("a", 5.0, 4, IDLE, 0)]));
    let (state, decisions) = step(&state, &snapshot(60, vec![variant("a", 5.0, 4, IDLE, 60)]));
    assert_eq!(desired(&decisions, "a").replicas, 3);
    let (state, _) = step(&state, &snapshot(100, vec![variant("a", 5.0, 3, IDLE, 100)]));
    let (state, decisions) = step(&state, &snapshot(159, vec![variant("a", 5.0, 3, IDLE, 159)]));
    assert_eq!(desired(&decisions, "a").replicas, 3);
    let (_, decisions) = step(&state, &snapshot(160, vec![variant("a", 5.0, 3, IDLE, 160)]));
    assert_eq!(desired(&decisions, "a").replicas, 2);
}

#[test]
fn one_scale_down_is_one_replica_however_the_hpa_and_the_deployment_lag() {
    let settled = snapshot(0, vec![variant("a", 5.0, 4, IDLE, 0)]);
    let (state, _) = step(&State::default(), &settled);
    let (state, decisions) = step(&state, &snapshot(60, vec![variant("a", 5.0, 4, IDLE, 60)]));
    assert_eq!(desired(&decisions, "a").replicas, 3);
    // The HPA has set 3; the fourth pod is still there, and ready.
    let mut granted = variant("a", 5.0, 4, IDLE, 61);
    if let TargetObservation::Found(scale) = &mut granted.target {
        scale.spec = 3;
    }
    let (_, decisions) = step(&state, &snapshot(61, vec![granted]));
    assert_eq!(desired(&decisions, "a").replicas, 3);
}

#[test]
fn replicas_that_are_set_but_not_created_yet_are_anticipated() {
    let mut granted = variant("a", 5.0, 2, BUSY, 0);
    if let TargetObservation::Found(scale) = &mut granted.target {
        scale.spec = 4;
    }
    let world = snapshot(0, vec![granted]);
    assert_eq!(desired(&decide(&world), "a").replicas, 4);

    // A quota that forbids them must not stop the next ask for ever.
    let (state, _) = step(&State::default(), &world);
    let mut late = world;
    late.taken_at = at(601);
    for replica in &mut late.variants[0].replicas {
        replica.kv_cache_usage = Signal::present(BUSY.0, at(601));
        replica.queue_length = Signal::present(BUSY.1, at(601));
    }
    assert_eq!(desired(&step(&state, &late).1, "a").replicas, 5);
}

#[test]
fn a_rollouts_surge_and_an_eviction_are_not_adopted() {
    let (state, _) = step(&State::default(), &snapshot(0, vec![variant("a", 5.0, 4, CALM, 0)]));
    for observed in [3, 5] {
        let mut straying = variant("a", 5.0, 4, CALM, 1);
        if let TargetObservation::Found(scale) = &mut straying.target {
            scale.current = observed;
        }
        let hold = desired(&step(&state, &snapshot(1, vec![straying])).1, "a");
        assert_eq!((hold.replicas, hold.direction), (4, Direction::Hold), "{observed} observed");
    }
}

#[test]
fn stale_signals_withhold_the_decision_and_name_the_source_error() {
    let mut world = snapshot(61, vec![variant("a", 5.0, 2, BUSY, 0)]);
    world.sources[0].last_error = Some("connection refused".to_owned());
    let (kind, message) = withheld(&decide(&world), "a");
    assert_eq!(kind, WithheldKind::MetricsMissing);
    assert_eq!(
        message,
        "variant default/a: none of the 2 ready replicas of model m in namespace default has a KV-cache usage and a \
         queue length sampled in the last 60 s; the newest is 61 s old; Prometheus at http://p: connection refused"
    );
}

#[test]
fn without_any_series_the_sources_explanation_is_passed_on_and_no_cause_is_told_twice() {
    let mut silent = variant("a", 5.0, 2, BUSY, 0);
    silent.replicas.clear();
    let mut world = snapshot(0, vec![silent]);
    let cause = |world: &Snapshot| withheld(&decide(world), "a").1.split_once("last 60 s; ").unwrap().1.to_owned();
    world.sources[0].last_error = Some("Prometheus at http://p cannot be reached".to_owned());
    assert_eq!(cause(&world), "Prometheus at http://p cannot be reached");
    world.sources[0].last_error = Some("no pod labels".to_owned());
    let found = "namespace default has series of mm; no pod labels";
    world.unavailable.insert(ModelKey::new("default", "m"), found.to_owned());
    assert_eq!(cause(&world), found);
}

#[test]
fn a_model_without_series_says_which_label_to_compare() {
    let mut silent = variant("a", 5.0, 2, BUSY, 0);
    silent.replicas.clear();
    let (_, message) = withheld(&decide(&snapshot(0, vec![silent])), "a");
    assert!(message.contains("check that spec.modelID equals the model_name label, here \"m\""), "{message}");
}

#[test]
fn a_variant_without_a_target_does_not_disturb_the_others() {
    let mut broken = variant("broken", 1.0, 0, BUSY, 0);
    broken.target = TargetObservation::NotFound { message: "Deployment x does not exist".to_owned() };
    let decisions = decide(&snapshot(0, vec![broken, variant("a", 5.0, 2, BUSY, 0)]));
    assert_eq!(
        withheld(&decisions, "broken"),
        (WithheldKind::TargetNotFound, "Deployment x does not exist".to_owned())
    );
    assert_eq!(desired(&decisions, "a").replicas, 3);
}

#[test]
fn pending_replicas_that_will_carry_the_load_are_waited_for() {
    // Two at 70 % spread over four is 35 %.
    let world = snapshot(0, vec![pending(variant("a", 5.0, 2, BUSY, 0), &[-30, -30])]);
    let hold = desired(&decide(&world), "a");
    assert_eq!((hold.replicas, hold.unconstrained), (4, 4));
    assert!(hold.reason.text.contains("2 pending replicas are on their way"), "{}", hold.reason);
}

#[test]
fn a_replica_pending_for_too_long_no_longer_counts() {
    let world = snapshot(0, vec![pending(variant("a", 5.0, 2, BUSY, 0), &[-601])]);
    assert_eq!(desired(&decide(&world), "a").replicas, 4);
}

#[test]
fn a_growing_queue_does_not_cascade_while_pods_start() {
    let flooded = (1.0, 500.0);
    let mut state = State::default();
    let mut observation = variant("a", 5.0, 2, flooded, 0);
    for second in 0..20 {
        let (next, decisions) = step(&state, &snapshot(second, vec![observation.clone()]));
        state = next;
        let wanted = desired(&decisions, "a").replicas;
        assert!(wanted <= 4, "{wanted} replicas asked for with two ready");
        // An HPA grants it at once; the pods stay pending.
        observation = pending(variant("a", 5.0, 2, flooded, second), &vec![second; wanted as usize - 2]);
    }
    let (_, decisions) = step(&state, &snapshot(20, vec![observation]));
    assert_eq!(desired(&decisions, "a").replicas, 4);
}

#[test]
fn a_shortage_is_asked_for_at_once_and_spills_to_the_dearer_variant_at_the_maximum() {
    let full = (0.96, 0.0);
    let mut cheap = variant("cheap", 5.0, 5, full, 0);
    cheap.variant.bounds.max = Some(7);
    // Ten replicas at 1.2 times the threshold need ⌈10 · 1.2 / 0.8⌉ = 15.
    let decisions = decide(&snapshot(0, vec![cheap, variant("dear", 20.0, 5, full, 0)]));
    assert_eq!((desired(&decisions, "cheap").replicas, desired(&decisions, "dear").replicas), (7, 8));
    assert_eq!(desired(&decisions, "cheap").unconstrained, 10);
}

#[test]
fn a_drowning_replica_beside_an_idle_one_is_not_averaged_away() {
    // The analysis leaves the saturated replica out and sees 94 % to spare.
    let world = snapshot(0, vec![variant("cheap", 5.0, 1, (0.05, 0.0), 0), variant("dear", 20.0, 1, (0.9, 600.0), 0)]);
    let cheap = desired(&decide(&world), "cheap");
    assert_eq!(cheap.replicas, 3);
    assert!(cheap.reason.text.starts_with("with the saturated replicas, the mean load is"), "{}", cheap.reason);
}

#[test]
fn what_was_asked_for_and_not_granted_is_not_asked_for_twice() {
    let world = snapshot(0, vec![variant("a", 5.0, 4, (1.0, 50.0), 0)]);
    let (state, decisions) = step(&State::default(), &world);
    assert_eq!(desired(&decisions, "a").replicas, 8);
    assert_eq!(desired(&step(&state, &world).1, "a").replicas, 8);
}

#[test]
fn a_pod_that_never_becomes_ready_does_not_keep_the_others_from_going() {
    let world = snapshot(0, vec![pending(variant("a", 5.0, 4, IDLE, 0), &[-3600]), variant("b", 9.0, 2, IDLE, 0)]);
    assert_eq!(desired(&decide_settled(&world), "b").replicas, 1);
}

#[test]
fn a_variant_whose_replicas_are_stuck_grows_last_and_one_whose_hpa_is_disabled_never() {
    let stuck = || pending(variant("stuck", 1.0, 2, BUSY, 0), &[-601, -601]);
    let decisions = decide(&snapshot(0, vec![stuck(), variant("dear", 20.0, 2, BUSY, 0)]));
    assert_eq!((desired(&decisions, "stuck").replicas, desired(&decisions, "dear").replicas), (4, 3));
    let reason = desired(&decisions, "stuck").reason.text;
    assert!(reason.ends_with("variant dear moves first: replicas here have been pending for too long"), "{reason}");
    assert_eq!(desired(&decide(&snapshot(0, vec![stuck()])), "stuck").replicas, 5, "where there is no other");

    let mut paused = variant("paused", 1.0, 0, BUSY, 0);
    paused.autoscalers.push(HpaObservation {
        name: "paused".into(),
        bounds: ReplicaBounds { min: 1, max: Some(9) },
        reads_our_metric: true,
        selects_this_variant_only: true,
        target: HpaTarget::AverageValue(1000),
        tolerance_up: 0.0,
        tolerance_down: 0.0,
    });
    let decisions = decide(&snapshot(0, vec![paused, variant("dear", 20.0, 2, BUSY, 0)]));
    assert_eq!(desired(&decisions, "dear").replicas, 3);
}

#[test]
fn no_replica_is_removed_while_a_ready_one_is_not_measured() {
    let mut world = snapshot(0, vec![variant("a", 5.0, 4, IDLE, 0)]);
    world.variants[0].replicas[2].queue_length = Signal::Missing;
    let hold = desired(&decide_settled(&world), "a");
    assert_eq!(hold.replicas, 4);
    assert!(hold.reason.text.contains("only 3 of 4 ready replicas"), "{}", hold.reason);
}

#[test]
fn before_the_first_ready_replica_the_hpa_holds_unless_the_minimum_is_not_there() {
    let starting = pending(variant("a", 5.0, 0, BUSY, 0), &[-5]);
    assert_eq!(withheld(&decide(&snapshot(0, vec![starting])), "a").0, WithheldKind::NoReadyReplica);

    let empty = desired(&decide(&snapshot(0, vec![variant("a", 5.0, 0, BUSY, 0)])), "a");
    assert_eq!((empty.replicas, empty.bound_by), (1, Some(Limit::MinReplicas(1))));

    let mut asleep = variant("a", 5.0, 0, BUSY, 0);
    asleep.variant.bounds.min = 0;
    assert_eq!(desired(&decide(&snapshot(0, vec![asleep])), "a").replicas, 0);
}

#[test]
fn the_hpas_maximum_binds_and_spills_to_the_next_variant() {
    let mut cheap = variant("cheap", 5.0, 2, BUSY, 0);
    cheap.autoscalers.push(HpaObservation {
        name: "cheap-hpa".into(),
        bounds: ReplicaBounds { min: 1, max: Some(2) },
        reads_our_metric: true,
        selects_this_variant_only: true,
        target: HpaTarget::AverageValue(1000),
        tolerance_up: 0.0,
        tolerance_down: 0.0,
    });
    let decisions = decide(&snapshot(0, vec![cheap, variant("dear", 20.0, 1, BUSY, 0)]));
    let bound = desired(&decisions, "cheap");
    assert_eq!((bound.replicas, bound.unconstrained), (2, 3));
    assert_eq!(bound.bound_by, Some(Limit::HpaMaxReplicas("cheap-hpa".into(), 2)));
    assert_eq!(desired(&decisions, "dear").replicas, 2);
}

#[test]
fn snapshot_and_state_survive_json() {
    let world = snapshot(0, vec![pending(variant("a", 5.0, 2, BUSY, 0), &[-3])]);
    let (state, _) = step(&State::default(), &world);
    let world_again: Snapshot = serde_json::from_str(&serde_json::to_string(&world).unwrap()).unwrap();
    let state_again: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    assert_eq!((world_again, state_again), (world, state));
}

fn worlds() -> impl Strategy<Value = Vec<VariantObservation>> {
    let one = (0_u32..6, 0.0..=1.0_f64, 0.0..100.0_f64, 0.0..50.0_f64, 0_u32..4, prop::option::of(0_u32..9), 0_i64..90);
    prop::collection::vec(one, 1..6).prop_map(|worlds| {
        worlds
            .into_iter()
            .enumerate()
            .map(|(i, (ready, kv, queue, cost, min, max, sampled))| {
                let mut observation = variant(&format!("v{i}"), cost, ready, (kv, queue), sampled);
                observation.variant.bounds = ReplicaBounds { min, max };
                observation
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_permutation_of_variants_changes_nothing(world in worlds(), rotate in 0_usize..6) {
        let mut rotated = world.clone();
        rotated.rotate_left(rotate % world.len());
        prop_assert_eq!(decide_settled(&snapshot(90, world)), decide_settled(&snapshot(90, rotated)));
    }

    #[test]
    fn bounds_always_hold_and_every_variant_is_decided(world in worlds()) {
        let decisions = decide_settled(&snapshot(90, world.clone()));
        prop_assert_eq!(decisions.len(), world.len());
        for (decision, observation) in decisions.iter().zip(&world) {
            if let Outcome::Desired(desired) = &decision.outcome {
                let ReplicaBounds { min, max } = observation.variant.bounds;
                let max = max.unwrap_or(u32::MAX);
                prop_assert!(desired.replicas <= max && desired.replicas >= min.min(max), "{:?}", decision);
            }
        }
    }

    #[test]
    fn a_model_at_most_doubles_and_loses_at_most_one(world in worlds()) {
        let mut world = world;
        for observation in &mut world {
            observation.variant.bounds = ReplicaBounds { min: 0, max: None };
        }
        let before: u32 = world.iter().map(|observation| u32::try_from(observation.replicas.len()).unwrap()).sum();
        let after = decide_settled(&snapshot(90, world)).into_iter().map(|decision| match decision.outcome {
            Outcome::Desired(desired) => Some(desired.replicas),
            Outcome::Withheld(_) => None,
        });
        if let Some(after) = after.collect::<Option<Vec<u32>>>() {
            let after: u32 = after.iter().sum();
            prop_assert!(after <= 2 * before.max(1) && after + 1 >= before, "{before} became {after}");
        }
    }
}
