//! One pod's way: placed on a node, started, ready, drained, deleted. Every step looks at what is and does what is missing,
//! so it may be repeated at any point, also by the next process.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{controller::Action, reflector::Store},
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    MANAGER,
    address::LoopbackAddresses,
    node::{self, Nodes},
    placement::place,
    pod::FleetPod,
    status,
};
use crate::{
    clock::{Clock, SystemClock},
    fleet::{
        http,
        live::LiveFleet,
        pool::VariantSpec,
        replica::{ReplicaId, ReplicaState},
        time::Picoseconds,
    },
    interfaces::ModelKey,
};

/// How often a pod that fits nowhere, or drains, is looked at again.
const UNPLACED_RETRY: Duration = Duration::from_secs(2);
const DRAIN_RETRY: Duration = Duration::from_millis(200);

/// Why a step failed; it is tried again.
#[derive(Debug, Error)]
pub(super) enum ReconcileError {
    #[error("pod {pod}: {source}")]
    Kubernetes { pod: String, source: kube::Error },
    #[error("pod {pod}: no loopback address has port {port} free: {source}; choose another prometheus.io/port")]
    NoAddress { pod: String, port: u16, source: std::io::Error },
    #[error("pod {pod}: {source}")]
    Fleet { pod: String, source: crate::fleet::pool::UnknownVariant },
}

/// What every reconciliation needs.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) fleet: Arc<LiveFleet>,
    pub(super) nodes: Nodes,
    pub(super) store: Store<Pod>,
    pub(super) addresses: LoopbackAddresses,
    /// Replicas of pods, by the pod's uid.
    pub(super) replicas: Mutex<HashMap<String, PodReplica>>,
    /// Pods placed by this process: the store may not have heard of it yet. Also keeps two from being placed at once.
    pub(super) placed: tokio::sync::Mutex<HashMap<String, Pod>>,
    pub(super) servers: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// The replica behind a pod.
#[derive(Clone, Debug)]
pub(super) struct PodReplica {
    model: ModelKey,
    id: ReplicaId,
    /// Where it is served, once it is ready.
    address: Option<IpAddr>,
    stop: CancellationToken,
}

/// Takes the next step for `pod`.
pub(super) async fn reconcile(pod: Arc<Pod>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let fleet_pod = match FleetPod::of(&pod) {
        Ok(Some(fleet_pod)) => fleet_pod,
        Ok(None) => return Ok(Action::await_change()),
        Err(error) => {
            warn!(pod = full_name(&pod), "the pod stays pending: {error}");
            return Ok(Action::await_change());
        }
    };
    let node = node_of(&pod);
    if node.is_some_and(|node| !context.nodes.owns(node)) {
        return Ok(Action::await_change());
    }
    if let Some(deadline) = &pod.metadata.deletion_timestamp {
        return context.retire(&pod, deadline.0).await;
    }
    match node {
        None => context.bind(&pod, &fleet_pod).await,
        Some(_) => context.start(&pod, &fleet_pod).await,
    }
}

/// What to do after a failed step.
pub(super) fn retry(_: Arc<Pod>, error: &ReconcileError, _: Arc<Context>) -> Action {
    warn!("{error}; trying again");
    Action::requeue(Duration::from_secs(1))
}

impl Context {
    async fn bind(&self, pod: &Pod, fleet_pod: &FleetPod) -> Result<Action, ReconcileError> {
        let failed = |source| ReconcileError::Kubernetes { pod: full_name(pod), source };
        let mut placed = self.placed.lock().await;
        let nodes = self.nodes.list().await.map_err(failed)?;
        let known = self.store.state();
        let seen: HashSet<_> =
            known.iter().filter(|known| node_of(known).is_some()).filter_map(|pod| pod.uid()).collect();
        let unseen = placed.iter().filter(|(uid, _)| !seen.contains(*uid)).map(|(_, pod)| pod);
        let taken = node::taken(known.iter().map(AsRef::as_ref).chain(unseen));
        let node = match place(pod, fleet_pod.accelerators, &nodes, &taken) {
            Ok(node) => node.name_any(),
            Err(message) => {
                if !status::is_unschedulable(pod, &message) {
                    self.patch_status(pod, &status::unschedulable(&message, SystemClock.now())).await?;
                }
                return Ok(Action::requeue(UNPLACED_RETRY));
            }
        };
        let binding: Binding = serde_json::from_value(json!({
            "metadata": { "name": pod.name_any(), "uid": pod.uid() },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        }))
        .map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let bound: kube::Result<Value> =
            self.pods(pod).create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
        bound.map_err(failed)?;
        info!(pod = full_name(pod), node, "placed");
        let mut placed_pod = pod.clone();
        placed_pod.spec.get_or_insert_default().node_name = Some(node);
        placed.insert(pod.uid().unwrap_or_default(), placed_pod);
        // The binding shows up as a change of the pod.
        Ok(Action::await_change())
    }

