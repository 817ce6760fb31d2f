//! The background fetch: one task that keeps a metric source's cache full.

use std::{mem, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    clock::Clock,
    interfaces::{CollectorError, MetricsCollector},
};

/// Failures stretch the interval to this many times its length at most: an outage must not outlive its cause by long.
const GREATEST_STRETCH: u32 = 4;

/// Fetches every `interval` of `clock`, start to start, until `shutdown`. Failures are spaced out with jitter.
///
/// `refreshed` counts the fetches that ended well, so that readers can wait for new signals. A change between working
/// and failing is logged once, not each failure.
pub async fn run(
    collector: Arc<dyn MetricsCollector>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
    refreshed: watch::Sender<u64>,
) {
    let spacing = || {
        ExponentialBuilder::new()
            .with_min_delay(interval)
            .with_max_delay(interval * GREATEST_STRETCH)
            .with_jitter()
            .without_max_times()
            .build()
    };
    let mut pauses = spacing();
    let mut previous = Ok(());
    for number in 1_u64.. {
        let started = Instant::now();
        // Ties together what is logged of one fetch.
        let span = tracing::info_span!("fetch", correlation_id = format!("fetch-{number}"));
        let fetch = async {
            let outcome = collector.refresh().await;
            log_change(&collector.health().name, &previous, &outcome);
            outcome
        };
        let Some(outcome) = shutdown.run_until_cancelled(fetch.instrument(span)).await else { return };
        let pause = if outcome.is_ok() {
            refreshed.send_modify(|count| *count += 1);
            pauses = spacing();
            interval
        } else {
            pauses.next().unwrap_or(interval)
        };
        previous = outcome;
        let next = tokio::time::sleep_until(started + clock.wall(pause));
        if shutdown.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

fn log_change(source: &str, previous: &Result<(), CollectorError>, outcome: &Result<(), CollectorError>) {
    match (previous, outcome) {
        (Ok(()), Err(error)) => tracing::warn!(%error, "engine signals can no longer be read; those known grow old"),
        (Err(before), Err(error)) if mem::discriminant(before) != mem::discriminant(error) => {
            tracing::warn!(%error, "engine signals still cannot be read, for another reason");
        }
        (Err(_), Ok(())) => tracing::info!(source, "engine signals can be read again"),
        (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
    }
}
