//! Whatever is sent, the server answers: no panic, and no error that would be ours. Seeds are requests that real clients
//! send and ones that broke other servers; each run bends them.

use axum::{
    Router,
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use proptest::{prelude::*, test_runner::TestRunner};
use rustls_pki_types::CertificateDer;
use wva::{
    apiserver::{Admissions, Api},
    serving::Peer,
};

use crate::apiserver_harness::{METRIC, api_for_tests};

/// Requests that are tried; `WVA_FUZZ_CASES` for more.
pub(crate) fn cases(usually: u32) -> u32 {
    std::env::var("WVA_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usually)
}

const SELECTORS: &[&str] = &[
    "variant_name=llama-h100",
    "a in (b,c),!d,e notin (f)",
    "a==b,c!=d",
    "x>1,y<2",
    "in in (in)",
    "a in (),b",
    "a=(",
    "!!",
    "a/b/c=d",
    "Σ=ß",
    "exported_namespace=llm,namespace!=llm",
    "variant_name in (llama-h100,llama-a100,llama-h10)",
    "a.b-c/d_e=f.g_h,x=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "x>9223372036854775807,y<-9223372036854775809",
    "a=b\u{0}",
];
const ACCEPTS: &[&str] = &[
    "application/vnd.kubernetes.protobuf, */*",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,application/json",
    "application/yaml;q=0.5,*/*;q=0.1",
    "*/*;q=nan",
    ";;;,,,///",
    "a/b;q=1;q=2;as=;g=;v=",
];
const PATHS: &[&str] = &[
    METRIC,
    "/apis/external.metrics.k8s.io/v1beta1/namespaces/llm/wva_desired_replicas/llama-h100/explain",
    "/apis/custom.metrics.k8s.io/v1beta2/namespaces/llm/deployments.apps/*/wva_desired_replicas",
    "/apis/custom.metrics.k8s.io/v1beta2/deployments.apps/*/wva_desired_replicas",
    "/apis/custom.metrics.k8s.io/v1beta1/namespaces/llm/metrics/wva_desired_replicas",
    "/apis/external.metrics.llmd.ai/v1beta1/wva_desired_replicas",
    "/apis/external.metrics.k8s.io/v1beta1/namespaces/%2e%2e/x",
    "/apis//external.metrics.k8s.io///v1beta1",
    "/apis",
    "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2",
    "/readyz",
    "/livez/ping",
    "/metrics/slis",
    "/statusz",
    "/",
];
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"];
const HEADERS: &[&str] = &[
    "x-remote-user",
    "x-remote-group",
    "x-remote-extra-a%2fb",
    "x-remote-extra-%zz",
    "x-remote-uid",
    "authorization",
    "audit-id",
    "if-none-match",
    "impersonate-user",
    "user-agent",
    "accept-encoding",
    "x-forwarded-for",
    "x-real-ip",
];

const VALUES: &[&str] = &[
    "Bearer prometheus",
    "bearer  two  spaces",
    "Basic aHVudGVyMg==",
    "system:masters",
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    "system:anonymous",
    "W/\"0123456789ABCDEF\", *",
    "4c1b6a1e-3f6b-4e7c-9a36-0a5f8d6a2a11",
    "Mozilla/5.0",
    "gzip;q=0, identity",
    "10.0.0.1, ::1, nonsense,,",
];

/// One of `seeds`, or that with some of its characters replaced, repeated or cut off.
fn bent(seeds: &'static [&'static str]) -> impl Strategy<Value = String> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..4_u8), 0..4);
    (prop::sample::select(seeds), changes).prop_map(|(seed, changes)| {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, new, how) in changes {
            if text.is_empty() {
                break;
            }
            let at = at.index(text.len());
            match how {
                0 => text[at] = new,
                1 => text.insert(at, new),
                2 => drop(text.drain(at..)),
                _ => text.extend_from_within(at..),
            }
        }
        text.into_iter().take(2000).collect()
    })
}

