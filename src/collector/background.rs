//! The background fetch: one task that keeps a metric source's cache full.

use std::{mem, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    clock::Clock,
    interfaces::{CollectorError, MetricsCollector},
    telemetry::CorrelationId,
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
    loop {
        let started = Instant::now();
        let span = CorrelationId::next().span("fetch");
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use futures::{FutureExt, future::BoxFuture};
    use jiff::Timestamp;
    use tokio::sync::oneshot;

    use super::*;
    use crate::interfaces::{ModelKey, ReplicaMetrics, SourceHealth};

    /// Answers each refresh as told; then says so and hangs.
    struct Scripted {
        outcomes: Mutex<VecDeque<Result<(), CollectorError>>>,
        exhausted: Mutex<Option<oneshot::Sender<()>>>,
    }

    impl MetricsCollector for Scripted {
        fn fetch_saturation_metrics<'a>(
            &'a self,
            _model: &'a ModelKey,
        ) -> BoxFuture<'a, Result<Vec<ReplicaMetrics>, CollectorError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn validate_metrics_availability<'a>(
            &'a self,
            _model: &'a ModelKey,
        ) -> BoxFuture<'a, Result<(), CollectorError>> {
            async { Ok(()) }.boxed()
        }

        fn refresh(&self) -> BoxFuture<'_, Result<(), CollectorError>> {
            let outcome = self.outcomes.lock().unwrap().pop_front();
            if outcome.is_none() {
                self.exhausted.lock().unwrap().take().unwrap().send(()).unwrap();
            }
            async move {
                match outcome {
                    Some(outcome) => outcome,
                    None => std::future::pending().await,
                }
            }
            .boxed()
        }

        fn health(&self) -> SourceHealth {
            SourceHealth { name: "scripted".into(), last_success: None, last_error: None }
        }
    }

    fn unreachable() -> CollectorError {
        CollectorError::Unreachable { source_name: "scripted".to_owned(), message: "refused".to_owned() }
    }

    /// Writes down how long the task wants to sleep and lets it go on at once.
    #[derive(Debug, Default)]
    struct Pauses(Mutex<Vec<Duration>>);

    impl Clock for Pauses {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn wall(&self, duration: Duration) -> Duration {
            self.0.lock().unwrap().push(duration);
            Duration::ZERO
        }
    }

    /// Runs the task over `outcomes`; the pauses between its fetches and the number of refreshes it announced.
    async fn run_over(interval: Duration, outcomes: Vec<Result<(), CollectorError>>) -> (Vec<Duration>, u64) {
        let (exhausted, ended) = oneshot::channel();
        let collector = Scripted { outcomes: Mutex::new(outcomes.into()), exhausted: Mutex::new(Some(exhausted)) };
        let (refreshed, announced) = watch::channel(0);
        let shutdown = CancellationToken::new();
        let clock = Arc::new(Pauses::default());
        let task = tokio::spawn(run(Arc::new(collector), interval, clock.clone(), shutdown.clone(), refreshed));
        ended.await.unwrap();
        shutdown.cancel();
        task.await.unwrap();
        let pauses = clock.0.lock().unwrap().clone();
        let announced = *announced.borrow();
        (pauses, announced)
    }

    #[tokio::test]
    async fn each_fetch_that_ended_well_is_announced_and_shutdown_ends_even_a_hanging_one() {
        let outcomes = vec![Ok(()), Err(unreachable()), Ok(()), Ok(())];
        let (_, announced) = run_over(Duration::from_secs(5), outcomes).await;
        assert_eq!(announced, 3);
    }

    #[tokio::test]
    async fn failures_are_spaced_out_up_to_a_limit_and_success_returns_to_the_interval() {
        let interval = Duration::from_secs(5);
        let mut outcomes = vec![Err(unreachable()); 5];
        outcomes.push(Ok(()));
        let (pauses, _) = run_over(interval, outcomes).await;
        for (pause, factor) in pauses.iter().zip([1, 2, 4, 4, 4]) {
            let spacing = interval * factor;
            assert!(*pause >= spacing && *pause < 2 * spacing, "{pauses:?} should double, with jitter");
        }
        assert_eq!(pauses[5], interval);
    }
}
