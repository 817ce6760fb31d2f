//! Metrics of another adapter, read through us.

use std::{fs, sync::Arc, time::Duration};

use http::StatusCode;
use tempfile::TempDir;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path, query_param},
};
use wva::{
    clock::SystemClock,
    delegation::{Adapter, AdapterOptions, Rules},
};

use crate::apiserver_harness::{HPA, METRIC, TestServer};

const THEIRS: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/s0-cron";
const UNKNOWN: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/cron";

/// A server beside another adapter, and the folder with its token.
async fn beside(other: &MockServer) -> (TestServer, TempDir) {
    // An error means that one is chosen already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "t0ken\n").unwrap();
    let options = AdapterOptions {
        url: other.uri().parse().unwrap(),
        authority: None,
        token,
        timeout: Duration::from_millis(300),
        rules: Rules {
            metrics: vec!["wva_desired_replicas".to_owned()],
            prefixes: vec!["s0-".to_owned()],
            label_keys: vec!["scaledobject.keda.sh/name".to_owned()],
        },
    };
    let adapter = Adapter::new(options, Arc::new(SystemClock)).unwrap();
    (TestServer::start_beside(Arc::new(adapter)).await, folder)
}

const AS_HPA: [(&str, &str); 1] = [("x-remote-user", HPA)];

#[tokio::test]
async fn a_claimed_metric_is_answered_by_the_other_adapter_unmodified_and_asked_for_as_ourselves() {
    let other = MockServer::start().await;
    let protobuf = b"k8s\0\x0a\xff anything".to_vec();
    let answer = ResponseTemplate::new(200)
        .set_body_raw(protobuf.clone(), "application/vnd.kubernetes.protobuf")
        .insert_header("retry-after", "7");
    Mock::given(method("GET"))
        .and(path(THEIRS))
        .and(query_param("labelSelector", "a=b,c in (d,e)"))
        .and(header("authorization", "Bearer t0ken"))
        .and(header("audit-id", "42"))
        .respond_with(answer)
        .expect(1)
        .mount(&other)
        .await;
    let (server, _folder) = beside(&other).await;
    let headers = [AS_HPA[0], ("accept", "application/vnd.kubernetes.protobuf, */*"), ("audit-id", "42")];
    let asked = format!("{THEIRS}?labelSelector=a%3Db%2Cc+in+%28d%2Ce%29");
    let answer = server.kube_apiserver().get(&asked, &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/vnd.kubernetes.protobuf");
    assert_eq!(answer.header("retry-after"), "", "it would block a worker of the HPA");
    assert_eq!(answer.text, String::from_utf8_lossy(&protobuf));
    let received = &other.received_requests().await.unwrap()[0];
    assert_eq!(received.headers["accept"], "application/vnd.kubernetes.protobuf, */*");
    assert!(!received.headers.keys().any(|name| name.as_str().starts_with("x-remote")), "we speak for ourselves");
}

#[tokio::test]
async fn a_label_key_claims_ours_are_never_passed_on_and_what_nobody_claims_is_not_found() {
    let other = MockServer::start().await;
    Mock::given(path(UNKNOWN)).respond_with(ResponseTemplate::new(200).set_body_string("theirs")).mount(&other).await;
    let (server, _folder) = beside(&other).await;
    let client = server.kube_apiserver();
    let by_key = format!("{UNKNOWN}?labelSelector=scaledobject.keda.sh%2Fname%3Dx");
    assert_eq!(client.get(&by_key, &AS_HPA).await.text, "theirs");
    assert_eq!(client.get(UNKNOWN, &AS_HPA).await.status, 404);
    // Even though a rule names it.
    let ours = format!("{METRIC}?labelSelector=variant_name%3Dllama-h100");
    let answer = client.get(&ours, &AS_HPA).await;
    assert_eq!((answer.status, &answer.json()["items"][0]["value"]), (200, &"21".into()));
    assert_eq!(other.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_reads_through_us_what_they_may_not_read() {
    let other = MockServer::start().await;
    let (server, _folder) = beside(&other).await;
    let bob = server.client(Some(&server.cluster.client("bob", "dev")));
    assert_eq!(bob.get(THEIRS, &[]).await.status, 403);
    assert_eq!(server.client(None).get(THEIRS, &[]).await.status, 403);
    let hpa = server.kube_apiserver();
    assert_eq!(hpa.send(http::Method::POST, THEIRS, &AS_HPA).await.status, 405, "only reads are passed on");
    assert!(other.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failing_adapter_fails_its_metrics_and_is_then_left_alone_while_ours_are_served() {
    let other = MockServer::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    Mock::given(path(THEIRS)).respond_with(slow).mount(&other).await;
    let (server, _folder) = beside(&other).await;
    let client = server.kube_apiserver();
    for _ in 0..5 {
        let answer = client.get(THEIRS, &AS_HPA).await;
        assert_eq!(answer.status, 503);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&other.uri()) && message.contains("did not answer within 300ms"), "{message}");
    }
    let answer = client.get(THEIRS, &AS_HPA).await;
    assert!(answer.json()["message"].as_str().unwrap().contains("not asked again before"), "{}", answer.text);
    assert_eq!(other.received_requests().await.unwrap().len(), 5);
    let ours = format!("{METRIC}?labelSelector=variant_name%3Dllama-h100");
    assert_eq!(client.get(&ours, &AS_HPA).await.status, 200);
}

#[tokio::test]
async fn an_adapters_own_error_is_passed_on_and_a_way_back_to_wva_is_cut() {
    let other = MockServer::start().await;
    let status = r#"{"kind":"Status","code":500,"message":"no such scaler"}"#;
    let answer = ResponseTemplate::new(StatusCode::INTERNAL_SERVER_ERROR).set_body_string(status);
    Mock::given(path(THEIRS)).respond_with(answer).mount(&other).await;
    let (server, _folder) = beside(&other).await;
    let client = server.kube_apiserver();
    for _ in 0..7 {
        let answer = client.get(THEIRS, &AS_HPA).await;
        assert_eq!((answer.status, answer.text.as_str()), (500, status), "an answer is no failure of the adapter");
    }
    let received = other.received_requests().await.unwrap();
    let mark = received[0].headers.iter().find(|(name, _)| name.as_str() == "x-wva-delegated").unwrap();
    let looped = [AS_HPA[0], ("x-wva-delegated", mark.1.to_str().unwrap())];
    let answer = client.get(THEIRS, &looped).await;
    assert!(answer.status == 503 && answer.text.contains("leads back to wva"), "{}", answer.text);
}
