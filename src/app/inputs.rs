//! What makes a cycle run, and what follows the configuration.

use std::{future::Future, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{config::LiveConfig, telemetry::LoggingHandle};

/// One counter that is bumped whenever one of `sources` is, while the future runs.
pub(super) fn merged(
    sources: Vec<watch::Receiver<u64>>,
) -> (watch::Receiver<u64>, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = watch::channel(0);
    let follow = async move {
        let mut waiting: FuturesUnordered<_> = sources.into_iter().map(next_change).collect();
        while let Some(source) = waiting.next().await {
            sender.send_modify(|changes| *changes += 1);
            waiting.extend(source.map(next_change));
        }
    };
    (receiver, follow)
}

/// The source after its next change; `None` when there will be no more.
async fn next_change(mut source: watch::Receiver<u64>) -> Option<watch::Receiver<u64>> {
    source.changed().await.is_ok().then_some(source)
}

/// Keeps the log level at the configured one.
pub(super) async fn follow_log_level(live: Arc<LiveConfig>, logging: LoggingHandle, stop: CancellationToken) {
    let mut changes = live.subscribe();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        if let Err(error) = logging.set_level(&live.config().logging.level) {
            warn!(%error, "the log level stays");
        }
    }
}
