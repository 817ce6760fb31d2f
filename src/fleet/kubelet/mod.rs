//! Kubelet and scheduler of a control plane that has neither: registers fake nodes, places the pods that ask for it on them,
//! lets each start as long as a model takes to load, serves its replica's vLLM metrics on its pod address, and drains it
//! when it is deleted.
//!
//! A pod asks for it by annotations in its template:
//!
//! | annotation | |
//! |---|---|
//! | `wva.llmd.ai/fleet-profile` | a built-in profile, such as `llama-3.1-8b-h100` |
//! | `wva.llmd.ai/fleet-model` | name of the model |
//! | `wva.llmd.ai/fleet-cold-start` | time to ready, such as `5s`; two minutes without |
//! | `prometheus.io/port` | port of `/metrics`; 8000 without |

mod address;
mod node;
mod placement;
mod pod;
mod reconcile;
mod status;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    runtime::{Controller, controller::Config, watcher},
};
use thiserror::Error;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use self::{
    address::LoopbackAddresses,
    node::Nodes,
    reconcile::{Context, reconcile, retry},
};
pub use self::{
    node::{NodePool, NodePoolError},
    pod::{COLD_START, MODEL, PORT, PROFILE},
};
use super::live::LiveFleet;

/// Who writes, for field management.
const MANAGER: &str = "wva-fleet";
const GPU_RESOURCE: &str = "nvidia.com/gpu";
/// Pods worked on at once.
const CONCURRENCY: u16 = 16;
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Why the role cannot be played.
#[derive(Debug, Error)]
pub enum KubeletError {
    /// The nodes cannot be registered.
    #[error(
        "cannot register the nodes: {0}: check that kube-apiserver is up and the kubeconfig may write nodes and leases"
    )]
    Register(#[source] kube::Error),
}

/// Plays the role until `shutdown`, then deletes the nodes.
///
/// # Errors
/// When the nodes cannot be registered. Later failures are logged and tried again.
pub async fn run(
    client: Client,
    fleet: Arc<LiveFleet>,
    node_prefix: &str,
    node_pools: &[NodePool],
    shutdown: CancellationToken,
) -> Result<(), KubeletError> {
    let nodes = Nodes::new(client.clone(), node_prefix, node_pools);
    let registered = nodes.register().await.map_err(KubeletError::Register);
    if registered.is_ok() {
        info!("nodes are registered; placing pods annotated {PROFILE}");
        tokio::join!(nodes.heartbeat(shutdown.clone()), keep_pods(client, fleet, nodes.clone(), shutdown));
    }
    nodes.delete().await;
    registered
}

async fn keep_pods(client: Client, fleet: Arc<LiveFleet>, nodes: Nodes, shutdown: CancellationToken) {
    let controller = Controller::new(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(shutdown.clone().cancelled_owned());
    let servers = TaskTracker::new();
    let context = Arc::new(Context {
        client,
        fleet,
        nodes,
        store: controller.store(),
        addresses: LoopbackAddresses::new(),
        replicas: HashMap::new().into(),
        placed: HashMap::new().into(),
        servers: servers.clone(),
        shutdown: shutdown.clone(),
    });
    let steps = controller.run(reconcile, retry, context.clone()).for_each(async |step| {
        if let Err(error) = step {
            // Failed reconciliations are logged where they are tried again; these are watches that start over.
            debug!(%error, "pod watch");
        }
    });
    let sweeps = async {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            context.sweep().await;
        }
    };
    tokio::join!(steps, sweeps);
    servers.close();
    servers.wait().await;
}
