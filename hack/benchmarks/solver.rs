//! Measures of `hack/bench-solver`: the mixed-integer program at the size it is meant for, greedy against it, and how the
//! decision cycle grows. `--cycle` measures the cycle alone; `--export DIRECTORY` writes the instances for other solvers to
//! try, as JSON.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    sync::{Arc, LazyLock},
    time::Instant,
};

use jiff::Timestamp;
use tikv_jemallocator::Jemalloc;
use wva::{
    capacity,
    core::System,
    engines::{State, step},
    interfaces::{
        AcceleratorLimits, AcceleratorMode, AcceleratorPool, CapacityQuestion, Inventory, Latency, LengthDistribution,
        ModelKey, ModelMetrics, ModelObservation, PerformanceSignals, ReplicaBounds, ReplicaMetrics, Role,
        SaturationScalingConfig, ScaleObservation, ServiceObjective, ServiceProfile, Signal, Snapshot,
        TargetObservation, TargetReference, TokenThresholds, Variant, VariantKey, VariantObservation,
    },
    solver::{Constraints, GreedySolver, MIPSolver, Solution, Solver, SolverError, instances},
};

/// That of wva.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The size that the program is meant for: 100 models, 5 variants, 4 accelerator types.
const FULL: instances::Size = instances::Size { servers: 100, variants: 5, types: 4, tightness: 0.9 };
/// What is compared with greedy.
const SMALL: instances::Size = instances::Size { servers: 12, variants: 4, types: 3, tightness: 0.9 };
const FULL_SEEDS: u64 = 8;
const SMALL_SEEDS: u64 = 40;
const VARIANTS: [usize; 4] = [10, 100, 1_000, 10_000];
const REPLICAS: u32 = 5;
const VARIANTS_PER_MODEL: usize = 4;
/// Seconds between cycles: as long as it takes until every one learns.
const CYCLE_SECONDS: i64 = 15;
/// Cycles until lengths are believed and every question has its answer.
const WARM_UP: i64 = 5;
/// Cycles that are timed: as many as decide on so many variants, and at least so many.
const VARIANTS_TIMED: usize = 50_000;
const LEAST_TIMED: i64 = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--export", directory] => return export(Path::new(directory)),
        ["--cycle"] => return Ok(cycles()?),
        _ => return Err("usage: bench_solver [--cycle | --export DIRECTORY]".into()),
    }
    program()?;
    greedy()?;
    Ok(cycles()?)
}

fn export(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(directory)?;
    for seed in 0..FULL_SEEDS {
        let file = directory.join(format!("system-{seed}.json"));
        fs::write(file, serde_json::to_vec(&instances::random(FULL, seed))?)?;
    }
    Ok(())
}

fn satisfied(solution: &Solution) -> usize {
    solution.servers.iter().filter(|server| server.is_satisfied).count()
}

/// Solves to a gap of 1 %.
fn one_percent() -> MIPSolver {
    MIPSolver::default().with_gap(0.01)
}

fn solved(solver: &impl Solver, system: &System) -> Result<(Solution, f64), SolverError> {
    let started = Instant::now();
    let solution = solver.solve(system, &Constraints::limited())?;
    Ok((solution, started.elapsed().as_secs_f64()))
}

fn program() -> Result<(), SolverError> {
    println!(
        "mixed-integer program, {} models x {} variants x {} types, to a gap of 1 %",
        FULL.servers, FULL.variants, FULL.types
    );
    println!(
        "{:>6} {:>10} {:>10} {:>8} {:>10} {:>12} {:>10}",
        "seed", "cost", "gap", "time", "satisfied", "greedy cost", "time"
    );
    let (mut worst_time, mut worst_gap) = (0.0_f64, 0.0_f64);
    for seed in 0..FULL_SEEDS {
        let system = instances::random(FULL, seed);
        let (greedy, greedy_time) = solved(&GreedySolver::default(), &system)?;
        let (exact, time) = solved(&one_percent(), &system)?;
        let gap = exact.gap.unwrap_or(f64::NAN);
        worst_time = worst_time.max(time);
        worst_gap = worst_gap.max(gap);
        println!(
            "{seed:>6} {:>10.1} {:>8.2} % {:>6.2} s {:>10} {:>12.1} {:>8.3} s",
            exact.cost,
            gap * 100.0,
            time,
            format!("{}/{}", satisfied(&exact), satisfied(&greedy)),
            greedy.cost,
            greedy_time
        );
    }
    println!("worst: {worst_time:.2} s (goal: 1), gap {:.2} % (goal: 1)\n", worst_gap * 100.0);
    Ok(())
}

