//! Paths of a group version.

use serde_json::{Map, Value, json};

use super::entries;
use crate::apiserver::group::{
    ADVERTISED, CUSTOM_LIST_KIND, EXTERNAL_ITEM_KIND, EXTERNAL_LIST_KIND, Form, GroupVersion,
};

/// The two versions of `OpenAPI` differ in how they write the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Version 2.
    Swagger,
    /// Version 3.
    OpenApi3,
}

impl Dialect {
    /// A reference to the schema of `kind`.
    pub(super) fn reference(self, version: &GroupVersion, kind: &str) -> Value {
        let place = match self {
            Self::Swagger => "definitions",
            Self::OpenApi3 => "components/schemas",
        };
        json!({"$ref": format!("#/{place}/{}.{kind}", version.package)})
    }

    fn ok(self, schema: &Value) -> Value {
        match self {
            Self::Swagger => json!({"description": "OK", "schema": schema}),
            Self::OpenApi3 => json!({"description": "OK", "content": {"application/json": {"schema": schema}}}),
        }
    }

    fn parameter(self, name: &str, place: &str, description: &str) -> Value {
        let mut parameter =
            entries(json!({"name": name, "in": place, "required": place == "path", "description": description}));
        match self {
            Self::Swagger => parameter.extend(entries(json!({"type": "string", "uniqueItems": true}))),
            Self::OpenApi3 => {
                parameter.extend(entries(json!({"schema": {"type": "string", "uniqueItems": true}})));
            }
        }
        Value::Object(parameter)
    }

    fn operation(self) -> Map<String, Value> {
        match self {
            Self::Swagger => entries(json!({
                "produces": ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"],
                "schemes": ["https"],
            })),
            Self::OpenApi3 => Map::new(),
        }
    }
}

/// Everything that can be read at `version`.
pub(super) fn of(version: &GroupVersion, dialect: Dialect) -> Map<String, Value> {
    match version.form {
        Form::External => external(version, dialect),
        Form::CustomV1Beta1 | Form::CustomV1Beta2 => custom(version, dialect),
    }
}

fn external(version: &GroupVersion, dialect: Dialect) -> Map<String, Value> {
    let root = format!("/apis/{}", version.api_version);
    let selector = dialect.parameter("labelSelector", "query", "Restricts the list to items with these labels.");
    let namespace = dialect.parameter("namespace", "path", "Namespace of the variants.");
    let name = dialect.parameter("name", "path", "Name of the variant.");
    let list = |id: &str| {
        let description = "List desired replicas of variants.";
        Operation { id, action: "list", description, answer: EXTERNAL_LIST_KIND, kind: EXTERNAL_ITEM_KIND }.write(
            version,
            dialect,
            std::slice::from_ref(&selector),
        )
    };
    let read = Operation {
        id: "readDesiredReplicas",
        action: "get",
        description: "Read desired replicas of a variant.",
        answer: EXTERNAL_ITEM_KIND,
        kind: EXTERNAL_ITEM_KIND,
    };
    let namespaced = format!("{root}/namespaces/{{namespace}}/{ADVERTISED}");
    entries(json!({
        format!("{root}/{ADVERTISED}"): {"get": list("listDesiredReplicasForAllNamespaces")},
        namespaced.clone(): {"get": list("listDesiredReplicas"), "parameters": [&namespace]},
        format!("{namespaced}/{{name}}"): {
            "get": read.write(version, dialect, &[]),
            "parameters": [&namespace, name],
        },
    }))
}

/// The forms that have values; metrics of a namespace itself have none.
fn custom(version: &GroupVersion, dialect: Dialect) -> Map<String, Value> {
    let parameter = |name, description| dialect.parameter(name, "path", description);
    let namespace = parameter("namespace", "Namespace of the object.");
    let object = [
        parameter("resource", "Resource of the object, such as deployments.apps."),
        parameter("name", "Name of the object, or * for every one."),
        parameter("metric", "Name of the metric."),
    ];
    let selector = dialect.parameter("metricLabelSelector", "query", "Restricts the list to series with these labels.");
    let read = |id, description| {
        Operation { id, action: "get", description, answer: CUSTOM_LIST_KIND, kind: CUSTOM_LIST_KIND }.write(
            version,
            dialect,
            std::slice::from_ref(&selector),
        )
    };
    let root = format!("/apis/{}", version.api_version);
    let below = "{resource}/{name}/{metric}";
    let in_namespace: Vec<_> = [&namespace].into_iter().chain(&object).collect();
    entries(json!({
        format!("{root}/namespaces/{{namespace}}/{below}"): {
            "get": read("readMetricOfObject", "Read a metric of an object."),
            "parameters": in_namespace,
        },
        format!("{root}/{below}"): {
            "get": read("readMetricOfObjectsInAllNamespaces", "Read a metric of every object of a kind."),
            "parameters": object,
        },
    }))
}

/// A read.
#[derive(Clone, Copy)]
struct Operation<'a> {
    /// Unique within the version.
    id: &'a str,
    action: &'static str,
    description: &'static str,
    /// Kind of the answer.
    answer: &'static str,
    /// Kind it is about.
    kind: &'static str,
}

impl Operation<'_> {
    fn write(&self, version: &GroupVersion, dialect: Dialect, parameters: &[Value]) -> Value {
        let mut operation = dialect.operation();
        let answer = dialect.ok(&dialect.reference(version, self.answer));
        operation.extend(entries(json!({
            "description": self.description,
            "tags": [version.api_version.replace(['.', '/'], "_")],
            "operationId": format!("{}_{}", self.id, version.api_version.replace(['.', '/'], "_")),
            "parameters": parameters,
            "responses": {"200": answer, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": super::schemas::kind(version, self.kind),
        })));
        Value::Object(operation)
    }
}
