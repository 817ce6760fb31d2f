//! Discovery: which groups, versions and resources are served. Constant, so that an engine fault can never mark the group
//! stale: that would block the deletion of every namespace in the cluster.
//!
//! Exactly one resource is advertised. None makes client-go complain at every command; several of one kind make kubectl
//! pick an arbitrary one. Values of the other metrics can be read all the same.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::{
    body::Bytes,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY},
};
use serde_json::{Value, json};

use super::{
    ITEM_KIND,
    accept::{Offer, PLAIN_JSON, negotiate},
    respond::with_type,
    status::ApiError,
};
use crate::constants::{EXTERNAL_METRICS_GROUP as GROUP, EXTERNAL_METRICS_VERSION as VERSION, WVA_DESIRED_REPLICAS};

/// Aggregated discovery, in version 2; earlier ones are gone from kube-apiserver since 1.35.
const AGGREGATED: Offer = Offer {
    media_type: "application/json",
    shape: Some(["APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"]),
    content_type: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
};

/// What of discovery a path asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum DiscoveryPath {
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group,
    /// `/apis/<group>/<version>`.
    Version,
}

/// The document at `path` in the shape the client accepts.
///
/// # Errors
/// When it accepts none.
pub(super) fn discovery(path: DiscoveryPath, headers: &HeaderMap) -> Result<Response, ApiError> {
    match path {
        DiscoveryPath::Groups => {
            // Plain first: it is what a client gets that says nothing.
            let offer = negotiate(headers, &[PLAIN_JSON, AGGREGATED])?;
            Ok(groups(offer, headers))
        }
        DiscoveryPath::Group => negotiate(headers, &[PLAIN_JSON]).map(|offer| plain(offer, &group())),
        DiscoveryPath::Version => negotiate(headers, &[PLAIN_JSON]).map(|offer| plain(offer, &resources())),
    }
}

fn plain(offer: &Offer, document: &Value) -> Response {
    with_type(offer.content_type, document.to_string())
}

fn groups(offer: &Offer, headers: &HeaderMap) -> Response {
    if *offer != AGGREGATED {
        return vary(plain(offer, &group_list()));
    }
    let body = Bytes::from(aggregated().to_string());
    let etag = etag(&body);
    let mut response = if known(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        with_type(offer.content_type, body)
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    vary(response)
}

fn vary(mut response: Response) -> Response {
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// All replicas of one build name the same content alike.
fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016X}\"", hasher.finish())
}

fn known(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|candidate| candidate.trim().trim_start_matches("W/"))
        .any(|candidate| candidate == etag || candidate == "*")
}

fn group_list() -> Value {
    let versions = versions();
    json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [{"name": GROUP, "versions": [versions], "preferredVersion": versions}],
    })
}

fn group() -> Value {
    let version = versions();
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    })
}

fn versions() -> Value {
    json!({"groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION})
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [{
            "name": WVA_DESIRED_REPLICAS,
            "singularName": "",
            "namespaced": true,
            "kind": ITEM_KIND,
            "verbs": ["get", "list"],
        }],
    })
}

fn aggregated() -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [{
            "metadata": {"name": GROUP},
            "versions": [{
                "version": VERSION,
                "resources": [{
                    "resource": WVA_DESIRED_REPLICAS,
                    "responseKind": {"group": GROUP, "version": VERSION, "kind": ITEM_KIND},
                    "scope": "Namespaced",
                    "singularResource": "",
                    "verbs": ["get", "list"],
                }],
                "freshness": "Current",
            }],
        }],
    })
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};

    use super::*;

    /// As kube-apiserver's discovery manager sends it.
    const AGGREGATED_ONLY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

    fn ask(headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        discovery(DiscoveryPath::Groups, &headers).unwrap()
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
            ("*/*", "application/json"),
        ] {
            let response = ask(&[(ACCEPT, accept)]);
            assert_eq!(header(&response, CONTENT_TYPE), content_type, "{accept}");
            assert_eq!(header(&response, VARY), "Accept", "{accept}");
        }
    }

    #[test]
    fn a_client_that_knows_the_document_is_not_sent_it_again() {
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

    #[test]
    fn both_forms_of_discovery_advertise_the_same_one_resource() {
        let plain = resources();
        let aggregated = aggregated();
        let versions = &aggregated["items"][0]["versions"][0];
        assert_eq!(plain["resources"].as_array().unwrap().len(), 1);
        assert_eq!(versions["resources"].as_array().unwrap().len(), 1);
        assert_eq!(plain["resources"][0]["name"], versions["resources"][0]["resource"]);
        assert_eq!(plain["resources"][0]["kind"], versions["resources"][0]["responseKind"]["kind"]);
        assert_eq!(plain["resources"][0]["verbs"], versions["resources"][0]["verbs"]);
    }

    #[test]
    fn a_client_that_accepts_no_json_is_told_what_there_is() {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/yaml"))]);
        assert!(matches!(discovery(DiscoveryPath::Version, &headers), Err(ApiError::NotAcceptable(_))));
    }
}
