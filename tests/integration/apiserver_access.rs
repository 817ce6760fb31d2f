//! Who may ask what, over real TLS: the matrix measured on a Kubernetes control plane.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use http::Method;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use wva::{
    auth::{
        AccessRequest, AccessReviewer, AccessVerdict, Identity, ReviewError, StaticAccessReviewer, StaticTokenReviewer,
        TokenAuthenticator, TokenReviewer,
    },
    telemetry::testing::capture,
};

use crate::apiserver_harness::{Authority, HPA, METRIC, TestServer, trust_bundle};

const ONE: &str = "?labelSelector=variant_name%3Dllama-h100";

fn one() -> String {
    format!("{METRIC}{ONE}")
}

#[tokio::test]
async fn the_authentication_matrix_holds() {
    let server = TestServer::start().await;
    let front_proxy = server.front_proxy.client("front-proxy-client", "");
    let alice = server.cluster.client("alice", "dev");
    let bob = server.cluster.client("bob", "dev");
    let admin = server.cluster.client("admin", "system:masters");
    let misnamed = server.front_proxy.client("kubelet", "");
    let unknown = Authority::new("kubernetes").client("alice", "system:masters");
    let foreign_proxy = Authority::new("front-proxy-ca").client("front-proxy-client", "");
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    let for_servers =
        |params: &mut CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let expired_proxy = server.front_proxy.issue("front-proxy-client", "", expired);
    let early_proxy = server.front_proxy.issue("front-proxy-client", "", early);
    let server_proxy = server.front_proxy.issue("front-proxy-client", "", for_servers);
    let expired_alice = server.cluster.issue("alice", "system:masters", expired);
    let server_alice = server.cluster.issue("alice", "system:masters", for_servers);
    let spoofed = [("x-remote-user", "alice"), ("x-remote-group", "system:masters")];
    for (case, certificate, headers, status) in [
        ("spoofed headers without a certificate", None, spoofed.to_vec(), 403),
        ("spoofed headers under a user's certificate", Some(&bob), spoofed.to_vec(), 403),
        ("spoofed headers under an unknown authority", Some(&unknown), spoofed.to_vec(), 401),
        ("spoofed headers under a name that is not allowed", Some(&misnamed), spoofed.to_vec(), 401),
        ("front proxy of an authority of the same name", Some(&foreign_proxy), spoofed.to_vec(), 401),
        ("front proxy whose certificate expired", Some(&expired_proxy), spoofed.to_vec(), 401),
        ("front proxy whose certificate is not valid yet", Some(&early_proxy), spoofed.to_vec(), 401),
        ("front proxy with a certificate for servers", Some(&server_proxy), spoofed.to_vec(), 401),
        ("expired certificate of an administrator", Some(&expired_alice), vec![], 401),
        ("an administrator's name in a certificate for servers", Some(&server_alice), vec![], 401),
        (
            "spoofed headers with a token",
            None,
            [spoofed.to_vec(), vec![("authorization", "Bearer prometheus")]].concat(),
            403,
        ),
        (
            "spoofed UID and extra alone",
            Some(&front_proxy),
            vec![("x-remote-uid", "0"), ("x-remote-extra-a", "b")],
            401,
        ),
        ("groups without a user", Some(&front_proxy), vec![("x-remote-group", "system:masters")], 401),
        ("unknown authority", Some(&unknown), vec![], 401),
        ("front proxy without headers", Some(&front_proxy), vec![], 401),
        ("garbage token", None, vec![("authorization", "Bearer garbage")], 401),
        ("no credential", None, vec![], 403),
        ("token without a binding", None, vec![("authorization", "Bearer prometheus")], 403),
        ("user without a binding", Some(&bob), vec![], 403),
        ("front proxy for an anonymous user", Some(&front_proxy), vec![("x-remote-user", "system:anonymous")], 403),
        ("user with a binding", Some(&alice), vec![], 200),
        ("cluster administrator", Some(&admin), vec![], 200),
        ("front proxy for a user with a binding", Some(&front_proxy), vec![("x-remote-user", "alice")], 200),
        ("front proxy for the HPA", Some(&front_proxy), vec![("x-remote-user", HPA)], 200),
    ] {
        let answer = server.client(certificate).get(&one(), &headers).await;
        assert_eq!(answer.status, status, "{case}: {}", answer.text);
        if status == 401 {
            assert_eq!(answer.json()["message"], "Unauthorized", "{case}: a stranger learns nothing");
        }
    }
}

