//! The watches of discovery against an API server in memory. The clock is paused: no wait takes time.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wva::{
    discovery::{ClusterState, Options, run},
    interfaces::{PodDirectory, ScaleObservation, TargetObservation},
    snapshot::ClusterObserver,
};

use crate::discovery_api::{DiscoveryApi, PLURALS, failure, list};

fn object(api_version: &str, kind: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "name": name, "namespace": "chat", "resourceVersion": "2", "creationTimestamp": "2026-01-01T00:00:00Z"}});
    for (key, value) in rest.as_object().unwrap() {
        match key.as_str() {
            "owner" => object["metadata"]["ownerReferences"] = json!([value]),
            _ => object[key] = value.clone(),
        }
    }
    object
}

fn owner(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true})
}

pub(crate) fn variant(name: &str) -> Value {
    let spec = json!({"spec": {"modelID": "meta/llama", "scaleTargetRef": {"name": "llama-d"}}});
    object("llmd.ai/v1alpha1", "VariantAutoscaling", name, &spec)
}

pub(crate) fn deployment() -> Value {
    let spec = json!({"replicas": 2, "selector": {}, "template": {"spec": {"containers": []}}});
    object("apps/v1", "Deployment", "llama-d", &json!({"spec": spec, "status": {"replicas": 2, "readyReplicas": 1}}))
}

pub(crate) fn replica_set() -> Value {
    object("meta.k8s.io/v1", "PartialObjectMetadata", "llama-rs", &json!({"owner": owner("Deployment", "llama-d")}))
}

pub(crate) fn pod(name: &str, ready: &str) -> Value {
    object(
        "v1",
        "Pod",
        name,
        &json!({"owner": owner("ReplicaSet", "llama-rs"), "spec": {"containers": [{"name": "engine"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}),
    )
}

/// The watches on `api`; they end with the test.
fn start(api: &DiscoveryApi, options: &Options) -> ClusterState {
    run(&api.client(), options, &CancellationToken::new()).0
}

/// Waits for the announcement of a change after which `reached` holds.
async fn until(state: &ClusterState, what: &str, reached: impl Fn(&ClusterState) -> bool) {
    let mut changes = state.changes();
    let wait = async {
        while !reached(state) {
            changes.changed().await.unwrap();
        }
    };
    let limit = Duration::from_mins(4);
    assert!(tokio::time::timeout(limit, wait).await.is_ok(), "{what} was not announced: {:?}", state.sync_problem());
}

pub(crate) async fn synced(api: &DiscoveryApi, options: &Options) -> ClusterState {
    let state = start(api, options);
    until(&state, "the end of the first listing", ClusterState::is_synced).await;
    state
}

#[tokio::test(start_paused = true)]
async fn pods_that_arrive_before_their_replica_set_find_their_variant_when_it_comes() {
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant("llama")]))])
        .lists("deployments", [(200, list(&[deployment()]))])
        .lists("pods", [(200, list(&[pod("llama-0", "True"), pod("llama-1", "False")]))]);
    let state = synced(&api, &Options::default()).await;
    let variant_of = |state: &ClusterState, pod| state.identify("chat", pod).and_then(|pod| pod.variant);
    assert_eq!(variant_of(&state, "llama-0"), None);

    api.send("replicasets", "ADDED", &replica_set());
    until(&state, "the ReplicaSet", |state| variant_of(state, "llama-0").is_some()).await;
    let identity = state.identify("chat", "llama-1").unwrap();
    assert_eq!((identity.variant.unwrap().to_string().as_str(), identity.ready), ("chat/llama", false));

    let pending_since = vec!["2026-01-01T00:00:00Z".parse().unwrap()];
    let expected = ScaleObservation { spec: 2, current: 2, ready: 1, pending_since };
    assert_eq!(state.observe()[0].target, TargetObservation::Found(expected));

    api.send("pods", "MODIFIED", &pod("llama-1", "True"));
    until(&state, "the pod's readiness", |state| state.identify("chat", "llama-1").is_some_and(|pod| pod.ready)).await;
    api.send("pods", "DELETED", &pod("llama-0", "True"));
    until(&state, "the pod's end", |state| state.identify("chat", "llama-0").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_crd_that_comes_later_is_picked_up() {
    let missing = failure(404, "NotFound", "the server could not find the requested resource");
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [missing.clone(), missing, (200, list(&[variant("llama")]))])
        .lists("deployments", [(200, list(&[deployment()]))]);
    let state = synced(&api, &Options::default()).await;
    let problem = state.sync_problem().unwrap();
    assert!(problem.contains("variantautoscalings.llmd.ai is not installed; apply"), "{problem}");
    assert!(state.observe().is_empty());

    until(&state, "the variant", |state| !state.observe().is_empty()).await;
    assert_eq!(state.sync_problem(), None);
}

