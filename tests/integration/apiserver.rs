//! The API as its callers see it: kube-apiserver's controllers, the HPA, and people.

use axum::{Router, routing::get};
use http::Version;
use serde_json::json;

use crate::apiserver_harness::{HPA, METRIC, TestServer};

const GROUP: &str = "/apis/external.metrics.k8s.io";
const VERSION: &str = "/apis/external.metrics.k8s.io/v1beta1";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const AS_HPA: [(&str, &str); 2] = [("x-remote-user", HPA), ("accept", "application/vnd.kubernetes.protobuf, */*")];
const AS_ALICE: [(&str, &str); 1] = [("x-remote-user", "alice")];

fn selecting(selector: &str) -> String {
    format!("{METRIC}?labelSelector={selector}")
}

#[tokio::test]
async fn the_availability_controller_finds_the_group_version() {
    let server = TestServer::start().await;
    let masters = [("x-remote-user", "system:kube-aggregator"), ("x-remote-group", "system:masters")];
    for path in [VERSION.to_owned(), format!("{VERSION}/")] {
        let answer = server.kube_apiserver().get(&path, &masters).await;
        assert_eq!((answer.status, answer.version), (200, Version::HTTP_2));
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.json(),
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "external.metrics.k8s.io/v1beta1",
                   "resources": [{"name": "wva_desired_replicas", "singularName": "", "namespaced": true,
                                  "kind": "ExternalMetricValue", "verbs": ["get", "list"]}]})
        );
    }
}

#[tokio::test]
async fn the_discovery_manager_gets_the_aggregated_document_once() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    let mut headers =
        vec![("x-remote-user", "system:kube-aggregator"), ("x-remote-group", "system:masters"), ("accept", AGGREGATED)];
    let answer = client.get("/apis", &headers).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, AGGREGATED));
    assert_eq!((answer.header("vary"), answer.header("cache-control")), ("Accept", "public"));
    assert_eq!(
        answer.json(),
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": [{
            "metadata": {"name": "external.metrics.k8s.io"},
            "versions": [{"version": "v1beta1", "freshness": "Current", "resources": [{
                "resource": "wva_desired_replicas",
                "responseKind": {"group": "external.metrics.k8s.io", "version": "v1beta1", "kind": "ExternalMetricValue"},
                "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list"]}]}]}]})
    );
    let etag = answer.header("etag").to_owned();
    headers.push(("if-none-match", &etag));
    let again = client.get("/apis", &headers).await;
    assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", etag.as_str()));
}

#[tokio::test]
async fn callers_without_groups_are_let_in_to_discovery_as_authenticated() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    for (user, path, kind) in [
        ("system:kube-aggregator", VERSION, "APIResourceList"),
        ("alice", "/apis", "APIGroupList"),
        ("alice", "/apis/", "APIGroupList"),
        ("alice", GROUP, "APIGroup"),
    ] {
        let answer = client.get(path, &[("x-remote-user", user), ("accept", "application/json")]).await;
        assert_eq!((answer.status, &answer.json()["kind"]), (200, &kind.into()), "{path}");
    }
    let link = "/openapi/v3/apis/external.metrics.k8s.io/v1beta1?hash=stale&timeout=32s";
    for (path, key) in [("/openapi/v2", "swagger"), ("/openapi/v3", "paths"), (link, "openapi")] {
        let answer = client.get(path, &[("x-remote-user", "system:aggregator")]).await;
        assert!(answer.status == 200 && answer.json().get(key).is_some(), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_hpa_reads_one_variant() {
    let server = TestServer::start().await;
    let answer = server.kube_apiserver().get(&selecting("variant_name%3Dllama-h100"), &AS_HPA).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("cache-control"), "no-cache, private");
    assert!(answer.headers.get("warning").is_none());
    assert_eq!(
        answer.text,
        r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[{"kind":"ExternalMetricValue","apiVersion":"external.metrics.k8s.io/v1beta1","metricName":"wva_desired_replicas","metricLabels":{"variant_name":"llama-h100"},"timestamp":"2026-11-23T19:29:37Z","value":"21"}]}"#
    );
}

#[tokio::test]
async fn an_ambiguous_selector_is_an_error_to_the_hpa_and_a_warning_to_a_person() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    let two = selecting("variant_name%20in%20(llama-h100,llama-a100)");
    let refused = client.get(&two, &AS_HPA).await;
    assert_eq!((refused.status, &refused.json()["reason"]), (400, &"BadRequest".into()));
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(r#""llama-a100", "llama-h100""#), "{message}");

    let listed = client.get(&two, &AS_ALICE).await;
    assert_eq!(listed.status, 200);
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 2);
    let warning = listed.header("warning");
    assert!(warning.starts_with("299 - \"") && warning.contains("an HPA adds up"), "{warning}");
}

