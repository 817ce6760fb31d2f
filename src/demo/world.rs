//! The simulated side: a fleet under load, seen as a cluster would show it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::DemoArgs;
use crate::{
    clock::Clock,
    collector::scrape::{ScrapeTarget, ScrapeTargets},
    fleet::{
        EngineScrape, Exposition, GeneratedLoad, LiveFleet, Load, LoadSpec, NameGeneration, Objective, PoolReport,
        Profile, ReplicaState, Step, TokenLengths, VariantSpec, http,
    },
    interfaces::{
        HpaObservation, HpaTarget, ModelKey, PodDirectory, PodIdentity, ReplicaBounds, Role, ScaleObservation,
        TargetObservation, TargetReference, Variant, VariantKey, VariantObservation,
    },
    snapshot::ClusterObserver,
};

/// What a request must meet: first token and time per further token, in milliseconds.
pub(super) const OBJECTIVE: Objective = Objective::from_millis(2000, 75);
const NAMESPACE: &str = "demo";
const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

/// A variant of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoVariant {
    pub(super) name: &'static str,
    pub(super) accelerator: &'static str,
    profile: &'static str,
    pub(super) max_replicas: u32,
    /// Requests per second one replica can carry, against which the router weighs it.
    weight: f64,
}

/// One model, cheap and slow or dear and fast.
pub(super) const VARIANTS: [DemoVariant; 2] = [
    DemoVariant { name: "cheap", accelerator: "L40S", profile: "llama-3.1-8b-l40s", max_replicas: 8, weight: 4.3 },
    DemoVariant { name: "dear", accelerator: "H100", profile: "llama-3.1-8b-h100", max_replicas: 4, weight: 24.6 },
];

/// A count for each of [`VARIANTS`].
pub(super) type VariantCounts = [u32; VARIANTS.len()];

impl DemoVariant {
    /// Price of one replica for an hour; one H100 is 1.
    pub(super) fn price(&self) -> f64 {
        Profile::built_in(self.profile).map_or(1.0, |profile| profile.price)
    }
}

/// The fleet and where it is reached.
#[derive(Debug)]
pub(super) struct World {
    model: ModelKey,
    fleet: Arc<LiveFleet>,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    started: Timestamp,
}

impl World {
    /// Starts the fleet with one replica of each variant, its load and its HTTP side.
    pub(super) async fn start(
        args: &DemoArgs,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let model = ModelKey::new(NAMESPACE, MODEL);
        let exposition = Exposition { names: NameGeneration::default(), cache_config_info: true };
        let started = clock.now();
        let fleet = Arc::new(LiveFleet::new(clock.clone(), exposition));
        let load = Load::new(&load(args))?;
        fleet.with(|fleet| -> anyhow::Result<()> {
            let pool = fleet.pool_or_new(&model);
            pool.set_objective(OBJECTIVE);
            for variant in VARIANTS {
                let profile = Profile::built_in(variant.profile)
                    .ok_or_else(|| anyhow::anyhow!("profile {} is not built in", variant.profile))?;
                let mut spec = VariantSpec::new(variant.name, profile);
                spec.routing_weight = variant.weight;
                // The replicas of the start are ready; later ones take their time.
                spec.cold_start = Duration::ZERO.into();
                pool.add_variant(spec.clone());
                pool.set_replicas(variant.name, 1)?;
                spec.cold_start = args.cold_start.into();
                pool.add_variant(spec);
            }
            fleet.set_load(&model, Some(load));
            Ok(())
        })?;

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route("/{replica}/metrics", get(metrics)).with_state((fleet.clone(), model.clone()));
        let serving = http::serve(listener, routes, stop.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the fleet's metrics are no longer served");
            }
        });
        let (driven, stop) = (fleet.clone(), stop.clone());
        tasks.spawn(async move { driven.drive(stop).await });
        Ok(Self { model, fleet, address, clock, started })
    }

    pub(super) fn model(&self) -> &ModelKey {
        &self.model
    }

    /// The fleet as it stands, and its age in simulated time.
    pub(super) fn report(&self) -> (Duration, Option<PoolReport>) {
        let mut report = self.fleet.report();
        (Duration::from_secs_f64(report.elapsed_seconds), report.models.pop())
    }

    /// `spec.replicas` and `status.replicas` of a variant.
    pub(super) fn scale(&self, variant: &str) -> crate::hpa::Scale {
        let status = self.statuses().into_iter().find(|status| status.name == variant);
        status.map_or(crate::hpa::Scale { spec: 0, status: 0 }, |status| crate::hpa::Scale {
            spec: status.spec.unwrap_or(status.current),
            status: status.current,
        })
    }

    /// Sets `spec.replicas` of a variant.
    pub(super) fn set_replicas(&self, variant: &str, replicas: u32) {
        let set = self.fleet.with(|fleet| fleet.pool_mut(&self.model).map(|pool| pool.set_replicas(variant, replicas)));
        if let Some(Err(error)) = set {
            tracing::error!(%error, "replicas were not set");
        }
    }

    fn statuses(&self) -> Vec<crate::fleet::VariantStatus> {
        self.fleet.with(|fleet| fleet.pool(&self.model).map(crate::fleet::Pool::status)).unwrap_or_default()
    }

    fn observation(&self, variant: DemoVariant, status: &crate::fleet::VariantStatus) -> VariantObservation {
        let pending = status.current.saturating_sub(status.ready);
        let oldest = status.pending_since_seconds.map_or(self.clock.now(), |seconds| {
            self.started.checked_add(Duration::from_secs_f64(seconds)).unwrap_or(Timestamp::MAX)
        });
        VariantObservation {
            variant: Variant {
                key: VariantKey::new(NAMESPACE, variant.name),
                model: self.model.clone(),
                accelerator: Some(variant.accelerator.into()),
                accelerators_per_replica: None,
                profile: None,
                cost: variant.price(),
                role: Role::Both,
                bounds: ReplicaBounds { min: 1, max: Some(variant.max_replicas) },
                target: TargetReference {
                    api_version: "apps/v1".into(),
                    kind: "Deployment".into(),
                    name: variant.name.into(),
                },
                overrides: Arc::default(),
                shadow: false,
            },
            target: TargetObservation::Found(ScaleObservation {
                spec: status.spec.unwrap_or(status.current),
                current: status.current,
                ready: status.ready,
                pending_since: vec![oldest; pending as usize],
            }),
            replicas: Vec::new(),
            autoscalers: vec![HpaObservation {
                name: variant.name.into(),
                bounds: ReplicaBounds { min: 1, max: Some(variant.max_replicas) },
                reads_our_metric: true,
                selects_this_variant_only: true,
                target: HpaTarget::AverageValue(1000),
                tolerance_up: 0.0,
                tolerance_down: 0.0,
            }],
        }
    }
}