#[tokio::test]
async fn a_refusal_says_who_may_not_do_what() {
    let server = TestServer::start().await;
    let bob = server.cluster.client("bob", "dev");
    let answer = server.client(Some(&bob)).get(METRIC, &[]).await;
    assert_eq!(
        answer.json()["message"],
        r#"wva_desired_replicas.external.metrics.k8s.io is forbidden: User "bob" cannot list resource "wva_desired_replicas" in API group "external.metrics.k8s.io" in the namespace "llm""#
    );
    let answer = server.client(None).get("/metrics", &[]).await;
    assert_eq!(answer.json()["message"], r#"forbidden: User "system:anonymous" cannot get path "/metrics""#);
}

#[tokio::test]
async fn rotated_authorities_apply_to_a_connection_that_stays_open() {
    let server = TestServer::start().await;
    let client = server.client(Some(&server.cluster.client("alice", "dev")));
    assert_eq!(client.get(&one(), &[]).await.status, 200);
    server.trust.replace(trust_bundle(&Authority::new("kubernetes"), &server.front_proxy));
    assert_eq!(client.get(&one(), &[]).await.status, 401);
}

#[tokio::test]
async fn own_metrics_are_for_those_who_may_read_them() {
    let server = TestServer::start().await;
    let client = server.client_over(None, &[b"http/1.1"]);
    let answer = client.get("/metrics", &[("authorization", "Bearer prometheus")]).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "# EOF\n"));
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    assert_eq!(client.get("/metrics", &[]).await.status, 403);
}

#[tokio::test]
async fn health_is_for_everybody_and_nothing_beside_it() {
    let server = TestServer::start().await;
    let kubelet = server.client_over(None, &[b"http/1.1"]);
    for path in ["/livez", "/readyz", "/healthz"] {
        let answer = kubelet.get(path, &[("authorization", "Bearer garbage")]).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "ok"), "{path}");
    }
    let check = server.readiness.add("decisions");
    let answer = kubelet.get("/readyz", &[]).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text.contains("[-]decisions failed"), "{}", answer.text);
    let answer = kubelet.get("/readyz?exclude=other&exclude=decisions", &[]).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "ok"));
    let admin = server.client(Some(&server.cluster.client("admin", "system:masters")));
    for (path, status) in [("/readyz/decisions", 500), ("/readyz/nonsense", 404), ("/livez/ping", 200)] {
        assert_eq!(admin.get(path, &[]).await.status, status, "{path}");
        assert_eq!(kubelet.get(path, &[]).await.status, 403, "{path}");
    }
    check.pass();
    assert_eq!(admin.get("/readyz/decisions", &[]).await.status, 200);
    for name in ["livez", "healthz"] {
        let answer = kubelet.get(&format!("/{name}?verbose"), &[]).await;
        assert_eq!((answer.status, answer.text), (200, format!("[+]ping ok\n{name} check passed\n")));
    }
    let answer = kubelet.get("/readyz?verbose", &[]).await;
    assert!(answer.status == 200 && answer.text.contains("[+]decisions ok"), "{}", answer.text);
    server.readiness.begin_shutdown();
    assert_eq!(kubelet.get("/readyz", &[]).await.status, 500);
    assert_eq!(kubelet.get("/livez", &[]).await.status, 200, "a server that drains is alive");

    let openings = ["/livez/ping", "/livez/", "/livez/../metrics", "//livez", "/LIVEZ", "/", "/apis", "/debug/config"];
    for path in openings {
        let answer = kubelet.get(path, &[]).await;
        assert!(matches!(answer.status, 400 | 403), "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn impersonation_is_left_to_kube_apiserver() {
    let server = TestServer::start().await;
    let admin = server.cluster.client("admin", "system:masters");
    let answer = server.client(Some(&admin)).get(&one(), &[("impersonate-user", "alice")]).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].as_str().unwrap().contains("through kube-apiserver"));
}

#[tokio::test]
async fn writing_takes_permission_before_it_is_refused() {
    let server = TestServer::start().await;
    let (bob, admin) = (server.cluster.client("bob", "dev"), server.cluster.client("admin", "system:masters"));
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        assert_eq!(server.client(Some(&bob)).send(method.clone(), METRIC, &[]).await.status, 403, "{method}");
        let answer = server.client(Some(&admin)).send(method.clone(), METRIC, &[]).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (405, &"MethodNotAllowed".into()), "{method}");
    }
    for path in [METRIC, "/apis", "/apis/external.metrics.k8s.io/v1beta1"] {
        assert_eq!(server.client(Some(&admin)).send(Method::HEAD, path, &[]).await.status, 405, "{path}");
    }
}

