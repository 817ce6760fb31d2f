//! What a path below a group version asks for.

use super::group::{Form, ObjectKind};
use crate::auth::ResourceAttributes;

/// Stands for every object of a kind.
pub(super) const ANY_NAME: &str = "*";
/// Below a variant: how its values came about.
const EXPLAIN: &str = "explain";
/// Below a namespace: metrics of the namespace itself.
const OF_NAMESPACE: &str = "metrics";

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Series of an external metric.
    Series { namespace: Option<&'a str>, metric: &'a str },
    /// The series of an external metric that is one variant's.
    Variant { namespace: &'a str, metric: &'a str, name: &'a str },
    /// How a variant's values came about.
    Explanation { namespace: &'a str, metric: &'a str, name: &'a str },
    /// A metric of objects; without a namespace, of those in all.
    Objects { namespace: Option<&'a str>, metric: &'a str, kind: &'static ObjectKind, name: Option<&'a str> },
    /// A metric of what has none here: an object of another kind, one outside of its namespace, a namespace.
    OfOthers { resource: &'a str, name: &'a str, metric: &'a str },
}

impl<'a> Asked<'a> {
    /// `None` for what is not there.
    pub(super) fn of(form: Form, attributes: &'a ResourceAttributes) -> Option<Self> {
        match form {
            Form::External => Self::external(attributes),
            Form::CustomV1Beta1 | Form::CustomV1Beta2 => Self::custom(attributes),
        }
    }

    fn external(attributes: &'a ResourceAttributes) -> Option<Self> {
        let ResourceAttributes { namespace, resource: metric, name, subresource, .. } = attributes;
        match (namespace.as_deref(), name.as_deref(), subresource.as_deref()) {
            // A place, and not a metric.
            (None, None, None) if metric == "namespaces" => None,
            (namespace, None, None) => Some(Self::Series { namespace, metric }),
            (Some(namespace), Some(name), None) => Some(Self::Variant { namespace, metric, name }),
            (Some(namespace), Some(name), Some(EXPLAIN)) => Some(Self::Explanation { namespace, metric, name }),
            _ => None,
        }
    }

    /// The three forms of the adapter library: below a namespace, outside of any, and of a namespace itself.
    fn custom(attributes: &'a ResourceAttributes) -> Option<Self> {
        let ResourceAttributes { namespace, resource, name, subresource, .. } = attributes;
        let (namespace, name) = (namespace.as_deref(), name.as_deref()?);
        let Some(metric) = subresource.as_deref() else {
            let of = namespace.filter(|_| resource == OF_NAMESPACE)?;
            return Some(Self::OfOthers { resource: "namespaces", name: of, metric: name });
        };
        let others = Self::OfOthers { resource, name, metric };
        Some(match (namespace, ObjectKind::from_resource(resource)) {
            (namespace, Some(kind)) if name == ANY_NAME => Self::Objects { namespace, metric, kind, name: None },
            (Some(_), Some(kind)) => Self::Objects { namespace, metric, kind, name: Some(name) },
            _ => others,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::{apiserver::request, auth::Attributes};

    #[test]
    fn metrics_of_objects_are_asked_for_in_the_three_forms_of_the_library() {
        let deployment = ObjectKind::from_resource("deployments.apps").unwrap();
        let objects = |namespace, name| Some(Asked::Objects { namespace, metric: "m", kind: deployment, name });
        let others = |resource, name| Some(Asked::OfOthers { resource, name, metric: "m" });
        for (path, expected) in [
            ("namespaces/a/deployments.apps/x/m", objects(Some("a"), Some("x"))),
            ("namespaces/a/deployment/x/m", objects(Some("a"), Some("x"))),
            ("namespaces/a/deployments.apps/*/m", objects(Some("a"), None)),
            ("deployments.apps/*/m", objects(None, None)),
            ("deployments.apps/x/m", others("deployments.apps", "x")),
            ("nodes/n/m", others("nodes", "n")),
            ("nodes/*/m", others("nodes", "*")),
            ("namespaces/a/pods/x/m", others("pods", "x")),
            ("namespaces/a/metrics/m", others("namespaces", "a")),
            ("namespaces/*/metrics/m", others("namespaces", "*")),
            ("namespaces/a/metrics", None),
            ("namespaces/a/deployments.apps/x", None),
            ("deployments.apps/x", None),
            ("deployments.apps", None),
            ("namespaces/a", None),
            ("namespaces", None),
        ] {
            let uri = format!("/apis/custom.metrics.k8s.io/v1beta2/{path}").parse().unwrap();
            let Ok(Attributes::Resource(attributes)) = request::attributes(&Method::GET, &uri) else {
                panic!("{path}")
            };
            assert_eq!(Asked::of(Form::CustomV1Beta2, &attributes), expected, "{path}");
        }
    }
}
