//! How a decision cycle grows with the number of variants: time by phase, allocations, memory, requests.
//!
//! The cluster is filled as its watches would fill it, and the collector of scraped pods with what engines say: each cycle
//! makes signals of it, and attributes them. The status writer is the real one, on an API server that answers at once and
//! counts.

use std::{
    convert::Infallible,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response};
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    actuator::Actuator,
    app::ClusterStatus,
    clock::{Clock, SystemClock},
    collector::{
        MergedCollector,
        prometheus::Query,
        scrape::{ScrapeCollector, ScrapeOptions, ScrapeTarget, ScrapeTargets},
    },
    config::{Config, Layer},
    controller::{StatusWriter, VariantAutoscalingsEngine},
    decisions::DecisionStore,
    discovery::{ClusterState, Filling},
    engines::{self, State},
    interfaces::{EngineKind, EngineReading, HistogramReading, MetricsCollector, Quantity},
    snapshot::{self, Parameters},
    telemetry::{DecisionMetrics, MetricsRegistry},
};

/// Replicas of each variant.
const REPLICAS: usize = 5;
/// Variants of each model.
const VARIANTS_PER_MODEL: usize = 2;
/// Buckets of each histogram of an engine.
const BUCKETS: usize = 20;
/// Cycles measured for a figure, of which the median counts.
const CYCLES: usize = 7;

/// What was allocated up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocated {
    /// Allocations, reallocations included.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Prints a table for fleets of these numbers of variants. `allocated` tells what the process allocated so far.
///
/// # Errors
/// When a part cannot be set up.
pub async fn run(sizes: &[usize], allocated: &dyn Fn() -> Allocated) -> anyhow::Result<()> {
    println!("{HEADER}");
    let mut before: Option<(usize, f64)> = None;
    for &size in sizes {
        for layout in [Layout::Spread, Layout::OneNamespace] {
            let world = World::new(size, layout)?;
            let first = world.cycle(allocated).await;
            world.settle().await;
            print(size, layout, "first", &first, world.take_requests());
            for change in [Change::Signals, Change::OnePercent, Change::Everything] {
                let mut cycles = Vec::with_capacity(CYCLES);
                for _ in 0..CYCLES {
                    world.change(change);
                    cycles.push(world.cycle(allocated).await);
                }
                world.settle().await;
                cycles.sort_by(|a, b| a.total().total_cmp(&b.total()));
                let median = cycles.swap_remove(CYCLES / 2);
                print(size, layout, change.name(), &median, world.take_requests() / CYCLES as u64);
                if change == Change::Signals && layout == Layout::Spread {
                    if let Some((fewer, time)) = before {
                        let (growth, factor) = (median.total() / time, size as f64 / fewer as f64);
                        println!("{:>9} {growth:.1} × the time for {factor:.0} × the variants", "");
                    }
                    before = Some((size, median.total()));
                }
            }
        }
    }
    println!("\nqueries per fetch of Prometheus: {}, whatever the number of variants", Query::ALL.len());
    Ok(())
}

const HEADER: &str = " variants layout    changed     observe  snapshot      step   publish   cycle ms   allocations      MiB  RSS MiB  API requests";

/// How variants lie in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A hundred to a namespace.
    Spread,
    /// All in one.
    OneNamespace,
}

/// What changes between two cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The signals of every replica.
    Signals,
    /// Those, and the readiness of a pod in one variant of a hundred.
    OnePercent,
    /// Those, and the replica counts of every target.
    Everything,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::OnePercent => "1 % pods",
            Self::Everything => "all targets",
        }
    }
}

/// Figures of one cycle: times in milliseconds.
struct Figures {
    observe: f64,
    snapshot: f64,
    step: f64,
    publish: f64,
    allocated: Allocated,
}

impl Figures {
    fn total(&self) -> f64 {
        self.observe + self.snapshot + self.step + self.publish
    }
}

