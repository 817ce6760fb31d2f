//! `wva` and `wva-profiled`: the decision core of production, on snapshots taken as production takes them.
//!
//! What it is told beforehand is the objective, and in `wva-profiled` the service times of each variant.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;

use super::{
    Actuation, ModelSample, Policy, Rhythm,
    coming::{Coming, Teller},
    ingest::Ingest,
};
use crate::{
    capacity::{self, CurveCache, Effort},
    clock::{Clock, SimulatedClock},
    engines::{self, State},
    fleet::Profile,
    hpa::{Behavior, Policy as HpaPolicy, PolicyKind, ScalingRules, Select},
    interfaces::{
        AcceleratorLimits, AcceleratorMode, AcceleratorPool, AcceleratorQuota, CollectorError, Decision, EngineOptions,
        HpaObservation, HpaTarget, Inventory, MetricsCollector, ModelKey, ModelMetrics, Outcome, ReplicaBounds,
        ReplicaMetrics, Role, ScaleObservation, ServiceObjective, ServiceProfile, Snapshot, SourceHealth,
        TargetObservation, TargetReference, Variant, VariantKey, VariantObservation, age,
    },
    simulate::scenario::{Scenario, VariantScenario},
    snapshot::{self, ClusterObserver, Parameters},
};

const NAMESPACE: &str = "default";

/// The decision core with what surrounds it in production.
pub(in crate::simulate) struct Wva {
    rhythm: Rhythm,
    clock: SimulatedClock,
    started: bool,
    cluster: Cluster,
    samples: Arc<Samples>,
    collectors: Vec<Arc<dyn MetricsCollector>>,
    objectives: Objectives,
    state: State,
    curves: CurveCache,
    coming: Option<Coming>,
    decisions: Vec<Decision>,
    last: Option<Snapshot>,
}

impl Wva {
    /// `profile_error` is `None` for `wva`, which knows no profile.
    pub(in crate::simulate) fn new(scenario: &Scenario, profile_error: Option<f64>, engine: EngineOptions) -> Self {
        let keys: Vec<ModelKey> = scenario.models.iter().map(|model| ModelKey::new(NAMESPACE, &*model.name)).collect();
        let variants = scenario.variants().map(|(model, variant)| observation(&keys[model], variant, profile_error));
        let samples = Arc::new(Samples::new(keys.clone()));
        let objectives = scenario.models.iter().zip(&keys).map(|(model, key)| {
            let objective = ServiceObjective {
                class: "simulated".into(),
                priority: model.priority,
                time_to_first_token: Some(model.objective.ttft.as_secs_f64()),
                inter_token_latency: Some(model.objective.tpot.as_secs_f64()),
                tokens_per_second: None,
                target_share: model.target,
            };
            (key.clone(), Arc::new(objective))
        });
        Self {
            rhythm: Rhythm::of_scrapes(scenario),
            clock: SimulatedClock::new(Timestamp::UNIX_EPOCH),
            started: false,
            cluster: Cluster { variants: variants.collect(), inventory: inventory(scenario) },
            collectors: vec![samples.clone()],
            samples,
            objectives: Objectives {
                engine,
                limits: AcceleratorLimits { accelerators: mode(scenario), ..AcceleratorLimits::default() },
                by_model: objectives.collect(),
            },
            state: State::default(),
            curves: CurveCache::default(),
            coming: None,
            decisions: Vec::new(),
            last: None,
        }
    }

    /// The same, told the future. Where the load cannot be read it is told nothing: the simulation names that error.
    pub(in crate::simulate) fn told(self, teller: Teller, scenario: &Scenario) -> Self {
        Self { coming: Coming::new(teller, scenario, &self.samples.keys).ok(), ..self }
    }

    fn set_clock(&mut self, now: Timestamp) {
        if !self.started {
            self.clock = SimulatedClock::new(now);
            self.started = true;
        }
        self.clock.advance(age(now, self.clock.now()));
    }

    fn snapshot(&self) -> Option<Snapshot> {
        // Nothing in it waits: the collector answers from memory.
        let snapshot = snapshot::take(&self.clock, &self.cluster, &self.collectors, &self.objectives).now_or_never()?;
        Some(self.with_capacities(snapshot))
    }

