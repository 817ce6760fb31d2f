//! Falling asleep, sleeping and waking.

use std::time::Duration;

use crate::{
    engines::{
        Activity, State, step,
        tests::{at, desired, snapshot, variant},
    },
    interfaces::{
        Direction, EngineName, HpaObservation, HpaTarget, ModelKey, ModelMetrics, ModelObservation, Outcome,
        ReplicaBounds, Role, Signal, Snapshot, TargetObservation, VariantObservation,
    },
};

const RETENTION: Duration = Duration::from_secs(600);

fn model() -> ModelKey {
    ModelKey::new("default", "m")
}

/// A variant that may stand at zero, with `ready` replicas that carry `running` requests each.
fn sleeper(name: &str, cost: f64, ready: u32, running: f64, second: i64) -> VariantObservation {
    let mut observation = variant(name, cost, ready, (0.01, 0.0), second);
    observation.variant.bounds = ReplicaBounds { min: 0, max: Some(8) };
    for replica in &mut observation.replicas {
        replica.running = Signal::present(running, at(second));
    }
    observation
}

/// The world at `second`, with so many requests held at the gateway.
fn world(second: i64, variants: Vec<VariantObservation>, held: f64) -> Snapshot {
    let metrics = ModelMetrics { gateway_queue: Signal::present(held, at(second)), ..ModelMetrics::default() };
    let mut world = snapshot(second, variants);
    world.models = vec![ModelObservation { model: model(), metrics }];
    world.scale_to_zero.insert(model(), RETENTION);
    world
}

fn disabled_at_zero(mut observation: VariantObservation) -> VariantObservation {
    observation.autoscalers.push(HpaObservation {
        name: "hpa".into(),
        bounds: ReplicaBounds { min: 1, max: Some(8) },
        reads_our_metric: true,
        selects_this_variant_only: true,
        target: HpaTarget::AverageValue(1000),
        tolerance_up: 0.0,
        tolerance_down: 0.0,
    });
    observation
}

#[test]
fn a_request_at_the_gateway_wakes_exactly_the_cheapest_variant() {
    let asleep = |held| world(0, vec![sleeper("dear", 9.0, 0, 0.0, 0), sleeper("cheap", 3.0, 0, 0.0, 0)], held);
    let (state, decisions) = step(&State::default(), &asleep(0.0));
    assert_eq!((desired(&decisions, "dear").replicas, desired(&decisions, "cheap").replicas), (0, 0));

    let (state, decisions) = step(&state, &asleep(3.0));
    let woken = desired(&decisions, "cheap");
    assert_eq!((woken.replicas, woken.reason.engine), (1, EngineName::ScaleFromZero));
    assert!(woken.reason.text.contains("3 requests wait at the gateway"), "{}", woken.reason);
    assert_eq!(desired(&decisions, "dear").replicas, 0);

    // Until it is granted it is asked for again, also when another has become cheaper meanwhile.
    let mut dearer = asleep(3.0);
    dearer.variants[1].variant.cost = 20.0;
    let (_, decisions) = step(&state, &dearer);
    assert_eq!((desired(&decisions, "dear").replicas, desired(&decisions, "cheap").replicas), (0, 1));
}

#[test]
fn a_variant_whose_hpa_is_disabled_at_zero_is_passed_over() {
    let mut cheap = disabled_at_zero(sleeper("cheap", 3.0, 0, 0.0, 0));
    cheap.variant.bounds.min = 0;
    let asleep = world(0, vec![cheap, sleeper("dear", 9.0, 0, 0.0, 0)], 1.0);
    assert_eq!(desired(&step(&State::default(), &asleep).1, "dear").replicas, 1);
}

#[test]
fn a_woken_variant_is_held_until_it_is_ready_and_measured_and_then_handed_over() {
    let mut waking = sleeper("a", 3.0, 0, 0.0, 0);
    let (state, _) = step(&State::default(), &world(0, vec![waking.clone()], 5.0));
    if let TargetObservation::Found(scale) = &mut waking.target {
        (scale.spec, scale.current) = (1, 1);
        scale.pending_since = vec![at(1)];
    }
    let (state, decisions) = step(&state, &world(5, vec![waking.clone()], 9.0));
    let held = desired(&decisions, "a");
    assert_eq!((held.replicas, held.direction, held.reason.engine), (1, Direction::Hold, EngineName::ScaleFromZero));

    // Ready, but no signal yet.
    let mut silent = sleeper("a", 3.0, 1, 1.0, 60);
    silent.replicas.clear();
    let (state, decisions) = step(&state, &world(60, vec![silent], 9.0));
    assert_eq!(desired(&decisions, "a").reason.engine, EngineName::ScaleFromZero);

    let mut loaded = sleeper("a", 3.0, 1, 40.0, 65);
    loaded.replicas[0].kv_cache_usage = Signal::present(0.95, at(65));
    let (state, decisions) = step(&state, &world(65, vec![loaded], 9.0));
    let grown = desired(&decisions, "a");
    assert_eq!(grown.reason.engine, EngineName::Saturation);
    assert!(grown.replicas > 1);
    assert_eq!(state.activity[&model()].waking, []);
}

