//! Against a mock of kube-apiserver that keeps one Secret and one `APIService`.

use std::sync::{Mutex, PoisonError};

use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::Value;
use tower::service_fn;

use super::*;
use crate::clock::SimulatedClock;

const NAME: &str = "v1beta1.external.metrics.k8s.io";

/// What the mock keeps, and what happened to it.
#[derive(Clone)]
struct Cluster(Arc<Mutex<(Value, Value, Vec<String>)>>);

impl Cluster {
    fn new(api_service: Value) -> Self {
        let secret = json!({"metadata": {"name": "wva-serving-certificate", "resourceVersion": "1"}});
        Self(Arc::new(Mutex::new((secret, api_service, Vec::new()))))
    }

    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (status, answer) = cluster.answer(&parts.method, parts.uri.path(), &body);
                let response = Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }
        });
        Client::new(service, "wva-system")
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method.as_str(), path.contains("/secrets/")) {
            ("GET", true) => (StatusCode::OK, kept.0.clone()),
            ("PUT", true) if body["metadata"]["resourceVersion"] != kept.0["metadata"]["resourceVersion"] => {
                let status = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409});
                (StatusCode::CONFLICT, status)
            }
            ("PUT", true) => {
                let version: u32 = body["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                kept.0 = body;
                kept.0["metadata"]["resourceVersion"] = json!((version + 1).to_string());
                kept.2.push("secret".to_owned());
                (StatusCode::OK, kept.0.clone())
            }
            ("GET", false) => (StatusCode::OK, kept.1.clone()),
            ("PATCH", false) => {
                assert_eq!(body["spec"].as_object().unwrap().len(), 1, "nothing but the caBundle is ours: {body}");
                kept.1["spec"]["caBundle"] = body["spec"]["caBundle"].clone();
                kept.2.push("caBundle".to_owned());
                (StatusCode::OK, kept.1.clone())
            }
            other => panic!("{other:?} {path}"),
        }
    }

    /// The writes since the last look.
    fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().2)
    }

    fn trusted(&self) -> String {
        let kept = self.0.lock().unwrap();
        let bundle: ByteString = serde_json::from_value(kept.1["spec"]["caBundle"].clone()).unwrap();
        String::from_utf8(bundle.0).unwrap()
    }
}

fn api_service(namespace: &str, insecure: bool) -> Value {
    json!({"metadata": {"name": NAME}, "spec": {
        "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": insecure,
        "service": {"name": "wva", "namespace": namespace}}})
}

fn options() -> AuthorityOptions {
    AuthorityOptions {
        namespace: "wva-system".to_owned(),
        secret: "wva-serving-certificate".to_owned(),
        service: "wva".to_owned(),
        names: vec!["wva.wva-system.svc".to_owned()],
        validity: Duration::from_hours(24),
        api_services: vec![NAME.to_owned()],
    }
}

fn clock() -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::new(Timestamp::from_second(1_800_000_000).unwrap()))
}

#[tokio::test]
async fn the_first_replica_makes_a_certificate_and_the_second_serves_the_same() {
    let cluster = Cluster::new(api_service("wva-system", false));
    let clock = clock();
    let first = Authority::open(cluster.client(), options(), clock.clone()).await.unwrap();
    let mut second = Authority::open(cluster.client(), options(), clock.clone()).await.unwrap();
    assert_eq!(first.serving(), second.serving());
    assert_eq!(cluster.writes(), ["secret"]);
    for _ in 0..2 {
        second.look(&|_| panic!("there is nothing new")).await.unwrap();
    }
    assert_eq!(cluster.writes(), ["caBundle"], "written once");
    assert_eq!(cluster.trusted(), second.serving().authority);
}

#[tokio::test]
async fn through_a_rotation_what_any_replica_serves_is_trusted() {
    let cluster = Cluster::new(api_service("wva-system", false));
    let clock = clock();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(Authority::open(cluster.client(), options(), clock.clone()).await.unwrap());
    }
    let first = replicas[0].serving().clone();
    // Replicas look at different times; every look in this day is followed by the check.
    for look in 0..60 {
        clock.advance(Duration::from_mins(20));
        replicas[look % 2].look(&|_| {}).await.unwrap();
        for replica in &replicas {
            assert!(cluster.trusted().contains(&replica.serving().authority), "look {look}");
        }
    }
    let last = replicas[0].serving();
    assert_ne!(*last, first, "it was rotated before it expired");
    assert_eq!(cluster.trusted(), last.authority, "and the old authority is gone");
}

#[tokio::test]
async fn an_api_service_that_is_somebody_elses_or_unverified_is_left_alone() {
    for other in [api_service("keda", false), api_service("wva-system", true)] {
        let cluster = Cluster::new(other);
        let mut authority = Authority::open(cluster.client(), options(), clock()).await.unwrap();
        authority.look(&|_| {}).await.unwrap();
        assert_eq!(cluster.writes(), ["secret"]);
        assert_eq!(authority.said.len(), 1, "{:?}", authority.said);
    }
}
