//! The task that sends events to whoever collects them, as `EventList`s of `audit.k8s.io/v1`.

use std::{fmt, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Waiting, event::Event};

/// How its losses are counted.
const PLUGIN: &str = "webhook";
/// Times a list is sent again, as in `k8s.io/apiserver`.
const RETRIES: usize = 4;
/// Longest one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Time for what waits when the process ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Takes lists of events.
pub trait EventCollector: Send + Sync + 'static {
    /// Takes `list`, JSON.
    ///
    /// # Errors
    /// When it does not.
    fn post(&self, list: Vec<u8>) -> BoxFuture<'_, Result<(), PostError>>;
}

/// Why a list was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct PostError {
    /// In words.
    pub reason: String,
    /// Whether it may be taken a moment later.
    pub is_momentary: bool,
}

/// How events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookLimits {
    /// Events sent at a time.
    pub batch: usize,
    /// Longest time an event waits for others to be sent with.
    pub wait: Duration,
    /// Pause before a list is sent again; each further one is longer.
    pub backoff: Duration,
}

/// Sends events to an [`EventCollector`].
pub struct AuditWebhook {
    waiting: Waiting,
    collector: Arc<dyn EventCollector>,
    limits: WebhookLimits,
}

impl fmt::Debug for AuditWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditWebhook").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl AuditWebhook {
    /// Sends what is `waiting` to `collector`.
    pub fn new(waiting: Waiting, collector: Arc<dyn EventCollector>, limits: WebhookLimits) -> Self {
        Self { waiting, collector, limits }
    }

    /// Sends until `stop`, then what waits still, as far as a few seconds go.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        while let Some(is_open) = stop.run_until_cancelled(self.gather(&mut batch)).await {
            if !batch.is_empty() && stop.run_until_cancelled(self.send(&batch)).await.is_none() {
                break;
            }
            batch.clear();
            if !is_open {
                // Nobody is left who could note anything.
                return stop.cancelled().await;
            }
        }
        self.waiting.events.close();
        while let Ok(event) = self.waiting.events.try_recv() {
            batch.push(event);
        }
        let farewell = async {
            for some in batch.chunks(self.limits.batch.max(1)) {
                self.send(some).await;
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::error!(count = batch.len(), "audit events at the end of the process may not have been taken");
        }
    }

    /// Adds events to `batch` until it is full or the first has waited long enough; whether more may come.
    async fn gather(&mut self, batch: &mut Vec<Arc<Event>>) -> bool {
        let Some(first) = self.waiting.events.recv().await else { return false };
        batch.push(first);
        let end = Instant::now() + self.limits.wait;
        while batch.len() < self.limits.batch {
            match timeout_at(end, self.waiting.events.recv()).await {
                Ok(Some(event)) => batch.push(event),
                Ok(None) => return false,
                Err(_) => break,
            }
        }
        true
    }

    async fn send(&self, batch: &[Arc<Event>]) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(self.limits.backoff)
            .with_factor(1.5)
            .with_jitter()
            .with_max_times(RETRIES);
        let list = list(batch);
        let attempt = || async {
            let late = || PostError { reason: "it took too long".to_owned(), is_momentary: true };
            timeout(ATTEMPT, self.collector.post(list.clone())).await.unwrap_or_else(|_| Err(late()))
        };
        if let Err(error) = attempt.retry(pauses).when(|error: &PostError| error.is_momentary).await {
            self.waiting.metrics.lost(PLUGIN, batch.len());
            tracing::error!(%error, count = batch.len(), "audit events were not taken; check audit.webhookConfigFile");
        }
    }
}

/// An `EventList`.
fn list(batch: &[Arc<Event>]) -> Vec<u8> {
    let mut list = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for event in batch {
        let before = list.len();
        // What cannot be written, which does not occur, is left out whole.
        if event.write_json(&mut list).is_err() {
            list.truncate(before);
            continue;
        }
        // In the place of the end of the line.
        list.pop();
        list.push(b',');
    }
    if list.last() == Some(&b',') {
        list.pop();
    }
    list.extend(b"]}");
    list
}
