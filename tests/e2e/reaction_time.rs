//! From a step of the load to a changed value at the API, beside what upstream's chain of polls takes.

use std::time::{Duration, Instant};

use crate::harness::{Bed, FETCH_INTERVAL, Load, Scenario, Variant, eventually};

/// Models, each of which gets one step: a raised value stays until the replicas are there.
const MODELS: [&str; 7] = ["step-1", "step-2", "step-3", "step-4", "step-5", "step-6", "step-7"];
const LIMIT: Duration = Duration::from_secs(40);
/// The bed's Prometheus scrapes this often.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// Upstream's hops, least and greatest default interval in seconds. Each is waited for half of its interval on average,
/// all of it at worst.
const UPSTREAM: [(&str, f64, f64); 4] = [
    ("Prometheus scrapes vLLM", 15.0, 15.0),
    ("WVA's loop", 15.0, 15.0),
    ("Prometheus scrapes WVA", 10.0, 10.0),
    ("adapter or KEDA polls", 5.0, 30.0),
];
/// `collector.fetchInterval` by default.
const DEFAULT_FETCH_INTERVAL: f64 = 5.0;

/// Where signals come from.
#[derive(Clone, Copy)]
struct Path {
    name: &'static str,
    /// `collector.backend`.
    backend: &'static str,
    /// Of the wait for a sample, and of the wait until it is fetched, in seconds.
    periods: (f64, f64),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_the_load_changes_the_served_value() {
    let fetch = FETCH_INTERVAL.as_secs_f64();
    let paths = [
        Path { name: "Prometheus", backend: "prometheus", periods: (SCRAPE_INTERVAL.as_secs_f64(), fetch) },
        Path { name: "pods scraped directly", backend: "scrape", periods: (SCRAPE_INTERVAL.as_secs_f64(), 0.0) },
    ];
    let mut measured = Vec::new();
    for path in paths {
        measured.push((path, measure(path).await));
    }
    print(measured);
}

/// Seconds from the step to the value, one per model.
async fn measure(path: Path) -> Vec<f64> {
    let name = format!("reaction-{}", path.backend);
    let scenario = Scenario::start_with(&name, &Bed::get().prometheus_url, |wva| {
        wva.flag(format!("--collector-backend={}", path.backend));
    })
    .await;
    let cluster = &scenario.cluster;
    // Without HPAs: what counts is the value.
    let variants = MODELS.map(|model| Variant::dear(1, 3).named(model).of(model));
    cluster.apply(&variants.map(|variant| [variant.deployment(), variant.autoscaling()]).concat());
    for model in MODELS {
        desired(&scenario, model, |replicas| replicas == 1).await;
    }
    let mut times = Vec::new();
    for (step, model) in (0..).zip(MODELS) {
        // The step before ended with a poll; steps at once after it would all wait for whole periods.
        tokio::time::sleep(SCRAPE_INTERVAL * step / MODELS.len() as u32).await;
        scenario.fleet.load(&cluster.namespace, model, Load::BURST).await;
        let stepped = Instant::now();
        desired(&scenario, model, |replicas| replicas > 1).await;
        times.push(stepped.elapsed().as_secs_f64());
        scenario.fleet.load(&cluster.namespace, model, Load::IDLE).await;
    }
    times
}

async fn desired(scenario: &Scenario, variant: &str, accept: impl Fn(u32) -> bool) {
    eventually(&format!("{variant} has the value"), LIMIT, async || match scenario.cluster.read(variant).await {
        Ok(replicas) if accept(replicas) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

fn print(measured: Vec<(Path, Vec<f64>)>) {
    println!("\n  From a step of the load to a changed value at the API, through kube-apiserver, in seconds:");
    println!("  {:<72} {:>9} {:>9}", "", "expected", "worst");
    for (hop, least, greatest) in UPSTREAM {
        println!(
            "    upstream, computed: {hop:<50} {:>9} {:>9}",
            range(least / 2.0, greatest / 2.0),
            range(least, greatest)
        );
    }
    let sum = |pick: fn(&(&str, f64, f64)) -> f64| UPSTREAM.iter().map(pick).sum::<f64>();
    let (least, greatest) = (sum(|hop| hop.1), sum(|hop| hop.2));
    row("upstream, computed: sum", &range(least / 2.0, greatest / 2.0), &range(least, greatest));
    computed("wva, computed: upstream's scrape of vLLM, default fetch", (UPSTREAM[0].1, DEFAULT_FETCH_INTERVAL));
    for (Path { name, periods, .. }, mut times) in measured {
        computed(&format!("wva, computed: {name}"), periods);
        times.sort_by(f64::total_cmp);
        let label = format!("wva, measured: {name}, median of {} (least {:.2})", times.len(), times[0]);
        row(&label, &format!("{:.2}", times[times.len() / 2]), &format!("{:.2}", times[times.len() - 1]));
    }
    println!("  The HPA's own period of 15 s comes on top of all of them.");
}

fn computed(name: &str, (sample, fetch): (f64, f64)) {
    row(name, &format!("{:.1}", f64::midpoint(sample, fetch)), &format!("{:.1}", sample + fetch));
}

fn row(name: &str, expected: &str, worst: &str) {
    println!("  {name:<72} {expected:>9} {worst:>9}");
}

fn range(least: f64, greatest: f64) -> String {
    if least == greatest { format!("{least:.1}") } else { format!("{least:.1}–{greatest:.1}") }
}
