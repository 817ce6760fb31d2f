//! The status writer against a mock of the Kubernetes API.

use std::{pin::pin, sync::Arc};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_test::mock::{self, Handle};
use wva::{
    clock::SimulatedClock,
    controller::{Change, Findings, Publication, ReconcileError, StatusWriter, VariantAutoscalingsEngine, status_for},
    crd::{VariantAutoscaling, VariantAutoscalingStatus},
    interfaces::{Decision, Desired, Direction, EngineName, ModelKey, Outcome, Reason, SaturationLevel, VariantKey},
};

type ApiServer = Handle<Request<Body>, Response<Body>>;

fn now() -> Timestamp {
    "2026-05-04T10:11:12Z".parse().unwrap()
}

fn engine() -> (VariantAutoscalingsEngine, ApiServer) {
    let (service, api_server) = mock::pair::<Request<Body>, Response<Body>>();
    let clock = Arc::new(SimulatedClock::new(now()));
    (VariantAutoscalingsEngine::new(Client::new(service, "default"), clock, Some("wva-0".to_owned())), api_server)
}

pub(crate) fn decision(name: &str, current: u32, desired: u32, text: &str) -> Decision {
    Decision {
        variant: VariantKey::new("prod", name),
        model: ModelKey::new("prod", "llama"),
        accelerator: Some("A100".into()),
        current: Some(current),
        ready: current,
        decided_at: now(),
        saturation: SaturationLevel::default(),
        outcome: Outcome::Desired(Desired {
            replicas: desired,
            unconstrained: desired,
            direction: Direction::between(current, desired),
            reason: Reason { engine: EngineName::Saturation, text: text.to_owned() },
            bound_by: None,
            oldest_input: Some(now()),
        }),
    }
}

fn object(name: &str, status: Option<&VariantAutoscalingStatus>) -> VariantAutoscaling {
    let mut object = json!({
        "apiVersion": "llmd.ai/v1alpha1",
        "kind": "VariantAutoscaling",
        "metadata": { "name": name, "namespace": "prod", "uid": "uid-1", "resourceVersion": "7", "generation": 2 },
        "spec": { "scaleTargetRef": { "name": name }, "modelID": "llama" },
    });
    if let Some(status) = status {
        object["status"] = serde_json::to_value(status).unwrap();
    }
    serde_json::from_value(object).unwrap()
}

fn readers() -> Findings {
    Findings { readers: 1, ..Findings::default() }
}

pub(crate) fn publication(object: VariantAutoscaling, decision: Decision) -> Publication {
    Publication { object: Arc::new(object), decision: Some(decision), autoscalers: readers(), annotated: None }
}

/// A request that the mock received.
struct Received {
    method: Method,
    path: String,
    query: String,
    content_type: String,
    body: Value,
}

/// Receives one request and answers it.
async fn answer(api_server: &mut ApiServer, code: u16, body: &Value) -> Received {
    let (request, respond) = pin!(api_server).next_request().await.expect("a request");
    let (parts, received) = request.into_parts();
    let received = received.collect().await.unwrap().to_bytes();
    respond.send_response(Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap());
    Received {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        content_type: parts.headers["content-type"].to_str().unwrap().to_owned(),
        body: serde_json::from_slice(&received).unwrap(),
    }
}

fn refusal(code: u16, reason: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason })
}

#[tokio::test]
async fn a_changed_decision_is_applied_to_the_status_subresource_and_told_as_an_event() {
    let (engine, mut api_server) = engine();
    let before = object("llama-a100", None);
    let publication = publication(before.clone(), decision("llama-a100", 1, 4, "all replicas are saturated"));
    let server = async {
        let patch = answer(&mut api_server, 200, &serde_json::to_value(&before).unwrap()).await;
        let event = answer(&mut api_server, 201, &json!({ "metadata": { "name": "e" } })).await;
        (patch, event)
    };
    let none = VariantAutoscalingStatus::default();
    let (written, (patch, event)) = tokio::join!(engine.reconcile(&publication, &none, Change::Wording), server);

    assert_eq!(patch.method, Method::PATCH);
    assert_eq!(patch.path, "/apis/llmd.ai/v1alpha1/namespaces/prod/variantautoscalings/llama-a100/status");
    assert_eq!(patch.query, "&force=true&fieldManager=wva");
    assert_eq!(patch.content_type, "application/apply-patch+yaml");
    assert_eq!(patch.body["kind"], "VariantAutoscaling");
    let status = &patch.body["status"];
    assert_eq!(status["desiredOptimizedAlloc"]["numReplicas"], 4);
    assert_eq!(status["desiredOptimizedAlloc"]["lastRunTime"], "2026-05-04T10:11:12Z");
    assert_eq!(status["actuation"]["applied"], false);
    assert_eq!(status["conditions"][0]["lastTransitionTime"], "2026-05-04T10:11:12Z");
    assert_eq!(status["conditions"][0]["observedGeneration"], 2);
    assert_eq!(serde_json::to_value(written.unwrap().unwrap().status).unwrap(), *status);

    assert_eq!((event.method, event.path.as_str()), (Method::POST, "/apis/events.k8s.io/v1/namespaces/prod/events"));
    assert_eq!(event.body["reason"], "ScalingUp");
    assert_eq!(event.body["reportingInstance"], "wva-0");
    assert_eq!(event.body["regarding"]["uid"], "uid-1", "kubectl describe finds events by uid");
    assert_eq!(event.body["note"], "desired replicas from 1 to 4: saturation: all replicas are saturated");
}