#[tokio::test(start_paused = true)]
async fn variants_go_with_their_crd() {
    let api = DiscoveryApi::new().lists(
        "variantautoscalings",
        [
            (200, list(&[variant("llama")])),
            failure(404, "NotFound", "the server could not find the requested resource"),
        ],
    );
    let state = synced(&api, &Options::default()).await;
    assert_eq!(state.observe().len(), 1);
    api.send("variantautoscalings", "ERROR", &failure(410, "Expired", "too old resource version").1);
    until(&state, "the end of the variants", |state| state.observe().is_empty()).await;
    assert!(state.is_synced() && state.sync_problem().is_some_and(|problem| problem.contains("is not installed")));
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_forbidden_holds_back_every_variant_with_the_remedy() {
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant("llama")]))])
        .lists("deployments", [(200, list(&[deployment()]))])
        .lists("pods", [failure(403, "Forbidden", "pods is forbidden: User \"wva\" cannot list")]);
    let state = start(&api, &Options::default());
    until(&state, "the variant", |state| !state.observe().is_empty()).await;
    // Not announced: it changes no decision. The others are listed meanwhile.
    while state.sync_problem().is_some_and(|problem| problem.contains("not listed yet")) {
        tokio::task::yield_now().await;
    }
    assert!(!state.is_synced());
    let TargetObservation::NotFound { message } = &state.observe()[0].target else { panic!("not withheld") };
    assert!(message.contains("grant the service account get, list and watch on pods"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_the_new_list_is_the_truth() {
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant("old")])), (200, list(&[variant("new")]))])
        .lists("deployments", [(200, list(&[deployment()]))]);
    let state = synced(&api, &Options::default()).await;
    let names = |state: &ClusterState| -> Vec<String> {
        state.observe().iter().map(|observation| observation.variant.key.name.to_string()).collect()
    };
    assert_eq!(names(&state), ["old"]);
    api.send("variantautoscalings", "ERROR", &failure(410, "Expired", "too old resource version").1);
    until(&state, "the new list", |state| names(state) == ["new"]).await;
    assert_eq!(state.sync_problem(), None, "an expired watch is no problem");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_hides_no_other() {
    let mut broken = variant("broken");
    broken["spec"] = json!({"modelID": 7});
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[broken, variant("llama")]))])
        .lists("deployments", [(200, list(&[deployment()]))]);
    let state = synced(&api, &Options::default()).await;
    let observations = state.observe();
    assert!(matches!(observations[0].target, TargetObservation::NotFound { .. }), "{observations:?}");
    assert!(matches!(observations[1].target, TargetObservation::Found(_)), "{observations:?}");
}

