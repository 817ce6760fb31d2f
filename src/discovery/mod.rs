//! What exists in the cluster: variants, what they scale, the pods behind it and the HPAs on it.
//!
//! ```text
//! kube-apiserver ─► watch ─► objects (reduced) ─► index ─► assemble ─► VariantObservation
//!                                                   └────► PodDirectory     └─► check_hpas
//! ```
//!
//! Objects are reduced to what decisions use as they arrive; everything after that is a pure function of the index.
//! The watches need `get`, `list` and `watch` on `variantautoscalings.llmd.ai`, `deployments.apps`, `statefulsets.apps`,
//! `replicasets.apps`, `pods` and `horizontalpodautoscalers.autoscaling`, and no other permission.

mod accelerator;
mod assemble;
mod hpa_checks;
mod index;
mod objects;
mod problem;
mod quantity;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod watch;

use kube::Client;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::objects::{Autoscalers, Deployments, Pods, ReplicaSets, StatefulSets, Variants, Watched};
pub use self::{
    accelerator::{PRODUCT_LABELS, short_name},
    hpa_checks::{HpaWarning, HpaWarningReason, Severity, check_hpas},
    problem::Problem,
    state::ClusterState,
};

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only namespace to watch; all where `None`.
    pub namespace: Option<String>,
    /// Which installation this is, where several share a cluster: only those whose label
    /// `wva.llmd.ai/controller-instance` has this value are taken, and series carry it as `controller_instance`.
    pub controller_instance: Option<String>,
}

/// Starts the watches on the current runtime. They end with `shutdown`; the tracker tells when they have.
///
/// Nothing here is fatal: a kind that is forbidden or not installed is tried again for ever, and
/// [`ClusterState::sync_problem`] says so.
pub fn run(client: &Client, options: &Options, shutdown: &CancellationToken) -> (ClusterState, TaskTracker) {
    let state = ClusterState::new(options.controller_instance.clone());
    let watches = TaskTracker::new();
    let start = Start { client, options, shutdown, state: &state, watches: &watches };
    start.watch::<Variants>();
    start.watch::<Deployments>();
    start.watch::<StatefulSets>();
    start.watch::<ReplicaSets>();
    start.watch::<Pods>();
    start.watch::<Autoscalers>();
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
    fn watch<W: Watched>(&self) {
        let follow = watch::follow::<W>(self.client.clone(), self.options.clone(), self.state.clone());
        self.watches.spawn(self.shutdown.clone().run_until_cancelled_owned(follow));
    }
}
