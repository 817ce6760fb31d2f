//! The `ReplicaSet`s: the link between a Pod and its Deployment. Only their metadata crosses the network.

use std::sync::Arc;

use k8s_openapi::api::apps::v1 as apps;
use kube::{Api, Client, core::PartialObjectMeta};

use super::{ScaleTarget, Table, TargetKind, Watched, controller_of, scoped};
use crate::discovery::{Options, index::Namespace, sync::WatchedResource};

/// The `ReplicaSet` watch. What is kept of one is the name of its Deployment.
#[derive(Debug)]
pub(crate) struct ReplicaSets;

impl Watched for ReplicaSets {
    type Object = PartialObjectMeta<apps::ReplicaSet>;
    type Slim = Arc<str>;

    const RESOURCE: WatchedResource = WatchedResource::ReplicaSets;

    fn api(client: Client, options: &Options) -> Api<Self::Object> {
        scoped(client, options)
    }

    fn reduce(object: Self::Object) -> Option<Arc<str>> {
        controller_of(&object.metadata, "Deployment")
    }

    fn table(namespace: &mut Namespace) -> &mut Table<Arc<str>> {
        &mut namespace.replica_sets
    }

    fn matters(namespace: &Namespace, _name: &Arc<str>, deployment: &Arc<str>) -> bool {
        namespace.is_scaled(&ScaleTarget { kind: TargetKind::Deployment, name: deployment.clone() })
    }
}
