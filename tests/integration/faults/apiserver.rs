//! A kube-apiserver that fails. The clock is paused: no backoff takes time.

use std::{thread, time::Duration};

use wva::{
    discovery::{ClusterState, Options},
    interfaces::PodDirectory,
};

use super::{Episode, State};
use crate::{
    discovery::{deployment, pod, replica_set, synced, variant},
    discovery_api::{DiscoveryApi, PLURALS, failure, list},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Watches end, and for a while nothing is answered but that it is not there.
    Restart,
    /// The version that the watch of pods is at is too old.
    Gap,
    /// Pods may be listed and watched no more, for a while.
    Forbidden,
}

/// What a fault of kube-apiserver does to a variant and its pods, one of which becomes ready meanwhile.
pub(super) fn suffer(name: &str, fault: Fault) -> Episode {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // A runtime of its own, for its clock.
    thread::scope(|scope| scope.spawn(|| runtime().block_on(episode(name, fault))).join().unwrap())
}

async fn episode(name: &str, fault: Fault) -> Episode {
    let pods = |ready| list(&[pod("llama-0", "True"), pod("llama-1", ready)]);
    let api = DiscoveryApi::new()
        .lists("variantautoscalings", [(200, list(&[variant("llama")]))])
        .lists("deployments", [(200, list(&[deployment()]))])
        .lists("replicasets", [(200, list(&[replica_set()]))])
        .lists("pods", [(200, pods("False")), (200, pods("True"))]);
    let state = synced(&api, &Options::default()).await;
    let known = |state: &ClusterState| (state.observe(), state.identify("chat", "llama-0"));
    let is_ready = |pod| state.identify("chat", pod).is_some_and(|pod| pod.ready);
    let before = known(&state);
    assert!(is_ready("llama-0") && !is_ready("llama-1"), "{name}: before");

    match fault {
        Fault::Restart => api.fail(&PLURALS, &failure(503, "ServiceUnavailable", "the server is shutting down")),
        Fault::Gap => {}
        Fault::Forbidden => api.fail(&["pods"], &failure(403, "Forbidden", "pods is forbidden")),
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let kept = known(&state) == before;
    let said = state.sync_problem();

    let asked = || api.requests().iter().filter(|request| request.path.ends_with("/pods")).count();
    let before = asked();
    api.recover();
    match fault {
        Fault::Gap => api.send("pods", "ERROR", &failure(410, "Expired", "too old resource version").1),
        Fault::Restart | Fault::Forbidden => api.send("pods", "MODIFIED", &pod("llama-1", "True")),
    }
    for _ in 0..10_000 {
        if is_ready("llama-1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_ready("llama-1"), "{name}: {:?}", state.sync_problem());
    Episode { state: if kept { State::Kept } else { State::Missing }, said, recovery: asked() - before }
}
