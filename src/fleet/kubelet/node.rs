//! Fake nodes: registered, kept alive by heartbeats, deleted at the end.

use std::{str::FromStr, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{GPU_RESOURCE, MANAGER, placement::Taken, pod::FleetPod};
use crate::clock::{Clock, SystemClock};

/// Label of the nodes of a fleet; its value is the fleet's name prefix.
const FLEET_LABEL: &str = "wva.llmd.ai/fleet";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// As kubelet renews; the node controller gives a node up after 40 s without.
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// Leases per status: kubelet reports an unchanged status every five minutes.
const STATUS_EVERY: u32 = 30;
/// How long a deletion may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Nodes of one kind, written `PRODUCT=COUNTxACCELERATORS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePool {
    /// Value of the label `nvidia.com/gpu.product`.
    pub product: String,
    /// Nodes.
    pub count: u32,
    /// Accelerators of each.
    pub accelerators: u32,
}

/// A pool of nodes that is not written as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not PRODUCT=COUNTxACCELERATORS with counts from 1 to 1000, such as NVIDIA-L40S=4x8")]
pub struct NodePoolError(String);

impl FromStr for NodePool {
    type Err = NodePoolError;

    fn from_str(text: &str) -> Result<Self, NodePoolError> {
        let parsed = || {
            let (product, sizes) = text.split_once('=')?;
            let (count, accelerators) = sizes.split_once('x')?;
            let size = |text: &str| text.parse().ok().filter(|size| (1..=1000).contains(size));
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let legal = !product.is_empty() && product.len() <= 50 && product.chars().all(legal);
            legal.then_some(Self {
                product: product.to_owned(),
                count: size(count)?,
                accelerators: size(accelerators)?,
            })
        };
        parsed().ok_or_else(|| NodePoolError(text.to_owned()))
    }
}

/// The nodes of this fleet.
#[derive(Clone)]
pub(super) struct Nodes {
    client: Client,
    prefix: String,
    names: Vec<(String, NodePool)>,
}

impl Nodes {
    pub(super) fn new(client: Client, prefix: &str, pools: &[NodePool]) -> Self {
        let name = |pool: &NodePool, number| {
            let product = pool.product.to_ascii_lowercase().replace(['_', '.'], "-");
            format!("{prefix}-{}-{number}", product.trim_matches('-'))
        };
        let names = pools.iter().flat_map(|pool| (0..pool.count).map(|number| (name(pool, number), pool.clone())));
        Self { client, prefix: prefix.to_owned(), names: names.collect() }
    }

    /// Creates the nodes, or takes over those a former process left.
    pub(super) async fn register(&self) -> kube::Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        let apply = PatchParams::apply(MANAGER).force();
        for (name, pool) in &self.names {
            api.patch(name, &apply, &Patch::Apply(node(name, &self.prefix, pool))).await?;
            self.report(name, pool).await?;
            self.renew(name).await?;
        }
        Ok(())
    }

    /// Renews leases and statuses until `shutdown`.
    pub(super) async fn heartbeat(&self, shutdown: CancellationToken) {
        let mut beats = tokio::time::interval(LEASE_INTERVAL);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut beat: u32 = 0;
        while shutdown.run_until_cancelled(beats.tick()).await.is_some() {
            beat = beat.wrapping_add(1);
            for (name, pool) in &self.names {
                let renewed = async {
                    self.renew(name).await?;
                    if beat.is_multiple_of(STATUS_EVERY) { self.report(name, pool).await } else { Ok(()) }
                };
                match shutdown.run_until_cancelled(renewed).await {
                    None => return,
                    Some(Ok(())) => {}
                    Some(Err(error)) => warn!(node = name, %error, "heartbeat failed; the next one tries again"),
                }
            }
        }
    }

    /// Deletes the nodes and their leases.
    pub(super) async fn delete(&self) {
        let (nodes, now) = (Api::<Node>::all(self.client.clone()), DeleteParams::default().grace_period(0));
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let (nodes, leases, now) = (&nodes, &leases, &now);
        let deletions = self.names.iter().map(|(name, _)| async move {
            let node = unless_absent(nodes.delete(name, now).await);
            let lease = unless_absent(leases.delete(name, now).await);
            if let Err(error) = node.and(lease) {
                warn!(node = name, %error, "could not delete the node; delete it by hand if it is still there");
            }
        });
        if tokio::time::timeout(FAREWELL, join_all(deletions)).await.is_err() {
            warn!("deleting the nodes took too long; delete those labelled {FLEET_LABEL}={} by hand", self.prefix);
        }
    }

    /// The nodes as they are now, cordons included, in order of name.
    pub(super) async fn list(&self) -> kube::Result<Vec<Node>> {
        let api: Api<Node> = Api::all(self.client.clone());
        Ok(api.list(&ListParams::default().labels(&format!("{FLEET_LABEL}={}", self.prefix))).await?.items)
    }

    pub(super) fn owns(&self, node: &str) -> bool {
        self.names.iter().any(|(name, _)| name == node)
    }

    async fn report(&self, name: &str, pool: &NodePool) -> kube::Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        let patch = Patch::Apply(status(name, pool, SystemClock.now()));
        api.patch_status(name, &PatchParams::apply(MANAGER).force(), &patch).await.map(drop)
    }

    async fn renew(&self, name: &str) -> kube::Result<()> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": name },
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": format!("{:.6}", SystemClock.now()),
            },
        });
        api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(lease)).await.map(drop)
    }
}

