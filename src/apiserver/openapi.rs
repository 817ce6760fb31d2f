//! `OpenAPI` documents of the advertised resource. kube-apiserver merges them into the cluster's and logs an error at every
//! attempt when there are none; `kubectl explain` reads them.
//!
//! Links of the version 3 index are answered whatever their `hash` says, never with a redirect: kube-apiserver turns an
//! upstream's redirect into `502`.

use axum::{Router, response::Response, routing::get};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    ITEM_KIND, LIST_KIND,
    accept::{PLAIN_JSON, negotiate},
    respond,
    status::ApiError,
};
use crate::constants::{EXTERNAL_METRICS_GROUP as GROUP, EXTERNAL_METRICS_VERSION as VERSION, WVA_DESIRED_REPLICAS};

const V3_PATH: &str = "/openapi/v3/apis/external.metrics.k8s.io/v1beta1";
/// Prefix of definition names: these are the types of `k8s.io/metrics`.
const PACKAGE: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1";

/// Routes of the documents.
pub(super) fn routes() -> Router {
    let at = |document: fn() -> Value| get(move |headers: HeaderMap| async move { serve(&headers, &document()) });
    Router::new().route("/openapi/v2", at(version_2)).route("/openapi/v3", at(index)).route(V3_PATH, at(version_3))
}

fn serve(headers: &HeaderMap, document: &Value) -> Result<Response, ApiError> {
    negotiate(headers, &[PLAIN_JSON])?;
    Ok(respond::json(document, false))
}

fn index() -> Value {
    let key = format!("apis/{GROUP}/{VERSION}");
    json!({"paths": {key: {"serverRelativeURL": format!("{V3_PATH}?hash={}", env!("CARGO_PKG_VERSION"))}}})
}

fn version_2() -> Value {
    let reference = |kind: &str| json!({"$ref": format!("#/definitions/{PACKAGE}.{kind}")});
    let ok = json!({"description": "OK", "schema": reference(LIST_KIND)});
    let parameter = |name: &str, place: &str, description: &str| {
        json!({"name": name, "in": place, "type": "string", "uniqueItems": true, "required": place == "path",
               "description": description})
    };
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths(&ok, parameter, &json!({"produces": ["application/json"], "schemes": ["https"]})),
        "definitions": schemas(&reference(ITEM_KIND)),
    })
}

fn version_3() -> Value {
    let reference = |kind: &str| json!({"$ref": format!("#/components/schemas/{PACKAGE}.{kind}")});
    let ok = json!({"description": "OK", "content": {"application/json": {"schema": reference(LIST_KIND)}}});
    let parameter = |name: &str, place: &str, description: &str| {
        json!({"name": name, "in": place, "schema": {"type": "string", "uniqueItems": true},
               "required": place == "path", "description": description})
    };
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths(&ok, parameter, &json!({})),
        "components": {"schemas": schemas(&reference(ITEM_KIND))},
    })
}

fn info() -> Value {
    json!({"title": "wva", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}

/// Paths of the advertised resource; what differs between the versions is passed in.
fn paths(ok: &Value, parameter: impl Fn(&str, &str, &str) -> Value, operation: &Value) -> Value {
    let selector = parameter("labelSelector", "query", "Restricts the list to items with these labels.");
    let list = |id: &str| {
        let mut list = operation.as_object().cloned().unwrap_or_default();
        list.extend(entries(json!({
            "description": "List desired replicas of variants.",
            "tags": ["externalMetrics_v1beta1"],
            "operationId": id,
            "parameters": [selector],
            "responses": {"200": ok, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": "list",
            "x-kubernetes-group-version-kind": kind(ITEM_KIND),
        })));
        list
    };
    let namespace = parameter("namespace", "path", "Namespace of the variants.");
    let everywhere = format!("/apis/{GROUP}/{VERSION}/{WVA_DESIRED_REPLICAS}");
    let namespaced = format!("/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{WVA_DESIRED_REPLICAS}");
    json!({
        everywhere: {"get": list("listExternalMetricsV1beta1DesiredReplicasForAllNamespaces")},
        namespaced: {
            "get": list("listExternalMetricsV1beta1NamespacedDesiredReplicas"),
            "parameters": [namespace],
        },
    })
}

fn schemas(item: &Value) -> Value {
    let versioned = |mut properties: Map<String, Value>| {
        properties.extend(entries(json!({
            "apiVersion": {"type": "string", "description": "API group and version."},
            "kind": {"type": "string", "description": "Kind of the object."},
        })));
        properties
    };
    let of_item = entries(json!({
        "metricName": {"type": "string", "description": "Name of the metric."},
        "metricLabels": {"type": "object", "additionalProperties": {"type": "string"},
                         "description": "Labels of the series, among them the variant's name."},
        "timestamp": {"type": "string", "format": "date-time", "description": "When the value was decided."},
        "window": {"type": "integer", "format": "int64",
                   "description": "Seconds over which the value was computed, if any."},
        "value": {"type": "string", "description": "The value, a quantity."},
    }));
    let of_list = entries(json!({
        "metadata": {"type": "object", "description": "Always empty."},
        "items": {"type": "array", "items": item, "description": "One item for each matching series."},
    }));
    json!({
        format!("{PACKAGE}.{ITEM_KIND}"): {
            "type": "object",
            "description": "A value of an external metric.",
            "required": ["metricName", "metricLabels", "timestamp", "value"],
            "properties": versioned(of_item),
            "x-kubernetes-group-version-kind": [kind(ITEM_KIND)],
        },
        format!("{PACKAGE}.{LIST_KIND}"): {
            "type": "object",
            "description": "Values of an external metric.",
            "required": ["items"],
            "properties": versioned(of_list),
            "x-kubernetes-group-version-kind": [kind(LIST_KIND)],
        },
    })
}

fn kind(kind: &str) -> Value {
    json!({"group": GROUP, "version": VERSION, "kind": kind})
}

fn entries(object: Value) -> Map<String, Value> {
    if let Value::Object(entries) = object { entries } else { Map::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for document in [version_2(), version_3()] {
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
    fn all_paths_belong_to_the_group_and_no_operation_id_repeats() {
        for document in [version_2(), version_3()] {
            let paths = document["paths"].as_object().unwrap();
            let prefix = format!("/apis/{GROUP}/{VERSION}/");
            assert!(paths.keys().all(|path| path.starts_with(&prefix)));
            let mut ids: Vec<_> = paths.values().map(|path| path["get"]["operationId"].as_str().unwrap()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), paths.len());
        }
    }

    #[test]
    fn the_index_links_to_a_route() {
        let index = index();
        let link = &index["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"];
        assert!(link.as_str().unwrap().starts_with(&format!("{V3_PATH}?hash=")));
    }
}
