//! The engine in a small closed world: Poisson arrivals, cold starts, the stock HPA's arithmetic, and no fleet.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Poisson};

use crate::{
    capacity,
    engines::{State, step},
    hpa::{Hpa, HpaSpec, Scale, SyncOutcome},
    interfaces::{
        Decision, Desired, EngineKind, EngineName, LengthDistribution, ModelKey, ModelMetrics, ModelObservation,
        Outcome, PerformanceSignals, ReplicaBounds, ReplicaMetrics, Role, ScaleObservation, ServiceObjective,
        ServiceProfile, Signal, Snapshot, TargetObservation, TargetReference, Variant, VariantKey, VariantObservation,
    },
};

const TICK: i64 = 15;
const COLD_START: i64 = 120;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn model() -> ModelKey {
    ModelKey::new("default", "m")
}

/// An 8B model: on an H100 at cost 1, or on an L40S at cost 0.4267.
fn profile(is_fast: bool) -> ServiceProfile {
    let (base, per_prefill_token, per_sequence, per_kv_token, kv_cache_tokens) =
        if is_fast { (7.0e-3, 19.0e-6, 6.3e-6, 41.3e-9, 372e3) } else { (23.0e-3, 60.5e-6, 25.5e-6, 189.9e-9, 165e3) };
    ServiceProfile {
        base,
        per_prefill_token,
        per_sequence,
        per_kv_token,
        kv_cache_tokens,
        max_batch: 256,
        max_batched_tokens: 2048,
    }
}

fn lengths(mean: f64) -> Arc<LengthDistribution> {
    let bounds = [0.2, 0.5, 1.0, 2.0, 5.0].map(|share| share * mean).to_vec();
    Arc::new(LengthDistribution { bounds, counts: vec![100.0, 200.0, 400.0, 200.0, 100.0, 0.0], mean })
}

/// What one replica of `count` shows of `rate` requests per second.
fn replica(key: &VariantKey, index: u32, rate: f64, second: i64) -> ReplicaMetrics {
    let present = |value| Signal::from_sample(value, at(second));
    let performance = PerformanceSignals {
        arrival_rate: present(rate),
        queue_length_now: present(0.0),
        ..PerformanceSignals::default()
    };
    ReplicaMetrics {
        pod: format!("{}-{index}", key.name).into(),
        instance: format!("{}-{index}:8000", key.name).into(),
        variant: Some(key.clone()),
        engine: EngineKind::Vllm,
        kv_cache_usage: present(0.3),
        queue_length: present(0.0),
        running: present(20.0),
        request_rate: present(rate),
        kv_cache_tokens: Signal::Missing,
        performance: Arc::new(performance),
    }
}

fn variant(name: &str, is_fast: bool, ready: u32, rate: f64, second: i64) -> VariantObservation {
    let key = VariantKey::new("default", name);
    VariantObservation {
        variant: Variant {
            key: key.clone(),
            model: model(),
            accelerator: None,
            accelerators_per_replica: None,
            profile: Some(profile(is_fast)),
            cost: if is_fast { 1.0 } else { 0.4267 },
            role: Role::Both,
            bounds: ReplicaBounds { min: 1, max: Some(50) },
            overrides: Arc::default(),
            shadow: false,
            target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
        },
        target: TargetObservation::Found(ScaleObservation {
            spec: ready,
            current: ready,
            ready,
            pending_since: Vec::new(),
        }),
        replicas: (0..ready).map(|index| replica(&key, index, rate, second)).collect(),
        autoscalers: Vec::new(),
    }
}

fn snapshot(second: i64, variants: Vec<VariantObservation>, state: &State) -> Snapshot {
    let metrics = ModelMetrics {
        prompt_lengths: Some(lengths(1155.0)),
        output_lengths: Some(lengths(211.0)),
        ..ModelMetrics::default()
    };
    let objective = ServiceObjective {
        class: "chat".into(),
        priority: 1,
        time_to_first_token: Some(1.0),
        inter_token_latency: Some(0.05),
        tokens_per_second: None,
        target_share: 0.99,
    };
    let curves =
        state.questions().map(|question| (question.clone(), Arc::new(capacity::approximated(question)))).collect();
    Snapshot {
        variants,
        models: vec![ModelObservation { model: model(), metrics }],
        objectives: BTreeMap::from([(model(), Arc::new(objective))]),
        curves,
        ..Snapshot::at(at(second))
    }
}

fn desired<'a>(decisions: &'a [Decision], name: &str) -> &'a Desired {
    match &decisions.iter().find(|decision| &*decision.variant.name == name).unwrap().outcome {
        Outcome::Desired(desired) => desired,
        Outcome::Withheld(withheld) => panic!("{name}: {}", withheld.message),
    }
}

/// The decisions after the same world has stood for twenty minutes; `world` gives it at a second.
fn settled(world: impl Fn(i64) -> Vec<VariantObservation>, change: impl Fn(&mut Snapshot)) -> Vec<Decision> {
    let (mut state, mut decisions) = (State::default(), Vec::new());
    for tick in 0..80 {
        let second = tick * TICK;
        let mut snapshot = snapshot(second, world(second), &state);
        change(&mut snapshot);
        (state, decisions) = step(&state, &snapshot);
    }
    decisions
}

