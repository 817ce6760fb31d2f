//! Against a kube-apiserver that answers what a test has scripted.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::LazyLock,
};

use ::http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::{
    client::Body,
    runtime::{reflector, watcher},
};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    clock::SimulatedClock,
    fleet::{Exposition, Request as FleetRequest},
};

const NODE: &str = "fleet-nvidia-h100-80gb-hbm3-0";

/// A port that is free on every loopback address but the one this holds, so that nobody else gets it meanwhile.
static FREE_PORT: LazyLock<TcpListener> = LazyLock::new(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());

struct Bed {
    clock: Arc<SimulatedClock>,
    context: Arc<Context>,
    server: JoinHandle<Vec<(Method, String, Value)>>,
}

impl Bed {
    /// A bed whose kube-apiserver gives these answers in turn, and whose pod watch has seen `known`.
    fn new(answers: Vec<Value>, known: &[Pod]) -> Self {
        let (service, mut requests) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for answer in answers {
                let (request, send) = requests.next_request().await.expect("one request more");
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                seen.push((parts.method, parts.uri.to_string(), serde_json::from_slice(&body).unwrap_or_default()));
                send.send_response(Response::new(Body::from(serde_json::to_vec(&answer).unwrap())));
            }
            seen
        });
        let client = Client::new(service, "default");
        let clock = Arc::new(SimulatedClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
        let (store, mut writer) = reflector::store();
        for pod in known {
            writer.apply_watcher_event(&watcher::Event::Apply(pod.clone()));
        }
        let context = Arc::new(Context {
            fleet: Arc::new(LiveFleet::new(clock.clone(), Exposition::default())),
            nodes: Nodes::new(client.clone(), "fleet", &["NVIDIA-H100-80GB-HBM3=1x2".parse().unwrap()]),
            client,
            store,
            addresses: LoopbackAddresses::new(),
            replicas: HashMap::new().into(),
            placed: HashMap::new().into(),
            servers: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        });
        Self { clock, context, server }
    }

    async fn reconcile(&self, pod: &Pod) -> Action {
        reconcile(Arc::new(pod.clone()), self.context.clone()).await.unwrap()
    }

    /// What kube-apiserver was asked; fails unless it was asked as often as it had answers.
    async fn asked(self) -> Vec<(Method, String, Value)> {
        self.context.shutdown.cancel();
        drop(self.context);
        self.server.await.unwrap()
    }
}

fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": format!("uid-of-{name}"),
            "annotations": {
                "wva.llmd.ai/fleet-profile": "qwen3-32b-2xh100",
                "wva.llmd.ai/fleet-model": "qwen",
                "wva.llmd.ai/fleet-cold-start": "5s",
                "prometheus.io/port": FREE_PORT.local_addr().unwrap().port().to_string(),
            },
        },
        "spec": { "containers": [{ "name": "vllm" }] },
    });
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

fn on_node(pod: &mut Value) {
    pod["spec"]["nodeName"] = NODE.into();
}

fn nodes() -> Value {
    json!({ "apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": [{
        "metadata": { "name": NODE },
        "status": { "allocatable": { "nvidia.com/gpu": "2" } },
    }] })
}

fn success() -> Value {
    json!({ "apiVersion": "v1", "kind": "Status", "status": "Success" })
}

