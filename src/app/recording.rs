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
