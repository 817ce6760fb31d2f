//! What is remembered, and every way in which that ends.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures::future::BoxFuture;
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use tokio::time::advance;

use super::*;
use crate::{
    apiserver::{
        Api, ApiServer, MetricsProvider, RequestMetrics, Series, SeriesQuery, UnknownMetric, values::tests::Provider,
    },
    auth::{
        AccessRequest, AccessReviewer, AccessVerdict, AuthMetrics, Authorizer, ReviewError, StaticTokenReviewer,
        TokenAuthenticator, Trust, TrustBundle,
        test_authority::{Authority, peer, trust_bundle},
    },
    serving::Peer,
};

const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/wva_desired_replicas";
const A: &str = "?labelSelector=variant_name%3Da";

/// Allows alice for as long as that is so, and counts.
#[derive(Clone, Default)]
struct Access(Arc<(AtomicBool, AtomicUsize)>);

impl Access {
    fn revoke(&self) {
        self.0.0.store(true, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl AccessReviewer for Access {
    fn review<'a>(&'a self, request: &'a AccessRequest) -> BoxFuture<'a, Result<AccessVerdict, ReviewError>> {
        self.0.1.fetch_add(1, Ordering::SeqCst);
        let allowed = request.identity.user == "alice" && !self.0.0.load(Ordering::SeqCst);
        let denied = AccessVerdict::Denied { reason: String::new() };
        Box::pin(async move { Ok(if allowed { AccessVerdict::Allowed } else { denied }) })
    }
}

/// Breaks when it is asked for variant `z`.
struct Fragile;

impl MetricsProvider for Fragile {
    fn metric_names(&self) -> &'static [&'static str] {
        Provider.metric_names()
    }

    fn select(&self, query: &SeriesQuery<'_>) -> Result<Vec<Series>, UnknownMetric> {
        assert!(!query.selector.to_string().contains('z'), "it broke");
        Provider.select(query)
    }

    fn subjects(&self, namespace: &str) -> Vec<Arc<str>> {
        Provider.subjects(namespace)
    }
}

/// An API, kube-apiserver as its client, and what is remembered of their connection.
struct Bed {
    api: Api,
    trust: Trust,
    access: Access,
    registry: Registry,
    authority: Authority,
    peer: Peer,
    memory: Admissions,
}

impl Bed {
    fn new() -> Self {
        let authority = Authority::new("front-proxy-ca");
        let trust = Trust::new(trust_bundle(&Authority::new("kubernetes"), &authority));
        let mut registry = Registry::default();
        let (requests, reviews) = (RequestMetrics::register(&mut registry), AuthMetrics::register(&mut registry));
        let tokens = TokenAuthenticator::new(StaticTokenReviewer::new("t", Identity::new("alice", [""; 0])));
        let authenticator = Authenticator::new(trust.clone(), tokens).counted_by(&reviews);
        let access = Access::default();
        let server = ApiServer::new(Arc::new(Fragile), authenticator, Authorizer::new(access.clone()));
        let api = ApiServer { requests, ..server }.api();
        let peer = peer([authority.client("front-proxy-client", None)]);
        Self { api, trust, access, registry, authority, peer, memory: Admissions::default() }
    }

    /// What is answered at once, if anything is.
    fn at_once(&self, request: &Request<Body>) -> Option<Response> {
        self.api.0.at_once(&self.peer, &self.memory, request)
    }

    /// Whether alice's read of variant `a` is answered at once.
    fn is_remembered(&self) -> bool {
        self.at_once(&read(A)).is_some_and(|answer| answer.status() == StatusCode::OK)
    }

    /// The status of the answer to `request`, remembered or not.
    async fn status(&self, request: Request<Body>) -> u16 {
        self.api.answer_on(&self.peer, &self.memory, request).await.status().as_u16()
    }

    /// Alice was let in.
    async fn remembering() -> Self {
        let bed = Self::new();
        assert!(!bed.is_remembered(), "nothing was asked yet");
        assert_eq!(bed.status(read(A)).await, 200);
        assert!(bed.is_remembered());
        bed
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Alice's read of the metric with this query.
fn read(query: &str) -> Request<Body> {
    request(Method::GET, &format!("{METRIC}{query}"), &[("x-remote-user", "alice")])
}

fn request(method: Method, path: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn reads_of_other_variants_are_answered_at_once_and_everything_else_is_judged() {
    let bed = Bed::remembering().await;
    assert!(bed.at_once(&read("?labelSelector=variant_name%3Dc&limit=500")).is_some());
    let namespace = METRIC.replace("/ns/", "/other/");
    let deeper = format!("{METRIC}/a");
    let alice = [("x-remote-user", "alice")];
    for (case, request) in [
        ("another method", request(Method::POST, METRIC, &alice)),
        ("a head", request(Method::HEAD, METRIC, &alice)),
        ("a watch", read("?watch=true")),
        ("a watch in other letters", read("?w%61tch=1")),
        ("a selector that cannot be read", read("?labelSelector=%3D")),
        ("all of them", read("")),
        ("all but one", read("?labelSelector=variant_name%21%3Da")),
        (
            "many",
            read(&format!(
                "?labelSelector=variant_name+in+({})",
                (0..9).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
            )),
        ),
        ("another namespace", request(Method::GET, &namespace, &alice)),
        ("one by name", request(Method::GET, &deeper, &alice)),
        ("the same in another spelling", request(Method::GET, &METRIC.replace("ns", "n%73"), &alice)),
    ] {
        assert!(bed.at_once(&request).is_none(), "{case}");
    }
    assert_eq!(bed.access.asked(), 1);
    assert_eq!(bed.status(read("?watch=true")).await, 405);
    assert_eq!(bed.access.asked(), 2, "to watch is another right");
}

#[tokio::test]
async fn others_on_the_connection_are_not_taken_for_who_was_let_in() {
    let bed = Bed::remembering().await;
    for (case, headers, status) in [
        ("another user", vec![("x-remote-user", "bob")], 403),
        ("two users", vec![("x-remote-user", "bob"), ("x-remote-user", "alice")], 403),
        ("no user", vec![], 401),
        ("a group more", vec![("x-remote-user", "alice"), ("x-remote-group", "dev")], 200),
        ("an impersonation", vec![("x-remote-user", "alice"), ("impersonate-user", "bob")], 400),
        ("bob, then alice's token", vec![("x-remote-user", "bob"), ("authorization", "Bearer t")], 403),
    ] {
        let request = || request(Method::GET, &format!("{METRIC}{A}"), &headers);
        assert!(bed.at_once(&request()).is_none(), "{case}");
        assert_eq!(bed.status(request()).await, status, "{case}");
    }
    assert_eq!(bed.status(read(A)).await, 200, "alice herself is");
}

#[tokio::test]
async fn a_token_is_looked_up_each_time() {
    let bed = Bed::new();
    let stranger = peer([]);
    for _ in 0..2 {
        let request = request(Method::GET, &format!("{METRIC}{A}"), &[("authorization", "Bearer t")]);
        assert!(bed.api.0.at_once(&stranger, &bed.memory, &request).is_none());
        assert_eq!(bed.api.answer_on(&stranger, &bed.memory, request).await.status(), 200);
    }
}

#[tokio::test]
async fn it_ends_with_the_authorities_that_vouched() {
    let bed = Bed::remembering().await;
    bed.trust.replace(trust_bundle(&Authority::new("kubernetes"), &bed.authority));
    assert!(!bed.is_remembered(), "who is trusted was published anew");
    assert_eq!(bed.status(read(A)).await, 200);
    assert!(bed.is_remembered());
    bed.trust.replace(trust_bundle(&Authority::new("kubernetes"), &Authority::new("front-proxy-ca")));
    assert!(!bed.is_remembered());
    assert_eq!(bed.status(read(A)).await, 401);
    bed.trust.replace(TrustBundle::default());
    assert_eq!(bed.status(read(A)).await, 403, "nobody is trusted, and she is a stranger");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_certificate_expires() {
    let bed = Bed::new();
    let certificate = bed.authority.expiring("front-proxy-client", Duration::from_secs(20));
    let bed = Bed { peer: peer([certificate]), ..bed };
    assert_eq!(bed.status(read(A)).await, 200);
    assert!(bed.is_remembered());
    advance(Duration::from_secs(21)).await;
    assert!(!bed.is_remembered());
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_access_must_be_reviewed_again() {
    let bed = Bed::remembering().await;
    bed.access.revoke();
    advance(Duration::from_secs(15)).await;
    // Known already to the one who reads next, and so not asked.
    assert!(bed.is_remembered());
    assert_eq!(bed.access.asked(), 1);
    advance(Duration::from_secs(15)).await;
    assert!(!bed.is_remembered());
    assert_eq!(bed.status(read(A)).await, 403);
    assert_eq!(bed.access.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn remembering_does_not_prolong_a_verdict() {
    let bed = Bed::new();
    assert_eq!(bed.status(read(A)).await, 200);
    advance(Duration::from_secs(20)).await;
    // The verdict is 20 s old when another connection remembers by it.
    let bed = Bed { memory: Admissions::default(), ..bed };
    assert_eq!(bed.status(read(A)).await, 200);
    assert!(bed.is_remembered());
    advance(Duration::from_secs(10)).await;
    assert!(!bed.is_remembered());
}

#[tokio::test]
async fn another_connection_begins_anew_and_so_does_one_that_was_refused() {
    let bed = Bed::remembering().await;
    bed.peer.conduct.refused();
    assert!(!bed.is_remembered(), "it stands in line");
    bed.peer.conduct.granted();
    assert!(bed.is_remembered());
    let bed = Bed { memory: Admissions::default(), ..bed };
    assert!(!bed.is_remembered());
}

#[tokio::test]
async fn as_much_is_remembered_as_fits() {
    let bed = Bed::remembering().await;
    let in_namespace = |name: &str| {
        let path = format!("{METRIC}{A}").replace("/ns/", &format!("/{name}/"));
        request(Method::GET, &path, &[("x-remote-user", "alice")])
    };
    for number in 0..3 * MOST {
        assert_eq!(bed.status(in_namespace(&format!("n{number}"))).await, 404);
    }
    assert!(bed.memory.kept().len() <= MOST);
    let long = "n".repeat(LONGEST);
    assert_eq!(bed.status(in_namespace(&long)).await, 404);
    assert!(bed.at_once(&in_namespace(&long)).is_none());
    let not_ours = METRIC.replace("desired", "desirable");
    let kept = bed.memory.kept().len();
    assert_eq!(bed.status(request(Method::GET, &not_ours, &[("x-remote-user", "alice")])).await, 404);
    assert_eq!(bed.memory.kept().len(), kept, "callers choose no names here");
}

async fn told(answer: Response) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove("audit-id");
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn what_is_answered_at_once_is_what_would_be_answered_otherwise() {
    let bed = Bed::remembering().await;
    for query in ["", "%2Cnamespace", "b", "x", "%20", "&pretty=1", "&limit=1", "&fieldSelector=spec%3D1"] {
        for accept in ["application/json", "application/vnd.kubernetes.protobuf, */*", "application/yaml", "text/html"]
        {
            let request = || {
                let headers = [("x-remote-user", "alice"), ("accept", accept)];
                request(Method::GET, &format!("{METRIC}{A}{query}"), &headers)
            };
            let Some(at_once) = bed.at_once(&request()) else {
                assert!(query.contains("spec"), "{query}");
                continue;
            };
            let judged = bed.api.answer(Some(&bed.peer), request()).await;
            assert_eq!(told(at_once).await, told(judged).await, "{query} {accept}");
        }
    }
}

#[tokio::test]
async fn requests_that_are_answered_at_once_are_counted_like_others() {
    const READS: usize = 5;
    let bed = Bed::remembering().await;
    for _ in 2..READS {
        assert!(bed.is_remembered());
    }
    let missing = "?labelSelector=variant_name%3Dx";
    assert_eq!(bed.at_once(&read(missing)).unwrap().status(), StatusCode::NOT_FOUND);
    let text = bed.metrics();
    let all = READS + 1;
    for line in [
        format!(
            r#"resource="wva_desired_replicas",subresource="",scope="namespace",component="wva",code="200"}} {READS}"#
        ),
        r#"component="wva",code="404"} 1"#.to_owned(),
        format!(r#"authentication_attempts_total{{result="success"}} {all}"#),
        format!(r#"authorization_attempts_total{{result="allowed"}} {all}"#),
        format!(r#"authenticated_user_requests_total{{username="other"}} {all}"#),
        format!("apiserver_client_certificate_expiration_seconds_count {all}"),
        format!(r#"metrics_apiserver_metric_freshness_seconds_count{{group="external.metrics.k8s.io"}} {READS}"#),
        r#"apiserver_current_inflight_requests{request_kind="readOnly"} 0"#.to_owned(),
    ] {
        assert!(text.contains(&line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_panic_while_answering_at_once_is_a_status_and_no_more() {
    let bed = Bed::remembering().await;
    let answer = bed.at_once(&read("?labelSelector=variant_name%3Dz")).unwrap();
    let (status, _, body) = told(answer).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(String::from_utf8_lossy(&body).contains("a request handler panicked"));
    assert!(bed.is_remembered());
}