impl ClusterObserver for World {
    fn observe(&self, _: Timestamp) -> Vec<VariantObservation> {
        let statuses = self.statuses();
        let of =
            |variant: DemoVariant| statuses.iter().find(|status| status.name == variant.name).map(|s| (variant, s));
        VARIANTS.into_iter().filter_map(of).map(|(variant, status)| self.observation(variant, status)).collect()
    }
}

impl ScrapeTargets for World {
    fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        let Some(report) = self.report().1 else { return Vec::new() };
        let ready = report.replicas.into_iter().filter(|replica| replica.state == ReplicaState::Ready);
        ready
            .map(|replica| {
                let pod = format!("{}-{}", replica.variant, replica.id);
                ScrapeTarget::new(NAMESPACE, pod, format!("http://{}/{}/metrics", self.address, replica.id))
            })
            .collect()
    }
}

impl PodDirectory for World {
    fn identify(&self, namespace: &str, pod: &str) -> Option<PodIdentity> {
        let (variant, _) = pod.rsplit_once('-')?;
        Some(PodIdentity::ready(VariantKey::new(namespace, variant)))
    }
}

/// Low, a rise, the peak, a fall, low again; the same shape however long the demo runs.
fn load(args: &DemoArgs) -> LoadSpec {
    let total = args.simulated();
    let low = args.peak_rate / 12.0;
    let step = |rate, to, share: f64| Step { rate, to, duration: Some(total.mul_f64(share)) };
    LoadSpec::Poisson(GeneratedLoad {
        seed: args.seed,
        steps: vec![
            step(low, None, 0.10),
            step(low, Some(args.peak_rate), 0.30),
            step(args.peak_rate, None, 0.20),
            step(args.peak_rate, Some(low), 0.15),
            Step { rate: low, to: None, duration: None },
        ],
        prompt_tokens: TokenLengths::Lognormal { mean: 1155.0, sigma: 0.9, max: 16_000 },
        output_tokens: TokenLengths::Lognormal { mean: 211.0, sigma: 0.6, max: 2_000 },
    })
}

type Served = (Arc<LiveFleet>, ModelKey);

async fn metrics(State((fleet, model)): State<Served>, Path(replica): Path<String>) -> Response {
    let id = fleet.with(|fleet| {
        let replicas = fleet.pool(&model)?.replicas();
        replicas.iter().map(crate::fleet::Replica::id).find(|id| id.to_string() == replica)
    });
    let scrape = id.and_then(|id| fleet.scrape(&model, id));
    match scrape.map(EngineScrape::render) {
        Some(Ok(text)) => text.into_response(),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
