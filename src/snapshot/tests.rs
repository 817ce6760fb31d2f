use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};

use super::*;
use crate::{
    clock::SimulatedClock,
    interfaces::{
        EngineKind, PodIdentity, ReplicaBounds, Role, ScaleObservation, ServedModel, Signal, SourceHealth,
        TargetObservation, TargetReference, UnattributedEngines, Variant, VariantKey,
    },
};

const NAMESPACE: &str = "chat";

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// Variants as (name, declared model).
struct Cluster(&'static [(&'static str, &'static str)]);

impl ClusterObserver for Cluster {
    fn observe(&self, _: Timestamp) -> Vec<VariantObservation> {
        let observation = |&(name, model): &(&str, &str)| VariantObservation {
            variant: Variant {
                key: VariantKey::new(NAMESPACE, name),
                model: ModelKey::new(NAMESPACE, model),
                accelerator: None,
                accelerators_per_replica: None,
                profile: None,
                cost: 1.0,
                role: Role::Both,
                bounds: ReplicaBounds::default(),
                target: TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: name.into() },
                overrides: std::sync::Arc::default(),
                shadow: false,
            },
            target: TargetObservation::Found(ScaleObservation::default()),
            replicas: Vec::new(),
            autoscalers: Vec::new(),
        };
        self.0.iter().map(observation).collect()
    }
}

/// Knows one engine instance of model `served`, in a pod of variant `owner`.
struct Source {
    served: &'static str,
    owner: &'static str,
    kv_cache_usage: Signal<f64>,
}

impl MetricsCollector for Source {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        model: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        let replica = ReplicaMetrics {
            pod: "pod".into(),
            instance: "pod:8000".into(),
            variant: Some(VariantKey::new(NAMESPACE, self.owner)),
            engine: EngineKind::Vllm,
            kv_cache_usage: self.kv_cache_usage,
            queue_length: Signal::Missing,
            running: Signal::Missing,
            request_rate: Signal::Missing,
            kv_cache_tokens: Signal::Missing,
            performance: Arc::default(),
        };
        let known = if &*model.model_id == self.served { vec![replica] } else { Vec::new() };
        async move { Ok(known) }.boxed()
    }

    fn validate_metrics_availability<'a>(&'a self, model: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        let found = format!("there is {}", self.served);
        let error = CollectorError::MissingSeries { model: model.clone(), missing: "kv".to_owned(), found };
        async move { Err(error) }.boxed()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        async { Ok(()) }.boxed()
    }

    fn health(&self) -> SourceHealth {
        SourceHealth { name: "source".into(), last_success: None, last_error: None }
    }
}

struct Defaults;

impl Parameters for Defaults {
    fn ages(&self) -> AgeLimits {
        AgeLimits::default()
    }

    fn saturation(&self) -> Arc<SaturationScalingConfig> {
        Arc::default()
    }

    fn saturation_of(&self, _: &ModelKey) -> Arc<SaturationScalingConfig> {
        Arc::default()
    }
}

async fn taken(variants: &'static [(&str, &str)], source: Source) -> Snapshot {
    let clock = SimulatedClock::new(now());
    take(&clock, &Cluster(variants), &[Arc::new(source)], &Defaults).await
}

fn replicas_of<'a>(snapshot: &'a Snapshot, variant: &str) -> &'a [ReplicaMetrics] {
    let found = snapshot.variants.iter().find(|observation| &*observation.variant.key.name == variant);
    &found.unwrap().replicas
}

fn present() -> Signal<f64> {
    Signal::present(0.5, now() - Duration::from_secs(5))
}

#[tokio::test]
async fn replicas_go_to_the_variant_that_owns_their_pods() {
    let source = Source { served: "llama", owner: "a", kv_cache_usage: present() };
    let snapshot = taken(&[("a", "llama"), ("b", "llama")], source).await;
    assert_eq!((replicas_of(&snapshot, "a").len(), replicas_of(&snapshot, "b").len()), (1, 0));
    assert!(snapshot.unavailable.is_empty(), "{:?}", snapshot.unavailable);
}