    /// Computes at once the capacity curves that production computes in the background.
    fn with_capacities(&self, mut snapshot: Snapshot) -> Snapshot {
        for question in self.state.questions() {
            if self.curves.get(question).is_none() {
                self.curves.insert(question.clone(), Arc::new(capacity::simulated(question, &Effort::default())));
            }
        }
        snapshot.curves = self.curves.answers(self.state.questions());
        snapshot
    }
}

impl Policy for Wva {
    fn rhythm(&self) -> Rhythm {
        self.rhythm
    }

    /// What manifests/samples ship.
    fn actuation(&self) -> Actuation {
        let policy = |kind, value, seconds| HpaPolicy { kind, value, period: std::time::Duration::from_secs(seconds) };
        let rules = |window, policies| ScalingRules {
            window: std::time::Duration::from_secs(window),
            tolerance: 0.0,
            policies,
            select: Select::Max,
        };
        Actuation::Hpa(Some(Behavior {
            scale_up: rules(0, vec![policy(PolicyKind::Pods, 1000, 15)]),
            scale_down: rules(300, vec![policy(PolicyKind::Percent, 50, 60), policy(PolicyKind::Pods, 1, 60)]),
        }))
    }

    fn sample(&mut self, at: Timestamp, models: &[ModelSample<'_>]) {
        self.samples.record(at, models);
    }

    fn decide(&mut self, now: Timestamp, scales: &[ScaleObservation]) -> Vec<Result<f64, String>> {
        self.set_clock(now);
        for (variant, scale) in self.cluster.variants.iter_mut().zip(scales) {
            variant.target = TargetObservation::Found(scale.clone());
        }
        let Some(mut snapshot) = self.snapshot() else {
            return scales.iter().map(|_| Err("the snapshot was not ready".to_owned())).collect();
        };
        if let Some(coming) = &mut self.coming {
            coming.tell(&mut snapshot);
        }
        let (state, decisions) = engines::step(&self.state, &snapshot);
        self.state = state;
        self.decisions = decisions;
        self.last = Some(snapshot);
        self.cluster.variants.iter().map(|variant| answer(&self.decisions, &variant.variant.key)).collect()
    }

    fn snapshot(&self) -> Option<&Snapshot> {
        self.last.as_ref()
    }

    fn explain(&self) -> Option<String> {
        let lines = self.decisions.iter().map(|decision| match &decision.outcome {
            Outcome::Desired(desired) => format!("{} {}: {}", decision.variant.name, desired.replicas, desired.reason),
            Outcome::Withheld(withheld) => format!("{} withheld: {}", decision.variant.name, withheld.message),
        });
        Some(lines.collect::<Vec<_>>().join("; "))
    }
}

/// What the HPA reads for a variant.
fn answer(decisions: &[Decision], key: &VariantKey) -> Result<f64, String> {
    match decisions.iter().find(|decision| decision.variant == *key).map(|decision| &decision.outcome) {
        Some(Outcome::Desired(desired)) => Ok(f64::from(desired.replicas)),
        Some(Outcome::Withheld(withheld)) => Err(withheld.message.clone()),
        None => Err(format!("no decision on variant {key}")),
    }
}

fn observation(model: &ModelKey, scenario: &VariantScenario, profile_error: Option<f64>) -> VariantObservation {
    let bounds = ReplicaBounds { min: scenario.min_replicas, max: Some(scenario.max_replicas) };
    let name: Arc<str> = scenario.name.as_str().into();
    VariantObservation {
        variant: Variant {
            key: VariantKey::new(NAMESPACE, name.clone()),
            model: model.clone(),
            accelerator: Some(scenario.profile.accelerator.as_str().into()),
            accelerators_per_replica: Some(scenario.profile.accelerators),
            profile: profile_error.map(|error| service_profile(&scenario.profile, 1.0 + error)),
            cost: scenario.profile.price,
            role: Role::Both,
            bounds,
            target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.clone() },
            overrides: std::sync::Arc::default(),
            shadow: false,
        },
        target: TargetObservation::Found(ScaleObservation::default()),
        replicas: Vec::new(),
        autoscalers: vec![HpaObservation {
            name,
            bounds,
            reads_our_metric: true,
            selects_this_variant_only: true,
            target: HpaTarget::AverageValue(1000),
            tolerance_up: 0.0,
            tolerance_down: 0.0,
        }],
    }
}

