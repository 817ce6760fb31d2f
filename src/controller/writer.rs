//! Writes statuses in the background: the cycle hands its results over and goes on.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::{StreamExt, stream};
use tokio::{sync::watch, task::coop};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Publication, ReconcileError, VariantAutoscalingsEngine,
    backlog::{Backlog, Due, Ending},
};
use crate::{crd::VariantAutoscalingStatus, interfaces::VariantKey};

/// Writes in flight at a time.
const CONCURRENCY: usize = 8;

type Latest = HashMap<VariantKey, Publication>;

/// Takes the results of a cycle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusWriter(Arc<watch::Sender<Latest>>);

impl StatusWriter {
    /// A writer, and the worker that has to run for anything to be written.
    pub fn new(engine: VariantAutoscalingsEngine) -> (Self, StatusWorker) {
        let (sender, receiver) = watch::channel(Latest::new());
        let sender = Arc::new(sender);
        (Self(sender.clone()), StatusWorker { engine, sender, receiver, backlog: Backlog::default() })
    }

    /// Hands over results; returns at once. Of one object only the latest waits, so that the memory is bounded by the
    /// number of objects however slow the API server is.
    pub fn publish(&self, publications: impl IntoIterator<Item = Publication>) {
        let publications = publications.into_iter().map(|publication| (publication.key(), publication));
        self.0.send_modify(|latest| latest.extend(publications));
    }
}

/// The task behind a [`StatusWriter`].
#[derive(Debug)]
#[must_use = "nothing is written unless `run` is awaited"]
pub struct StatusWorker {
    engine: VariantAutoscalingsEngine,
    sender: Arc<watch::Sender<Latest>>,
    receiver: watch::Receiver<Latest>,
    backlog: Backlog,
}

impl StatusWorker {
    /// Writes until `stop` is cancelled. What is not written then is left to the next process, which compares again.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                self.wait().await;
                self.write_due().await;
            }
        })
        .await;
    }

    /// Until something was published or something waiting became due.
    async fn wait(&mut self) {
        let due = self.backlog.next_due();
        let wake = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        // The channel cannot close: this worker holds a sender itself.
        tokio::select! {
            _ = self.receiver.changed() => {}
            () = wake => {}
        }
    }

    async fn write_due(&mut self) {
        let mut published = Latest::new();
        self.sender.send_if_modified(|latest| {
            std::mem::swap(latest, &mut published);
            false
        });
        let now = Instant::now();
        self.backlog.offer(published, now);
        let due = self.backlog.take_due(now);
        let engine = &self.engine;
        let mut endings = stream::iter(due).map(|(key, due)| reconcile(engine, key, due)).buffer_unordered(CONCURRENCY);
        let (mut failures, mut first) = (0_usize, None);
        while let Some((key, result)) = endings.next().await {
            let ending = result.unwrap_or_else(|(publication, error)| {
                if matches!(error, ReconcileError::Gone(_)) {
                    debug!(%error, "status not written");
                    return Ending::Gone;
                }
                failures += 1;
                first.get_or_insert(error);
                Ending::Failed(publication)
            });
            self.backlog.settle(&key, ending, Instant::now());
        }
        if let Some(error) = first {
            warn!(failures, %error, "statuses not written; they are tried again");
        }
    }
}

type Failure = (Box<Publication>, ReconcileError);

async fn reconcile(
    engine: &VariantAutoscalingsEngine,
    key: VariantKey,
    due: Due,
) -> (VariantKey, Result<Ending, Failure>) {
    // An unchanged object awaits nothing; ten thousand of them must still let other tasks run.
    coop::consume_budget().await;
    let none = VariantAutoscalingStatus::default();
    let previous = due.previous().unwrap_or(&none);
    let result = match engine.reconcile(&due.publication, previous, due.threshold).await {
        Ok(Some(written)) => Ok(Ending::Written(Box::new(written))),
        Ok(None) => Ok(Ending::Unchanged),
        Err(error) => Err((Box::new(due.publication), error)),
    };
    (key, result)
}
