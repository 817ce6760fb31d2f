//! Publishes decisions: to memory for the API server, to our own metrics, and to status and events.
//!
//! ```text
//! decisions ─► DecisionStore (served at once) ─► DecisionMetrics (/metrics) ─► StatusWriter (in the background)
//!                                                                          └─► DirectScaler (opt-in) ─► scale subresources
//! ```
//!
//! Memory comes first: nothing that can be slow stands between a decision and the HPA that reads it.

mod direct;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

pub use self::direct::{DirectScaler, ScaleAction, ScaleSink};
use crate::{
    decisions::DecisionStore,
    interfaces::{ActuationMode, Decision, Snapshot},
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
    direct: Option<Direct>,
}

/// Direct actuation, where there is a cluster. The mode may change between cycles.
struct Direct {
    mode: Box<dyn Fn() -> ActuationMode + Send + Sync>,
    scaler: Mutex<DirectScaler>,
    sink: Box<dyn ScaleSink>,
}

impl std::fmt::Debug for Actuator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actuator").field("status", &self.status.is_some()).finish_non_exhaustive()
    }
}

impl Actuator {
    /// An actuator that serves from `store`, counts in `metrics` and, where there is a cluster, writes to `status`.
    pub fn new(store: Arc<DecisionStore>, metrics: DecisionMetrics, status: Option<Box<dyn StatusSink>>) -> Self {
        Self { store, metrics, status, direct: None }
    }

    /// The same with direct actuation through `sink`, as far as `mode` has it.
    #[must_use]
    pub fn with_direct_actuation(
        self,
        mode: impl Fn() -> ActuationMode + Send + Sync + 'static,
        sink: impl ScaleSink + 'static,
    ) -> Self {
        let direct = Direct { mode: Box::new(mode), scaler: Mutex::default(), sink: Box::new(sink) };
        Self { direct: Some(direct), ..self }
    }

    /// Publishes the decisions made on `snapshot`. What is older than its limit for decisions is refused from then on.
    pub fn emit(&self, snapshot: &Arc<Snapshot>, decisions: Vec<Decision>) {
        let max_age = snapshot.ages.decision;
        self.store.publish_with(snapshot.clone(), decisions);
        let decisions = self.store.decisions();
        self.metrics.set_max_age(max_age);
        self.metrics.publish(decisions.clone());
        self.metrics.observe(snapshot.clone());
        if let Some(status) = &self.status {
            status.publish(snapshot, &decisions);
        }
        if let Some(direct) = &self.direct {
            let mut scaler = direct.scaler.lock().unwrap_or_else(PoisonError::into_inner);
            let actions = scaler.actions((direct.mode)(), snapshot, &decisions);
            if !actions.is_empty() {
                direct.sink.scale(actions);
            }
        }
    }

    /// Publishes decisions of the replica that leads, confirmed at `received` by our clock; status and events are its work.
    pub fn emit_received(&self, snapshot: Arc<Snapshot>, decisions: Vec<Decision>, received: Timestamp) {
        self.metrics.set_max_age(snapshot.ages.decision);
        self.store.publish_received(snapshot, decisions, received);
        self.metrics.publish(self.store.decisions());
    }

    /// Records how long a cycle took.
    pub fn observe_cycle(&self, duration: Duration) {
        self.metrics.observe_cycle(duration);
    }
}
