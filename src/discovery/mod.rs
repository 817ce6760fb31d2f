//! What exists in the cluster: variants, what they scale, the pods behind it and the HPAs on it.
//!
//! ```text
//! kube-apiserver ─► watch ─► objects (reduced) ─► index ─► assemble ─► VariantObservation
//!                                                   └────► PodDirectory     └─► check_hpas
//! ```
//!
//! Objects are reduced to what decisions use as they arrive; everything after that is a pure function of the index.
//! The watches need `get`, `list` and `watch` on what [`run`] names, and no other permission. Of those, only the kinds that
//! tell variants, their targets and their pods are indispensable; without the others something is unknown, and said to be.

mod accelerator;
mod assemble;
#[doc(hidden)]
mod filling;
mod hpa_checks;
mod index;
mod inventory;
mod kinds;
mod namespace;
mod objects;
mod problem;
mod quantity;
mod sent;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod watch;

use kube::Client;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::objects::{
    Autoscalers, Deployments, Namespaces, Nodes, Pods, Quotas, ReplicaSets, ScaledObjects, StatefulSets, Variants,
    Watched,
};
pub use self::{
    accelerator::short_name,
    filling::Filling,
    hpa_checks::{HpaWarning, HpaWarningReason, Severity, check_hpas},
    problem::Problem,
    state::{ClusterState, Declaration, DeclaredBy},
};
use crate::interfaces::InventorySettings;

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only namespace to watch; all where `None`.
    pub namespace: Option<String>,
    /// Which installation this is, where several share a cluster: only those whose label
    /// `wva.llmd.ai/controller-instance` has this value are taken, and series carry it as `controller_instance`.
    pub controller_instance: Option<String>,
    /// What the cluster does not tell of its accelerators.
    pub inventory: InventorySettings,
}

/// Starts the watches on the current runtime. They end with `shutdown`; the tracker tells when they have.
///
/// Nothing here is fatal: a kind that is forbidden or not installed is tried again for ever, and
/// [`ClusterState::sync_problem`] says so.
pub fn run(client: &Client, options: &Options, shutdown: &CancellationToken) -> (ClusterState, TaskTracker) {
    let state = ClusterState::new(options);
    let watches = TaskTracker::new();
    let start = Start { client, options, shutdown, state: &state, watches: &watches };
    let rules = state.rules();
    let controller_instance = &options.controller_instance;
    start.watch(Variants);
    start.watch(Deployments(rules.clone()));
    start.watch(StatefulSets(rules.clone()));
    start.watch(ReplicaSets);
    start.watch(Pods(rules.clone()));
    start.watch(Autoscalers { controller_instance: controller_instance.clone() });
    start.watch(ScaledObjects { controller_instance: controller_instance.clone() });
    start.watch(Namespaces);
    start.watch(Nodes(rules.clone()));
    start.watch(Quotas(rules.clone()));
    start.follow(kinds::follow_scaled(client.clone(), options.clone(), state.clone()));
    start.follow(kinds::follow_devices(client.clone(), options.clone(), state.clone()));
    watches.close();
    (state, watches)
}

struct Start<'a> {
    client: &'a Client,
    options: &'a Options,
    shutdown: &'a CancellationToken,
    state: &'a ClusterState,
    watches: &'a TaskTracker,
}

impl Start<'_> {
    fn watch<W: Watched>(&self, watched: W) {
        self.follow(watch::follow(watched, self.client.clone(), self.options.clone(), self.state.clone()));
    }

    fn follow(&self, follow: impl Future<Output = ()> + Send + 'static) {
        self.watches.spawn(self.shutdown.clone().run_until_cancelled_owned(follow));
    }
}