#[tokio::test]
async fn a_pending_pod_is_placed_and_takes_its_accelerators_before_the_watch_says_so() {
    let bed = Bed::new(vec![nodes(), success(), nodes(), json!(pod("b", |_| ()))], &[]);
    assert_eq!(bed.reconcile(&pod("a", |_| ())).await, Action::await_change());
    assert_eq!(bed.reconcile(&pod("b", |_| ())).await, Action::requeue(UNPLACED_RETRY));

    let asked = bed.asked().await;
    assert_eq!(asked[0].1, "/api/v1/nodes?&labelSelector=wva.llmd.ai%2Ffleet%3Dfleet");
    let (method, path, binding) = &asked[1];
    assert_eq!((method, path.as_str()), (&Method::POST, "/api/v1/namespaces/default/pods/a/binding?"));
    assert_eq!(binding["target"]["name"], NODE);
    assert_eq!(binding["metadata"]["uid"], "uid-of-a");
    let condition = &asked[3].2["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Unschedulable");
    assert_eq!(condition["message"], "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.");
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_is_told_once() {
    let full = pod("running", on_node);
    let bed = Bed::new(vec![nodes()], &[full]);
    let told = pod("b", |pod| {
        let message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.";
        pod["status"] = status::unschedulable(message, SystemClock.now())["status"].clone();
    });
    assert_eq!(bed.reconcile(&told).await, Action::requeue(UNPLACED_RETRY));
    assert_eq!(bed.asked().await.len(), 1, "only the nodes were read");
}

#[tokio::test]
async fn a_placed_pod_starts_cold_and_is_then_ready_at_an_address_of_its_own() {
    let placed = pod("a", on_node);
    let bed = Bed::new(vec![json!(placed)], std::slice::from_ref(&placed));
    assert_eq!(bed.reconcile(&placed).await, Action::requeue(Duration::from_millis(5001)));
    bed.clock.advance(Duration::from_secs(2));
    assert_eq!(bed.reconcile(&placed).await, Action::requeue(Duration::from_millis(3001)), "looking restarts nothing");
    bed.clock.advance(Duration::from_secs(3));
    assert_eq!(bed.reconcile(&placed).await, Action::await_change());

    let address = bed.context.replicas.lock().unwrap()["uid-of-a"].address.unwrap();
    assert!(address.is_loopback());
    let ready = pod("a", |pod| {
        on_node(pod);
        pod["status"] = status::ready(&placed, address, SystemClock.now())["status"].clone();
    });
    assert_eq!(bed.reconcile(&ready).await, Action::await_change(), "nothing is left to do");

    let asked = bed.asked().await;
    assert_eq!(asked[0].0, Method::PATCH);
    assert!(asked[0].1.starts_with("/api/v1/namespaces/default/pods/a/status?"), "{}", asked[0].1);
    assert_eq!(asked[0].2["status"]["podIP"], address.to_string());
    assert_eq!(asked[0].2["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_pod_that_a_former_process_had_ready_is_taken_over_where_it_is() {
    let address = IpAddr::from([127, 88, 77, 66]);
    let running = pod("a", |pod| {
        on_node(pod);
        pod["status"] = status::ready(&Pod::default(), address, SystemClock.now())["status"].clone();
    });
    let bed = Bed::new(vec![], std::slice::from_ref(&running));
    assert_eq!(bed.reconcile(&running).await, Action::await_change());
    let replica = bed.context.replicas.lock().unwrap()["uid-of-a"].clone();
    assert_eq!(replica.address, Some(address));
    let state =
        bed.context.fleet.with(|fleet| fleet.pool(&replica.model).unwrap().replica(replica.id).unwrap().state());
    assert_eq!(state, ReplicaState::Ready);
    bed.asked().await;
}

/// A bed with pod `a` ready and working on a request that takes minutes.
async fn busy(answers: Vec<Value>) -> Bed {
    let running = pod("a", |pod| {
        on_node(pod);
        let address = IpAddr::from([127, 88, 77, 65]);
        pod["status"] = status::ready(&Pod::default(), address, SystemClock.now())["status"].clone();
    });
    let bed = Bed::new(answers, std::slice::from_ref(&running));
    bed.reconcile(&running).await;
    let replica = bed.context.replicas.lock().unwrap()["uid-of-a"].clone();
    bed.context.fleet.with(|fleet| {
        let now = fleet.now();
        fleet.pool_mut(&replica.model).unwrap().submit(FleetRequest::new(now, 100, 10_000));
    });
    bed
}

fn deleted(deadline: &str) -> Pod {
    pod("a", |pod| {
        on_node(pod);
        pod["metadata"]["deletionTimestamp"] = deadline.into();
    })
}

fn requests(bed: &Bed) -> (u64, u64) {
    let requests = bed.context.fleet.report().models[0].requests;
    (requests.completed, requests.aborted)
}

#[tokio::test]
async fn a_deleted_pod_finishes_its_requests_before_it_goes() {
    let bed = busy(vec![success()]).await;
    let deleted = deleted("9999-01-01T00:00:00Z");
    assert_eq!(bed.reconcile(&deleted).await, Action::requeue(DRAIN_RETRY));
    bed.clock.advance(Duration::from_mins(10));
    assert_eq!(bed.reconcile(&deleted).await, Action::await_change());
    assert_eq!(requests(&bed), (1, 0));
    assert!(bed.context.replicas.lock().unwrap().is_empty());

    let asked = bed.asked().await;
    assert_eq!((&asked[0].0, asked[0].1.as_str()), (&Method::DELETE, "/api/v1/namespaces/default/pods/a?"));
    assert_eq!(asked[0].2["gracePeriodSeconds"], 0);
    assert_eq!(asked[0].2["preconditions"]["uid"], "uid-of-a", "a successor of that name is left alone");
}

#[tokio::test]
async fn at_the_end_of_its_grace_a_deleted_pod_goes_as_it_is() {
    let bed = busy(vec![success()]).await;
    assert_eq!(bed.reconcile(&deleted("2020-01-01T00:00:00Z")).await, Action::await_change());
    assert_eq!(requests(&bed), (0, 1));
    bed.asked().await;
}

#[tokio::test]
async fn a_pod_that_vanished_takes_its_replica_with_it() {
    let bed = busy(vec![]).await;
    bed.context.sweep().await;
    assert_eq!(bed.context.replicas.lock().unwrap().len(), 1, "it is still there");
    let empty = Arc::new(Context { store: reflector::store().0, ..Arc::into_inner(bed.context).unwrap() });
    empty.sweep().await;
    assert!(empty.replicas.lock().unwrap().is_empty());
    assert_eq!(empty.fleet.report().models[0].requests.aborted, 1);
}

#[tokio::test]
async fn pods_of_others_and_pods_that_ask_for_nonsense_are_left_alone() {
    let bed = Bed::new(vec![], &[]);
    for change in [
        (|pod: &mut Value| pod["metadata"]["annotations"] = json!({})) as fn(&mut Value),
        |pod| pod["metadata"]["annotations"]["wva.llmd.ai/fleet-profile"] = "no such".into(),
        |pod| pod["spec"]["nodeName"] = "a-real-node".into(),
    ] {
        assert_eq!(bed.reconcile(&pod("a", change)).await, Action::await_change());
    }
    bed.asked().await;
}
