//! Which replica takes a request: the least loaded, as an endpoint picker would choose.

use serde::Deserialize;

use super::{
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
    /// Chooses by (running + waiting) ÷ batch size + used share of the KV cache, divided by the variant's weight.
    pub(super) fn route(
        &mut self,
        request: &Request,
        replicas: &[Replica],
        scale: impl Fn(&Replica) -> LoadScale,
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
            let load = scale(replica).apply(replica);
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

/// How much one request more loads a replica of a variant.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadScale {
    per_request: f64,
    per_cache: f64,
}

impl LoadScale {
    pub(super) fn new(max_num_seqs: u16, weight: f64) -> Self {
        Self { per_request: 1.0 / (f64::from(max_num_seqs.max(1)) * weight), per_cache: 1.0 / weight }
    }

    fn apply(self, replica: &Replica) -> f64 {
        let engine = &replica.engine;
        (engine.running() + engine.waiting()) as f64 * self.per_request + engine.kv_usage() * self.per_cache
    }
}

fn is_saturated(replica: &Replica, limits: &FlowControl) -> bool {
    replica.engine.waiting() > limits.queue_depth || replica.engine.kv_usage() > limits.kv_cache
}
