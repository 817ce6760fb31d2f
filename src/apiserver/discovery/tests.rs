//! What clients discover.

use http::{
    StatusCode,
    header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName},
};
use serde_json::{Value, json};

use super::*;

/// As kube-apiserver's discovery manager sends it.
const AGGREGATED_ONLY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn ask(headers: &[(HeaderName, &str)]) -> Response {
    let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
    GroupsDocument::new(&MetricsGroup::ALL, &["a", "b"]).answer(&headers).unwrap()
}

fn header(response: &Response, name: HeaderName) -> &str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn groups_come_in_the_shape_the_client_asks_for() {
    for (accept, content_type) in [
        (AGGREGATED_ONLY, AGGREGATED_ONLY),
        ("application/json", "application/json"),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            "application/json",
        ),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,application/json",
            AGGREGATED_ONLY,
        ),
        ("application/yaml", "application/yaml"),
        ("application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"),
        ("*/*", "application/json"),
    ] {
        let response = ask(&[(ACCEPT, accept)]);
        assert_eq!(header(&response, CONTENT_TYPE), content_type, "{accept}");
        assert_eq!(header(&response, VARY), "Accept", "{accept}");
    }
}

#[test]
fn a_client_that_knows_the_document_is_not_sent_it_again() {
    use http::header::IF_NONE_MATCH;
    let response = ask(&[(ACCEPT, AGGREGATED_ONLY)]);
    let etag = header(&response, ETAG).to_owned();
    assert!(etag.len() > 2 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    for (known, status) in [
        (etag.clone(), StatusCode::NOT_MODIFIED),
        (format!("W/{etag}"), StatusCode::NOT_MODIFIED),
        (format!("\"other\", {etag}"), StatusCode::NOT_MODIFIED),
        ("\"other\"".to_owned(), StatusCode::OK),
    ] {
        let again = ask(&[(ACCEPT, AGGREGATED_ONLY), (IF_NONE_MATCH, &known)]);
        assert_eq!(again.status(), status, "{known}");
        assert_eq!(header(&again, ETAG), etag);
    }
}

/// Name and kind of every resource, subresources behind a slash.
fn advertised(version: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for resource in version["resources"].as_array().unwrap() {
        let name = resource["resource"].as_str().unwrap();
        if resource["verbs"] != json!([]) {
            found.push((name.to_owned(), resource["responseKind"]["kind"].clone()));
        }
        for sub in resource["subresources"].as_array().into_iter().flatten() {
            let name = format!("{name}/{}", sub["subresource"].as_str().unwrap());
            found.push((name, sub["responseKind"]["kind"].clone()));
        }
    }
    found
}

#[test]
fn both_forms_of_discovery_advertise_the_same_resources() {
    let metrics = ["a", "b"];
    let aggregated = aggregated::document(&MetricsGroup::ALL, &metrics);
    for (index, group) in MetricsGroup::ALL.into_iter().enumerate() {
        for (at, version) in versions(group).iter().enumerate() {
            let plain = serde_json::to_value(ApiResourceList::new(version, &metrics)).unwrap();
            let plain = plain["resources"].as_array().unwrap().iter();
            let plain: Vec<_> = plain.map(|of| (of["name"].as_str().unwrap().to_owned(), of["kind"].clone())).collect();
            assert!(!plain.is_empty(), "an empty list makes client-go complain at every command");
            assert_eq!(advertised(&aggregated["items"][index]["versions"][at]), plain, "{}", version.api_version);
        }
    }
}

#[test]
fn every_document_is_there_in_every_encoding() {
    for encoding in PLAIN {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(encoding.media_type))]);
        for document in [
            PlainDocument::group(MetricsGroup::Custom),
            PlainDocument::resources(&versions(MetricsGroup::Custom)[0], &["a"]),
            GroupsDocument::new(&MetricsGroup::ALL, &["a"]).plain,
        ] {
            use axum::body::HttpBody as _;
            let response = document.answer(&headers).unwrap();
            assert_eq!(header(&response, CONTENT_TYPE), encoding.content_type);
            assert!(response.body().size_hint().lower() > 50, "{}", encoding.media_type);
        }
    }
}

#[test]
fn kubectl_finds_one_resource_of_each_kind() {
    let plain = serde_json::to_value(ApiResourceList::new(&versions(MetricsGroup::External)[0], &["a", "b"])).unwrap();
    assert_eq!(plain["resources"].as_array().unwrap().len(), 1);
    assert_eq!(plain["resources"][0]["kind"], "ExternalMetricValue");
}

#[test]
fn a_client_that_accepts_nothing_that_is_offered_is_told_what_there_is() {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/cbor"))]);
    let error = PlainDocument::group(MetricsGroup::External).answer(&headers).unwrap_err();
    assert!(matches!(error, ApiError::NotAcceptable(_)));
}