fn print(size: usize, layout: Layout, change: &str, figures: &Figures, requests: u64) {
    let layout = match layout {
        Layout::Spread => "100 each",
        Layout::OneNamespace => "one",
    };
    println!(
        "{size:>9} {layout:<9} {change:<11} {:>7.1}  {:>8.1}  {:>8.1}  {:>8.1}  {:>9.1}  {:>12}  {:>7.1}  {:>7.0}  {requests:>12}",
        figures.observe,
        figures.snapshot,
        figures.step,
        figures.publish,
        figures.total(),
        figures.allocated.count,
        figures.allocated.bytes as f64 / f64::from(1 << 20),
        resident_mib(),
    );
}

fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// A fleet, and everything that a cycle needs.
struct World {
    cluster: ClusterState,
    filling: Filling,
    collectors: Vec<Arc<dyn MetricsCollector>>,
    engines: Engines,
    config: Arc<Config>,
    actuator: Actuator,
    state: Mutex<State>,
    requests: Arc<AtomicU64>,
    changes: AtomicU64,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    fn new(size: usize, layout: Layout) -> anyhow::Result<Self> {
        let per_namespace = if layout == Layout::Spread { 100 } else { size };
        let filling = Filling { variants: size, per_namespace, per_model: VARIANTS_PER_MODEL, replicas: REPLICAS };
        let cluster = ClusterState::filled(&filling);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let url = ("WVA_PROMETHEUS_URL".to_owned(), "http://prometheus".to_owned());
        let config = Config::resolve(&[Layer::from_environment([url], &[])])?.config;
        let (requests, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let engine = VariantAutoscalingsEngine::new(counting_client(requests.clone()), clock.clone(), None);
        let (writer, worker) = StatusWriter::new(engine);
        tokio::spawn(worker.run(stop.clone()));
        let store = Arc::new(DecisionStore::new(clock.clone(), None));
        let metrics = DecisionMetrics::register(&mut MetricsRegistry::new(), clock, config.ages.decision, None);
        let status = ClusterStatus::new(cluster.clone(), writer);
        let engines = Engines::new(&filling, &cluster, Arc::new(SystemClock))?;
        Ok(Self {
            cluster,
            filling,
            collectors: vec![Arc::new(MergedCollector::new(vec![engines.collector.clone()]))],
            engines,
            config,
            actuator: Actuator::new(store, metrics, Some(Box::new(status))),
            state: Mutex::default(),
            requests,
            changes: AtomicU64::new(0),
            stop,
        })
    }

    fn change(&self, change: Change) {
        let round = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        self.engines.move_on(round);
        match change {
            Change::Signals => {}
            Change::OnePercent => self.cluster.flip_pods(&self.filling, 100),
            Change::Everything => self.cluster.rescale(&self.filling, round),
        }
    }

    async fn cycle(&self, allocated: &dyn Fn() -> Allocated) -> Figures {
        let before = allocated();
        let started = Instant::now();
        // Once by itself: the snapshot's own look then finds everything assembled.
        let observed = self.cluster.observe();
        let observe = started.elapsed();
        drop(observed);
        let started = Instant::now();
        let snapshot =
            snapshot::take(&SystemClock, &self.cluster, &self.collectors, &*self.config as &dyn Parameters).await;
        let snapshot = Arc::new(snapshot);
        let taken = started.elapsed();
        let started = Instant::now();
        let decisions = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (next, decisions) = engines::step(&state, &snapshot);
            *state = next;
            decisions
        };
        let step = started.elapsed();
        let started = Instant::now();
        self.actuator.emit(&snapshot, decisions);
        let publish = started.elapsed();
        drop(snapshot);
        let after = allocated();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Figures {
            observe: milliseconds(observe),
            snapshot: milliseconds(taken),
            step: milliseconds(step),
            publish: milliseconds(publish),
            allocated: Allocated { count: after.count - before.count, bytes: after.bytes - before.bytes },
        }
    }

