//! Schemas of the documents: the types of `k8s.io/metrics`, with what ours have beyond them.

use serde_json::{Map, Value, json};

use super::{entries, paths::Dialect};
use crate::apiserver::group::{CUSTOM_LIST_KIND, EXTERNAL_ITEM_KIND, EXTERNAL_LIST_KIND, Form, GroupVersion};

const CUSTOM_ITEM_KIND: &str = "MetricValue";

/// Schemas of `version`, by name.
pub(super) fn of(version: &GroupVersion, dialect: Dialect) -> Map<String, Value> {
    let (item_kind, list_kind, item) = match version.form {
        Form::External => (EXTERNAL_ITEM_KIND, EXTERNAL_LIST_KIND, external_item()),
        Form::CustomV1Beta1 => (CUSTOM_ITEM_KIND, CUSTOM_LIST_KIND, custom_v1beta1_item()),
        Form::CustomV1Beta2 => (CUSTOM_ITEM_KIND, CUSTOM_LIST_KIND, custom_v1beta2_item()),
    };
    let list = json!({
        "type": "object",
        "description": "Values of a metric.",
        "required": ["items"],
        "properties": {
            "metadata": {"type": "object", "description": "Always empty."},
            "items": {
                "type": "array",
                "items": dialect.reference(version, item_kind),
                "description": "One item for each matching series.",
            },
        },
    });
    let schema = |of: Value, name: &str| (format!("{}.{name}", version.package), versioned(of, version, name));
    [schema(item, item_kind), schema(list, list_kind)].into_iter().collect()
}

/// The schema with what every kind has.
fn versioned(schema: Value, version: &GroupVersion, name: &str) -> Value {
    let mut schema = entries(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.extend(entries(json!({
            "apiVersion": {"type": "string", "description": "API group and version."},
            "kind": {"type": "string", "description": "Kind of the object."},
        })));
    }
    schema.insert("x-kubernetes-group-version-kind".to_owned(), json!([kind(version, name)]));
    Value::Object(schema)
}

fn external_item() -> Value {
    json!({
        "type": "object",
        "description": "A value of an external metric of a variant.",
        "required": ["metricName", "metricLabels", "timestamp", "value"],
        "properties": {
            "metadata": {
                "type": "object",
                "description": "Where the variant is found.",
                "properties": {
                    "name": {"type": "string", "description": "Name of the variant."},
                    "namespace": {"type": "string", "description": "Namespace of the variant."},
                },
            },
            "metricName": {"type": "string", "description": "Name of the metric."},
            "metricLabels": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Labels of the series, among them the variant's name.",
            },
            "timestamp": timestamp(),
            "window": window(),
            "value": value(),
        },
    })
}

fn custom_v1beta1_item() -> Value {
    json!({
        "type": "object",
        "description": "A value of a metric of an object.",
        "required": ["describedObject", "metricName", "timestamp", "value"],
        "properties": {
            "describedObject": described_object(),
            "metricName": {"type": "string", "description": "Name of the metric."},
            "timestamp": timestamp(),
            "window": window(),
            "value": value(),
            "selector": {"type": "object", "description": "The selector of the request, if it had one."},
        },
    })
}

fn custom_v1beta2_item() -> Value {
    json!({
        "type": "object",
        "description": "A value of a metric of an object.",
        "required": ["describedObject", "metric", "timestamp", "value"],
        "properties": {
            "describedObject": described_object(),
            "metric": {
                "type": "object",
                "description": "Name of the metric, and the selector of the request, if it had one.",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "selector": {"type": "object"}},
            },
            "timestamp": timestamp(),
            "windowSeconds": window(),
            "value": value(),
        },
    })
}

fn described_object() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "The object that the value is a property of.",
        "properties": {
            "apiVersion": text("API group and version."),
            "kind": text("Kind."),
            "namespace": text("Namespace."),
            "name": text("Name."),
        },
    })
}

fn timestamp() -> Value {
    json!({"type": "string", "format": "date-time", "description": "When the value was decided."})
}

fn window() -> Value {
    json!({
        "type": "integer", "format": "int64",
        "description": "Seconds over which the value was computed, if any.",
    })
}

fn value() -> Value {
    json!({"type": "string", "description": "The value, a quantity."})
}

pub(super) fn kind(version: &GroupVersion, kind: &str) -> Value {
    json!({"group": version.group.name(), "version": version.version, "kind": kind})
}
