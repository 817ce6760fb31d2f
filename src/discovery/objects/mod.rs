//! Watched objects, reduced at the watch edge to what decisions depend on.
//!
//! An event whose reduced object equals the stored one is no change: that is what drops metadata-only updates and
//! status updates of our own.

mod annotated;
mod autoscaler;
mod claim;
mod declared;
mod exposed;
mod node;
mod opt_out;
mod pod;
mod pod_template;
mod quota;
mod reference;
mod replica_set;
mod scaled_object;
mod slice;
mod variant;
mod workload;

use std::{collections::HashMap, sync::Arc};

use kube::{
    Resource,
    api::{ApiResource, ObjectMeta},
    runtime::watcher,
};
use serde::de::DeserializeOwned;

pub(crate) use self::{
    autoscaler::{Autoscaler, Autoscalers},
    claim::{Claim, ClaimTemplates, ClaimedDevices, Claims},
    declared::{DeclaredVariant, LatestObject, Source},
    exposed::Exposed,
    node::Nodes,
    opt_out::{Namespaces, OptOut},
    pod::{Pod, Pods},
    pod_template::TemplateAccelerators,
    quota::{Quota, Quotas},
    reference::{GroupKind, ObjectKey, ObjectKind},
    replica_set::ReplicaSets,
    scaled_object::ScaledObjects,
    slice::{Slice, Slices},
    variant::Variants,
    workload::{Deployments, ReplicaAccelerators, ScaleCounts, Scaled, StatefulSets, Workload},
};
use super::{
    ClusterState, Options,
    index::{Effect, Home},
    sent::Address,
    sync::{WatchFailure, WatchedResource},
};

/// Objects of one kind in one namespace, by name.
pub(crate) type Table<T> = HashMap<Arc<str>, T>;

/// A kind that is watched: where it comes from, what is kept of it, and what it bears on.
pub(crate) trait Watched: Clone + Send + Sync + 'static {
    /// What is read of it.
    type Object: Resource + DeserializeOwned;
    /// What is kept of it.
    type Slim: PartialEq + Send + Sync + 'static;
    /// Where it is kept.
    type Home: Home;

    /// Its name in the API, for messages.
    fn resource(&self) -> WatchedResource;

    /// Where to list and watch it.
    fn address(&self, options: &Options) -> Address;

    /// Which of its objects to list and watch.
    fn selection(&self, _options: &Options) -> watcher::Config {
        watcher::Config::default()
    }

    /// Namespace (empty for what lies in none) and name under which an object is kept.
    fn identity(&self, metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
        Some((metadata.namespace.as_deref()?.into(), metadata.name.as_deref()?.into()))
    }

    /// What to keep of an object; `None` if it bears on nothing.
    fn reduce(&self, object: Self::Object) -> Option<Self::Slim>;

    /// Where it is kept.
    fn table<'a>(&self, home: &'a mut Self::Home) -> &'a mut Table<Self::Slim>;

    /// What an object bears on: a change in a workload that no variant scales bears on nothing. Called before and after
    /// a change, with what is known then.
    fn touch(&self, home: &mut Self::Home, name: &Arc<str>, slim: &Self::Slim) -> Effect;

    /// What follows, beside its objects, from a watch that works.
    fn delivered(&self, _state: &ClusterState) {}

    /// What follows from a watch that failed.
    fn failed(&self, _state: &ClusterState, _failure: &WatchFailure) {}

    /// Follows the change of an object, which was `old`, in what its home derives from its kind; tells what that bears on.
    fn relink(&self, _home: &mut Self::Home, _name: &Arc<str>, _old: Option<&Self::Slim>) -> Effect {
        Effect::NONE
    }
}

/// Where a kind is that lives in namespaces: in one of them or in all, as the options ask.
fn scoped(resource: ApiResource, options: &Options) -> Address {
    Address { resource, namespace: options.namespace.clone(), metadata_only: false }
}

/// Where a kind is that lies in no namespace.
fn cluster_wide(resource: ApiResource) -> Address {
    Address { resource, namespace: None, metadata_only: false }
}

/// A built-in kind.
fn built_in<K: Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// Identity of an object that lies in no namespace.
fn cluster_identity(metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
    Some(("".into(), metadata.name.as_deref()?.into()))
}

/// A count of the Kubernetes API, which is signed there but never negative.
fn count(replicas: Option<i32>) -> Option<u32> {
    replicas.map(|replicas| u32::try_from(replicas).unwrap_or(0))
}