fn greedy() -> Result<(), SolverError> {
    let mut ratios = Vec::new();
    let mut short = 0;
    for seed in 0..SMALL_SEEDS {
        let system = instances::random(SMALL, seed);
        let (greedy, _) = solved(&GreedySolver::default(), &system)?;
        let (exact, _) = solved(&MIPSolver::default(), &system)?;
        if satisfied(&greedy) == system.servers.len() {
            ratios.push(greedy.cost / exact.cost);
        } else {
            short += 1;
        }
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "greedy over program, {} random instances of {} models: {:.2} % dearer on average (goal: 3), {:.2} % at worst; {short} more \
         cannot be satisfied\n",
        ratios.len(),
        SMALL.servers,
        (mean - 1.0) * 100.0,
        (worst - 1.0) * 100.0
    );
    Ok(())
}

/// What decides.
#[derive(Clone, Copy)]
enum Deciding {
    Percentages,
    Tokens,
    Objectives,
}

fn cycles() -> serde_json::Result<()> {
    use AcceleratorMode::{Limited, Unlimited};
    cycle("saturation by percentages", Deciding::Percentages, Unlimited)?;
    cycle("saturation by percentages, limited accelerators", Deciding::Percentages, Limited)?;
    cycle("saturation by tokens", Deciding::Tokens, Unlimited)?;
    cycle("service objectives, curves warm, a question per variant", Deciding::Objectives, Unlimited)?;
    cycle("service objectives, limited accelerators", Deciding::Objectives, Limited)?;
    println!("goal: 10,000 variants and 50,000 replicas in 100 ms, linear");
    Ok(())
}

/// A cycle's decision, from snapshot to decisions, once everything is known that is remembered.
fn cycle(name: &str, deciding: Deciding, mode: AcceleratorMode) -> serde_json::Result<()> {
    println!("decision cycle by {name}; {REPLICAS} replicas per variant, {VARIANTS_PER_MODEL} variants per model");
    println!("{:>9} {:>9} {:>12} {:>14}", "variants", "replicas", "core time", "per variant");
    let mut means = Vec::with_capacity(VARIANTS.len());
    for variants in VARIANTS {
        let mut state = State::default();
        let cycle = |state: &mut State, number: i64| {
            let snapshot = world(variants, number * CYCLE_SECONDS, deciding, mode, state);
            let started = on_core();
            let (next, decisions) = step(state, &snapshot);
            let elapsed = on_core() - started;
            assert_eq!(decisions.len(), variants, "every variant is decided on");
            *state = next;
            elapsed
        };
        for number in 0..WARM_UP {
            cycle(&mut state, number);
        }
        state = with_hours_of_arrivals(&state)?;
        // The kernel counts in ticks: many short cycles together, or a few long ones.
        let cycles = i64::try_from(VARIANTS_TIMED / variants).unwrap_or(LEAST_TIMED).max(LEAST_TIMED);
        let timed = (WARM_UP..WARM_UP + cycles).map(|number| cycle(&mut state, number));
        let mean = timed.sum::<f64>() / cycles as f64;
        let replicas = variants * REPLICAS as usize;
        println!("{variants:>9} {replicas:>9} {:>9.2} ms {:>11.2} us", mean * 1e3, mean * 1e6 / variants as f64);
        means.push((variants as f64, mean));
    }
    if let [(fewest, least), .., (most, greatest)] = means[..] {
        println!(
            "grows with the power {:.2} of the number of variants",
            (greatest / least).ln() / (most / fewest).ln()
        );
    }
    println!();
    Ok(())
}

/// The state as it is once the arrivals of four hours are remembered, which vary by a fifth either way.
fn with_hours_of_arrivals(state: &State) -> serde_json::Result<State> {
    const STEPS: i64 = 480;
    let mut state = serde_json::to_value(state)?;
    let models = state["models"].as_array_mut().into_iter().flatten();
    for arrivals in models.map(|model| &mut model[1]["arrivals"]) {
        // Thousandths of the logarithm.
        let Some(rate) = arrivals["rates"].as_array().and_then(|rates| rates.last()?.as_i64()) else { continue };
        arrivals["rates"] = (0..STEPS).map(|step| rate + (step * 137) % 400 - 200).collect();
    }
    serde_json::from_value(state)
}

