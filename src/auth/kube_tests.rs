//! What is said to kube-apiserver, and what its answers mean; against a mock of it.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use kube::{Client, client::Body};
use prometheus_client::registry::Registry;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_test::mock::{self, Handle};

use super::{
    AccessRequest, AccessReviewer as _, AccessVerdict, Attributes, AuthMetrics, FrontProxyFile, Identity,
    KubeAccessReviewer, KubeTokenReviewer, Lookup, RequestHeaders, ResourceAttributes, TokenAuthenticator,
    TokenReviewer as _, TrustSources, TrustWatchError, test_authority::Authority, watch_trust,
};

type Api = Handle<Request<Body>, Response<Body>>;

fn api() -> (Client, Api) {
    let (service, handle) = mock::pair();
    (Client::new(service, "default"), handle)
}

/// Answers one request, and returns what it was.
async fn answer(api: &mut Api, status: StatusCode, body: &Value) -> (Method, String, Value) {
    let (request, send) = api.next_request().await.unwrap();
    let (parts, content) = request.into_parts();
    let content = content.collect_bytes().await.unwrap();
    let content = serde_json::from_slice(&content).unwrap_or(Value::Null);
    send.send_response(Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap());
    (parts.method, parts.uri.to_string(), content)
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
           "reason": reason, "code": code})
}

