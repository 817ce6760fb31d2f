//! Tasks that a process is no use without.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::ensure;
use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// Runs the parts of a process until it stops. One that ends before, or panics, ends the process, so that it is started
/// again: a live and ready process whose engine is gone would serve errors for ever.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    serving: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Tasks {
    /// Parts that end with `stop`; `serving` is cancelled when one fails.
    pub(super) fn new(stop: CancellationToken, serving: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop, serving, failed: Arc::default() }
    }

    /// Runs a part that lasts as long as the process.
    pub(super) fn spawn(&self, part: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let Self { stop, serving, failed, .. } = self.clone();
        self.tracker.spawn(async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            if outcome.is_ok() && stop.is_cancelled() {
                return;
            }
            error!(part, panicked = outcome.is_err(), "a part of wva ended; the process stops, to be started again");
            failed.store(true, Ordering::SeqCst);
            serving.cancel();
        });
    }

    /// Runs something that ends by itself.
    pub(super) fn spawn_once(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Waits for all to end.
    ///
    /// # Errors
    /// When a part had failed.
    pub(super) async fn join(self) -> anyhow::Result<()> {
        self.tracker.close();
        self.tracker.wait().await;
        ensure!(!self.failed.load(Ordering::SeqCst), "a part of wva ended unexpectedly; the log says which");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(task: impl Future<Output = ()> + Send + 'static, stop_first: bool) -> (bool, bool) {
        let (stop, serving) = (CancellationToken::new(), CancellationToken::new());
        let tasks = Tasks::new(stop.clone(), serving.clone());
        if stop_first {
            stop.cancel();
        }
        tasks.spawn("part", task);
        let failed = tasks.join().await.is_err();
        (serving.is_cancelled(), failed)
    }

    #[tokio::test]
    async fn a_part_that_ends_early_or_panics_stops_the_process_and_one_that_ends_with_it_does_not() {
        assert_eq!(run(async {}, false).await, (true, true));
        assert_eq!(run(async { panic!("defect") }, true).await, (true, true));
        assert_eq!(run(async {}, true).await, (false, false));
    }
}
