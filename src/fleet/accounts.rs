//! What came of it: how many requests met the objective, and what the replicas cost.

use serde::Serialize;

use super::{
    request::{Completion, Objective},
    time::Picoseconds,
};

/// Counts of requests by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attainment {
    /// Requests that arrived.
    pub arrived: u64,
    /// Requests that ran to their end.
    pub completed: u64,
    /// Completed requests within the objective.
    pub met: u64,
    /// Requests turned away: too long for every replica, or the gateway was full.
    pub rejected: u64,
    /// Requests cut off because their replica was stopped.
    pub aborted: u64,
}

impl Attainment {
    /// Requests still on their way.
    pub fn in_flight(&self) -> u64 {
        self.arrived.saturating_sub(self.completed + self.rejected + self.aborted)
    }

    /// Share of the arrived requests that met the objective: what is unfinished has missed it. `None` before the first.
    pub fn ratio(&self) -> Option<f64> {
        (self.arrived > 0).then(|| self.met as f64 / self.arrived as f64)
    }

    pub(super) fn completed(&mut self, completion: &Completion, objective: &Objective) {
        self.completed += 1;
        self.met += u64::from(completion.meets(objective));
    }
}

/// One variant as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantStatus {
    /// Name of the variant.
    pub name: String,
    /// Replicas asked for; `None` where they are added one by one, as by the kubelet.
    pub spec: Option<u32>,
    /// Replicas starting or ready, which is what a Deployment's `status.replicas` counts.
    pub current: u32,
    /// Ready replicas.
    pub ready: u32,
    /// Replicas that finish their requests before they go.
    pub draining: u32,
    /// Since when the oldest starting replica starts, in seconds of simulated time; `None` when all are ready.
    pub pending_since_seconds: Option<f64>,
    /// Hours of replicas in any state so far.
    pub replica_hours: f64,
    /// Replica hours times the price.
    pub cost: f64,
    /// How often the number asked for changed.
    pub scale_actions: u64,
}

/// Replica time of a variant, exact.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplicaTime(u128);

impl ReplicaTime {
    pub(super) fn add(&mut self, from: Picoseconds, until: Picoseconds) {
        self.0 += u128::from(until.since(from).get());
    }

    pub(super) fn hours(self) -> f64 {
        self.0 as f64 / 1e12 / 3600.0
    }
}