/// One variant under a stock HPA for an hour. Returns the seconds and sizes of its scale actions.
fn hour(seed: u64, rate: impl Fn(i64) -> f64, initial: u32) -> Vec<(i64, i64)> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut hpa = Hpa::new(HpaSpec::adopting(1, 50, Duration::from_secs(300)));
    let (mut state, mut spec, mut pending) = (State::default(), initial, Vec::<i64>::new());
    let (mut arrivals, mut actions) = (VecDeque::from([0.0; 4]), Vec::new());
    for tick in 0..240 {
        let second = tick * TICK;
        let mean = rate(second) * TICK as f64;
        arrivals.pop_front();
        arrivals.push_back(if tick < 4 { mean } else { Poisson::new(mean).unwrap().sample(&mut random) });
        pending.retain(|since| second - since < COLD_START);
        let ready = spec - u32::try_from(pending.len()).unwrap();
        let per_replica = arrivals.iter().sum::<f64>() / 60.0 / f64::from(ready);
        let mut observed = variant("a", true, ready, per_replica, second);
        let pending_since = pending.iter().map(|since| at(*since)).collect();
        observed.target = TargetObservation::Found(ScaleObservation { spec, current: spec, ready, pending_since });
        let (next, decisions) = step(&state, &snapshot(second, vec![observed], &state));
        state = next;
        let reading = [u64::from(desired(&decisions, "a").replicas) * 1000];
        if tick < 4 {
            continue;
        }
        let synced = hpa.sync(at(second), Scale { spec, status: spec }, Ok(&reading));
        let SyncOutcome::Scaled(scaled) = synced else { panic!("{synced:?}") };
        if scaled != spec {
            actions.push((second, i64::from(scaled) - i64::from(spec)));
        }
        pending.extend((spec..scaled).map(|_| second));
        pending.truncate(scaled as usize);
        spec = scaled;
    }
    actions
}

#[test]
fn an_hour_of_constant_poisson_load_has_no_reversal_within_ten_minutes() {
    for rate in [5.0, 27.0, 110.0] {
        for seed in 0..10 {
            let actions = hour(seed, |_| rate, 1 + (rate / 18.0) as u32);
            let reversal =
                actions.windows(2).find(|pair| pair[0].1.signum() != pair[1].1.signum() && pair[1].0 - pair[0].0 < 600);
            assert!(reversal.is_none(), "{rate} req/s, seed {seed}: {actions:?}");
        }
    }
}

#[test]
fn a_rate_that_doubles_is_answered_at_once_and_once() {
    let actions = hour(1, |second| if second < 1800 { 50.0 } else { 100.0 }, 4);
    let answer: Vec<&(i64, i64)> = actions.iter().filter(|(second, _)| (1800..2100).contains(second)).collect();
    assert!(!answer.is_empty() && answer[0].0 <= 1845, "{actions:?}");
    let grown: i64 = answer.iter().map(|action| action.1).sum();
    assert!((2..=6).contains(&grown), "{actions:?}");
}

#[test]
fn the_reason_names_the_engine_and_the_number() {
    let decisions = settled(|second| vec![variant("a", true, 4, 25.0, second)], |_| {});
    let desired = desired(&decisions, "a");
    assert_eq!(desired.reason.engine, EngineName::Slo);
    assert!(desired.reason.text.starts_with("100.00 req/s arrive and 0 wait"), "{}", desired.reason);
    assert!(desired.replicas > 4);
}

#[test]
fn without_an_objective_or_with_the_engine_switched_off_the_saturation_engine_decides() {
    let changes: [fn(&mut Snapshot); 2] = [|world| world.objectives.clear(), |world| world.engine.slo = false];
    for change in changes {
        let decisions = settled(|second| vec![variant("a", true, 4, 25.0, second)], change);
        assert_eq!(desired(&decisions, "a").reason.engine, EngineName::Saturation);
    }
}

#[test]
fn variants_grow_by_capacity_per_cost_and_not_by_cost() {
    let world = |second| vec![variant("fast", true, 2, 30.0, second), variant("slow", false, 1, 3.0, second)];
    let decisions = settled(world, |_| {});
    assert!(desired(&decisions, "fast").replicas > 2);
    assert_eq!(desired(&decisions, "slow").replicas, 1);
}

#[test]
fn where_arrivals_cannot_be_seen_what_is_in_flight_decides() {
    let crowded = |second| {
        let mut observation = variant("a", true, 2, 0.0, second);
        for replica in &mut observation.replicas {
            replica.running = Signal::present(400.0, at(second));
            replica.performance = Arc::new(PerformanceSignals {
                queue_length_now: Signal::present(0.0, at(second)),
                ..Default::default()
            });
        }
        vec![observation]
    };
    let decisions = settled(crowded, |_| {});
    let desired = desired(&decisions, "a");
    assert!(desired.replicas > 2 && desired.reason.text.contains("in flight"), "{}", desired.reason);
}