#[tokio::test]
async fn nothing_is_written_while_nothing_changed() {
    let (engine, api_server) = engine();
    drop(api_server); // A request would fail.
    let decided = decision("llama-a100", 4, 4, "enough");
    let status = status_for(&VariantAutoscalingStatus::default(), Some(2), &decided, &readers(), now());
    let seen_again = object("llama-a100", Some(&status));
    let previous = seen_again.status.clone().unwrap();
    let same = publication(seen_again.clone(), decided);
    assert_eq!(engine.reconcile(&same, &previous, Change::Wording).await.unwrap(), None);

    let reworded = publication(seen_again.clone(), decision("llama-a100", 4, 4, "still enough"));
    assert_eq!(engine.reconcile(&reworded, &previous, Change::Substance).await.unwrap(), None);
    let error = engine.reconcile(&reworded, &previous, Change::Wording).await.unwrap_err();
    assert!(matches!(error, ReconcileError::Write { .. }), "wording is written where it is asked for: {error}");

    let undecided = Publication { decision: None, ..same };
    assert_eq!(engine.reconcile(&undecided, &previous, Change::Wording).await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_write_says_which_object_and_what_to_check() {
    for (code, reason) in [(404, "NotFound"), (403, "Forbidden"), (409, "Conflict"), (422, "Invalid")] {
        let (engine, mut api_server) = engine();
        let publication = publication(object("llama-a100", None), decision("llama-a100", 1, 4, "why"));
        let none = VariantAutoscalingStatus::default();
        let refusal = refusal(code, reason);
        let (written, _) = tokio::join!(
            engine.reconcile(&publication, &none, Change::Wording),
            answer(&mut api_server, code, &refusal)
        );
        let error = written.unwrap_err();
        assert_eq!(matches!(error, ReconcileError::Gone(_)), code == 404);
        assert!(error.to_string().contains("prod/llama-a100"), "{error}");
        let remedy = if code == 403 { "variantautoscalings/status" } else { "the CustomResourceDefinition is wva's" };
        assert!(code == 404 || error.to_string().contains(remedy), "{error}");
    }
}

#[tokio::test]
async fn an_event_that_is_refused_does_not_undo_the_status() {
    let (engine, mut api_server) = engine();
    let before = object("llama-a100", None);
    let publication = publication(before.clone(), decision("llama-a100", 1, 4, "why"));
    let server = async {
        answer(&mut api_server, 200, &serde_json::to_value(&before).unwrap()).await;
        answer(&mut api_server, 403, &refusal(403, "Forbidden")).await;
    };
    let none = VariantAutoscalingStatus::default();
    let (written, ()) = tokio::join!(engine.reconcile(&publication, &none, Change::Wording), server);
    assert!(written.unwrap().is_some());
}

#[tokio::test]
async fn the_worker_writes_what_is_published_and_stops_when_told() {
    let (engine, mut api_server) = engine();
    let (writer, worker) = StatusWriter::new(engine);
    let stop = CancellationToken::new();
    let names = ["llama-a100", "llama-h100", "llama-l4"];
    let publish = async {
        // Of one object only the latest is written: 9 never is.
        writer.publish([publication(object("llama-a100", None), decision("llama-a100", 2, 9, "why"))]);
        writer.publish(names.map(|name| publication(object(name, None), decision(name, 2, 2, "enough"))));
        let mut written = Vec::new();
        for _ in names {
            let patch = answer(&mut api_server, 200, &serde_json::to_value(object("any", None)).unwrap()).await;
            assert_eq!(patch.body["status"]["desiredOptimizedAlloc"]["numReplicas"], 2);
            written.push(patch.path.split('/').nth(7).unwrap().to_owned());
        }
        stop.cancel();
        written.sort();
        written
    };
    let ((), written) = tokio::join!(worker.run(stop.clone()), publish);
    assert_eq!(written, names);
}