/// A profile in the units of production, its times multiplied by `factor`.
fn service_profile(profile: &Profile, factor: f64) -> ServiceProfile {
    let seconds = |milliseconds: f64| milliseconds * factor / 1e3;
    ServiceProfile {
        base: seconds(profile.iteration_ms),
        per_prefill_token: seconds(profile.prefill_ms_per_token),
        per_sequence: seconds(profile.decode_ms_per_sequence),
        per_kv_token: seconds(profile.kv_ms_per_token),
        kv_cache_tokens: f64::from(profile.kv_tokens),
        max_batch: u32::from(profile.max_num_seqs),
        max_batched_tokens: profile.max_num_batched_tokens,
    }
}

/// Where a scenario has quotas, accelerators are limited to them.
fn mode(scenario: &Scenario) -> AcceleratorMode {
    if scenario.quotas.is_empty() { AcceleratorMode::Unlimited } else { AcceleratorMode::Limited }
}

/// Accelerators without end of every type, under the quotas of the scenario.
fn inventory(scenario: &Scenario) -> Arc<Inventory> {
    const ENDLESS: u32 = 1_000_000;
    let types: BTreeSet<&str> = scenario.variants().map(|(_, variant)| variant.profile.accelerator.as_str()).collect();
    let quotas = scenario.quotas.iter().map(|(accelerator, hard)| AcceleratorQuota {
        name: accelerator.as_str().into(),
        namespace: None,
        accelerator: Some(accelerator.as_str().into()),
        hard: *hard,
        used_by_others: 0,
    });
    let pools = types.into_iter().map(|accelerator| AcceleratorPool::of_free(accelerator, ENDLESS));
    Arc::new(Inventory { pools: pools.collect(), quotas: quotas.collect(), products: Vec::new() })
}

/// The scale targets as the last decision round saw them, and what there is for them.
struct Cluster {
    variants: Vec<VariantObservation>,
    inventory: Arc<Inventory>,
}

impl ClusterObserver for Cluster {
    fn observe(&self, _: Timestamp) -> Vec<VariantObservation> {
        self.variants.clone()
    }

    fn inventory(&self) -> Option<Arc<Inventory>> {
        Some(self.inventory.clone())
    }
}

/// Defaults, and what is told: the objective, and that accelerators are limited where they are.
struct Objectives {
    /// The defaults too, but in an ablation.
    engine: EngineOptions,
    limits: AcceleratorLimits,
    by_model: Vec<(ModelKey, Arc<ServiceObjective>)>,
}

impl Parameters for Objectives {
    fn engine(&self) -> EngineOptions {
        self.engine
    }

    fn limits(&self) -> AcceleratorLimits {
        self.limits
    }

    fn objective_of(&self, model: &ModelKey) -> Option<Arc<ServiceObjective>> {
        self.by_model.iter().find(|(key, _)| key == model).map(|(_, objective)| objective.clone())
    }
}

/// A collector fed by the simulation.
struct Samples {
    keys: Vec<ModelKey>,
    state: Mutex<SampleState>,
}

#[derive(Default)]
struct SampleState {
    models: Vec<Ingest>,
    last_success: Option<Timestamp>,
}

impl Samples {
    fn new(keys: Vec<ModelKey>) -> Self {
        let models = keys.iter().cloned().map(Ingest::new).collect();
        Self { keys, state: Mutex::new(SampleState { models, last_success: None }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, SampleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, at: Timestamp, models: &[ModelSample<'_>]) {
        let mut state = self.state();
        for (ingest, model) in state.models.iter_mut().zip(models) {
            ingest.record(at, model);
        }
        state.last_success = Some(at);
    }

    fn of<T>(&self, model: &ModelKey, read: impl Fn(&Ingest) -> T) -> Option<T> {
        let index = self.keys.iter().position(|key| key == model)?;
        self.state().models.get(index).map(read)
    }
}

impl MetricsCollector for Samples {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        let replicas = self.of(model, Ingest::replicas).unwrap_or_default();
        Box::pin(async move { Ok(replicas) })
    }

    fn fetch_model_metrics<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, ModelMetrics> {
        let metrics = self.of(model, Ingest::model).unwrap_or_default();
        Box::pin(async move { metrics })
    }

    fn validate_metrics_availability<'a>(&'a self, _: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        Box::pin(async { Ok(()) })
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        Box::pin(async { Ok(()) })
    }

    fn health(&self) -> SourceHealth {
        SourceHealth { name: "simulated scraping".into(), last_success: self.state().last_success, last_error: None }
    }
}
