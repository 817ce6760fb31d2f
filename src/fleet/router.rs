//! Which replica takes a request: the least loaded, as an endpoint picker would choose.

use serde::Deserialize;

use super::{
    engine::Engine,
    replica::{Replica, ReplicaState},
    request::Request,
};

/// Holds requests at the gateway while every ready replica is saturated, which moves the queue out of the engines'
/// metrics. The defaults are those of the Gateway API inference extension's saturation detector.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FlowControl {
    /// A replica with more requests waiting is saturated.
    pub queue_depth: usize,
    /// A replica that uses more of its KV cache, 0 to 1, is saturated.
    pub kv_cache: f64,
}

impl Default for FlowControl {
    fn default() -> Self {
        Self { queue_depth: 5, kv_cache: 0.8 }
    }
}

/// As many waiting requests load a replica as much as a full KV cache does: its token budget is spent on prompts.
const LOADED_WAITING: f64 = 4.0;
/// The same for running requests.
const LOADED_RUNNING: f64 = 32.0;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the replica at this index.
    To(usize),
    /// Nowhere yet: no replica is ready, or all are saturated.
    Hold,
    /// Nowhere: it exceeds the KV cache of every ready replica.
    Reject,
}

#[derive(Debug, Default)]
pub(super) struct Router {
    /// Where the search for the least loaded starts, so that equals take turns.
    next: usize,
}

impl Router {
    /// Chooses by load over `weight`, the share of the load a replica should carry.
    pub(super) fn route(
        &mut self,
        request: &Request,
        replicas: &[Replica],
        weight: impl Fn(&Replica) -> f64,
        flow_control: Option<&FlowControl>,
    ) -> Route {
        let (mut best, mut lowest) = (None, f64::INFINITY);
        let (mut ready, mut fitting) = (false, false);
        let (before, from_next) = replicas.split_at(self.next.min(replicas.len()));
        let turns = (before.len()..).zip(from_next).chain((0..).zip(before));
        for (index, replica) in turns.filter(|(_, replica)| replica.state == ReplicaState::Ready) {
            ready = true;
            if !replica.engine.fits(request) {
                continue;
            }
            fitting = true;
            if flow_control.is_some_and(|limits| is_saturated(replica, limits)) {
                continue;
            }
            let load = load(&replica.engine) / weight(replica);
            if load < lowest {
                (best, lowest) = (Some(index), load);
            }
        }
        match best {
            Some(index) => {
                self.next = index + 1;
                Route::To(index)
            }
            None if ready && !fitting => Route::Reject,
            None => Route::Hold,
        }
    }
}

/// Waiting requests, running requests and the KV cache, each in the same measure. Close to the endpoint picker's
/// min-max-scaled scorers (queue 2, running 1, KV cache 2) on real traces, without its second pass over the replicas.
fn load(engine: &Engine) -> f64 {
    engine.waiting() as f64 / LOADED_WAITING + engine.running() as f64 / LOADED_RUNNING + engine.kv_usage()
}

fn is_saturated(replica: &Replica, limits: &FlowControl) -> bool {
    replica.engine.waiting() > limits.queue_depth || replica.engine.kv_usage() > limits.kv_cache
}
