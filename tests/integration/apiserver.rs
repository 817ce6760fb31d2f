//! The API as its callers see it: kube-apiserver's controllers, the HPA, and people.

use axum::{Router, routing::get};
use http::Version;
use serde_json::json;

use wva::constants::MetricsGroup;

use crate::apiserver_harness::{HPA, METRIC, TestServer};

const GROUP: &str = "/apis/external.metrics.k8s.io";
const VERSION: &str = "/apis/external.metrics.k8s.io/v1beta1";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const AS_HPA: [(&str, &str); 1] = [("x-remote-user", HPA)];
/// As the HPA controller really asks.
const PROTOBUF_FIRST: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf, */*");
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
    let document = answer.json();
    assert_eq!(
        document["items"][0],
        json!({
            "metadata": {"name": "external.metrics.k8s.io"},
            "versions": [{"version": "v1beta1", "freshness": "Current", "resources": [{
                "resource": "wva_desired_replicas",
                "responseKind": {"group": "external.metrics.k8s.io", "version": "v1beta1", "kind": "ExternalMetricValue"},
                "scope": "Namespaced", "singularResource": "", "verbs": ["get", "list"]}]}]})
    );
    let group = |index: usize| {
        let versions = document["items"][index]["versions"].as_array().unwrap().iter();
        let versions: Vec<_> = versions.map(|version| version["version"].as_str().unwrap()).collect();
        (document["items"][index]["metadata"]["name"].as_str().unwrap(), versions)
    };
    assert_eq!(group(1), ("custom.metrics.k8s.io", vec!["v1beta2", "v1beta1"]));
    assert_eq!(group(2), ("external.metrics.llmd.ai", vec!["v1beta1"]));
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
        r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[{"kind":"ExternalMetricValue","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{"name":"llama-h100","namespace":"llm"},"metricName":"wva_desired_replicas","metricLabels":{"variant_name":"llama-h100"},"timestamp":"2026-11-23T19:29:37Z","value":"21"}]}"#
    );
}

#[tokio::test]
async fn whoever_prefers_protobuf_gets_values_and_errors_in_it() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    for (path, code, kind, text) in [
        (selecting("variant_name%3Dllama-h100"), 200, "ExternalMetricValueList", "llama-h100"),
        (selecting("variant_name%3Dqwen-l4"), 503, "Status", "metrics are 130 s old"),
        (VERSION.to_owned(), 200, "APIResourceList", "wva_desired_replicas"),
    ] {
        let answer = client.get(&path, &[("x-remote-user", HPA), PROTOBUF_FIRST]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (code, "application/vnd.kubernetes.protobuf"),
            "{path}"
        );
        assert!(answer.bytes.starts_with(b"k8s\0"), "{:?}", answer.bytes);
        assert!(answer.text.contains(kind) && answer.text.contains(text), "{}", answer.text);
    }
}

#[tokio::test]
async fn yaml_is_written_for_whoever_asks_for_it() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    let headers = [("x-remote-user", "alice"), ("accept", "application/yaml")];
    let answer = client.get(&selecting("variant_name%3Dllama-h100"), &headers).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/yaml"));
    assert!(answer.text.starts_with("kind: ExternalMetricValueList\n"), "{}", answer.text);
    assert!(answer.text.contains("metricName: wva_desired_replicas"), "{}", answer.text);
    let refused = client.get(&selecting("variant_name%3Dqwen-l4"), &headers).await;
    assert_eq!((refused.status, refused.header("content-type")), (503, "application/yaml"));
    assert!(refused.text.contains("reason: ServiceUnavailable"), "{}", refused.text);
}

#[tokio::test]
async fn one_variant_is_read_by_its_name_and_its_number_explained() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    let one = client.get(&format!("{METRIC}/llama-h100"), &AS_ALICE).await;
    assert_eq!(
        (one.status, &one.json()["kind"], &one.json()["value"]),
        (200, &"ExternalMetricValue".into(), &"21".into())
    );
    let explained = client.get(&format!("{METRIC}/llama-h100/explain"), &AS_ALICE).await;
    assert_eq!(explained.status, 200, "{}", explained.text);
    assert_eq!(
        explained.json(),
        json!({"kind": "VariantExplanation", "apiVersion": "external.metrics.k8s.io/v1beta1",
               "metadata": {"name": "llama-h100", "namespace": "llm"}, "summary": {"desired": 21}})
    );
    let absent = client.get(&format!("{METRIC}/llama-h10/explain"), &AS_ALICE).await;
    assert_eq!(absent.status, 404);
    assert!(absent.json()["message"].as_str().unwrap().contains(r#"known there: "llama-h100""#), "{}", absent.text);
    let stranger = client.get(&format!("{METRIC}/llama-h100/explain"), &[("x-remote-user", "eve")]).await;
    assert_eq!(stranger.status, 403);
}

#[tokio::test]
async fn the_same_value_is_a_property_of_the_scale_target_in_both_versions() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    let path = |version: &str, object: &str, rest: &str| {
        format!("/apis/custom.metrics.k8s.io/{version}/namespaces/llm/{object}/wva_desired_replicas{rest}")
    };
    let object = json!({"kind": "Deployment", "namespace": "llm", "name": "llama-h100", "apiVersion": "apps/v1"});
    let newer = client.get(&path("v1beta2", "deployments.apps/llama-h100", ""), &AS_HPA).await.json();
    assert_eq!(
        newer,
        json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {}, "items": [{
            "describedObject": object, "metric": {"name": "wva_desired_replicas", "selector": null},
            "timestamp": "2026-11-23T19:29:37Z", "value": "21"}]})
    );
    let selecting = "?metricLabelSelector=variant_name%3Dllama-h100";
    let older = client.get(&path("v1beta1", "deployment/llama-h100", selecting), &AS_HPA).await.json();
    assert_eq!(
        older,
        json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta1", "metadata": {}, "items": [{
            "describedObject": object, "metricName": "wva_desired_replicas", "timestamp": "2026-11-23T19:29:37Z",
            "value": "21", "selector": {"matchLabels": {"variant_name": "llama-h100"}}}]})
    );
    let all = client.get(&path("v1beta2", "deployments.apps/*", ""), &AS_ALICE).await;
    assert_eq!((all.status, all.json()["items"].as_array().unwrap().len()), (200, 2));
    let root = |rest: &str| format!("/apis/custom.metrics.k8s.io/v1beta2/{rest}");
    let everywhere = client.get(&root("deployments.apps/*/wva_desired_replicas"), &AS_ALICE).await;
    assert_eq!((everywhere.status, &everywhere.json()["items"]), (200, &all.json()["items"]), "of all namespaces");
    for (path, code, message) in [
        (root("deployments.apps/*/wva_desired_replicas"), 400, "which an HPA adds up"),
        (root("deployments.apps/llama-h100/wva_desired_replicas"), 404, "ask for it below its namespace"),
        (
            root("nodes/n/wva_desired_replicas"),
            404,
            "could not find the metric wva_desired_replicas for nodes n: metrics here are those of deployments.apps, ",
        ),
        (
            root("namespaces/llm/metrics/wva_desired_replicas"),
            404,
            "could not find the metric wva_desired_replicas for namespaces llm: metrics here are",
        ),
        (path("v1beta2", "deployments.apps/*", ""), 400, "which an HPA adds up"),
        (path("v1beta2", "deployments.apps/llama-h10", ""), 404, r#"of Deployment "llama-h10"; known there"#),
        (
            path("v1beta2", "pods/llama-h100", ""),
            404,
            "could not find the metric wva_desired_replicas for pods llama-h100",
        ),
        (path("v1beta2", "deployments.apps/llama-h100", "/deeper"), 404, "could not find the requested resource"),
        (path("v1beta2", "deployments.apps/*", "?labelSelector=app%3Da"), 400, "select series by metricLabelSelector"),
    ] {
        let answer = client.get(&path, &AS_HPA).await;
        assert_eq!(answer.status, code, "{path}: {}", answer.text);
        assert!(answer.json()["message"].as_str().unwrap().contains(message), "{path}: {}", answer.text);
    }
    let protobuf = client
        .get(&path("v1beta2", "deployments.apps/llama-h100", ""), &[("x-remote-user", HPA), PROTOBUF_FIRST])
        .await;
    assert!(protobuf.bytes.starts_with(b"k8s\0") && protobuf.text.contains("MetricValueList"), "{}", protobuf.text);
}

