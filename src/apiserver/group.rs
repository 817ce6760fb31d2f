//! The API groups that can be served: their versions, and the form of their answers.

use crate::constants::{EXTERNAL_METRICS_VERSION, MetricsGroup, WVA_DESIRED_REPLICAS};

/// One version of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupVersion {
    pub(super) group: MetricsGroup,
    pub(super) version: &'static str,
    /// Both, as in `apiVersion`.
    pub(super) api_version: &'static str,
    /// What is read.
    pub(super) form: Form,
    /// Package of its types in `OpenAPI`.
    pub(super) package: &'static str,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Series, by their labels.
    External,
    /// Properties of objects, in the words of `v1beta1`.
    CustomV1Beta1,
    /// Properties of objects, in the words of `v1beta2`.
    CustomV1Beta2,
}

/// Kind of a value of an external metric. Discovery names it too: kubectl's output formats look for the items' kind there.
pub(super) const EXTERNAL_ITEM_KIND: &str = "ExternalMetricValue";
/// Kind of a list of them.
pub(super) const EXTERNAL_LIST_KIND: &str = "ExternalMetricValueList";
/// Kind of a list of values of a custom metric.
pub(super) const CUSTOM_LIST_KIND: &str = "MetricValueList";
/// The one advertised resource of the external forms. None makes client-go complain at every command; several of one kind
/// make kubectl pick an arbitrary one. Values of the other metrics can be read all the same.
pub(super) const ADVERTISED: &str = WVA_DESIRED_REPLICAS;

const EXTERNAL: GroupVersion = GroupVersion {
    group: MetricsGroup::External,
    version: EXTERNAL_METRICS_VERSION,
    api_version: "external.metrics.k8s.io/v1beta1",
    form: Form::External,
    package: "io.k8s.metrics.pkg.apis.external_metrics.v1beta1",
};
const CUSTOM_V1BETA1: GroupVersion = GroupVersion {
    group: MetricsGroup::Custom,
    version: "v1beta1",
    api_version: "custom.metrics.k8s.io/v1beta1",
    form: Form::CustomV1Beta1,
    package: "io.k8s.metrics.pkg.apis.custom_metrics.v1beta1",
};
const CUSTOM_V1BETA2: GroupVersion = GroupVersion {
    group: MetricsGroup::Custom,
    version: "v1beta2",
    api_version: "custom.metrics.k8s.io/v1beta2",
    form: Form::CustomV1Beta2,
    package: "io.k8s.metrics.pkg.apis.custom_metrics.v1beta2",
};
const OWN: GroupVersion = GroupVersion {
    group: MetricsGroup::Own,
    version: EXTERNAL_METRICS_VERSION,
    api_version: "external.metrics.llmd.ai/v1beta1",
    form: Form::External,
    package: "ai.llmd.metrics.external.v1beta1",
};

/// Versions of `group`, the preferred one first.
pub(super) fn versions(group: MetricsGroup) -> &'static [GroupVersion] {
    match group {
        MetricsGroup::External => &[EXTERNAL],
        MetricsGroup::Custom => &[CUSTOM_V1BETA2, CUSTOM_V1BETA1],
        MetricsGroup::Own => &[OWN],
    }
}

/// Every version of the served `groups`.
pub(super) fn all_versions(groups: &[MetricsGroup]) -> impl Iterator<Item = &'static GroupVersion> {
    groups.iter().flat_map(|group| versions(*group))
}

/// A kind of object that a custom metric can be asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectKind {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) singular: &'static str,
}

/// All of them: what a variant can scale, and the variant itself.
pub(super) const OBJECT_KINDS: [ObjectKind; 4] = [
    ObjectKind { group: "apps", kind: "Deployment", plural: "deployments", singular: "deployment" },
    ObjectKind { group: "apps", kind: "StatefulSet", plural: "statefulsets", singular: "statefulset" },
    ObjectKind {
        group: "leaderworkerset.x-k8s.io",
        kind: "LeaderWorkerSet",
        plural: "leaderworkersets",
        singular: "leaderworkerset",
    },
    ObjectKind {
        group: "llmd.ai",
        kind: "VariantAutoscaling",
        plural: "variantautoscalings",
        singular: "variantautoscaling",
    },
];

impl ObjectKind {
    /// The kind that a path names as `resource` or `resource.group`, in singular or plural.
    pub(super) fn from_resource(text: &str) -> Option<&'static Self> {
        let (resource, group) = text.split_once('.').map_or((text, None), |(resource, group)| (resource, Some(group)));
        OBJECT_KINDS.iter().find(|kind| {
            [kind.plural, kind.singular].contains(&resource) && group.is_none_or(|group| group == kind.group)
        })
    }

    /// `resource.group`, as discovery names it.
    pub(super) fn resource(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_resource_in_singular_or_plural_with_or_without_group() {
        for (text, kind) in [
            ("deployments.apps", Some("Deployment")),
            ("deployment", Some("Deployment")),
            ("variantautoscalings.llmd.ai", Some("VariantAutoscaling")),
            ("leaderworkersets.leaderworkerset.x-k8s.io", Some("LeaderWorkerSet")),
            ("deployments.extensions", None),
            ("pods", None),
            ("", None),
        ] {
            assert_eq!(ObjectKind::from_resource(text).map(|kind| kind.kind), kind, "{text}");
        }
    }
}