/// Percent-encoded where a URL needs it, so that it arrives at all.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    accept: String,
    headers: Vec<(String, String)>,
    certificate: Option<Vec<u8>>,
    is_allowed: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let parameters = prop::sample::select(vec![
        "labelSelector",
        "metricLabelSelector",
        "fieldSelector",
        "limit",
        "timeout",
        "watch",
        "pretty",
        "includeObject",
        "resourceVersionMatch",
        "continue",
    ]);
    let value = prop_oneof![bent(SELECTORS), "[0-9a-zµ.=!,-]{0,12}"];
    (
        prop::sample::select(METHODS),
        bent(PATHS),
        prop::collection::vec((parameters.prop_map(str::to_owned), value), 0..4),
        bent(ACCEPTS),
        prop::collection::vec(
            (prop::sample::select(HEADERS).prop_map(str::to_owned), prop_oneof![bent(VALUES), ".{0,40}"]),
            0..4,
        ),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(method, path, query, accept, headers, certificate, is_allowed)| Sent {
            method: method.to_owned(),
            path,
            query,
            accept,
            headers,
            certificate,
            is_allowed,
        })
}

/// The request, if HTTP can carry it.
fn request(sent: &Sent, peer: &Peer) -> Option<(Peer, Request<Body>)> {
    let path = sent.path.split('/').map(encoded_segment).collect::<Vec<_>>().join("/");
    let query: Vec<_> = sent.query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let mut request = Request::builder().method(sent.method.as_str()).uri(format!("{path}?{}", query.join("&")));
    request = request.header("accept", HeaderValue::from_bytes(sent.accept.as_bytes()).ok()?);
    for (name, value) in &sent.headers {
        let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
        request = request.header(HeaderName::try_from(name).ok()?, value);
    }
    let mut request = request.body(Body::empty()).ok()?;
    let peer = if sent.is_allowed {
        request.headers_mut().insert("x-remote-user", HeaderValue::from_static("alice"));
        peer.clone()
    } else {
        let certificates = sent.certificate.iter().map(|bytes| CertificateDer::from(bytes.clone()));
        Peer::new(peer.address, certificates.collect())
    };
    Some((peer, request))
}

/// Escapes stay as they are: they are part of what is tried.
fn encoded_segment(segment: &str) -> String {
    let pieces = segment.split('%').map(encoded).collect::<Vec<_>>();
    pieces.join("%")
}

async fn status(api: &Api, (peer, request): (Peer, Request<Body>)) -> u16 {
    api.answer(Some(&peer), request).await.status().as_u16()
}

/// What a client sees of an answer, but for its own name.
async fn told(response: Response) -> (StatusCode, HeaderMap, Bytes) {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove("audit-id");
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
}

#[test]
fn nothing_that_is_sent_breaks_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (api, peer) = api_for_tests(Router::new());
    let (mut sent_on, mut answered) = (0, [0_u32; 6]);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(2000), failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&sent(), |sent| {
            let Some(request) = request(&sent, &peer) else { return Ok(()) };
            let status = runtime.block_on(status(&api, request));
            // 503 is a value that is withheld, which one of the variants' is.
            prop_assert!(status < 500 || status == 503, "{status}: {sent:?}");
            Ok(())
        })
        .unwrap();
    // That the requests reach what they are meant for.
    for path in PATHS {
        let sent = Sent {
            method: "GET".to_owned(),
            path: (*path).to_owned(),
            query: Vec::new(),
            accept: "*/*".to_owned(),
            headers: Vec::new(),
            certificate: None,
            is_allowed: true,
        };
        let status = runtime.block_on(status(&api, request(&sent, &peer).unwrap()));
        sent_on += 1;
        answered[usize::from(status / 100)] += 1;
    }
    assert!(answered[2] >= 4, "{answered:?} of {sent_on}");
}

#[test]
fn what_a_connection_remembers_changes_no_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (api, peer) = api_for_tests(Router::new());
    let memory = Admissions::default();
    let reads = prop_oneof![1 => bent(PATHS), 3 => Just(METRIC.to_owned())];
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(2000), failure_persistence: None, ..ProptestConfig::default() });
    runner
        .run(&(sent(), reads, prop::bool::weighted(0.8)), |(sent, path, is_read)| {
            let method = if is_read { "GET".to_owned() } else { sent.method };
            let sent = Sent { method, path, is_allowed: true, ..sent };
            let Some((peer, first)) = request(&sent, &peer) else { return Ok(()) };
            let Some((_, second)) = request(&sent, &peer) else { return Ok(()) };
            let remembered = runtime.block_on(async { told(api.answer_on(&peer, &memory, first).await).await });
            let judged = runtime.block_on(async { told(api.answer(Some(&peer), second).await).await });
            prop_assert_eq!(remembered, judged, "{:?}", sent);
            Ok(())
        })
        .unwrap();
}
