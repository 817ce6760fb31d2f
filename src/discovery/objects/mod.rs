//! Watched objects, reduced at the watch edge to what decisions depend on.
//!
//! An event whose reduced object equals the stored one is no change: that is what drops metadata-only updates and
//! status updates of our own.

mod autoscaler;
mod pod;
mod replica_set;
mod variant;
mod workload;

use std::{collections::HashMap, fmt, sync::Arc};

use kube::{Api, Client, Resource, api::ObjectMeta, core::NamespaceResourceScope, runtime::watcher};
use serde::de::DeserializeOwned;

pub(crate) use self::{
    autoscaler::{Autoscaler, Autoscalers},
    pod::{Owner, Pod, Pods},
    replica_set::ReplicaSets,
    variant::{DeclaredVariant, Variants},
    workload::{Deployments, StatefulSets, Workload},
};
use super::{Options, index::Namespace, sync::WatchedResource};

/// Objects of one kind in one namespace, by name.
pub(crate) type Table<T> = HashMap<Arc<str>, T>;

/// A kind that is watched: where it comes from, what is kept of it, and what it bears on.
pub(crate) trait Watched: 'static {
    /// As the API server sends it.
    type Object: Resource + Clone + fmt::Debug + DeserializeOwned + Send + 'static;
    /// What is kept of it.
    type Slim: PartialEq + Send + Sync + 'static;

    /// Its name in the API, for messages.
    const RESOURCE: WatchedResource;

    /// Where to list and watch it.
    fn api(client: Client, options: &Options) -> Api<Self::Object>;

    /// Which of its objects to list and watch.
    fn selection(_options: &Options) -> watcher::Config {
        watcher::Config::default()
    }

    /// What to keep of an object; `None` if it bears on nothing.
    fn reduce(object: Self::Object) -> Option<Self::Slim>;

    /// Where it is kept.
    fn table(namespace: &mut Namespace) -> &mut Table<Self::Slim>;

    /// Whether an object bears on a decision: a change in a workload that no variant scales does not.
    fn matters(namespace: &Namespace, name: &Arc<str>, slim: &Self::Slim) -> bool;

    /// Follows the change of an object, which was `old`, in what the namespace derives from its kind.
    fn relink(_namespace: &mut Namespace, _name: &Arc<str>, _old: Option<&Self::Slim>) {}
}

/// An object with a scale subresource that a variant can scale, within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ScaleTarget {
    /// What it is.
    pub kind: TargetKind,
    /// Its name.
    pub name: Arc<str>,
}

/// Kinds of scale targets that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TargetKind {
    /// `apps/v1 Deployment`.
    Deployment,
    /// `apps/v1 StatefulSet`.
    StatefulSet,
}

impl ScaleTarget {
    /// The target that a `scaleTargetRef` points at; `None` if its kind is not watched.
    ///
    /// The version is ignored, as it is by the HPA: all versions of a group are the same objects.
    pub(crate) fn parse(api_version: &str, kind: &str, name: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = match (group, kind) {
            ("apps", "Deployment") => TargetKind::Deployment,
            ("apps", "StatefulSet") => TargetKind::StatefulSet,
            _ => return None,
        };
        Some(Self { kind, name: name.into() })
    }
}

/// The API of a kind that lives in namespaces, restricted as the options ask.
fn scoped<K>(client: Client, options: &Options) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match &options.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Name of the object's controller, if that is of `kind` in the group `apps`.
fn controller_of(metadata: &ObjectMeta, kind: &str) -> Option<Arc<str>> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    (owner.kind == kind && owner.api_version.starts_with("apps/")).then(|| owner.name.as_str().into())
}

/// A count of the Kubernetes API, which is signed there but never negative.
fn count(replicas: Option<i32>) -> Option<u32> {
    replicas.map(|replicas| u32::try_from(replicas).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_and_stateful_sets_of_any_version_are_scale_targets() {
        for (api_version, kind, supported) in [
            ("apps/v1", "Deployment", true),
            ("apps/v1", "StatefulSet", true),
            ("apps/v1beta2", "Deployment", true),
            ("apps/v1", "DaemonSet", false),
            ("apps/v1", "deployment", false),
            ("v1", "Deployment", false),
            ("extensions/v1beta1", "Deployment", false),
            ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", false),
            ("argoproj.io/v1alpha1", "Rollout", false),
        ] {
            assert_eq!(ScaleTarget::parse(api_version, kind, "a").is_some(), supported, "{api_version} {kind}");
        }
    }
}
