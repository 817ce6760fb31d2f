//! Records cycles in the background: a cycle never waits for the disk, and one that comes while the last is still being
//! written is not recorded.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    config::RecordingSettings,
    engines::State,
    interfaces::{Decision, Snapshot},
    recording::{Directory, DirectoryLimits, Recording},
};

/// Takes cycles that are due to be recorded.
#[derive(Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Recording>,
    interval: Duration,
    last: Mutex<Option<Timestamp>>,
}

/// The task behind a [`Recorder`].
#[must_use = "nothing is written unless `run` is awaited"]
#[derive(Debug)]
pub struct RecordingTask {
    directory: Directory,
    receiver: mpsc::Receiver<Recording>,
}

/// A recorder and its task, where `settings` name a directory.
///
/// # Errors
/// When the directory cannot be made.
pub fn recorder(settings: &RecordingSettings) -> anyhow::Result<Option<(Recorder, RecordingTask)>> {
    let Some(path) = &settings.directory else { return Ok(None) };
    let directory = open(path, settings)?;
    let (sender, receiver) = mpsc::channel(1);
    let recorder = Recorder { sender, interval: settings.interval, last: Mutex::default() };
    Ok(Some((recorder, RecordingTask { directory, receiver })))
}

fn open(path: &Path, settings: &RecordingSettings) -> anyhow::Result<Directory> {
    let limits = DirectoryLimits { files: settings.limits.files, bytes: settings.limits.bytes };
    Directory::open(path, limits).with_context(|| {
        format!("recording.directory {} cannot be used; make it writable, or leave it unset", path.display())
    })
}

impl Recorder {
    /// The cycle as a recording, if one is due.
    pub(super) fn due(&self, state: State, snapshot: &Arc<Snapshot>, decisions: &[Decision]) -> Option<Recording> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let since = last.map(|last| snapshot.taken_at.duration_since(last).unsigned_abs());
        if since.is_some_and(|since| since < self.interval) {
            return None;
        }
        *last = Some(snapshot.taken_at);
        Some(Recording { state, snapshot: snapshot.clone(), decisions: decisions.to_vec() })
    }

    /// Hands a recording over; returns at once.
    pub(super) fn record(&self, recording: Recording) {
        if self.sender.try_send(recording).is_err() {
            debug!("a cycle is not recorded: the one before is still being written");
        }
    }
}

impl RecordingTask {
    /// Writes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(Some(recording)) = stop.run_until_cancelled(self.receiver.recv()).await {
            let directory = self.directory.clone();
            match spawn_blocking(move || directory.add(&recording)).await {
                Ok(Ok(path)) => debug!(path = %path.display(), "recorded"),
                Ok(Err(error)) => warn!(%error, "a cycle cannot be recorded; check recording.directory"),
                Err(error) => warn!(%error, "a cycle cannot be recorded"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::BoxFuture};

    use super::*;
    use crate::{
        actuator::Actuator,
        app::Cycle,
        clock::{Clock, SimulatedClock},
        config::RecordingLimits,
        decisions::DecisionStore,
        engines::step,
        interfaces::{
            CollectorError, MetricsCollector, ModelKey, ReplicaMetrics, SourceHealth, TargetObservation,
            VariantObservation,
        },
        snapshot::{ClusterObserver, Parameters},
        telemetry::{DecisionMetrics, MetricsRegistry},
    };

    const EXAMPLE: &[u8] = include_bytes!("../../docs/examples/snapshot.yaml");

    /// The cluster and the metric source of the example, at whatever time they are asked.
    struct World(Vec<VariantObservation>);

    impl ClusterObserver for World {
        fn observe(&self, now: Timestamp) -> Vec<VariantObservation> {
            let mut variants = self.0.clone();
            if let TargetObservation::Found(scale) = &mut variants[0].target {
                scale.pending_since = vec![now];
            }
            variants
        }
    }

    impl MetricsCollector for World {
        fn fetch_saturation_metrics<'a>(
            &'a self,
            _: &'a ModelKey,
        ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
            let replicas = self.0.iter().flat_map(|found| found.replicas.clone()).collect();
            async move { Ok(replicas) }.boxed()
        }

        fn validate_metrics_availability<'a>(&'a self, _: &'a ModelKey) -> BoxFuture<'a, Result<(), CollectorError>> {
            async { Ok(()) }.boxed()
        }

        fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
            async { Ok(()) }.boxed()
        }

        fn health(&self) -> SourceHealth {
            SourceHealth { name: "source".into(), last_success: None, last_error: None }
        }
    }

    struct Defaults;

    impl Parameters for Defaults {}

    #[tokio::test]
    async fn a_recorded_cycle_replays_to_the_very_decisions_that_were_served() {
        let example = Recording::read(EXAMPLE).unwrap().snapshot;
        let directory = tempfile::tempdir().unwrap();
        let settings = RecordingSettings {
            directory: Some(directory.path().join("cycles")),
            interval: Duration::from_secs(10),
            limits: RecordingLimits { files: 10, bytes: 1 << 20 },
        };
        let (recorder, task) = recorder(&settings).unwrap().unwrap();
        let written = task.directory.clone();
        let stop = CancellationToken::new();
        let writing = tokio::spawn(task.run(stop.clone()));

        let clock = Arc::new(SimulatedClock::new(example.taken_at));
        let store = Arc::new(DecisionStore::new(clock.clone(), None));
        let limit = Duration::from_secs(120);
        let metrics = DecisionMetrics::register(&mut MetricsRegistry::new(), clock.clone(), limit, None);
        let cycle = Cycle::new(
            clock.clone() as Arc<dyn Clock>,
            Arc::new(World(example.variants.clone())),
            vec![Arc::new(World(example.variants.clone()))],
            Arc::new(|| Arc::new(Defaults) as Arc<dyn Parameters>),
            Actuator::new(store.clone(), metrics, None),
        )
        .with_recorder(Some(recorder));
        let mut served = Vec::new();
        // The second cycle comes too early to be recorded; the third remembers both.
        for (seconds, count) in [(0, 1), (5, 1), (5, 2)] {
            clock.advance(Duration::from_secs(seconds));
            cycle.run().await;
            served.push(store.decisions());
            for _ in 0..200 {
                if written.recordings().unwrap().len() == count {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        stop.cancel();
        writing.await.unwrap();
        let recordings = written.recordings().unwrap();
        assert_eq!(recordings.len(), 2);
        for ((path, _), served) in recordings.iter().zip([&served[0], &served[2]]) {
            let recording = Recording::read(&std::fs::read(path).unwrap()).unwrap();
            assert_eq!(*recording.decisions, **served);
            assert_eq!(step(&recording.state, &recording.snapshot).1, recording.decisions);
        }
        let last = Recording::read(&std::fs::read(&recordings[1].0).unwrap()).unwrap();
        assert_ne!(step(&State::default(), &last.snapshot).0, step(&last.state, &last.snapshot).0, "memory counts");
    }
}