fn unless_absent<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Accelerators that pods, other than those that ended, take from their nodes.
pub(super) fn taken<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> Taken {
    let mut taken = Taken::new();
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if let (Some(node), false) = (node, matches!(ended, Some("Succeeded" | "Failed")))
            && let Ok(Some(fleet_pod)) = FleetPod::of(pod)
        {
            *taken.entry(node).or_default() += fleet_pod.accelerators;
        }
    }
    taken
}

fn node(name: &str, prefix: &str, pool: &NodePool) -> Value {
    let mut labels = json!({
        FLEET_LABEL: prefix,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": pool.product,
        "nvidia.com/gpu.count": pool.accelerators.to_string(),
    });
    if let Some(mebibytes) = memory_of(&pool.product) {
        labels["nvidia.com/gpu.memory"] = mebibytes.into();
    }
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } })
}

/// What GPU feature discovery reports, in mebibytes.
fn memory_of(product: &str) -> Option<&'static str> {
    match product {
        "NVIDIA-H100-80GB-HBM3" => Some("81559"),
        "NVIDIA-A100-SXM4-80GB" => Some("81920"),
        "NVIDIA-L40S" => Some("46068"),
        _ => None,
    }
}

fn status(name: &str, pool: &NodePool, now: Timestamp) -> Value {
    let resources =
        json!({ "cpu": "192", "memory": "2Ti", "pods": "110", GPU_RESOURCE: pool.accelerators.to_string() });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name },
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{ "type": "Hostname", "address": name }],
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "FleetReady",
                "message": "simulated by wva fleet",
                "lastHeartbeatTime": format!("{now:.0}"),
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_of_nodes_is_read_and_nonsense_is_refused() {
        let pool = NodePool { product: "NVIDIA-L40S".to_owned(), count: 4, accelerators: 8 };
        assert_eq!("NVIDIA-L40S=4x8".parse(), Ok(pool));
        for text in ["NVIDIA-L40S", "=4x8", "A=4", "A=0x8", "A=4x0", "A=1001x1", "A B=1x1", "A=1x1x1"] {
            assert_eq!(text.parse::<NodePool>().unwrap_err(), NodePoolError(text.to_owned()));
        }
    }

    #[test]
    fn accelerators_of_running_pods_count_and_those_of_ended_ones_do_not() {
        let pod = |node: Option<&str>, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "annotations": {
                    "wva.llmd.ai/fleet-profile": "qwen3-32b-2xh100", "wva.llmd.ai/fleet-model": "qwen",
                } },
                "spec": { "containers": [], "nodeName": node },
                "status": { "phase": phase },
            }))
            .unwrap()
        };
        let pods =
            [pod(Some("a"), "Running"), pod(Some("a"), "Pending"), pod(Some("b"), "Failed"), pod(None, "Pending")];
        assert_eq!(taken(&pods), Taken::from([("a".to_owned(), 4)]));
    }
}
