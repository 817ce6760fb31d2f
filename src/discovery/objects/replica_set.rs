//! The `ReplicaSet`s: the link between a Pod and its Deployment. Only their metadata crosses the network.

use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use kube::core::PartialObjectMeta;

use super::{Address, ObjectKey, ObjectKind, Table, Watched, built_in, scoped};
use crate::discovery::{
    Options,
    index::{Effect, Namespace},
    sync::WatchedResource,
};

/// The `ReplicaSet` watch. What is kept of one is its controller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplicaSets;

impl Watched for ReplicaSets {
    type Object = PartialObjectMeta<apps::ReplicaSet>;
    type Slim = ObjectKey;
    type Home = Namespace;

    fn resource(&self) -> WatchedResource {
        WatchedResource::ReplicaSets
    }

    fn address(&self, options: &Options) -> Address {
        Address { metadata_only: true, ..scoped(built_in::<apps::ReplicaSet>(), options) }
    }

    fn reduce(&self, object: Self::Object) -> Option<ObjectKey> {
        ObjectKey::controller_of(&object.metadata)
    }

    fn table<'a>(&self, namespace: &'a mut Namespace) -> &'a mut Table<ObjectKey> {
        &mut namespace.replica_sets
    }

    fn touch(&self, namespace: &mut Namespace, _name: &Arc<str>, owner: &ObjectKey) -> Effect {
        namespace.touch_object(owner)
    }

    fn relink(&self, namespace: &mut Namespace, name: &Arc<str>, old: Option<&ObjectKey>) -> Effect {
        let new = namespace.replica_sets.get(name).cloned();
        namespace.relink_child(&ObjectKey { kind: ObjectKind::ReplicaSet, name: name.clone() }, old.cloned(), new);
        Effect::NONE
    }
}
