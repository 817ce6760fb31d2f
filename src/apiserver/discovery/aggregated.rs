//! Everything in one document, with real resources: what kube-apiserver merges into the cluster's discovery.

use serde_json::{Value, json};

use crate::{
    apiserver::group::{
        ADVERTISED, CUSTOM_LIST_KIND, EXTERNAL_ITEM_KIND, Form, GroupVersion, OBJECT_KINDS, ObjectKind, versions,
    },
    constants::MetricsGroup,
};

/// `apidiscovery.k8s.io/v2 APIGroupDiscoveryList`.
pub(super) fn document(groups: &[MetricsGroup], metrics: &[&'static str]) -> Value {
    let group = |group: &MetricsGroup| {
        let versions: Vec<_> = versions(*group).iter().map(|of| version(of, metrics)).collect();
        json!({"metadata": {"name": group.name()}, "versions": versions})
    };
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": groups.iter().map(group).collect::<Vec<_>>(),
    })
}

fn version(of: &GroupVersion, metrics: &[&'static str]) -> Value {
    let resources = match of.form {
        Form::External => vec![json!({
            "resource": ADVERTISED,
            "responseKind": kind(of, EXTERNAL_ITEM_KIND),
            "scope": "Namespaced",
            "singularResource": "",
            "verbs": ["get", "list"],
        })],
        Form::CustomV1Beta1 | Form::CustomV1Beta2 => {
            OBJECT_KINDS.iter().map(|object| properties(of, object, metrics)).collect()
        }
    };
    json!({"version": of.version, "resources": resources, "freshness": "Current"})
}

/// Metrics are subresources of the objects that they are properties of. The objects themselves are not served here, so
/// they have no verbs; their kind is empty and not null, which old versions of client-go do not survive.
fn properties(of: &GroupVersion, object: &ObjectKind, metrics: &[&'static str]) -> Value {
    let property =
        |metric: &&str| json!({"subresource": metric, "responseKind": kind(of, CUSTOM_LIST_KIND), "verbs": ["get"]});
    json!({
        "resource": object.resource(),
        "responseKind": {"group": "", "version": "", "kind": ""},
        "scope": "Namespaced",
        "singularResource": "",
        "verbs": [],
        "subresources": metrics.iter().map(property).collect::<Vec<_>>(),
    })
}

fn kind(of: &GroupVersion, kind: &str) -> Value {
    json!({"group": of.group.name(), "version": of.version, "kind": kind})
}