#[tokio::test]
async fn a_withheld_value_is_explained_and_never_asked_for_again_by_itself() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    for headers in [&AS_HPA[..], &AS_ALICE] {
        let answer = client.get(&selecting("variant_name%3Dqwen-l4"), headers).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (503, &"ServiceUnavailable".into()));
        assert_eq!(answer.json()["message"], "variant llm/qwen-l4: metrics are 130 s old, check its ServiceMonitor");
        assert!(answer.headers.get("retry-after").is_none());
    }
    let all = client.get(METRIC, &AS_ALICE).await;
    assert_eq!(all.json()["items"].as_array().unwrap().len(), 2);
    let warnings: Vec<_> = all.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(warnings.iter().any(|warning| warning.contains("left out: variant llm/qwen-l4")), "{warnings:?}");
}

#[tokio::test]
async fn kubectl_lists_all_namespaces() {
    let server = TestServer::start().await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let headers = [("x-remote-user", "alice"), ("accept", table)];
    let answer = server.kube_apiserver().get(&format!("{VERSION}/wva_desired_replicas?limit=500"), &headers).await;
    assert_eq!((answer.status, answer.json()["items"].as_array().unwrap().len()), (200, 2));
}

#[tokio::test]
async fn what_cannot_be_served_is_a_status_that_says_why() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    for (path, code, reason, message) in [
        (selecting("variant_name%3Dllama"), 404, "NotFound", r#"known there: "llama-"#),
        (selecting("a+b"), 400, "BadRequest", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        (format!("{METRIC}?watch=true"), 405, "MethodNotAllowed", "watch is not supported"),
        (format!("{METRIC}?limit=many"), 400, "BadRequest", "invalid syntax"),
        (format!("{METRIC}?fieldSelector=spec.x%3D1"), 400, "BadRequest", "is not a known field selector"),
        (format!("{METRIC}/llama-h100"), 404, "NotFound", "could not find the requested resource"),
        (format!("{VERSION}/namespaces/llm"), 404, "NotFound", "could not find the requested resource"),
        (format!("{VERSION}/namespaces/llm/queue_length"), 404, "NotFound", "served are \"wva_desired_replicas\""),
        ("/apis/custom.metrics.k8s.io".to_owned(), 404, "NotFound", "could not find the requested resource"),
    ] {
        let answer = client.get(&path, &AS_ALICE).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["kind"], &body["reason"]), (code, &"Status".into(), &reason.into()), "{path}");
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &"Failure".into()));
        assert!(body["message"].as_str().unwrap().contains(message), "{path}: {body}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let yaml = client.get(METRIC, &[("x-remote-user", "alice"), ("accept", "application/yaml")]).await;
    assert_eq!((yaml.status, &yaml.json()["reason"]), (406, &"NotAcceptable".into()));
}

#[tokio::test]
async fn every_answer_has_an_audit_id_and_keeps_the_one_it_was_asked_with() {
    let server = TestServer::start().await;
    let client = server.client(None);
    let known = client.get("/livez", &[("audit-id", "4c1b6a1e-3f6b-4e7c-9a36-0a5f8d6a2a11")]).await;
    assert_eq!(known.header("audit-id"), "4c1b6a1e-3f6b-4e7c-9a36-0a5f8d6a2a11");
    let (first, second) = (client.get(METRIC, &[]).await, client.get(METRIC, &[("audit-id", "a b")]).await);
    assert_eq!((first.header("audit-id").len(), second.header("audit-id").len()), (36, 36));
    assert_ne!(first.header("audit-id"), second.header("audit-id"));
}

#[tokio::test]
async fn a_person_with_curl_gets_indented_json() {
    let server = TestServer::start().await;
    let path = selecting("variant_name%3Dllama-h100");
    let curl = [("x-remote-user", "alice"), ("user-agent", "curl/8.5.0")];
    assert!(server.kube_apiserver().get(&path, &curl).await.text.starts_with("{\n"));
    assert!(!server.kube_apiserver().get(&format!("{path}&pretty=false"), &curl).await.text.contains('\n'));
}

#[tokio::test]
async fn extra_routes_are_guarded_and_a_panic_in_one_is_a_status() {
    async fn broken() -> &'static str {
        panic!("a bug")
    }
    let extra =
        Router::new().route("/debug/config/resolved", get(|| async { "{}" })).route("/debug/broken", get(broken));
    let server = TestServer::start_with(extra, |_| {}).await;
    let admin = server.client(Some(&server.cluster.client("admin", "system:masters")));
    assert_eq!(admin.get("/debug/config/resolved", &[]).await.text, "{}");
    let answer = admin.get("/debug/broken", &[]).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (500, &"InternalError".into()));
    assert!(!answer.text.contains("a bug"), "what broke is for the log: {}", answer.text);
    assert_eq!(admin.get("/debug/config/resolved", &[]).await.status, 200, "the connection goes on");
}