#[tokio::test]
async fn a_token_is_reviewed_once_and_its_owner_taken_over() {
    let (client, mut api) = api();
    let tokens = TokenAuthenticator::new(KubeTokenReviewer::new(client));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, "Bearer t0ken".parse().unwrap())]);
    let review = json!({"status": {"authenticated": true, "user": {
        "username": "system:serviceaccount:monitoring:prometheus", "uid": "42", "groups": ["system:serviceaccounts"],
        "extra": {"scope": ["a"]}}}});
    let (identity, (method, path, body)) =
        tokio::join!(tokens.identify(&headers), answer(&mut api, StatusCode::CREATED, &review));
    assert_eq!((method, path.trim_end_matches('?')), (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews"));
    assert_eq!(body["spec"], json!({"token": "t0ken"}));
    let expected = Identity {
        uid: Some("42".to_owned()),
        extra: BTreeMap::from([("scope".to_owned(), vec!["a".to_owned()])]),
        ..Identity::new("system:serviceaccount:monitoring:prometheus", ["system:serviceaccounts"])
    };
    assert_eq!(identity.unwrap(), Some(expected.clone()));
    drop(api);
    assert_eq!(tokens.identify(&headers).await.unwrap(), Some(expected), "the second answer comes from the cache");
}

#[tokio::test]
async fn a_token_without_a_confirmed_owner_is_not_valid() {
    for review in [
        json!({"status": {"authenticated": false, "error": "expired"}}),
        json!({"status": {"user": {"username": "eve"}}}),
        json!({"status": {"authenticated": true}}),
        json!({"status": {"authenticated": true, "user": {"username": ""}}}),
        json!({}),
    ] {
        let (client, mut api) = api();
        let reviewer = KubeTokenReviewer::new(client);
        let (verdict, _) = tokio::join!(reviewer.review("t"), answer(&mut api, StatusCode::CREATED, &review));
        assert_eq!(verdict, Ok(None), "{review}");
    }
}

#[tokio::test(start_paused = true)]
async fn reviews_are_counted_by_the_status_of_their_answers() {
    let mut registry = Registry::default();
    let metrics = AuthMetrics::register(&mut registry);
    let (client, mut api) = api();
    let reviewer = KubeTokenReviewer::new(client.clone()).counted_by(&metrics);
    let tokens = TokenAuthenticator::new(reviewer).counted_by(&metrics);
    let headers = |token: &str| HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
    let review = json!({"status": {"authenticated": true, "user": {"username": "a"}}});
    let (good, failed) = (headers("good"), headers("failed"));
    let _ = tokio::join!(tokens.identify(&good), answer(&mut api, StatusCode::CREATED, &review));
    tokens.identify(&good).await.unwrap();
    let forbidden = status(403, "Forbidden");
    let _ = tokio::join!(tokens.identify(&failed), answer(&mut api, StatusCode::FORBIDDEN, &forbidden));
    let access = KubeAccessReviewer::new(client).counted_by(&metrics);
    let allowed = json!({"spec": {}, "status": {"allowed": true}});
    let request = request();
    let (verdict, _) = tokio::join!(access.review(&request), answer(&mut api, StatusCode::CREATED, &allowed));
    assert_eq!(verdict, Ok(AccessVerdict::Allowed));
    drop(api);
    assert!(access.review(&request).await.is_err(), "kube-apiserver is gone, and was asked five times");

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"apiserver_delegated_authn_request_total{code="201"} 1"#,
        r#"apiserver_delegated_authn_request_total{code="403"} 1"#,
        r#"apiserver_delegated_authn_request_duration_seconds_count{code="201"} 1"#,
        r#"apiserver_delegated_authz_request_total{code="201"} 1"#,
        r#"apiserver_delegated_authz_request_total{code="<error>"} 5"#,
        r#"apiserver_delegated_authz_request_duration_seconds_count{code="201"} 1"#,
        r#"authentication_token_cache_request_total{status="hit"} 1"#,
        r#"authentication_token_cache_request_total{status="miss"} 2"#,
        r#"authentication_token_cache_request_duration_seconds_count{status="miss"} 2"#,
        r#"authentication_token_cache_fetch_total{status="ok"} 1"#,
        r#"authentication_token_cache_fetch_total{status="error"} 1"#,
        r#"authentication_token_cache_active_fetch_count{status="in_flight"} 0"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

fn request() -> AccessRequest {
    AccessRequest {
        identity: Arc::new(Identity::new("alice", ["dev"])),
        attributes: Arc::new(Attributes::Resource(ResourceAttributes {
            verb: "list".into(),
            group: "external.metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            namespace: Some("ns".to_owned()),
            resource: "wva_desired_replicas".to_owned(),
            ..ResourceAttributes::default()
        })),
    }
}

#[tokio::test]
async fn access_is_asked_for_without_the_label_selector() {
    let (client, mut api) = api();
    let reviewer = KubeAccessReviewer::new(client);
    let request = request();
    let review = json!({"spec": {}, "status": {"allowed": true}});
    let (verdict, (method, path, body)) =
        tokio::join!(reviewer.review(&request), answer(&mut api, StatusCode::CREATED, &review));
    assert_eq!(verdict, Ok(AccessVerdict::Allowed));
    assert_eq!(
        (method, path.trim_end_matches('?')),
        (Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews")
    );
    assert_eq!(
        body["spec"],
        json!({"user": "alice", "groups": ["dev"], "resourceAttributes": {
            "namespace": "ns", "verb": "list", "group": "external.metrics.k8s.io", "version": "v1beta1",
            "resource": "wva_desired_replicas"}})
    );
}

#[tokio::test]
async fn a_path_is_asked_for_as_one() {
    let (client, mut api) = api();
    let reviewer = KubeAccessReviewer::new(client);
    let attributes = Arc::new(Attributes::NonResource { path: "/metrics".to_owned(), verb: "get".into() });
    let request = AccessRequest { attributes, ..request() };
    let review =
        json!({"spec": {}, "status": {"allowed": false, "reason": "no binding", "evaluationError": "role missing"}});
    let (verdict, (_, _, body)) =
        tokio::join!(reviewer.review(&request), answer(&mut api, StatusCode::CREATED, &review));
    assert_eq!(verdict, Ok(AccessVerdict::Denied { reason: "no binding; role missing".to_owned() }));
    assert_eq!(body["spec"]["nonResourceAttributes"], json!({"path": "/metrics", "verb": "get"}));
}

#[tokio::test]
async fn a_review_that_is_not_allowed_to_us_is_an_error_and_no_verdict() {
    let (client, mut api) = api();
    let reviewer = KubeAccessReviewer::new(client);
    let request = request();
    let refusal = status(403, "Forbidden");
    let (verdict, _) = tokio::join!(reviewer.review(&request), answer(&mut api, StatusCode::FORBIDDEN, &refusal));
    let error = verdict.unwrap_err().to_string();
    assert!(error.starts_with("SubjectAccessReview failed: ") && error.contains("Forbidden"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_kube_apiserver_cannot_answer_for_a_moment_is_asked_again() {
    let allowed = json!({"spec": {}, "status": {"allowed": true}});
    for (code, reason) in [(503, "ServiceUnavailable"), (500, "InternalError"), (429, "TooManyRequests")] {
        let (client, mut api) = api();
        let reviewer = KubeAccessReviewer::new(client);
        let request = request();
        let kube = async {
            for _ in 0..2 {
                answer(&mut api, StatusCode::from_u16(code).unwrap(), &status(code, reason)).await;
            }
            answer(&mut api, StatusCode::CREATED, &allowed).await;
        };
        let (verdict, ()) = tokio::join!(reviewer.review(&request), kube);
        assert_eq!(verdict, Ok(AccessVerdict::Allowed), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kube_apiserver_that_says_nothing_is_not_waited_for_longer_than_an_hpa_can_bear() {
    let (client, _api) = api();
    let began = tokio::time::Instant::now();
    let error = KubeAccessReviewer::new(client).review(&request()).await.unwrap_err().to_string();
    assert!(error.contains("did not answer within 3 s"), "{error}");
    assert!(began.elapsed().as_secs() <= 3);
}

fn config_map(authority: &Authority, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system", "resourceVersion": version},
           "data": {"client-ca-file": authority.pem}})
}

#[tokio::test]
async fn authorities_that_are_missing_or_hidden_stop_the_start_and_say_what_to_do() {
    for (code, expected) in [
        (404, "does not exist: kube-apiserver publishes it"),
        (403, "bind Role kube-system/extension-apiserver-authentication-reader"),
    ] {
        let (client, mut api) = api();
        let body = status(code, if code == 404 { "NotFound" } else { "Forbidden" });
        let answer = answer(&mut api, StatusCode::from_u16(code).unwrap(), &body);
        let (outcome, (_, path, _)) =
            tokio::join!(watch_trust(client, TrustSources::default(), CancellationToken::new()), answer);
        assert!(
            path.starts_with("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"),
            "{path}"
        );
        let error = outcome.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let (client, mut api) = api();
    let unusable = json!({"metadata": {"name": "extension-apiserver-authentication"}, "data": {"client-ca-file": "?"}});
    let (outcome, _) = tokio::join!(
        watch_trust(client, TrustSources::default(), CancellationToken::new()),
        answer(&mut api, StatusCode::OK, &unusable)
    );
    assert!(matches!(outcome.err().unwrap(), TrustWatchError::Unusable(_)));
}

#[tokio::test]
async fn changed_authorities_are_trusted_and_unusable_ones_are_not() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (client, mut api) = api();
    let first = config_map(&old, "1");
    let shutdown = CancellationToken::new();
    let (outcome, _) = tokio::join!(
        watch_trust(client, TrustSources::default(), shutdown.clone()),
        answer(&mut api, StatusCode::OK, &first)
    );
    let (trust, follow) = outcome.unwrap();
    let before = trust.current();

    let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "2"},
                      "items": [config_map(&new, "2")]});
    let mut unusable = config_map(&new, "3");
    unusable["data"]["client-ca-file"] = json!("?");
    let event = json!({"type": "MODIFIED", "object": unusable});
    let kube = async {
        let (_, path, _) = answer(&mut api, StatusCode::OK, &list).await;
        assert!(path.contains("fieldSelector=metadata.name%3Dextension-apiserver-authentication"), "{path}");
        let (_, path, _) = answer(&mut api, StatusCode::OK, &event).await;
        assert!(path.contains("watch=true"), "{path}");
        // The watch was read to its end: it is opened again.
        answer(&mut api, StatusCode::OK, &json!({})).await;
        shutdown.cancel();
    };
    tokio::join!(follow, kube);
    let after = trust.current();
    assert!(!Arc::ptr_eq(&before, &after), "the new authorities are trusted");
    let trusts = |authority: &Authority| {
        let client = after.client.as_ref().unwrap();
        client.verify(&[authority.client("bob", None)].into_iter().collect(), UnixTime::now()).is_ok()
    };
    assert!(trusts(&new), "and stay so after the unusable ones");
    assert!(!trusts(&old));
}

#[tokio::test]
async fn a_lookup_that_may_fail_does_not_stop_the_start_and_what_comes_later_is_trusted() {
    for (code, reason) in [(404, "NotFound"), (403, "Forbidden"), (500, "InternalError")] {
        let (client, mut api) = api();
        let sources = TrustSources { lookup: Lookup::Tolerated, ..TrustSources::default() };
        let shutdown = CancellationToken::new();
        let body = status(code, reason);
        let refusal = answer(&mut api, StatusCode::from_u16(code).unwrap(), &body);
        let (outcome, _) = tokio::join!(watch_trust(client, sources, shutdown.clone()), refusal);
        let (trust, follow) = outcome.unwrap();
        assert!(trust.current().client.is_none() && trust.current().front_proxy.is_none(), "{code}");
        let list = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "2"},
                          "items": [config_map(&Authority::new("late"), "2")]});
        let kube = async {
            answer(&mut api, StatusCode::OK, &list).await;
            answer(&mut api, StatusCode::OK, &json!({})).await;
            shutdown.cancel();
        };
        tokio::join!(follow, kube);
        assert!(trust.current().client.is_some(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_is_skipped_or_has_nothing_to_find_asks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    std::fs::write(&path, &old.pem).unwrap();
    let file = FrontProxyFile { client_ca_file: path.clone(), headers: RequestHeaders::default() };
    let all = TrustSources { client_ca_file: Some(path.clone()), front_proxy: Some(file), lookup: Lookup::Required };
    let client_only = TrustSources { front_proxy: None, lookup: Lookup::Skipped, ..all.clone() };
    for sources in [all, client_only] {
        std::fs::write(&path, &old.pem).unwrap();
        // Nobody answers it: a question would never be answered.
        let (client, _api) = api();
        let shutdown = CancellationToken::new();
        let (trust, follow) = watch_trust(client, sources, shutdown.clone()).await.unwrap();
        let following = tokio::spawn(follow);
        let trusts = |authority: &Authority| {
            let chain = [authority.client("bob", None)].into_iter().collect();
            trust.current().client.as_ref().unwrap().verify(&chain, UnixTime::now()).is_ok()
        };
        assert!(trusts(&old));
        // What cannot be used is left out; what can, is taken.
        for (content, trusted) in [("garbage", &old), (new.pem.as_str(), &new), (" ", &new)] {
            std::fs::write(&path, content).unwrap();
            for _ in 0..50 {
                tokio::time::advance(std::time::Duration::from_secs(1)).await;
                tokio::task::spawn_blocking(|| ()).await.unwrap();
            }
            assert!(trusts(trusted), "{content}");
        }
        assert!(!trusts(&old));
        shutdown.cancel();
        following.await.unwrap();
    }
}