/// Seconds that this thread has run on a core, where the kernel tells: what waits for others is not the cycle's.
fn on_core() -> f64 {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| STARTED.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Some models are idle, some busy, some short of replicas.
fn world(variants: usize, second: i64, deciding: Deciding, mode: AcceleratorMode, state: &State) -> Snapshot {
    let pool =
        |kind: usize| AcceleratorPool::of_free(format!("T{kind}"), u32::try_from(variants / 10).unwrap_or(u32::MAX));
    let models = (0..variants.div_ceil(VARIANTS_PER_MODEL)).map(model);
    let mut snapshot = Snapshot {
        variants: (0..variants).map(|index| observation(index, second)).collect(),
        models: models.clone().map(|model| ModelObservation { model, metrics: metrics() }).collect(),
        inventory: Some(Arc::new(Inventory {
            pools: (0..VARIANTS_PER_MODEL).map(pool).collect(),
            ..Inventory::default()
        })),
        limits: AcceleratorLimits { accelerators: mode, ..AcceleratorLimits::default() },
        overrides: BTreeMap::new(),
        ..Snapshot::at(at(second))
    };
    match deciding {
        Deciding::Percentages => {}
        Deciding::Tokens => {
            let tokens = Some(TokenThresholds::default());
            snapshot.saturation = Arc::new(SaturationScalingConfig { tokens, ..SaturationScalingConfig::default() });
        }
        Deciding::Objectives => {
            let objective = Arc::new(objective());
            snapshot.objectives = models.map(|model| (model, objective.clone())).collect();
            let answer = |question: &Arc<CapacityQuestion>| Arc::new(capacity::approximated(question));
            snapshot.curves = state.questions().map(|question| (question.clone(), answer(question))).collect();
        }
    }
    snapshot
}

fn model(index: usize) -> ModelKey {
    ModelKey::new("llm", format!("model-{index}"))
}

fn metrics() -> ModelMetrics {
    let lengths = |mean: f64| {
        let bounds = [0.2, 0.5, 1.0, 2.0, 5.0].map(|share| share * mean).to_vec();
        Some(Arc::new(LengthDistribution { bounds, counts: vec![100.0, 200.0, 400.0, 200.0, 100.0, 0.0], mean }))
    };
    ModelMetrics { prompt_lengths: lengths(1155.0), output_lengths: lengths(211.0), ..ModelMetrics::default() }
}

fn objective() -> ServiceObjective {
    ServiceObjective {
        class: "chat".into(),
        priority: 1,
        time_to_first_token: Some(1.0),
        inter_token_latency: Some(0.05),
        tokens_per_second: None,
        target_share: 0.99,
    }
}

/// An 8B model on an H100, each variant a little slower than the one before, so that no two ask for the same curve.
fn profile(index: usize) -> ServiceProfile {
    ServiceProfile {
        base: 7.0e-3 * (1.0 + index as f64 * 1e-4),
        per_prefill_token: 19.0e-6,
        per_sequence: 6.3e-6,
        per_kv_token: 41.3e-9,
        kv_cache_tokens: 372e3,
        max_batch: 256,
        max_batched_tokens: 2048,
    }
}

fn replica(key: &VariantKey, number: u32, load: f64, second: i64) -> ReplicaMetrics {
    let present = |value| Signal::present(value, at(second));
    let queue = if load > 0.9 { 8.0 } else { 0.0 };
    let latency = |mean| Signal::present(Latency { mean, rate: 20.0 * load, p95: None, p99: None }, at(second));
    let performance = PerformanceSignals {
        arrival_rate: present(20.0 * load),
        queue_length_now: present(queue),
        kv_cache_usage_now: present(load),
        prompt_tokens: present(1155.0),
        output_tokens: present(211.0),
        prompt_token_rate: present(20.0 * load * 1155.0),
        generation_token_rate: present(20.0 * load * 211.0),
        inter_token_latency: latency(0.012 + 0.01 * load),
        time_to_first_token: latency(0.06 + 0.1 * load),
        queue_time: latency(0.02 * load),
        ..PerformanceSignals::default()
    };
    ReplicaMetrics {
        pod: format!("{}-{number}", key.name).into(),
        instance: format!("{}-{number}:8000", key.name).into(),
        variant: Some(key.clone()),
        kv_cache_usage: present(load),
        queue_length: present(queue),
        running: present(load * 100.0),
        request_rate: present(20.0 * load),
        kv_cache_tokens: present(372e3),
        performance: Arc::new(performance),
        ..ReplicaMetrics::default()
    }
}

fn observation(index: usize, second: i64) -> VariantObservation {
    let (of_model, place) = (index / VARIANTS_PER_MODEL, index % VARIANTS_PER_MODEL);
    let key = VariantKey::new("llm", format!("model-{of_model}-{place}"));
    let load = [0.1, 0.5, 0.7, 0.95][of_model % 4];
    let target = TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: key.name.clone() };
    VariantObservation {
        variant: Variant {
            key: key.clone(),
            model: model(of_model),
            accelerator: Some(format!("T{place}").into()),
            accelerators_per_replica: Some(1),
            profile: Some(profile(index)),
            cost: 1.0 + place as f64,
            role: Role::Both,
            bounds: ReplicaBounds { min: 1, max: Some(100) },
            target,
            overrides: Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation {
            spec: REPLICAS,
            current: REPLICAS,
            ready: REPLICAS,
            pending_since: Vec::new(),
        }),
        replicas: (0..REPLICAS).map(|number| replica(&key, number, load, second)).collect(),
        autoscalers: Vec::new(),
    }
}
