//! The documents that every client understands: one for all groups, one for each group, one for each version.

use serde::Serialize;

use crate::apiserver::{
    group::{ADVERTISED, CUSTOM_LIST_KIND, EXTERNAL_ITEM_KIND, Form, GroupVersion, OBJECT_KINDS},
    wire::{Document, protobuf},
};

/// `metav1.APIGroupList`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiGroupList {
    kind: &'static str,
    api_version: &'static str,
    groups: Vec<ApiGroup>,
}

/// `metav1.APIGroup`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    name: &'static str,
    versions: Vec<Version>,
    preferred_version: Version,
}

/// `metav1.GroupVersionForDiscovery`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: &'static str,
    version: &'static str,
}

/// `metav1.APIResourceList`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiResourceList {
    kind: &'static str,
    api_version: &'static str,
    group_version: &'static str,
    resources: Vec<ApiResource>,
}

/// `metav1.APIResource`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    name: String,
    singular_name: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: &'static [&'static str],
}

impl ApiGroupList {
    pub(super) fn new(groups: Vec<ApiGroup>) -> Self {
        Self { kind: "APIGroupList", api_version: "v1", groups }
    }
}

impl ApiGroup {
    /// The group of `versions`, the preferred one first, as an entry of a list.
    pub(super) fn new(versions: &'static [GroupVersion]) -> Self {
        let version = |of: &GroupVersion| Version { group_version: of.api_version, version: of.version };
        let preferred = &versions[0];
        Self {
            kind: None,
            api_version: None,
            name: preferred.group.name(),
            versions: versions.iter().map(version).collect(),
            preferred_version: version(preferred),
        }
    }

    /// The same as a document of its own.
    pub(super) fn alone(self) -> Self {
        Self { kind: Some("APIGroup"), api_version: Some("v1"), ..self }
    }
}

impl ApiResourceList {
    pub(super) fn new(version: &GroupVersion, metrics: &[&'static str]) -> Self {
        let resources = match version.form {
            Form::External => vec![ApiResource {
                name: ADVERTISED.to_owned(),
                singular_name: "",
                namespaced: true,
                kind: EXTERNAL_ITEM_KIND,
                verbs: &["get", "list"],
            }],
            Form::CustomV1Beta1 | Form::CustomV1Beta2 => {
                let properties = OBJECT_KINDS.iter().flat_map(|kind| metrics.iter().map(move |metric| (kind, metric)));
                let resource = |(kind, metric): (&crate::apiserver::group::ObjectKind, &&str)| ApiResource {
                    name: format!("{}/{metric}", kind.resource()),
                    singular_name: "",
                    namespaced: true,
                    kind: CUSTOM_LIST_KIND,
                    verbs: &["get"],
                };
                properties.map(resource).collect()
            }
        };
        Self { kind: "APIResourceList", api_version: "v1", group_version: version.api_version, resources }
    }
}

impl ApiGroup {
    fn entry(&self) -> protobuf::ApiGroup {
        let version = |of: &Version| protobuf::GroupVersion {
            group_version: of.group_version.to_owned(),
            version: of.version.to_owned(),
        };
        protobuf::ApiGroup {
            name: self.name.to_owned(),
            versions: self.versions.iter().map(version).collect(),
            preferred_version: Some(version(&self.preferred_version)),
        }
    }
}

impl Document for ApiGroupList {
    type Message = protobuf::ApiGroupList;

    fn api_version(&self) -> &str {
        self.api_version
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn message(&self) -> Self::Message {
        protobuf::ApiGroupList { groups: self.groups.iter().map(ApiGroup::entry).collect() }
    }
}

impl Document for ApiGroup {
    type Message = protobuf::ApiGroup;

    fn api_version(&self) -> &'static str {
        "v1"
    }

    fn kind(&self) -> &'static str {
        "APIGroup"
    }

    fn message(&self) -> Self::Message {
        self.entry()
    }
}

impl Document for ApiResourceList {
    type Message = protobuf::ApiResourceList;

    fn api_version(&self) -> &str {
        self.api_version
    }

    fn kind(&self) -> &str {
        self.kind
    }

    fn message(&self) -> Self::Message {
        let resource = |of: &ApiResource| protobuf::ApiResource {
            name: of.name.clone(),
            namespaced: of.namespaced,
            kind: of.kind.to_owned(),
            verbs: Some(protobuf::Verbs { items: of.verbs.iter().map(|verb| (*verb).to_owned()).collect() }),
        };
        protobuf::ApiResourceList {
            group_version: self.group_version.to_owned(),
            resources: self.resources.iter().map(resource).collect(),
        }
    }
}