    /// Waits until the status writer has nothing more to write at once.
    async fn settle(&self) {
        let mut seen = u64::MAX;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.requests.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

/// An API server that takes every write and counts it.
fn counting_client(requests: Arc<AtomicU64>) -> Client {
    let answer = move |request: Request<Body>| {
        requests.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        let body = if path.contains("variantautoscalings") { written(&path) } else { event(&path) };
        let response = Response::new(Body::from(body.to_string().into_bytes()));
        std::future::ready(Ok::<_, Infallible>(response))
    };
    Client::new(tower::service_fn(answer), "default")
}

fn written(path: &str) -> Value {
    let parts: Vec<&str> = path.split('/').collect();
    let at = |word: &str| parts.iter().position(|part| *part == word).and_then(|at| parts.get(at + 1)).copied();
    json!({"apiVersion": "llmd.ai/v1alpha1", "kind": "VariantAutoscaling", "metadata": {
        "name": at("variantautoscalings"), "namespace": at("namespaces"), "resourceVersion": "2"},
        "spec": {"modelID": "m", "scaleTargetRef": {"name": "t"}}})
}

fn event(path: &str) -> Value {
    let namespace = path.split('/').nth(5).unwrap_or("default");
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "eventTime": null,
        "metadata": {"name": "e", "namespace": namespace}})
}

/// Every engine, as the collector of scraped pods knows it after its answer was read.
struct Engines {
    collector: Arc<ScrapeCollector>,
    /// With the model that it serves.
    targets: Vec<(ScrapeTarget, Arc<str>)>,
    bounds: Arc<[f64]>,
}

/// Nothing is asked.
struct NoTargets;

impl ScrapeTargets for NoTargets {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        Vec::new()
    }
}

impl Engines {
    fn new(filling: &Filling, cluster: &ClusterState, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        // Another may have been installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pods = Arc::new(cluster.clone());
        let collector = ScrapeCollector::new(ScrapeOptions::default(), clock, Arc::new(NoTargets), pods)?;
        let targets = (0..filling.variants).flat_map(|variant| {
            let model: Arc<str> = filling.model(variant).into();
            (0..filling.replicas).map(move |replica| {
                let pod = filling.pod(variant, replica);
                let url = format!("http://10.{}.{}.{}:8000/metrics", variant >> 8, variant & 255, replica);
                (ScrapeTarget::new(filling.namespace(variant), pod, url), model.clone())
            })
        });
        let bounds = (1..BUCKETS).map(|bucket| bucket as f64).collect();
        let engines = Self { collector: Arc::new(collector), targets: targets.collect(), bounds };
        engines.move_on(0);
        Ok(engines)
    }

    /// New samples of everything; load wanders between a third and two thirds.
    fn move_on(&self, round: u64) {
        let now = Timestamp::now();
        let load = 0.33 + 0.33 * ((round % 7) as f64 / 7.0);
        let passed = round as f64 * 10.0;
        for (target, model) in &self.targets {
            let mut reading = EngineReading::new(EngineKind::Vllm, model.clone(), "0")
                .with(Quantity::KvCacheUsage, load)
                .with(Quantity::KvCacheTokens, 400_000.0)
                .with(Quantity::Waiting, round as f64 % 3.0)
                .with(Quantity::Running, 12.0)
                .with(Quantity::PromptTokens, passed * 1000.0)
                .with(Quantity::GenerationTokens, passed * 200.0)
                .with(Quantity::Finished, passed);
            for quantity in Quantity::HISTOGRAMS {
                let counts = vec![passed / BUCKETS as f64; BUCKETS];
                reading.set_histogram(
                    quantity,
                    HistogramReading { bounds: self.bounds.clone(), counts, sum: passed * BUCKETS as f64 / 2.0 },
                );
            }
            self.collector.take_in(now, target, vec![reading]);
        }
    }
}
