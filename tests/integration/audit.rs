//! The audit log: what is written of requests, and that no read waits for it.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wva::{
    apiserver::{
        AuditFile, AuditFormat, AuditLog, AuditMetrics, AuditPolicy, AuditWebhook, Auditor, EventCollector, PostError,
        WebhookLimits,
    },
    telemetry::MetricsRegistry,
};

use crate::apiserver_harness::{METRIC, TestServer};

const ALL: &str = "rules: [{level: Metadata}]";

async fn open(folder: &Path, policy: &str, buffer: usize, metrics: AuditMetrics) -> (Auditor, AuditLog) {
    let path = folder.join("policy.yaml");
    std::fs::write(&path, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{policy}\n")).unwrap();
    let policy = AuditPolicy::read(&path).await.unwrap();
    let path = folder.join("audit.log");
    let file = AuditFile { path, max_size: None, max_backups: None, max_age: None, compress: false };
    let (auditor, waiting) = Auditor::new(policy, metrics).with_buffer(buffer);
    (auditor, AuditLog::open(waiting, file, AuditFormat::Json).unwrap())
}

/// What was written, once the log ended.
async fn written(folder: &Path, log: AuditLog) -> Vec<Value> {
    let stop = CancellationToken::new();
    // Stopped before it begins: what waits is written all the same.
    stop.cancel();
    log.run(stop).await;
    let text = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The events on the request with this id: stage and code of each.
fn of<'a>(events: &'a [Value], id: &str) -> Vec<(&'a str, Option<u64>)> {
    let events = events.iter().filter(|event| event["auditID"] == id);
    events.map(|event| (event["stage"].as_str().unwrap(), event["responseStatus"]["code"].as_u64())).collect()
}

#[tokio::test]
async fn every_request_is_written_with_who_asked_for_what_and_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (auditor, log) = open(folder.path(), ALL, 100, AuditMetrics::default()).await;
    let broken = Router::new().route("/debug/broken", get(async || -> &'static str { panic!("as intended") }));
    let server = TestServer::start_audited(auditor, broken).await;
    let proxy = server.kube_apiserver();
    let one = format!("{METRIC}?labelSelector=variant_name%3Dllama-h100");
    let stale = format!("{METRIC}?labelSelector=variant_name%3Dqwen-l4");
    let ask = async |path: &str, user: &str, id: &str| {
        let headers = [
            ("x-remote-user", user),
            ("x-remote-group", if user == "admin" { "system:masters" } else { "dev" }),
            ("audit-id", id),
            ("x-forwarded-for", "10.1.2.3"),
            ("user-agent", "kubectl/v1.37"),
        ];
        proxy.get(path, &headers).await.status
    };
    // The second is answered out of what the connection remembers of the first.
    assert_eq!((ask(&one, "alice", "first").await, ask(&one, "alice", "second").await), (200, 200));
    assert_eq!((ask(&stale, "alice", "stale").await, ask(&one, "bob", "bob").await), (503, 403));
    assert_eq!(ask("/debug/broken", "admin", "broken").await, 500);
    let stranger = server.client(None);
    assert_eq!(stranger.get("/livez", &[("audit-id", "health")]).await.status, 200);
    let garbage = [("audit-id", "garbage"), ("authorization", "Bearer garbage")];
    assert_eq!(stranger.get(METRIC, &garbage).await.status, 401);

    let events = written(folder.path(), log).await;
    let whole = |code| vec![("RequestReceived", None), ("ResponseComplete", Some(code))];
    for (id, code) in [("first", 200), ("second", 200), ("stale", 503), ("bob", 403), ("health", 200)] {
        assert_eq!(of(&events, id), whole(code), "{id}");
    }
    assert_eq!(of(&events, "broken"), [("RequestReceived", None), ("Panic", Some(500))]);
    assert_eq!(of(&events, "garbage"), [("ResponseStarted", Some(401))]);
    let last = |id: &str| events.iter().rfind(|event| event["auditID"] == id).unwrap();
    for id in ["first", "second"] {
        let event = last(id);
        assert_eq!(
            (&event["level"], &event["verb"], &event["requestURI"]),
            (&json!("Metadata"), &json!("list"), &json!(one))
        );
        assert_eq!(event["user"], json!({"username": "alice", "groups": ["dev", "system:authenticated"]}), "{id}");
        assert_eq!(event["sourceIPs"], json!(["10.1.2.3", "127.0.0.1"]));
        assert_eq!(event["userAgent"], "kubectl/v1.37");
        assert_eq!(
            event["objectRef"],
            json!({"resource": "wva_desired_replicas", "namespace": "llm", "apiGroup": "external.metrics.k8s.io",
                   "apiVersion": "v1beta1"})
        );
        assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow", "{id}");
    }
    assert!(last("stale")["responseStatus"]["message"].as_str().unwrap().contains("130 s old"));
    assert_eq!(last("bob")["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(last("health")["user"]["username"], "system:anonymous");
    assert_eq!(last("garbage")["responseStatus"]["message"], "Authentication failed, attempted: bearer");
    assert!(last("broken")["responseStatus"]["message"].as_str().unwrap().contains("as intended"));
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert!(!text.contains("Bearer"), "no credential is written");
}

#[tokio::test]
async fn what_the_policy_leaves_out_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "omitStages: [RequestReceived]
rules:
- {level: None, nonResourceURLs: ['/livez*', /metrics]}
- {level: Request, resources: [{group: external.metrics.k8s.io}], users: [alice]}
";
    let (auditor, log) = open(folder.path(), policy, 100, AuditMetrics::default()).await;
    let server = TestServer::start_audited(auditor, Router::new()).await;
    let proxy = server.kube_apiserver();
    for user in ["alice", "bob"] {
        proxy.get(METRIC, &[("x-remote-user", user)]).await;
        proxy.get("/livez", &[("x-remote-user", user)]).await;
    }
    let events = written(folder.path(), log).await;
    let [event] = events.as_slice() else { panic!("{events:#?}") };
    assert_eq!((&event["stage"], &event["level"]), (&json!("ResponseComplete"), &json!("Request")));
    assert_eq!(event["user"]["username"], "alice");
}

#[tokio::test]
async fn a_client_that_went_away_is_told_of_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let (auditor, log) = open(folder.path(), ALL, 100, AuditMetrics::default()).await;
    let hangs = Router::new().route("/debug/slow", get(std::future::pending::<&'static str>));
    let server = TestServer::start_audited(auditor, hangs).await;
    let admin = server.cluster.client("admin", "system:masters");
    let client = server.client(Some(&admin));
    let headers = [("audit-id", "gone")];
    let hasty = tokio::time::timeout(Duration::from_millis(100), client.get("/debug/slow", &headers));
    assert!(hasty.await.is_err());
    // The reset of the request comes before this one.
    assert_eq!(client.get("/livez", &[]).await.status, 200);
    let events = written(folder.path(), log).await;
    assert_eq!(of(&events, "gone"), [("RequestReceived", None), ("ResponseComplete", Some(200))]);
    let end = events.iter().rfind(|event| event["auditID"] == "gone").unwrap();
    assert_eq!(end["responseStatus"]["message"], "Connection closed early");
}

#[tokio::test]
async fn reads_are_answered_while_nothing_can_be_written_and_what_is_lost_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = MetricsRegistry::new();
    let metrics = AuditMetrics::register(registry.registry_mut());
    // Nobody writes until the end.
    let (auditor, log) = open(folder.path(), ALL, 3, metrics).await;
    let server = TestServer::start_audited(auditor, Router::new()).await;
    let proxy = server.kube_apiserver();
    for _ in 0..10 {
        let one = format!("{METRIC}?labelSelector=variant_name%3Dllama-h100");
        assert_eq!(proxy.get(&one, &[("x-remote-user", "alice")]).await.status, 200);
    }
    let text = registry.encode().unwrap();
    for line in [
        "apiserver_audit_event_total 20",
        r#"apiserver_audit_error_total{plugin="buffered"} 17"#,
        r#"apiserver_audit_level_total{level="Metadata"} 10"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(written(folder.path(), log).await.len(), 3);
}

/// Takes lists, but for what it is told to answer first.
#[derive(Clone, Default)]
struct Collector {
    answers: Arc<Mutex<VecDeque<PostError>>>,
    lists: Arc<Mutex<Vec<Value>>>,
}

impl EventCollector for Collector {
    fn post(&self, list: Vec<u8>) -> BoxFuture<'_, Result<(), PostError>> {
        let answer = self.answers.lock().unwrap().pop_front();
        if answer.is_none() {
            self.lists.lock().unwrap().push(serde_json::from_slice(&list).unwrap());
        }
        Box::pin(async move { answer.map_or(Ok(()), Err) })
    }
}

#[tokio::test]
async fn events_are_sent_in_lists_again_where_they_were_not_taken_and_the_last_ones_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut registry = MetricsRegistry::new();
    let metrics = AuditMetrics::register(registry.registry_mut());
    let (auditor, log) =
        open(folder.path(), "omitStages: [RequestReceived]\nrules: [{level: Metadata}]", 100, metrics).await;
    let (auditor, waiting) = auditor.with_buffer(100);
    let collector = Collector::default();
    let failure = |is_momentary| PostError { reason: "as told".to_owned(), is_momentary };
    collector.answers.lock().unwrap().extend([failure(true), failure(false)]);
    let limits = WebhookLimits { batch: 2, wait: Duration::from_secs(3600), backoff: Duration::from_millis(1) };
    let stop = CancellationToken::new();
    let sending = tokio::spawn(AuditWebhook::new(waiting, Arc::new(collector.clone()), limits).run(stop.clone()));
    let server = TestServer::start_audited(auditor, Router::new()).await;
    let proxy = server.kube_apiserver();
    let ask = async |id: &str| {
        let headers = [("x-remote-user", "alice"), ("audit-id", id)];
        proxy.get(&format!("{METRIC}?labelSelector=variant_name%3Dllama-h100"), &headers).await
    };
    // The first try fails for a moment, the second for good: these two are lost.
    ask("1").await;
    ask("2").await;
    while !registry.encode().unwrap().contains(r#"apiserver_audit_error_total{plugin="webhook"} 2"#) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    collector.answers.lock().unwrap().push_back(failure(true));
    ask("3").await;
    ask("4").await;
    while collector.lists.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // This one alone makes no list, and would wait for an hour.
    ask("5").await;
    stop.cancel();
    sending.await.unwrap();
    let lists = collector.lists.lock().unwrap().clone();
    let ids: Vec<Vec<&str>> = lists
        .iter()
        .map(|list| list["items"].as_array().unwrap().iter().map(|event| event["auditID"].as_str().unwrap()).collect())
        .collect();
    assert_eq!(ids, [vec!["3", "4"], vec!["5"]]);
    assert_eq!((&lists[0]["kind"], &lists[0]["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
    // The log has them all.
    assert_eq!(written(folder.path(), log).await.len(), 5);
}
