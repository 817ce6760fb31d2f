//! One cycle: take a snapshot, step, publish.

use std::{
    mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::FutureExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info};

use super::{recording::Recorder, settling::Settling, withheld::WithheldLog};
use crate::{
    actuator::Actuator,
    capacity::{self, CurveCache, Effort},
    clock::Clock,
    engines::{self, State},
    interfaces::{CapacityQuestion, Decision, MetricsCollector, Outcome, Snapshot},
    snapshot::{self, ClusterObserver, Parameters},
    telemetry::CorrelationId,
};

/// Gives the parameters in force, which may change between cycles.
pub type ParameterSource = Arc<dyn Fn() -> Arc<dyn Parameters> + Send + Sync>;

/// Everything a cycle needs.
pub struct Cycle {
    clock: Arc<dyn Clock>,
    cluster: Arc<dyn ClusterObserver>,
    collectors: Vec<Arc<dyn MetricsCollector>>,
    parameters: ParameterSource,
    actuator: Actuator,
    recorder: Option<Recorder>,
    /// Memory of the core. Only one cycle runs at a time; the lock makes that safe to rely on.
    state: Mutex<State>,
    /// Capacity curves, computed beside the cycles.
    curves: CurveCache,
    /// Rung after each cycle: it may have asked for curves.
    decided: Notify,
    settling: Settling,
    withheld: Mutex<WithheldLog>,
}

impl std::fmt::Debug for Cycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cycle").field("actuator", &self.actuator).finish_non_exhaustive()
    }
}

impl Cycle {
    /// A cycle that remembers nothing yet.
    pub fn new(
        clock: Arc<dyn Clock>,
        cluster: Arc<dyn ClusterObserver>,
        collectors: Vec<Arc<dyn MetricsCollector>>,
        parameters: ParameterSource,
        actuator: Actuator,
    ) -> Self {
        Self {
            clock,
            cluster,
            collectors,
            parameters,
            actuator,
            recorder: None,
            state: Mutex::default(),
            curves: CurveCache::default(),
            decided: Notify::new(),
            settling: Settling::default(),
            withheld: Mutex::default(),
        }
    }

    /// The same with cycles recorded by `recorder`.
    #[must_use]
    pub fn with_recorder(self, recorder: Option<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// What is remembered, for the next leader.
    pub fn state(&self) -> State {
        self.locked_state().clone()
    }

    /// Remembers what the leader before did.
    pub fn restore(&self, state: State) {
        *self.locked_state() = state;
    }

    /// What a cycle would decide on now.
    pub async fn snapshot(&self) -> Snapshot {
        let mut snapshot = snapshot::take(&*self.clock, &*self.cluster, &self.collectors, &*(self.parameters)()).await;
        snapshot.curves = self.curves.answers(self.locked_state().questions());
        snapshot
    }

    /// Computes the capacity curves that decisions ask for, one at a time and off the runtime's threads, until `stop`. A
    /// curve takes a fraction of a second; the next cycle has it.
    pub async fn compute_curves(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(self.decided.notified()).await.is_some() {
            for question in self.unanswered() {
                let asked = question.clone();
                let computed = tokio::task::spawn_blocking(move || capacity::simulated(&asked, &Effort::default()));
                match stop.run_until_cancelled(computed).await {
                    Some(Ok(curve)) => self.curves.insert(question, Arc::new(curve)),
                    Some(Err(error)) => {
                        error!(%error, "a capacity curve could not be computed, which is a defect of wva");
                    }
                    None => return,
                }
            }
        }
    }

    fn unanswered(&self) -> Vec<Arc<CapacityQuestion>> {
        let state = self.locked_state();
        let mut questions: Vec<_> =
            state.questions().filter(|question| self.curves.get(question).is_none()).cloned().collect();
        questions.sort_unstable();
        questions.dedup();
        questions
    }

    fn locked_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs once. A cycle that panics publishes nothing and leaves the memory as it was; the decisions before it are
    /// served until they are too old.
    pub async fn run(&self) {
        self.run_while(|| true).await;
    }

    /// Runs once, but publishes and remembers nothing if `leads` no longer holds when the decisions are made. Whether it
    /// published.
    pub async fn run_while(&self, leads: impl Fn() -> bool) -> bool {
        let span = CorrelationId::next().span("cycle");
        let cycle = AssertUnwindSafe(self.decide_and_publish(leads)).catch_unwind();
        async {
            cycle.await.unwrap_or_else(|_| {
                error!(
                    "a cycle panicked, which is a defect of wva; earlier decisions are served until they are too old"
                );
                false
            })
        }
        .instrument(span)
        .await
    }

    async fn decide_and_publish(&self, leads: impl Fn() -> bool) -> bool {
        let started = Instant::now();
        let snapshot = Arc::new(self.snapshot().await);
        let (before, decisions) = {
            let mut state = self.locked_state();
            let (next, decisions) = engines::step(&state, &snapshot);
            if !leads() {
                return false;
            }
            for decision in &decisions {
                log(decision, &state);
            }
            if decisions.iter().all(|decision| self.settling.is_worth_telling(snapshot.taken_at, decision)) {
                self.withheld.lock().unwrap_or_else(PoisonError::into_inner).log(&decisions);
            }
            (mem::replace(&mut *state, next), decisions)
        };
        self.decided.notify_one();
        let due = self.recorder.as_ref().and_then(|to| Some((to, to.due(before, &snapshot, &decisions)?)));
        self.actuator.emit(&snapshot, decisions);
        self.actuator.observe_cycle(started.elapsed());
        if let Some((recorder, recording)) = due {
            recorder.record(recording);
        }
        true
    }
}

/// One line when what is asked for changed, and otherwise only at debug level.
fn log(decision: &Decision, before: &State) {
    let asked_before = before.variants.get(&decision.variant).and_then(|state| state.desired);
    match &decision.outcome {
        Outcome::Desired(desired) if asked_before != Some(desired.replicas) => {
            info!(
                variant = %decision.variant,
                current = decision.current,
                ready = decision.ready,
                desired = desired.replicas,
                unconstrained = desired.unconstrained,
                reason = %desired.reason,
                "decided"
            );
        }
        Outcome::Desired(desired) => {
            debug!(variant = %decision.variant, desired = desired.replicas, reason = %desired.reason, "held");
        }
        Outcome::Withheld(withheld) => debug!(variant = %decision.variant, reason = withheld.message, "withheld"),
    }
}