#[test]
fn a_jam_raises_the_target_unless_a_replica_beside_it_has_room() {
    // A queue of 200 each at the first `jammed` of four replicas that have capacity enough for what arrives.
    let replicas = |jammed: usize| {
        let world = move |second| {
            let mut observed = variant("a", true, 4, 5.0, second);
            for (index, replica) in observed.replicas.iter_mut().enumerate() {
                let waiting = if index < jammed { 200.0 } else { 0.0 };
                let usage = if index < jammed { 0.99 } else { 0.3 };
                replica.queue_length = Signal::present(waiting, at(second));
                replica.kv_cache_usage = Signal::present(usage, at(second));
                let performance = Arc::make_mut(&mut replica.performance);
                performance.queue_length_now = Signal::present(waiting, at(second));
                performance.kv_cache_usage_now = Signal::present(usage, at(second));
            }
            vec![observed]
        };
        let decisions = settled(world, |_| {});
        let decided = desired(&decisions, "a");
        (decided.replicas, decided.reason.engine)
    };
    let (all_jammed, _) = replicas(4);
    assert!(all_jammed > 4, "{all_jammed}");
    let (one_has_room, engine) = replicas(3);
    assert!(one_has_room < all_jammed, "{one_has_room} and {all_jammed}");
    assert_eq!(engine, EngineName::Slo);
}

#[test]
fn caches_that_are_nearly_full_say_more_than_the_curve() {
    let replicas = |usage: [f64; 4]| {
        let world = move |second| {
            let mut observed = variant("a", true, 4, 10.0, second);
            for (replica, usage) in observed.replicas.iter_mut().zip(usage) {
                Arc::make_mut(&mut replica.performance).kv_cache_usage_now = Signal::present(usage, at(second));
            }
            vec![observed]
        };
        desired(&settled(world, |_| {}), "a").replicas
    };
    let (light, full, uneven) = (replicas([0.4; 4]), replicas([0.95; 4]), replicas([0.95, 0.95, 0.95, 0.2]));
    assert!(light < full && full <= 2 * light, "{light} {full}");
    assert_eq!(light, uneven, "one has room");
}

#[test]
fn memory_survives_json() {
    let world = snapshot(0, vec![variant("a", true, 4, 25.0, 0)], &State::default());
    let (state, _) = step(&State::default(), &world);
    let later = snapshot(60, vec![variant("a", true, 4, 25.0, 60)], &state);
    let (state, _) = step(&state, &later);
    assert!(state.questions().count() > 0);
    let again: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    assert_eq!(again, state);
    let later_again: Snapshot = serde_json::from_str(&serde_json::to_string(&later).unwrap()).unwrap();
    assert_eq!(later_again, later);
}

fn any_signal() -> impl Strategy<Value = Signal<f64>> {
    prop_oneof![
        Just(Signal::Missing),
        Just(Signal::NotDefined),
        prop::num::f64::ANY.prop_map(|value| Signal::from_sample(value, at(0))),
        prop::num::f64::ANY.prop_map(|value| Signal::present(value, at(0))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_measured_bounds_hold_and_the_order_of_variants_changes_nothing(
        signals in prop::array::uniform8(any_signal()), ready in 1_u32..6, mean in prop::num::f64::ANY
    ) {
        let [kv, queue, running, arrivals, recent, waiting, generated, prompts] = signals;
        let world = |second: i64| {
            let mut a = variant("a", true, ready, 20.0, second);
            for replica in &mut a.replicas {
                (replica.kv_cache_usage, replica.queue_length, replica.running) = (kv, queue, running);
                replica.performance = Arc::new(PerformanceSignals {
                    arrival_rate: arrivals,
                    recent_arrival_rate: recent,
                    queue_length_now: waiting,
                    generation_token_rate: generated,
                    prompt_token_rate: prompts,
                    ..PerformanceSignals::default()
                });
            }
            vec![a, variant("b", false, 1, 3.0, second)]
        };
        let run = |is_reversed: bool| {
            let (mut state, mut decisions) = (State::default(), Vec::new());
            for second in [0, 30, 60] {
                let mut variants = world(second);
                if is_reversed {
                    variants.reverse();
                }
                let mut world = snapshot(second, variants, &state);
                if second == 30 {
                    let odd = LengthDistribution { mean, ..(*lengths(100.0)).clone() };
                    world.models[0].metrics.output_lengths = Some(Arc::new(odd));
                }
                (state, decisions) = step(&state, &world);
            }
            decisions
        };
        let decisions = run(false);
        prop_assert_eq!(&decisions, &run(true));
        for decision in &decisions {
            if let Outcome::Desired(desired) = &decision.outcome {
                prop_assert!((1..=50).contains(&desired.replicas), "{:?}", decision);
                prop_assert!(!desired.reason.text.contains("NaN"), "{}", desired.reason);
            }
        }
    }
}
