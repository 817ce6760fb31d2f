//! Names of objects within their namespace.

use std::{fmt, sync::Arc};

use kube::api::ObjectMeta;

/// An object within its namespace: what a variant scales, or what owns a pod on the way there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: Arc<str>,
}

/// Kind of an object, whatever its version: all versions of a group are the same objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ObjectKind {
    /// `Deployment` of `apps`.
    Deployment,
    /// `StatefulSet` of `apps`.
    StatefulSet,
    /// `ReplicaSet` of `apps`.
    ReplicaSet,
    /// Any other.
    Other(Arc<GroupKind>),
}

/// Group and kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.kind) } else { write!(f, "{}.{}", self.kind, self.group) }
    }
}

/// Kinds that own pods and cannot be scaled: their pods need not be remembered as anybody's.
const NEVER_SCALED: [(&str, &str); 3] = [("apps", "DaemonSet"), ("batch", "Job"), ("", "Node")];

impl ObjectKey {
    /// The object that an API version, a kind and a name speak of.
    pub(crate) fn new(api_version: &str, kind: &str, name: &str) -> Self {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = match (group, kind) {
            ("apps", "Deployment") => ObjectKind::Deployment,
            ("apps", "StatefulSet") => ObjectKind::StatefulSet,
            ("apps", "ReplicaSet") => ObjectKind::ReplicaSet,
            (group, kind) => ObjectKind::Other(Arc::new(GroupKind { group: group.to_owned(), kind: kind.to_owned() })),
        };
        Self { kind, name: name.into() }
    }

    /// The controller of an object; `None` where there is none that could be scaled.
    pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<Self> {
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let never = NEVER_SCALED.contains(&(group, owner.kind.as_str()));
        (!never).then(|| Self::new(&owner.api_version, &owner.kind, &owner.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_the_same_in_every_version_of_its_group() {
        let key = |api_version| ObjectKey::new(api_version, "Deployment", "a");
        assert_eq!(key("apps/v1"), key("apps/v1beta2"));
        assert_ne!(key("apps/v1"), key("extensions/v1beta1"));
        assert_ne!(key("apps/v1"), key("v1"));
        assert_eq!(key("apps/v1").kind, ObjectKind::Deployment);
        assert_ne!(ObjectKey::new("apps/v1", "deployment", "a").kind, ObjectKind::Deployment);
    }

    #[test]
    fn kinds_are_called_as_in_the_api() {
        for (api_version, kind, expected) in
            [("argoproj.io/v1alpha1", "Rollout", "Rollout.argoproj.io"), ("v1", "Pod", "Pod")]
        {
            let ObjectKind::Other(other) = ObjectKey::new(api_version, kind, "a").kind else { panic!("{kind}") };
            assert_eq!(other.to_string(), expected);
        }
    }
}
