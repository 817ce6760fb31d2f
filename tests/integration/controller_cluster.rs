//! The status writer against a real API server, with the rights that `manifests/` gives it.
//!
//! `KUBECONFIG` must name an administrator of a cluster (such as `hack/testbed`'s) where `manifests` is applied; then
//! `cargo test --test integration controller_cluster -- --ignored`.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Namespace, events::v1::Event};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use wva::{
    clock::SystemClock,
    controller::{Change, ReconcileError, StatusWriter, VariantAutoscalingsEngine},
    crd::{VariantAutoscaling, VariantAutoscalingStatus},
};

use crate::controller::{decision, publication};

const SERVICE_ACCOUNT: &str = "system:serviceaccount:wva-system:wva";
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace of its own with one object in it, and an engine that acts as wva's service account.
struct Bench {
    admin: Client,
    namespace: String,
    objects: Api<VariantAutoscaling>,
    engine: VariantAutoscalingsEngine,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let config = Config::infer().await.expect("KUBECONFIG names a cluster");
        let mut as_wva = config.clone();
        as_wva.auth_info.impersonate = Some(SERVICE_ACCOUNT.to_owned());
        let admin = Client::try_from(config).unwrap();
        let namespace = format!("wva-test-{name}-{}", std::process::id());
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &object).await.unwrap();
        Self {
            objects: Api::namespaced(admin.clone(), &namespace),
            engine: VariantAutoscalingsEngine::new(
                Client::try_from(as_wva).unwrap(),
                Arc::new(SystemClock),
                Some("wva-test".to_owned()),
            ),
            admin,
            namespace,
        }
    }

    async fn create(&self) -> VariantAutoscaling {
        let object = serde_json::from_value(json!({
            "apiVersion": "llmd.ai/v1alpha1",
            "kind": "VariantAutoscaling",
            "metadata": { "name": "llama" },
            "spec": { "scaleTargetRef": { "name": "llama" }, "modelID": "llama" },
        }));
        self.objects.create(&PostParams::default(), &object.unwrap()).await.unwrap()
    }

    async fn finish(self) {
        Api::<Namespace>::all(self.admin).delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }
}

fn replicas(status: &VariantAutoscalingStatus) -> Option<i32> {
    Some(status.desired_optimized_alloc.as_ref()?.num_replicas)
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn what_is_published_becomes_the_status_and_an_event() {
    let bench = Bench::new("publish").await;
    let object = bench.create().await;
    let uid = object.uid().unwrap();
    let (writer, worker) = StatusWriter::new(bench.engine.clone());
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker.run(stop.clone()));
    writer.publish([publication(object, decision("llama", 1, 4, "all replicas are saturated"))]);

    let written = await_condition(bench.objects.clone(), "llama", |object: Option<&VariantAutoscaling>| {
        object.and_then(|object| object.status.as_ref()).and_then(replicas) == Some(4)
    });
    let object = timeout(PATIENCE, written).await.expect("written in time").unwrap().unwrap();
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.conditions.len(), 5);
    assert_eq!(object.metadata.generation, Some(1), "a status write is no edit");
    assert_eq!(status.conditions[0].observed_generation, Some(1));

    // The event follows the status.
    let events = Api::<Event>::namespaced(bench.admin.clone(), &bench.namespace);
    let told = await_any_event(&events, &uid).await;
    assert_eq!((told.reason.as_deref(), told.type_.as_deref()), (Some("ScalingUp"), Some("Normal")));
    assert_eq!(told.reporting_controller.as_deref(), Some("wva"));

    // The same decision, on the object as it now is, writes nothing.
    let again = publication(object.clone(), decision("llama", 1, 4, "all replicas are saturated"));
    assert_eq!(bench.engine.reconcile(&again, status, Change::Wording).await.unwrap(), None);
    stop.cancel();
    worker.await.unwrap();
    bench.finish().await;
}

async fn await_any_event(events: &Api<Event>, uid: &str) -> Event {
    let arrived = kube::runtime::watcher(events.clone(), kube::runtime::watcher::Config::default());
    let first = async {
        use futures::StreamExt;
        use kube::runtime::WatchStreamExt;
        let mut arrived = std::pin::pin!(arrived.applied_objects());
        loop {
            let event = arrived.next().await.unwrap().unwrap();
            if event.regarding.as_ref().and_then(|object| object.uid.as_deref()) == Some(uid) {
                return event;
            }
        }
    };
    timeout(PATIENCE, first).await.expect("an event in time")
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn conditions_of_others_survive_our_writes() {
    let bench = Bench::new("foreign").await;
    bench.create().await;
    let foreign = json!({ "apiVersion": "llmd.ai/v1alpha1", "kind": "VariantAutoscaling", "status": { "conditions": [{
        "type": "Foreign", "status": "True", "reason": "Other", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let params = PatchParams::apply("somebody");
    let object = bench.objects.patch_status("llama", &params, &Patch::Apply(&foreign)).await.unwrap();
    let previous = object.status.clone().unwrap();
    let change = publication(object, decision("llama", 1, 2, "why"));
    bench.engine.reconcile(&change, &previous, Change::Wording).await.unwrap().unwrap();
    let after = bench.objects.get("llama").await.unwrap();
    let mut types: Vec<_> = after.status.as_ref().unwrap().conditions.iter().map(|c| c.type_.clone()).collect();
    types.sort();
    assert_eq!(
        types,
        ["AutoscalerReady", "EnginesAttributed", "Foreign", "MetricsAvailable", "OptimizationReady", "TargetResolved"]
    );
    let same = publication(after.clone(), decision("llama", 1, 2, "why"));
    assert_eq!(bench.engine.reconcile(&same, after.status.as_ref().unwrap(), Change::Wording).await.unwrap(), None);
    bench.finish().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_deleted_object_is_not_created_again_and_a_namesake_is_mended() {
    let bench = Bench::new("namesake").await;
    let late = publication(bench.create().await, decision("llama", 1, 9, "why"));
    let none = VariantAutoscalingStatus::default();
    bench.objects.delete("llama", &DeleteParams::default()).await.unwrap();
    let error = bench.engine.reconcile(&late, &none, Change::Wording).await.unwrap_err();
    assert!(matches!(error, ReconcileError::Gone(_)), "{error}");
    assert!(bench.objects.list(&ListParams::default()).await.unwrap().items.is_empty());

    let namesake = bench.create().await;
    let written = bench.engine.reconcile(&late, &none, Change::Wording).await.unwrap().unwrap();
    assert!(!written.is_newer_than(&late.object), "the next comparison is with what the watch shows");
    let seen = bench.objects.get("llama").await.unwrap();
    assert_eq!((seen.uid(), seen.status.as_ref().and_then(replicas)), (namesake.uid(), Some(9)));
    let next = publication(seen.clone(), decision("llama", 1, 1, "why"));
    bench.engine.reconcile(&next, seen.status.as_ref().unwrap(), Change::Wording).await.unwrap().unwrap();
    assert_eq!(bench.objects.get("llama").await.unwrap().status.as_ref().and_then(replicas), Some(1));
    bench.finish().await;
}