    async fn start(&self, pod: &Pod, fleet_pod: &FleetPod) -> Result<Action, ReconcileError> {
        let replica = self.replica_of(pod, fleet_pod)?;
        let pending = self.fleet.with(|fleet| {
            let state = fleet.pool(&replica.model)?.replica(replica.id)?;
            let starts = state.state() == ReplicaState::Starting;
            starts.then(|| state.ready_at().since(fleet.now()))
        });
        if let Some(left) = pending {
            // A moment more, so that it is ready when looked at.
            return Ok(Action::requeue(self.fleet.wall(left) + Duration::from_millis(1)));
        }
        let address = match replica.address {
            Some(address) => address,
            None => self.serve(pod, fleet_pod, replica).await?,
        };
        if !status::is_ready_at(pod, address) {
            self.patch_status(pod, &status::ready(pod, address, SystemClock.now())).await?;
            info!(pod = full_name(pod), %address, "ready");
        }
        Ok(Action::await_change())
    }

    /// The replica behind `pod`; a new one if there is none. One that a former process had ready is ready at once.
    fn replica_of(&self, pod: &Pod, fleet_pod: &FleetPod) -> Result<PodReplica, ReconcileError> {
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = pod.uid().unwrap_or_default();
        if let Some(replica) = replicas.get(&uid) {
            return Ok(replica.clone());
        }
        let cold_start = if status::is_ready(pod) { Picoseconds::ZERO } else { fleet_pod.cold_start.into() };
        let id = self.fleet.with(|fleet| {
            let pool = fleet.pool_or_new(&fleet_pod.model);
            let spec = VariantSpec::new(fleet_pod.variant.clone(), fleet_pod.profile.clone());
            pool.add_variant(VariantSpec { cold_start: fleet_pod.cold_start.into(), ..spec });
            pool.add_replica(&fleet_pod.variant, cold_start)
        });
        let id = id.map_err(|source| ReconcileError::Fleet { pod: full_name(pod), source })?;
        let model = fleet_pod.model.clone();
        let replica = PodReplica { model, id, address: None, stop: self.shutdown.child_token() };
        replicas.insert(uid, replica.clone());
        Ok(replica)
    }

    /// Serves the replica's metrics on an address of its own.
    async fn serve(&self, pod: &Pod, fleet_pod: &FleetPod, replica: PodReplica) -> Result<IpAddr, ReconcileError> {
        let no_address = |source| ReconcileError::NoAddress { pod: full_name(pod), port: fleet_pod.port, source };
        let listener = self.addresses.listen(status::address_of(pod), fleet_pod.port).await.map_err(no_address)?;
        let address = listener.local_addr().map_err(no_address)?.ip();
        let routes = http::replica_routes(self.fleet.clone(), replica.model, replica.id);
        let serving = http::serve(listener, routes, replica.stop);
        let name = full_name(pod);
        self.servers.spawn(async move {
            if let Err(error) = serving.await {
                warn!(pod = name, %error, "the replica's metrics are no longer served");
            }
        });
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(replica) = replicas.get_mut(&pod.uid().unwrap_or_default()) {
            replica.address = Some(address);
        }
        Ok(address)
    }

    /// Drains the pod's replica, then deletes the pod; at the deadline it is stopped as it is.
    async fn retire(&self, pod: &Pod, deadline: Timestamp) -> Result<Action, ReconcileError> {
        let uid = pod.uid().unwrap_or_default();
        let replica = self.replicas.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        if let Some(replica) = replica {
            let drained = self.fleet.with(|fleet| {
                let Some(pool) = fleet.pool_mut(&replica.model) else { return true };
                if SystemClock.now() >= deadline {
                    pool.stop(replica.id);
                }
                pool.drain(replica.id);
                pool.replica(replica.id).is_none()
            });
            if !drained {
                return Ok(Action::requeue(DRAIN_RETRY));
            }
        }
        let uid_still = Preconditions { uid: pod.uid(), ..Preconditions::default() };
        let at_once = DeleteParams::default().grace_period(0).preconditions(uid_still);
        match self.pods(pod).delete(&pod.name_any(), &at_once).await {
            Ok(_) => info!(pod = full_name(pod), "gone"),
            // Another of that name, or none, is there by now.
            Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) => {}
            Err(source) => return Err(ReconcileError::Kubernetes { pod: full_name(pod), source }),
        }
        self.forget(&uid).await;
        Ok(Action::await_change())
    }

    /// Stops the replicas of pods that are no longer there: those deleted by force, or while this process was away.
    pub(super) async fn sweep(&self) {
        let present: HashSet<_> = self.store.state().iter().filter_map(|pod| pod.uid()).collect();
        let known: Vec<_> = self.replicas.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for uid in known.iter().filter(|uid| !present.contains(*uid)) {
            self.forget(uid).await;
        }
        self.placed.lock().await.retain(|uid, _| present.contains(uid));
    }

    async fn forget(&self, uid: &str) {
        let replica = self.replicas.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        if let Some(replica) = replica {
            replica.stop.cancel();
            self.fleet.with(|fleet| fleet.pool_mut(&replica.model).map(|pool| pool.stop(replica.id)));
        }
        self.placed.lock().await.remove(uid);
    }

    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<(), ReconcileError> {
        // A strategic merge keeps the conditions of others: the binding's PodScheduled, readiness gates.
        let manager = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.pods(pod).patch_status(&pod.name_any(), &manager, &Patch::Strategic(patch)).await;
        patched.map(drop).map_err(|source| ReconcileError::Kubernetes { pod: full_name(pod), source })
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn full_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests;
