//! The composition root of `wva serve`: builds each part from the configuration, runs them, and ends them in order.
//!
//! Only here are tasks started. Discovery and readiness do not depend on decisions: a fault of the engine shows as errors
//! of single values, never as an API that is gone.

mod access;
mod audit;
mod certificate;
mod cycle;
mod debug;
mod high_availability;
mod inputs;
mod neighbours;
mod recording;
mod scaling;
mod settling;
mod shutdown;
mod status;
mod tasks;
mod withheld;

use std::{env, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use futures::FutureExt;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use self::status::ClusterStatus;
pub use self::{
    cycle::{Cycle, ParameterSource},
    recording::{Recorder, RecordingTask, recorder},
};
use self::{high_availability::Work, tasks::Tasks};
use crate::{
    actuator::Actuator,
    apiserver::{self, ApiServer, Readiness, RequestMetrics},
    auth::AuthMetrics,
    clock::{Clock, SystemClock},
    collector::{CollectionTracker, CollectorConfig, new_metrics_collector},
    config::{self, Config, ConfigFlags, ConfigLocations, Documents, Layer, LiveConfig, Locations},
    controller::{StatusWriter, VariantAutoscalingsEngine},
    decisions::DecisionStore,
    discovery::{self, ClusterState},
    executor::{Executor, HybridExecutor, PollingExecutor, ReactiveExecutor},
    interfaces::{
        AcceleratorLimits, AgeLimits, EngineOptions, MetricsCollector, ModelKey, Override, PodDirectory,
        SaturationScalingConfig, ServiceObjective, ServiceProfile,
    },
    serving::{Bound, ServingMetrics},
    snapshot::{ClusterObserver, Parameters},
    telemetry::{self, DecisionMetrics, MetricsRegistry, init_logging},
};

/// Namespace assumed where neither `POD_NAMESPACE` nor a configuration says otherwise.
const DEFAULT_NAMESPACE: &str = "wva-system";
/// How often configuration files are compared with what is in force.
const CONFIG_POLL: Duration = Duration::from_secs(2);
/// Changes of inputs within this time make one cycle: a decision follows a change quickly, and a storm of changes costs
/// at most ten cycles a second.
const CYCLE_GAP: Duration = Duration::from_millis(100);

/// Serve desired replicas as a Kubernetes metrics API server.
///
/// Every configuration key can be a flag, an environment variable, or a key of a YAML document (a file or a ConfigMap);
/// a flag beats the environment, which beats the document, which beats the default.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    locations: ConfigLocations,
    #[command(flatten)]
    flags: ConfigFlags,
}