#[tokio::test(start_paused = true)]
async fn only_lists_and_watches_are_asked_for_and_replica_sets_by_metadata() {
    let api = DiscoveryApi::new();
    let options = Options {
        namespace: Some("chat".to_owned()),
        controller_instance: Some("blue".to_owned()),
        ..Options::default()
    };
    synced(&api, &options).await;
    let requests = api.requests();
    let is_discovery = |path: &str| path.starts_with("/apis/resource.k8s.io/");
    let requests: Vec<_> = requests.into_iter().filter(|asked| !is_discovery(&asked.path)).collect();
    let paths: BTreeSet<&str> = requests.iter().map(|asked| asked.path.as_str()).collect();
    let expected = [
        "/api/v1/namespaces",
        "/api/v1/namespaces/chat/pods",
        "/api/v1/namespaces/chat/resourcequotas",
        "/api/v1/nodes",
        "/apis/apps/v1/namespaces/chat/deployments",
        "/apis/apps/v1/namespaces/chat/replicasets",
        "/apis/apps/v1/namespaces/chat/statefulsets",
        "/apis/autoscaling/v2/namespaces/chat/horizontalpodautoscalers",
        "/apis/keda.sh/v1alpha1/namespaces/chat/scaledobjects",
        "/apis/llmd.ai/v1alpha1/namespaces/chat/variantautoscalings",
    ];
    assert_eq!(paths.into_iter().collect::<Vec<_>>(), expected);
    assert!(requests.iter().all(|asked| asked.method == "GET"));
    for asked in &requests {
        let metadata_only = asked.accept.contains("PartialObjectMetadata");
        let by_metadata = asked.path.ends_with("/replicasets") || asked.path.ends_with("/namespaces");
        assert_eq!(metadata_only, by_metadata, "{asked:?}");
        let of_this_instance = asked.query.contains("labelSelector=wva.llmd.ai%2Fcontroller-instance%3Dblue");
        assert_eq!(of_this_instance, asked.path.ends_with("/variantautoscalings"), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_watches_end_with_shutdown() {
    let api = DiscoveryApi::new();
    let shutdown = CancellationToken::new();
    let (state, watches) = run(&api.client(), &Options::default(), &shutdown);
    until(&state, "the end of the first listing", ClusterState::is_synced).await;
    assert_eq!(watches.len(), PLURALS.len() + 2, "one watch per kind, and two that find kinds out");
    shutdown.cancel();
    watches.wait().await;
    assert!(watches.is_empty());
}

fn thing(replicas: u32) -> Value {
    let spec = json!({"spec": {"replicas": replicas}, "status": {"replicas": 1}});
    object("example.com/v1", "Thing", "llama-t", &spec)
}

fn variant_of_thing() -> Value {
    let target = json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": "llama-t"});
    let spec = json!({"spec": {"modelID": "meta/llama", "scaleTargetRef": target}});
    object("llmd.ai/v1alpha1", "VariantAutoscaling", "llama", &spec)
}

fn message_of(state: &ClusterState) -> Option<String> {
    match &state.observe().first()?.target {
        TargetObservation::NotFound { message } => Some(message.clone()),
        TargetObservation::Found(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_with_a_scale_subresource_that_is_installed_later_is_picked_up() {
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant_of_thing()]))])
        .lists("things", [(200, list(&[thing(3)]))]);
    let state = synced(&api, &Options::default()).await;
    let says = |part: &'static str| {
        move |state: &ClusterState| message_of(state).is_some_and(|message| message.contains(part))
    };
    until(&state, "that the kind is not served", says("does not serve objects of example.com/v1; install")).await;

    api.install("example.com/v1", "Thing", "things", false);
    until(&state, "that nothing can scale the kind", says("has no scale subresource")).await;

    api.install("example.com/v1", "Thing", "things", true);
    until(&state, "the object", |state| message_of(state).is_none()).await;
    let own =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "name": "llama-t", "uid": "u", "controller": true});
    let mut ready = pod("llama-0", "True");
    ready["metadata"]["ownerReferences"] = json!([own]);
    api.send("pods", "ADDED", &ready);
    until(&state, "the pod", |state| state.identify("chat", "llama-0").is_some()).await;
    let counts = ScaleObservation { spec: 3, current: 1, ready: 1, pending_since: Vec::new() };
    assert_eq!(state.observe()[0].target, TargetObservation::Found(counts), "ready pods are counted");

    api.send("variantautoscalings", "DELETED", &variant_of_thing());
    until(&state, "the end of the variant", |state| state.observe().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_listed_names_the_right_to_grant() {
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant_of_thing()]))])
        .lists("things", [failure(403, "Forbidden", "things is forbidden: User \"wva\" cannot list")]);
    api.install("example.com/v1", "Thing", "things", true);
    let state = synced(&api, &Options::default()).await;
    until(&state, "the remedy", |state| {
        message_of(state).is_some_and(|message| message.contains("get, list and watch on things.example.com"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_rights_on_nodes_variants_are_known_and_the_inventory_is_not() {
    let forbidden = failure(403, "Forbidden", "nodes is forbidden: User \"wva\" cannot list");
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant("llama")]))])
        .lists("deployments", [(200, list(&[deployment()]))])
        .lists("nodes", [forbidden.clone()])
        .lists("namespaces", [forbidden]);
    let state = synced(&api, &Options::default()).await;
    assert!(matches!(state.observe()[0].target, TargetObservation::Found(_)));
    assert_eq!((state.inventory(), state.sync_problem()), (None, None));
}
