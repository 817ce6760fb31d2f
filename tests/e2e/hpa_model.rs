//! The HPA of the simulator beside the stock one: the same load, the same values read, the same replicas at the same times,
//! but for the phase of the controller's loop.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use wva::hpa::{Behavior, Hpa, HpaSpec, Policy, PolicyKind, Scale, ScalingRules, Select, SyncOutcome};

use crate::harness::{Load, Scenario, Variant, report};

const MAX: u32 = 8;
/// `TESTBED_HPA_SYNC`: the stock 15 s, shortened.
const SYNC: Duration = Duration::from_secs(1);
/// The samples' 300 s, shortened.
const DOWN_WINDOW: Duration = Duration::from_secs(12);
/// The samples' 60 s, shortened.
const DOWN_PERIOD: Duration = Duration::from_secs(12);
const UP_PERIOD: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(200);
/// A loop may be late by one period, and its effect is seen one look later.
const JITTER: f64 = 2.5;

/// What was seen at one look.
#[derive(Clone, Copy, Debug)]
struct Look {
    seconds: f64,
    /// The value served; `None` when there was none.
    served: Option<u32>,
    /// `spec.replicas`.
    replicas: u32,
}

type Steps = Vec<(f64, u32)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulators_hpa_sets_the_replicas_that_the_stock_one_sets() {
    let scenario = Scenario::start("hpa-model").await;
    let cluster = &scenario.cluster;
    let variant = Variant::cheap(1, MAX);
    cluster.create(&[variant]).await;
    cluster.apply(&[hpa(&variant)]);
    cluster.followed(variant.name, Duration::from_secs(40)).await;

    let mut looks = Vec::new();
    let started = Instant::now();
    scenario.load(Load::BUSY).await;
    look(&scenario, variant.name, started, Duration::from_secs(45), &mut looks).await;
    scenario.load(Load::IDLE).await;
    look(&scenario, variant.name, started, Duration::from_secs(120), &mut looks).await;

    let stock = steps(looks.iter().map(|look| (look.seconds, look.replicas)));
    let (simulated, worst) = best_phase(&looks, &stock);
    report(
        "HPA model",
        &format!(
            "replicas by the stock HPA and by the model:\n      stock     {}\n      simulated {}\n      they differ by {worst:.1} s at most",
            line(&stock),
            line(&simulated)
        ),
    );
    assert!(stock.iter().any(|(_, replicas)| *replicas >= 4) && stock.len() >= 5, "too little happened: {stock:?}");
    assert_eq!(values(&simulated), values(&stock), "other numbers");
    assert!(worst <= JITTER, "{worst:.1} s apart:\n{simulated:?}\n{stock:?}");
}

/// The HPA of the samples with shortened windows and a rate limit each way.
fn hpa(variant: &Variant) -> Value {
    let mut hpa = variant.hpa();
    hpa["spec"]["behavior"] = json!({
        "scaleUp": {
            "tolerance": "0",
            "stabilizationWindowSeconds": 0,
            "policies": [{ "type": "Pods", "value": 2, "periodSeconds": UP_PERIOD.as_secs() }],
        },
        "scaleDown": {
            "tolerance": "0",
            "stabilizationWindowSeconds": DOWN_WINDOW.as_secs(),
            "policies": [{ "type": "Percent", "value": 50, "periodSeconds": DOWN_PERIOD.as_secs() }],
        },
    });
    hpa
}

fn model() -> Hpa {
    let rules = |window, kind, value, period| ScalingRules {
        window,
        tolerance: 0.0,
        policies: vec![Policy { kind, value, period }],
        select: Select::Max,
    };
    let behavior = Behavior {
        scale_up: rules(Duration::ZERO, PolicyKind::Pods, 2, UP_PERIOD),
        scale_down: rules(DOWN_WINDOW, PolicyKind::Percent, 50, DOWN_PERIOD),
    };
    Hpa::new(HpaSpec { behavior: Some(behavior), ..HpaSpec::adopting(1, MAX, Duration::ZERO) })
}

async fn look(scenario: &Scenario, variant: &str, started: Instant, until: Duration, looks: &mut Vec<Look>) {
    let mut ticks = tokio::time::interval(LOOK);
    while started.elapsed() < until {
        ticks.tick().await;
        let (served, replicas) = tokio::join!(scenario.cluster.read(variant), scenario.cluster.replicas(variant));
        looks.push(Look { seconds: started.elapsed().as_secs_f64(), served: served.ok(), replicas });
    }
}

/// Changes only.
fn steps(series: impl Iterator<Item = (f64, u32)>) -> Steps {
    let mut steps: Steps = series.collect();
    steps.dedup_by_key(|(_, replicas)| *replicas);
    steps
}

fn values(steps: &Steps) -> Vec<u32> {
    steps.iter().map(|(_, replicas)| *replicas).collect()
}

/// The phase of the stock controller's loop is not known: the one that fits best, and how far apart the series are then.
fn best_phase(looks: &[Look], stock: &Steps) -> (Steps, f64) {
    let phases = (0..10).map(|tenth| f64::from(tenth) / 10.0 * SYNC.as_secs_f64());
    let candidates = phases.map(|phase| simulate(looks, phase)).map(|steps| {
        let apart = |(one, other): (&(f64, u32), &(f64, u32))| (one.0 - other.0).abs();
        let same = values(&steps) == values(stock);
        let worst = if same { steps.iter().zip(stock).map(apart).fold(0.0, f64::max) } else { f64::INFINITY };
        (steps, worst)
    });
    candidates.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

/// The model on a simulated clock: it reads what was served then, and its own replicas follow at once.
fn simulate(looks: &[Look], phase: f64) -> Steps {
    let mut hpa = model();
    let mut replicas = looks[0].replicas;
    let mut series = vec![(looks[0].seconds, replicas)];
    let end = looks.last().unwrap().seconds;
    let mut time = looks[0].seconds + phase;
    // As the stock HPA did before the load began.
    for before in 1..=60 {
        let then = moment(time - SYNC.as_secs_f64() * f64::from(61 - before));
        hpa.sync(then, Scale { spec: replicas, status: replicas }, Ok(&[u64::from(replicas) * 1000]));
    }
    while time <= end {
        let served = looks.iter().rev().find(|look| look.seconds <= time).and_then(|look| look.served);
        let reading = served.map(|value| [u64::from(value) * 1000]);
        let reading = reading.as_ref().map(<[u64; 1]>::as_slice).ok_or_else(|| "no value".to_owned());
        if let SyncOutcome::Scaled(to) = hpa.sync(moment(time), Scale { spec: replicas, status: replicas }, reading) {
            replicas = to;
        }
        series.push((time, replicas));
        time += SYNC.as_secs_f64();
    }
    steps(series.into_iter())
}

fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + (seconds * 1000.0) as i64).unwrap()
}

fn line(steps: &Steps) -> String {
    steps.iter().map(|(at, replicas)| format!("{replicas} at {at:.1} s")).collect::<Vec<_>>().join(", ")
}
