//! `wva demo`: the main job on embedded parts, with no cluster.
//!
//! ```text
//! load ─► simulated fleet ─► HTTP /metrics ─► scrape collector ─► engine ─► API server (TLS) ─► HPA arithmetic ─┐
//!              ▲                                                                                                │
//!              └───────────────────────────────── spec.replicas ◄──────────────────────────────────────────────┘
//! ```
//!
//! The fleet is simulated and the HPA is a model; all between them is the production code.

mod args;
mod autoscaler;
mod figures;
mod history;
mod screen;
mod server;
mod summary;
mod world;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::args::DemoArgs;
use self::{
    history::History,
    screen::{Frame, Screen},
    server::DemoServer,
    world::World,
};
use crate::{
    actuator::Actuator,
    app::Cycle,
    clock::{Clock, ScaledClock},
    collector::{
        background,
        scrape::{ScrapeCollector, ScrapeOptions},
    },
    decisions::DecisionStore,
    executor::HybridExecutor,
    interfaces::{AgeLimits, MetricsCollector, ModelKey, ServiceObjective},
    snapshot::Parameters,
    telemetry::{DecisionMetrics, MetricsRegistry},
};

/// Times of the simulated world; on the wall they pass faster.
const FETCH_INTERVAL: Duration = Duration::from_secs(5);
const ENGINE_INTERVAL: Duration = Duration::from_secs(5);
/// The stock HPA's sync period.
const HPA_SYNC: Duration = Duration::from_secs(15);
/// How often the screen is drawn, on the wall.
const REDRAW: Duration = Duration::from_secs(1);

/// Runs the demo until its duration is over or `shutdown`.
///
/// # Errors
/// When a loopback port cannot be had.
pub async fn run(args: DemoArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(ScaledClock::new(args.speed));
    let stop = shutdown.child_token();
    let tasks = TaskTracker::new();

    let world = Arc::new(World::start(&args, clock.clone(), &tasks, &stop).await?);
    let collector: Arc<dyn MetricsCollector> =
        Arc::new(ScrapeCollector::new(ScrapeOptions::default(), clock.clone(), world.clone(), world.clone())?);
    let (refreshed, refreshes) = tokio::sync::watch::channel(0);
    tasks.spawn(background::run(collector.clone(), FETCH_INTERVAL, clock.clone(), stop.clone(), refreshed));

    let mut registry = MetricsRegistry::new();
    let store = Arc::new(DecisionStore::new(clock.clone(), None));
    let metrics = DecisionMetrics::register(&mut registry, clock.clone(), AgeLimits::default().decision, None);
    let cycle = Arc::new(Cycle::new(
        clock.clone(),
        world.clone(),
        vec![collector.clone()],
        Arc::new(|| Arc::new(DemoParameters) as Arc<dyn Parameters>),
        Actuator::new(store.clone(), metrics, None),
    ));
    tasks.spawn(cycle.clone().compute_curves(stop.clone()));
    let interval = clock.wall(ENGINE_INTERVAL);
    let executor = HybridExecutor::new(move || interval, refreshes, Duration::from_millis(20));
    tasks.spawn(executor.start(stop.clone(), move || {
        let cycle = cycle.clone();
        async move { cycle.run().await }
    }));

    let server = DemoServer::start(args.port, store.clone(), registry, &tasks, &stop).await?;
    for variant in world::VARIANTS {
        let hpa = autoscaler::run(variant, world.clone(), server.client()?, clock.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(hpa));
    }

    show(&args, &*collector, &world, &store, &server, &stop).await?;

    stop.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.context("the demo's tasks did not end")?;
    Ok(())
}

/// Draws until the demo's duration is over or `stop`, then sums up.
async fn show(
    args: &DemoArgs,
    collector: &dyn MetricsCollector,
    world: &World,
    store: &DecisionStore,
    server: &DemoServer,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut history = History::new(args.simulated(), args.peak_rate);
    let mut screen = Screen::new(args.plain);
    Screen::greet(&headline(args), &server.read_commands())?;
    let ends = tokio::time::Instant::now() + args.duration;
    loop {
        let (elapsed, report) = world.report();
        let report = report.context("the simulated fleet lost its model, which is a defect of wva")?;
        history.add(elapsed, &report);
        if stop.is_cancelled() || tokio::time::Instant::now() >= ends {
            summary::print(&history, &report)?;
            return Ok(());
        }
        let signals = collector.fetch_saturation_metrics(world.model()).await.unwrap_or_default();
        screen.draw(&history, &Frame { report: &report, signals: &signals, decisions: &store.decisions() })?;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
}

fn headline(args: &DemoArgs) -> String {
    format!(
        "Simulated vLLM engines serve one model on two variants, cheap and dear; collector, engine, API server and HPA arithmetic\n\
         are the real ones. The load rises to {} req/s and falls. {} pass in {:.0?}.",
        args.peak_rate,
        figures::clock(args.simulated()),
        args.duration,
    )
}

/// The decision parameters that ship, and a service class for the model: what its requests are owed is all that the
/// engine is told.
struct DemoParameters;

impl Parameters for DemoParameters {
    fn objective_of(&self, _: &ModelKey) -> Option<Arc<ServiceObjective>> {
        Some(Arc::new(ServiceObjective {
            class: "demo".into(),
            priority: 1,
            time_to_first_token: Some(world::OBJECTIVE.ttft.as_secs_f64()),
            inter_token_latency: Some(world::OBJECTIVE.tpot.as_secs_f64()),
            tokens_per_second: None,
            target_share: 0.99,
        }))
    }
}