/// The decision on `a` when it has done as `then` for as long as `seconds`, after one busy moment.
fn after(seconds: i64, then: impl Fn(i64) -> Snapshot) -> Outcome {
    let busy = world(0, vec![sleeper("a", 3.0, 1, 1.0, 0)], 0.0);
    let (mut state, _) = step(&State::default(), &busy);
    let mut outcome = None;
    for second in (0..=seconds).step_by(30).skip(1) {
        let (next, decisions) = step(&state, &then(second));
        state = next;
        outcome = decisions.into_iter().next().map(|decision| decision.outcome);
    }
    outcome.unwrap()
}

fn replicas(outcome: &Outcome) -> Option<u32> {
    match outcome {
        Outcome::Desired(desired) => Some(desired.replicas),
        Outcome::Withheld(_) => None,
    }
}

#[test]
fn a_model_without_requests_gives_all_replicas_up_after_the_retention_period() {
    let idle = |second| world(second, vec![sleeper("a", 3.0, 1, 0.0, second)], 0.0);
    assert_eq!(replicas(&after(570, idle)), Some(1));
    let outcome = after(600, idle);
    assert_eq!(replicas(&outcome), Some(0));
    let Outcome::Desired(desired) = outcome else { unreachable!() };
    assert!(desired.reason.text.contains("no request for 600 s"), "{}", desired.reason);
}

#[test]
fn nothing_goes_to_zero_that_may_be_in_use_or_must_stay() {
    let running = |second| world(second, vec![sleeper("a", 3.0, 1, 1.0, second)], 0.0);
    assert_eq!(replicas(&after(900, running)), Some(1), "requests are running");

    let held = |second| world(second, vec![sleeper("a", 3.0, 1, 0.0, second)], 1.0);
    assert_eq!(replicas(&after(900, held)), Some(1), "a request waits at the gateway");

    let silent = |second| {
        let mut world = world(second, vec![sleeper("a", 3.0, 1, 0.0, second)], 0.0);
        world.variants[0].replicas[0].running = Signal::Missing;
        world
    };
    assert_eq!(replicas(&after(900, silent)), Some(1), "what is not known is not idle");

    let without_policy = |second| {
        let mut world = world(second, vec![sleeper("a", 3.0, 1, 0.0, second)], 0.0);
        world.scale_to_zero.clear();
        world
    };
    assert_eq!(replicas(&after(900, without_policy)), Some(1), "nobody asked for it");

    let with_minimum = |second| {
        let mut kept = sleeper("b", 5.0, 1, 0.0, second);
        kept.variant.bounds.min = 1;
        world(second, vec![sleeper("a", 3.0, 1, 0.0, second), kept], 0.0)
    };
    assert_ne!(replicas(&after(900, with_minimum)), None);
    let Outcome::Desired(desired) = after(900, with_minimum) else { unreachable!() };
    assert_ne!(desired.reason.engine, EngineName::ScaleFromZero, "another variant has a minimum");
}

#[test]
fn memory_of_activity_survives_a_restart() {
    let (state, _) = step(&State::default(), &world(0, vec![sleeper("a", 3.0, 0, 0.0, 0)], 1.0));
    let text = serde_json::to_string(&state).unwrap();
    let restarted: State = serde_json::from_str(&text).unwrap();
    assert_eq!(restarted, state);
    assert_eq!(restarted.activity[&model()].waking.iter().map(|waking| &*waking.name).collect::<Vec<_>>(), ["a"]);
    // As it was written when there was one at most.
    let one = |waking: &str| format!(r#"{{"lastActive":"2026-11-25T10:00:00Z","waking":{waking}}}"#);
    let read = |text: String| serde_json::from_str::<Activity>(&text).unwrap().waking.len();
    assert_eq!((read(one(r#"{"namespace":"n","name":"a"}"#)), read(one("null"))), (1, 0));
}

/// Only both parts of a disaggregated model can serve a request.
#[test]
fn prefill_and_decode_wake_together_unless_a_whole_variant_is_cheaper() {
    let part = |name: &str, role, cost| {
        let mut observation = sleeper(name, cost, 0, 0.0, 0);
        observation.variant.role = role;
        observation
    };
    let replicas = |variants| {
        let decisions = step(&State::default(), &world(0, variants, 3.0)).1;
        decisions.iter().map(|decision| desired(&decisions, &decision.variant.name).replicas).collect::<Vec<_>>()
    };
    let disaggregated = || {
        vec![
            part("decode-a", Role::Decode, 4.0),
            part("decode-b", Role::Decode, 3.0),
            part("prefill-a", Role::Prefill, 2.0),
            part("prefill-b", Role::Prefill, 5.0),
        ]
    };
    assert_eq!(replicas(disaggregated()), [0, 1, 1, 0]);
    let mut with_whole = disaggregated();
    with_whole.push(part("whole", Role::Both, 4.5));
    assert_eq!(replicas(with_whole), [0, 0, 0, 0, 1]);

    let waking = step(&State::default(), &world(0, disaggregated(), 3.0)).0;
    let mut decode_serves = disaggregated();
    decode_serves[1] = sleeper("decode-b", 3.0, 1, 0.0, 5);
    decode_serves[1].variant.role = Role::Decode;
    let (state, decisions) = step(&waking, &world(5, decode_serves, 3.0));
    assert_eq!(desired(&decisions, "prefill-a").replicas, 1, "asked for until it serves");
    assert!(desired(&decisions, "decode-b").reason.text.starts_with("variant prefill-a with decode-b wakes from zero"));
    assert_eq!(state.activity[&model()].waking.len(), 2);
}
