//! `OpenAPI` documents of the served groups. kube-apiserver merges them into the cluster's and logs an error at every
//! attempt when there are none; `kubectl explain` reads them.
//!
//! Links of the version 3 index are answered whatever their `hash` says, never with a redirect: kube-apiserver turns an
//! upstream's redirect into `502`.

mod paths;
mod schemas;

use axum::{Router, response::Response, routing::get};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use self::paths::Dialect;
use super::{
    accept::{JSON, negotiate},
    group::{GroupVersion, all_versions},
    respond::Constant,
    status::ApiError,
};
use crate::constants::MetricsGroup;

const V2_PATH: &str = "/openapi/v2";
const V3_PATH: &str = "/openapi/v3";

/// Routes of the documents on `groups`.
pub(super) fn routes(groups: &[MetricsGroup]) -> Router {
    let mut router = Router::new().route(V2_PATH, at(Constant::new(version_2(groups).to_string())));
    let mut links = Map::new();
    for version in all_versions(groups) {
        let document = Constant::new(version_3(version).to_string());
        let path = format!("{V3_PATH}/apis/{}", version.api_version);
        links.insert(
            format!("apis/{}", version.api_version),
            json!({"serverRelativeURL": format!("{path}?hash={}", document.hash())}),
        );
        router = router.route(&path, at(document));
    }
    router.route(V3_PATH, at(Constant::new(json!({"paths": links}).to_string())))
}

fn at(document: Constant) -> axum::routing::MethodRouter {
    get(move |headers: HeaderMap| async move { serve(&headers, &document) })
}

fn serve(headers: &HeaderMap, document: &Constant) -> Result<Response, ApiError> {
    let offer = negotiate(headers, &[JSON])?;
    Ok(document.answer(offer.content_type, headers))
}

/// Swagger 2.0, of all groups at once.
fn version_2(groups: &[MetricsGroup]) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for version in all_versions(groups) {
        paths.extend(paths::of(version, Dialect::Swagger));
        definitions.extend(schemas::of(version, Dialect::Swagger));
    }
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
}

/// `OpenAPI` 3.0, of one version of a group.
fn version_3(version: &GroupVersion) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths::of(version, Dialect::OpenApi3),
        "components": {"schemas": schemas::of(version, Dialect::OpenApi3)},
    })
}

fn info() -> Value {
    json!({"title": "wva", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}

fn entries(object: Value) -> Map<String, Value> {
    if let Value::Object(entries) = object { entries } else { Map::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn documents() -> Vec<Value> {
        let mut documents = vec![version_2(&MetricsGroup::ALL)];
        documents.extend(all_versions(&MetricsGroup::ALL).map(version_3));
        documents
    }

    fn references<'a>(document: &'a Value, found: &mut Vec<&'a str>) {
        match document {
            Value::Object(entries) => {
                for (key, value) in entries {
                    if key == "$ref" {
                        found.extend(value.as_str());
                    }
                    references(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_resolves() {
        for document in documents() {
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn all_paths_belong_to_their_group_and_no_operation_id_repeats() {
        for document in documents() {
            let paths = document["paths"].as_object().unwrap();
            let prefixes: Vec<_> =
                all_versions(&MetricsGroup::ALL).map(|of| format!("/apis/{}/", of.api_version)).collect();
            assert!(paths.keys().all(|path| prefixes.iter().any(|prefix| path.starts_with(prefix))));
            let ids: BTreeSet<_> = paths.values().map(|path| path["get"]["operationId"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), paths.len());
        }
    }

    #[test]
    fn every_kind_is_found_by_its_group_version_and_kind() {
        let document = version_3(all_versions(&[MetricsGroup::External]).next().unwrap());
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let kind = json!([{"group": "external.metrics.k8s.io", "version": "v1beta1", "kind": "ExternalMetricValue"}]);
        assert!(schemas.values().any(|schema| schema["x-kubernetes-group-version-kind"] == kind));
    }
}