impl ServeArgs {
    /// The configuration these arguments and the environment lead to, and where its documents are.
    ///
    /// # Errors
    /// When a document cannot be read, or everything that is wrong with the configuration.
    pub async fn configuration(
        &self,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<(Arc<LiveConfig>, Locations, Documents, Option<Client>)> {
        let fixed =
            vec![Layer::from_flags(&self.flags), Layer::from_environment(env::vars_os(), ConfigLocations::VARIABLES)];
        let namespace = Layer::pod_namespace(&fixed).unwrap_or(DEFAULT_NAMESPACE);
        let locations = self.locations.locations(namespace)?;
        let client = if locations.need_cluster() { Some(connect().await?) } else { None };
        let documents = config::load(&locations, client.as_ref()).await?;
        let live = LiveConfig::start(fixed, &documents, clock)?;
        Ok((Arc::new(live), locations, documents, client))
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the process cannot start: configuration, cluster, certificate or port. Later faults are logged and shown where
/// they matter.
pub async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (live, locations, documents, client) = args.configuration(clock.clone()).await?;
    let config = live.config();
    let logging = init_logging(&config.logging)?;
    let client = match client {
        Some(client) => client,
        None => connect().await?,
    };
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    live.log_remarks();

    let mut registry = MetricsRegistry::new();
    let connections = ServingMetrics::register(registry.registry_mut());
    // The port first: a wrong address or certificate ends the process before anything else begins.
    let authority = certificate::own_authority(&config, &client, clock.clone()).await?;
    let bound = Bound::bind(certificate::serving_options(&config, authority.as_ref(), &connections)).await?;
    let (keda, delegate) = neighbours::bind(&config, authority.as_ref(), &connections, clock.clone()).await?;
    let readiness = Readiness::default();
    let (stop, serving) = (CancellationToken::new(), CancellationToken::new());
    let tasks = Tasks::new(stop.clone(), serving.clone());

    let listeners = keda.iter().map(|keda| &keda.bound).chain([&bound]);
    certificate::keep(authority, listeners, &tasks, &stop);

    let reviews = AuthMetrics::register(registry.registry_mut());
    let authenticator = access::authenticator(&config, &client, &reviews, &tasks, &stop).await?;
    let authorizer = access::authorizer(&config, &client, &reviews).await?;

    let watched = discovery::Options {
        namespace: config.watch_namespace.clone(),
        controller_instance: config.controller_instance.clone(),
        inventory: config.inventory.clone(),
    };
    let (cluster, watches) = discovery::run(&client, &watched, &stop);

    let tracker = CollectionTracker::new(clock.clone());
    tracker.register(registry.registry_mut());
    let (collector, fetches) = collect(&config, &cluster, &clock, &tracker, &tasks, &stop)?;
    let observed = cluster.clone();
    telemetry::register_inventory(&mut registry, move || observed.inventory());

    let (writer, worker) =
        StatusWriter::new(VariantAutoscalingsEngine::new(client.clone(), clock.clone(), env::var("POD_NAME").ok()));
    tasks.spawn("status writer", worker.run(stop.clone()));

    let store = Arc::new(DecisionStore::new(clock.clone(), config.controller_instance.as_deref().map(Into::into)));
    let metrics = DecisionMetrics::register(
        &mut registry,
        clock.clone(),
        config.ages.decision,
        config.controller_instance.as_deref(),
    );
    let received = Actuator::new(store.clone(), metrics.clone(), None);
    let observers = Observers { cluster: cluster.clone(), collector: collector.clone(), clock: clock.clone() };
    let outputs = Outputs { store: store.clone(), metrics, writer };
    let cycle = Arc::new(cycle(observers, outputs, &live, client.clone(), &tasks, &stop)?);
    tasks.spawn("capacity curves", cycle.clone().compute_curves(stop.clone()));
    let (work, elections) = if config.leader_election.enabled {
        let replica = high_availability::Replica { client: client.clone(), live: live.clone(), clock: clock.clone() };
        let ready = high_availability::inputs_known(cluster.clone(), fetches.clone());
        let check = readiness.add("shared-decisions");
        high_availability::start(replica, cycle, store.clone(), received, ready, check, &tasks, &stop)
    } else {
        (Work::Alone(cycle), None)
    };
    let input_changes = [cluster.changes(), live.subscribe()].into_iter().chain(fetches).chain(elections).collect();
    let (changes, follow_changes) = inputs::merged(input_changes);
    tasks.spawn("changes", stop.clone().run_until_cancelled_owned(follow_changes).map(drop));
    tasks.spawn("decision cycle", turns(executor(&live, changes), work.clone(), stop.clone()));

    let configuration = watch_configuration(live.clone(), locations, documents, client.clone(), stop.clone());
    tasks.spawn("configuration watch", configuration);
    tasks.spawn("log level", inputs::follow_log_level(live.clone(), logging, stop.clone()));
    tasks.spawn_once(report_sync(cluster, readiness.add("informer-sync"), stop.clone()));

    let requests = RequestMetrics::register(registry.registry_mut());
    let auditor = audit::auditor(&config, &mut registry, &tasks, &stop).await?;
    let registry = Arc::new(registry);
    let api = ApiServer {
        provider: store.clone(),
        delegate,
        authenticator,
        authorizer,
        auditor,
        readiness: readiness.clone(),
        groups: config.server.groups.clone(),
        requests,
        metrics_text: Arc::new(move || registry.encode().unwrap_or_default()),
        extra_routes: debug::routes(live.clone(), collector, tracker),
    }
    .api();
    tasks.spawn_once(end_on_signal(live, readiness, work, serving.clone()));

    neighbours::start(keda, store, &tasks, &serving, &stop);
    info!(address = %bound.local_address(), "serving");
    bound.serve(api, serving).await;
    stop.cancel();
    let outcome = tasks.join().await;
    watches.wait().await;
    info!("stopped");
    outcome
}

/// Where a cycle's inputs come from.
struct Observers {
    cluster: ClusterState,
    collector: Arc<dyn MetricsCollector>,
    clock: Arc<dyn Clock>,
}

/// Where its decisions go.
struct Outputs {
    store: Arc<DecisionStore>,
    metrics: DecisionMetrics,
    writer: StatusWriter,
}

/// The decision cycle, with what scales workloads and what records cycles in the background, where that is asked for.
fn cycle(
    from: Observers,
    to: Outputs,
    live: &Arc<LiveConfig>,
    client: Client,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Cycle> {
    let (recorder, recordings) = recorder(&live.config().recording)?.unzip();
    if let Some(recordings) = recordings {
        tasks.spawn("recording", recordings.run(stop.clone()));
    }
    let (scaler, scaling) = scaling::scaler(client);
    tasks.spawn("direct actuation", scaling.run(stop.clone()));
    let mode = live.clone();
    let status = ClusterStatus::new(from.cluster.clone(), to.writer);
    let actuator = Actuator::new(to.store, to.metrics, Some(Box::new(status)))
        .with_direct_actuation(move || mode.config().actuation.mode, scaler);
    let cluster = Arc::new(from.cluster);
    Ok(Cycle::new(from.clock, cluster, vec![from.collector], parameters(live.clone()), actuator)
        .with_recorder(recorder))
}

/// Takes a turn whenever `executor` says so.
fn turns(executor: Executor, work: Work, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
    executor.start(stop, move || {
        let work = work.clone();
        async move { work.turn().await }
    })
}

/// Ends the process in order once it is asked to.
async fn end_on_signal(live: Arc<LiveConfig>, readiness: Readiness, work: Work, serving: CancellationToken) {
    let delay = || live.config().server.shutdown_delay;
    if let Err(error) = shutdown::on_signal(readiness, delay, work.resign(), serving).await {
        error!(%error, "signals cannot be received; the process ends only when killed");
    }
}

/// All metric sources as one, and what counts each one's fetches.
type Collection = (Arc<dyn MetricsCollector>, Vec<tokio::sync::watch::Receiver<u64>>);

/// Starts every metric source; gives all as one, and what counts each one's fetches.
fn collect(
    config: &Config,
    cluster: &ClusterState,
    clock: &Arc<dyn Clock>,
    tracker: &CollectionTracker,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Collection> {
    let pods: Arc<dyn PodDirectory> = Arc::new(cluster.clone());
    let sources = new_metrics_collector(&CollectorConfig::from(config), &pods, clock, tracker)?;
    let mut fetches = Vec::new();
    for source in sources.each {
        let (refreshed, refreshes) = tokio::sync::watch::channel(0);
        fetches.push(refreshes);
        tasks.spawn("metric collection", source.run(stop.clone(), refreshed));
    }
    Ok((sources.collector, fetches))
}

/// What makes a cycle run, as configured.
fn executor(live: &Arc<LiveConfig>, changes: watch::Receiver<u64>) -> Executor {
    let followed = live.clone();
    let interval = move || followed.config().engine.interval;
    match live.config().engine.executor {
        config::Executor::Hybrid => Executor::Hybrid(HybridExecutor::new(interval, changes, CYCLE_GAP)),
        config::Executor::Reactive => Executor::Reactive(ReactiveExecutor::new(changes, CYCLE_GAP)),
        config::Executor::Polling => Executor::Polling(PollingExecutor::new(interval)),
    }
}

/// A client of a cluster that answers: later errors need not ask whether the address is right.
async fn connect() -> anyhow::Result<Client> {
    let config = kube::Config::infer().await.context(
        "cannot find a Kubernetes cluster; run inside one, or set KUBECONFIG to a file whose current context names one",
    )?;
    let address = config.cluster_url.clone();
    let client =
        Client::try_from(config).with_context(|| format!("cannot set up a client of kube-apiserver at {address}"))?;
    client.apiserver_version().await.with_context(|| {
        format!(
            "kube-apiserver at {address} does not answer; check that it runs, and the address in KUBECONFIG or, in a pod, \
             the network policy"
        )
    })?;
    Ok(client)
}

/// Parameters of each cycle from the configuration in force at its beginning.
fn parameters(live: Arc<LiveConfig>) -> ParameterSource {
    Arc::new(move || live.config() as Arc<dyn Parameters>)
}

impl Parameters for Config {
    fn ages(&self) -> AgeLimits {
        self.ages
    }

    fn saturation(&self) -> Arc<SaturationScalingConfig> {
        self.saturation.clone()
    }

    fn saturation_of(&self, model: &ModelKey) -> Arc<SaturationScalingConfig> {
        self.saturation_for(model).clone()
    }

    fn retention_of(&self, model: &ModelKey) -> Option<Duration> {
        self.retention_for(model)
    }

    fn limits(&self) -> AcceleratorLimits {
        self.limits
    }

    fn overrides_of(&self, model: &ModelKey) -> Vec<Override> {
        self.overrides_for(model).to_vec()
    }

    fn shadow(&self) -> bool {
        self.actuation.shadow
    }

    fn engine(&self) -> EngineOptions {
        EngineOptions { compensate_tolerance: self.actuation.compensate_tolerance, ..EngineOptions::default() }
    }

    fn objective_of(&self, model: &ModelKey) -> Option<Arc<ServiceObjective>> {
        self.service_classes.objective_of(model).cloned()
    }

    fn profile_of(&self, model: &ModelKey, accelerator: &str) -> Option<ServiceProfile> {
        self.profiles.get(&model.model_id, accelerator).copied()
    }
}

async fn watch_configuration(
    live: Arc<LiveConfig>,
    locations: Locations,
    documents: Documents,
    client: Client,
    stop: CancellationToken,
) {
    config::watch(&live, &locations, documents, Some(&client), CONFIG_POLL, stop).await;
}

/// Passes the readiness check once everything was listed; logs what holds it up.
async fn report_sync(cluster: ClusterState, check: apiserver::ReadinessCheck, stop: CancellationToken) {
    let mut changes = cluster.changes();
    let mut said = None;
    while !cluster.is_synced() {
        let problem = cluster.sync_problem();
        if let Some(problem) = &problem {
            check.fail(problem.clone());
            if said.as_ref() != Some(problem) {
                warn!(problem, "not ready yet");
            }
        }
        said = problem;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
    check.pass();
    info!("ready: the cluster is known");
}
