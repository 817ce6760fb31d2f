//! Publishes decisions: to memory for the API server, to our own metrics, and to status and events.
//!
//! ```text
//! decisions ─► DecisionStore (served at once) ─► DecisionMetrics (/metrics) ─► StatusWriter (in the background)
//! ```
//!
//! Memory comes first: nothing that can be slow stands between a decision and the HPA that reads it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    decisions::DecisionStore,
    interfaces::{Decision, Snapshot},
    telemetry::DecisionMetrics,
};

/// Writes decisions where the objects they speak of live.
pub trait StatusSink: Send + Sync {
    /// Hands over the decisions of one cycle and the snapshot they were made on; returns at once.
    fn publish(&self, snapshot: &Snapshot, decisions: &[Decision]);
}

/// Publishes the decisions of each cycle.
pub struct Actuator {
    store: Arc<DecisionStore>,
    metrics: DecisionMetrics,
    status: Option<Box<dyn StatusSink>>,
}

impl std::fmt::Debug for Actuator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actuator").field("status", &self.status.is_some()).finish_non_exhaustive()
    }
}

impl Actuator {
    /// An actuator that serves from `store`, counts in `metrics` and, where there is a cluster, writes to `status`.
    pub fn new(store: Arc<DecisionStore>, metrics: DecisionMetrics, status: Option<Box<dyn StatusSink>>) -> Self {
        Self { store, metrics, status }
    }

    /// Publishes the decisions made on `snapshot`. What is older than its limit for decisions is refused from then on.
    pub fn emit(&self, snapshot: &Arc<Snapshot>, decisions: Vec<Decision>) {
        let max_age = snapshot.ages.decision;
        self.store.publish_with(snapshot.clone(), decisions);
        let decisions = self.store.decisions();
        self.metrics.set_max_age(max_age);
        self.metrics.publish(&decisions);
        if let Some(status) = &self.status {
            status.publish(snapshot, &decisions);
        }
    }

    /// Publishes decisions of the replica that leads, confirmed at `received` by our clock; status and events are its work.
    pub fn emit_received(&self, snapshot: Arc<Snapshot>, decisions: Vec<Decision>, received: Timestamp) {
        self.metrics.set_max_age(snapshot.ages.decision);
        self.store.publish_received(snapshot, decisions, received);
        self.metrics.publish(&self.store.decisions());
    }

    /// Records how long a cycle took.
    pub fn observe_cycle(&self, duration: Duration) {
        self.metrics.observe_cycle(duration);
    }
}