#[tokio::test]
async fn our_own_group_serves_the_same() {
    let server = TestServer::start().await;
    let path = METRIC.replace("external.metrics.k8s.io", "external.metrics.llmd.ai");
    let answer = server.kube_apiserver().get(&format!("{path}?labelSelector=variant_name%3Dllama-h100"), &AS_HPA).await;
    assert_eq!((answer.status, &answer.json()["apiVersion"]), (200, &"external.metrics.llmd.ai/v1beta1".into()));
    assert_eq!(answer.json()["items"][0]["value"], "21");
}

#[tokio::test]
async fn the_index_lists_what_can_be_asked_and_all_of_it_is_there() {
    let server = TestServer::start().await;
    let admin = server.client(Some(&server.cluster.client("admin", "system:masters")));
    let index = admin.get("/", &[]).await.json();
    let paths: Vec<_> = index["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert!(paths.contains(&"/apis/custom.metrics.k8s.io/v1beta2"), "{paths:?}");
    for path in paths {
        assert_eq!(admin.get(path, &[]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn only_configured_groups_are_there() {
    let server = TestServer::start_serving(&[MetricsGroup::Custom]).await;
    let client = server.kube_apiserver();
    let groups = client.get("/apis", &AS_ALICE).await.json();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 1);
    assert_eq!(client.get(METRIC, &AS_ALICE).await.status, 404);
    let paths = client.get("/openapi/v3", &AS_ALICE).await.json();
    assert_eq!(paths["paths"].as_object().unwrap().len(), 2, "{paths}");
}

#[tokio::test]
async fn an_alias_of_the_namespace_label_and_of_nothing_else_is_accepted() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    // The provider's series have no label `namespace`: what would match it does not.
    let of = |selector: &'static str| {
        let path = selecting(&format!("variant_name%3Dllama-h100,{selector}"));
        let client = &client;
        async move { client.get(&path, &AS_ALICE).await.status }
    };
    assert_eq!((of("!exported_namespace").await, of("exported_namespace%3Dllm").await), (200, 404));
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
async fn kubectl_gets_a_table_that_shows_withheld_variants_too() {
    let server = TestServer::start().await;
    let client = server.kube_apiserver();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let headers = [("x-remote-user", "alice"), ("accept", table)];
    let answer = client.get(&format!("{VERSION}/wva_desired_replicas?limit=500"), &headers).await;
    assert_eq!(answer.header("content-type"), "application/json;as=Table;v=v1;g=meta.k8s.io");
    let document = answer.json();
    let columns: Vec<_> = document["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Variant", "Model", "Accelerator", "Desired", "Current", "Reason", "Age"]);
    assert_eq!(
        document["rows"][1],
        json!({"cells": ["llama-h100", "meta/llama", "H100", 21, 20, "saturation: busy", "7s"],
               "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                          "metadata": {"name": "llama-h100", "namespace": "llm"}}})
    );
    let withheld = &document["rows"][2]["cells"];
    assert_eq!((&withheld[0], &withheld[3]), (&"qwen-l4".into(), &serde_json::Value::Null));
    assert!(withheld[5].as_str().unwrap().contains("metrics are 130 s old"), "{withheld}");

    let one = client.get(&format!("{METRIC}/llama-h100?includeObject=None"), &headers).await.json();
    assert_eq!((one["rows"].as_array().unwrap().len(), one["rows"][0].get("object")), (1, None));
    let error = client.get(&format!("{METRIC}/llama-h10"), &headers).await;
    assert_eq!((error.status, error.header("content-type")), (404, "application/json"));
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
        (format!("{METRIC}/llama-h10"), 404, "NotFound", r#"as "llama-h10"; known there: "llama-h100""#),
        (format!("{METRIC}/llama-h100/scale"), 404, "NotFound", "could not find the requested resource"),
        (format!("{METRIC}/llama-h100/explain/more"), 404, "NotFound", "could not find the requested resource"),
        (format!("{VERSION}/namespaces/llm"), 404, "NotFound", "could not find the requested resource"),
        (format!("{VERSION}/namespaces/llm/queue_length"), 404, "NotFound", "served are \"wva_desired_replicas\""),
        ("/apis/custom.metrics.k8s.io/v1".to_owned(), 404, "NotFound", "could not find the requested resource"),
    ] {
        let answer = client.get(&path, &AS_ALICE).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["kind"], &body["reason"]), (code, &"Status".into(), &reason.into()), "{path}");
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &"Failure".into()));
        assert!(body["message"].as_str().unwrap().contains(message), "{path}: {body}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let cbor = client.get(METRIC, &[("x-remote-user", "alice"), ("accept", "application/cbor")]).await;
    assert_eq!((cbor.status, &cbor.json()["reason"]), (406, &"NotAcceptable".into()));
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