#[tokio::test]
async fn a_variant_that_declares_another_model_than_its_pods_serve_has_no_signals_though_another_variant_declares_it() {
    let source = Source { served: "llama", owner: "misnamed", kv_cache_usage: present() };
    let snapshot = taken(&[("misnamed", "lama"), ("sound", "llama")], source).await;
    assert_eq!(replicas_of(&snapshot, "misnamed"), []);
    let unavailable: Vec<_> = snapshot.unavailable.iter().map(|(model, found)| (&*model.model_id, &**found)).collect();
    let expected = [("lama", "there is llama"), ("llama", "there is llama")];
    assert_eq!(unavailable, expected, "both have no signals of their own");
}

#[tokio::test]
async fn a_model_whose_engines_export_no_number_is_explained_too_and_survives_serialisation() {
    let source = Source { served: "llama", owner: "a", kv_cache_usage: Signal::Missing };
    let snapshot = taken(&[("a", "llama")], source).await;
    assert_eq!(snapshot.unavailable[&ModelKey::new(NAMESPACE, "llama")], "there is llama");
    let text = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
}

/// One pod by what it serves, its place, and how old its newest sample is in seconds.
fn served(model: &str, pod: &str, identity: Option<PodIdentity>, age: u64) -> ServedModel {
    let sampled_at = now() - Duration::from_secs(age);
    ServedModel { model: ModelKey::new(NAMESPACE, model), pod: pod.into(), identity, sampled_at }
}

#[test]
fn engines_in_ready_pods_that_count_for_no_variant_are_told_with_the_variant_that_misnames_them() {
    let of = |variant: &str| Some(PodIdentity::ready(VariantKey::new(NAMESPACE, variant)));
    let bare = |ready| Some(PodIdentity { variant: None, ready, kv_cache_tokens: None });
    let seen = [
        served("llama", "sound-0", of("sound"), 5),
        served("llama", "misnamed-1", of("misnamed"), 5),
        served("llama", "misnamed-0", of("misnamed"), 60),
        served("llama", "stray-0", bare(true), 5),
        served("qwen", "stray-1", bare(true), 5),
        served("llama", "starting", bare(false), 5),
        served("llama", "gone", None, 5),
        served("llama", "silent", of("misnamed"), 61),
    ];
    let variants = Cluster(&[("sound", "llama"), ("misnamed", "lama")]).observe(now());
    let found = attribution::unattributed(&variants, seen.into_iter(), now(), Duration::from_secs(60));
    let engines = |model, variant: Option<&str>, pods, example: &str| UnattributedEngines {
        model: ModelKey::new(NAMESPACE, model),
        variant: variant.map(|variant| VariantKey::new(NAMESPACE, variant)),
        pods,
        example: example.into(),
    };
    let expected = [
        engines("llama", None, 1, "stray-0"),
        engines("llama", Some("misnamed"), 2, "misnamed-0"),
        engines("qwen", None, 1, "stray-1"),
    ];
    assert_eq!(found, expected);
}

/// Serves `llama` from a pod of no variant.
struct Strays;

impl MetricsCollector for Strays {
    fn fetch_saturation_metrics<'a>(
        &'a self,
        _: &'a ModelKey,
    ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
        let replica = ReplicaMetrics { pod: "stray-0".into(), queue_length: present(), ..ReplicaMetrics::default() };
        async move { Ok(vec![replica]) }.boxed()
    }

    fn served_models(&self, wanted: &dyn Fn(&ModelKey) -> bool) -> Vec<ServedModel> {
        let identity = PodIdentity { variant: None, ready: true, kv_cache_tokens: None };
        let stray = served("llama", "stray-0", Some(identity), 5);
        if wanted(&stray.model) { vec![stray] } else { Vec::new() }
    }

    fn validate_metrics_availability<'a>(&'a self, _: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
        async { Ok(()) }.boxed()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
        async { Ok(()) }.boxed()
    }

    fn health(&self) -> SourceHealth {
        SourceHealth { name: "strays".into(), last_success: None, last_error: None }
    }
}

#[tokio::test]
async fn a_model_that_only_pods_of_no_variant_serve_is_said_to_be_served_by_them() {
    let clock = SimulatedClock::new(now());
    let snapshot = take(&clock, &Cluster(&[("a", "llama")]), &[Arc::new(Strays)], &Defaults).await;
    assert_eq!(snapshot.unattributed.len(), 1);
    let said = &snapshot.unavailable[&ModelKey::new(NAMESPACE, "llama")];
    assert!(said.starts_with("it is served by 1 ready pod(s) of no variant, such as stray-0"), "{said}");
}
