//! One watch: list, then follow, for ever.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::StreamExt;
use kube::{
    Client,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};

use super::{ClusterState, Options, objects::Watched, sync::WatchFailure};

/// The first delay after a failure; it doubles, with as much again of jitter at most.
const LEAST_DELAY: Duration = Duration::from_millis(200);
/// The greatest: a restarted API server forbids everything for seconds, and its view must not be old for long after.
const GREATEST_DELAY: Duration = Duration::from_secs(5);
/// A failure after this long is the first of a new row.
const ROW: Duration = Duration::from_secs(30);

/// Keeps `state` up to date with the objects of one kind; never ends.
pub(crate) async fn follow<W: Watched>(watched: W, client: Client, options: Options, state: ClusterState) {
    let events = watcher(watched.api(client, &options), watched.selection(&options)).backoff(RetryDelays::default());
    let mut events = pin!(events);
    let mut listing = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(&watched, event, &mut listing, &state),
            Err(error) => report(&watched, &error, &state),
        }
    }
}

/// A list is taken over when it is complete, so that nothing known vanishes while it is read again.
fn take<W: Watched>(
    watched: &W,
    event: Event<W::Object>,
    listing: &mut Vec<(Arc<str>, Arc<str>, W::Slim)>,
    state: &ClusterState,
) {
    match event {
        Event::Init => listing.clear(),
        Event::InitApply(object) => {
            if let Some((namespace, name)) = watched.identity(&object)
                && let Some(slim) = watched.reduce(object)
            {
                listing.push((namespace, name, slim));
            }
        }
        Event::InitDone => state.listed(watched, std::mem::take(listing)),
        Event::Apply(object) => state.applied(watched, object),
        Event::Delete(object) => state.deleted(watched, &object),
    }
}

/// A failure is logged once, not at every attempt; that the cluster lacks what it need not have is no failure.
fn report<W: Watched>(watched: &W, error: &watcher::Error, state: &ClusterState) {
    // Expected after a long pause: the watcher lists again.
    if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
        return;
    }
    let resource = watched.resource();
    let failure = WatchFailure::new(&resource, error);
    if !state.failed(watched, failure.clone()) {
        return;
    }
    if resource.is_optional() && matches!(failure, WatchFailure::NotInstalled(_)) {
        tracing::debug!(%resource, %failure, "not watched");
    } else {
        tracing::warn!(%resource, %failure, "watch failed");
    }
}

/// Delays between attempts. Rows of failures are told apart by time: [`Backoff::reset`] comes with every start of a
/// list, also of one that fails, and would keep the delay at its least for ever.
#[derive(Debug, Default)]
pub(super) struct RetryDelays {
    row: Option<(ExponentialBackoff, Instant)>,
}

impl RetryDelays {
    fn next_at(&mut self, now: Instant) -> Option<Duration> {
        let row = self.row.take().filter(|(_, last)| now.saturating_duration_since(*last) <= ROW);
        let mut delays = row.map_or_else(first_of_row, |(delays, _)| delays);
        let delay = delays.next();
        self.row = Some((delays, now));
        delay
    }
}

impl Iterator for RetryDelays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.next_at(Instant::now())
    }
}

impl Backoff for RetryDelays {
    fn reset(&mut self) {}
}

fn first_of_row() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(LEAST_DELAY).with_max_delay(GREATEST_DELAY);
    builder.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_within_a_row_of_failures_and_start_anew_after_it() {
        let (mut delays, mut now) = (RetryDelays::default(), Instant::now());
        let mut base = LEAST_DELAY;
        for _ in 0..40 {
            let delay = delays.next_at(now).unwrap();
            assert!(base <= delay && delay <= 2 * base, "{delay:?} for {base:?}");
            delays.reset();
            now += delay;
            base = (2 * base).min(GREATEST_DELAY);
        }
        now += ROW + Duration::from_secs(1);
        assert!(delays.next_at(now).unwrap() <= 2 * LEAST_DELAY);
    }
}
