//! Measures of `hack/bench-solver`: the mixed-integer program at the size it is meant for, greedy against it, and how the
//! decision cycle grows. `--export DIRECTORY` writes the instances for other solvers to try, as JSON.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{collections::BTreeMap, env, fs, path::Path, sync::Arc, time::Instant};

use jiff::Timestamp;
use wva::{
    core::System,
    engines::{State, step},
    interfaces::{
        AcceleratorLimits, AcceleratorMode, AcceleratorPool, Inventory, ModelKey, ReplicaBounds, ReplicaMetrics, Role,
        ScaleObservation, Signal, Snapshot, TargetObservation, TargetReference, Variant, VariantKey,
        VariantObservation,
    },
    solver::{Constraints, GreedySolver, MIPSolver, Solution, Solver, SolverError, instances},
};

/// The size that the program is meant for: 100 models, 5 variants, 4 accelerator types.
const FULL: instances::Size = instances::Size { servers: 100, variants: 5, types: 4, tightness: 0.9 };
/// What is compared with greedy.
const SMALL: instances::Size = instances::Size { servers: 12, variants: 4, types: 3, tightness: 0.9 };
const FULL_SEEDS: u64 = 8;
const SMALL_SEEDS: u64 = 40;
const VARIANTS: [usize; 4] = [10, 100, 1_000, 10_000];
const REPLICAS: u32 = 5;
const VARIANTS_PER_MODEL: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["--export", directory] => return export(Path::new(directory)),
        _ => return Err("usage: bench_solver [--export DIRECTORY]".into()),
    }
    program()?;
    greedy()?;
    cycle(AcceleratorMode::Unlimited);
    cycle(AcceleratorMode::Limited);
    Ok(())
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

/// A cycle's decision, from snapshot to decisions, in the second cycle and later.
fn cycle(mode: AcceleratorMode) {
    println!(
        "decision cycle, {REPLICAS} replicas per variant, {VARIANTS_PER_MODEL} variants per model, accelerators {mode:?}"
    );
    println!("{:>9} {:>9} {:>12} {:>14}", "variants", "replicas", "time", "per variant");
    for variants in VARIANTS {
        let snapshot = |second| world(variants, second, mode);
        let (mut state, _) = step(&State::default(), &snapshot(0));
        let mut times: Vec<f64> = (1..=5)
            .map(|second| {
                let snapshot = snapshot(second);
                let started = Instant::now();
                let (next, decisions) = step(&state, &snapshot);
                let elapsed = started.elapsed().as_secs_f64();
                assert_eq!(decisions.len(), variants, "every variant is decided on");
                state = next;
                elapsed
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let median = times[2];
        let replicas = variants * REPLICAS as usize;
        println!("{variants:>9} {replicas:>9} {:>9.2} ms {:>11.2} us", median * 1e3, median * 1e6 / variants as f64);
    }
    println!("goal: 10,000 variants and 50,000 replicas in 100 ms, linear\n");
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Some models are idle, some busy, some short of replicas.
fn world(variants: usize, second: i64, mode: AcceleratorMode) -> Snapshot {
    let pool = |kind: usize| AcceleratorPool {
        node_group: "".into(),
        accelerator: format!("T{kind}").into(),
        total: 0,
        allocatable: 0,
        used: 0,
        free: u32::try_from(variants / 10).unwrap_or(u32::MAX),
        largest_free_block: 8,
        free_blocks: Vec::new(),
        provisionable: 0,
        provisionable_block: None,
    };
    Snapshot {
        variants: (0..variants).map(|index| observation(index, second)).collect(),
        inventory: Some(Arc::new(Inventory { pools: (0..VARIANTS_PER_MODEL).map(pool).collect(), quotas: Vec::new() })),
        limits: AcceleratorLimits { accelerators: mode, ..AcceleratorLimits::default() },
        overrides: BTreeMap::new(),
        ..Snapshot::at(at(second))
    }
}

fn observation(index: usize, second: i64) -> VariantObservation {
    let (model, place) = (index / VARIANTS_PER_MODEL, index % VARIANTS_PER_MODEL);
    let key = VariantKey::new("llm", format!("model-{model}-{place}"));
    let load = [0.1, 0.5, 0.7, 0.95][model % 4];
    let replica = |number: u32| ReplicaMetrics {
        pod: format!("{}-{number}", key.name).into(),
        instance: format!("{}-{number}:8000", key.name).into(),
        variant: Some(key.clone()),
        kv_cache_usage: Signal::present(load, at(second)),
        queue_length: Signal::present(if load > 0.9 { 8.0 } else { 0.0 }, at(second)),
        running: Signal::present(load * 100.0, at(second)),
        ..ReplicaMetrics::default()
    };
    VariantObservation {
        variant: Variant {
            key: key.clone(),
            model: ModelKey::new("llm", format!("model-{model}")),
            accelerator: Some(format!("T{place}").into()),
            accelerators_per_replica: Some(1),
            profile: None,
            cost: 1.0 + place as f64,
            role: Role::Both,
            bounds: ReplicaBounds { min: 1, max: Some(100) },
            target: TargetReference {
                api_version: "apps/v1".into(),
                kind: "Deployment".into(),
                name: key.name.clone(),
            },
            overrides: Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation {
            spec: REPLICAS,
            current: REPLICAS,
            ready: REPLICAS,
            pending_since: Vec::new(),
        }),
        replicas: (0..REPLICAS).map(replica).collect(),
        autoscalers: Vec::new(),
    }
}