#[tokio::test]
async fn a_server_without_a_cluster_still_asks_for_its_token() {
    let demo = Identity::new("demo", [""; 0]);
    let tokens = TokenAuthenticator::new(StaticTokenReviewer::new("s3cret", demo));
    let server = TestServer::start_as(tokens, StaticAccessReviewer::new("demo")).await;
    let client = server.client(None);
    for (headers, status) in [
        (vec![], 403),
        (vec![("authorization", "Bearer s3cre")], 401),
        (vec![("authorization", "Bearer s3crets")], 401),
        (vec![("authorization", "Bearer s3cret")], 200),
    ] {
        assert_eq!(client.get(&one(), &headers).await.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn no_credential_is_logged_at_any_level() {
    // On this thread, and so of server and client both.
    let logs = capture();
    let server = TestServer::start().await;
    let stranger = server.client(None);
    for (authorization, status) in [("Bearer hunter2", 401), ("Bearer prometheus", 403), ("Basic aHVudGVyMg==", 403)] {
        assert_eq!(stranger.get(METRIC, &[("authorization", authorization)]).await.status, status);
    }
    let over_http1 = server.client_over(None, &[b"http/1.1"]);
    assert_eq!(over_http1.get("/metrics", &[("authorization", "Bearer hunter2")]).await.status, 401);
    assert_eq!(over_http1.get("/metrics", &[("authorization", "Bearer prometheus")]).await.status, 200);
    let lines = logs.lines();
    assert!(lines.iter().any(|line| line.contains("unauthenticated request")), "what was captured is the server's");
    for secret in ["hunter2", "Bearer prometheus", "aHVudGVyMg"] {
        let shown: Vec<_> = lines.iter().filter(|line| line.contains(secret)).collect();
        assert!(shown.is_empty(), "{shown:#?}");
    }
}

#[tokio::test]
async fn log_lines_of_a_request_carry_its_audit_id() {
    let logs = capture();
    let server = TestServer::start().await;
    let id = "4c1b6a1e-3f6b-4e7c-9a36-0a5f8d6a2a11";
    for headers in [vec![("audit-id", id)], vec![("audit-id", id), ("authorization", "Bearer hunter2")]] {
        server.client(None).get(METRIC, &headers).await;
    }
    let lines = logs.lines();
    for told in ["unauthorised request", "unauthenticated request"] {
        assert!(lines.iter().any(|line| line.contains(told) && line.contains(id)), "{told}: {lines:#?}");
    }
}

/// Counts what Kubernetes is asked, and allows everything.
#[derive(Clone, Default)]
struct Counting {
    tokens: Arc<AtomicUsize>,
    accesses: Arc<AtomicUsize>,
}

impl TokenReviewer for Counting {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Identity>, ReviewError>> {
        self.tokens.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok((token != "garbage").then(|| Identity::new("system:serviceaccount:a:b", ["x"]))) })
    }
}

impl AccessReviewer for Counting {
    fn review<'a>(&'a self, _: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        self.accesses.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(AccessVerdict::Allowed) })
    }
}

#[tokio::test]
async fn reads_of_many_variants_ask_kubernetes_once_and_so_does_a_token_good_or_bad() {
    let counting = Counting::default();
    let server = TestServer::start_as(TokenAuthenticator::new(counting.clone()), counting.clone()).await;
    let client = server.kube_apiserver();
    for variant in ["llama-h100", "llama-a100", "llama-h100"] {
        // What an HPA sends: a selector of its own, an audit id of its own, the same user and metric.
        let path = format!("{METRIC}?labelSelector=variant_name%3D{variant}");
        assert_eq!(client.get(&path, &[("x-remote-user", HPA), ("audit-id", variant)]).await.status, 200);
    }
    assert_eq!(counting.accesses.load(Ordering::SeqCst), 1);
    let anonymous = server.client(None);
    for _ in 0..3 {
        assert_eq!(anonymous.get(&one(), &[("authorization", "Bearer good")]).await.status, 200);
        assert_eq!(anonymous.get(&one(), &[("authorization", "Bearer garbage")]).await.status, 401);
    }
    assert_eq!(counting.tokens.load(Ordering::SeqCst), 2);
    assert_eq!(counting.accesses.load(Ordering::SeqCst), 2);
}
